//! Members' names: checked, never rewritten.

use http::Uri;
use reqwest::Url;

use crate::wire::base_path::DEFAULT_BASE_PATH;

/// Checks a member's name. A request's URL is the name with a path appended, so the name has to
/// stand as it is in front of one.
///
/// # Errors
/// The reason why the name cannot be used, in words for the person who wrote the list.
pub(super) fn check(name: &str) -> Result<(), &'static str> {
    if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it has blanks or characters that a URL cannot carry as they stand");
    }
    if !name.starts_with("http://") && !name.starts_with("https://") {
        return Err("it does not begin with http:// or https://");
    }
    if name.contains(['?', '#']) {
        return Err("it has a query or a fragment, and the path of a request is appended to it");
    }
    if name.ends_with('/') {
        return Err("it ends with a slash, and the path of a request, which begins with one, is appended to it");
    }
    let whole = format!("{name}{DEFAULT_BASE_PATH}");
    let (Ok(url), Ok(uri)) = (whole.parse::<Url>(), whole.parse::<Uri>()) else {
        return Err("it is not a URL with a host, such as http://10.0.0.2:8001");
    };
    if !url.has_host() || uri.host().is_none_or(str::is_empty) {
        return Err("it has no host");
    }
    if !url.username().is_empty() || url.password().is_some() || name.contains('@') {
        return Err("it has a user or a password, which names would carry into logs; give your own reqwest::Client \
                    a default header instead");
    }
    if url.path() != uri.path() {
        return Err("its path has `.` or `..` segments or characters that would be rewritten");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_can_be_asked() {
        for name in [
            "http://127.0.0.1:8001",
            "http://localhost:8001",
            "https://cache-7.cache.svc.cluster.local",
            "http://[::1]:8001",
            "http://10.0.0.2:80",
            "http://HOST:8001",
            "http://proxy:8001/caches/7",
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_that_cannot() {
        for (name, why) in [
            ("", "does not begin"),
            ("10.0.0.2:8001", "does not begin"),
            ("ftp://10.0.0.2", "does not begin"),
            ("http:10.0.0.2", "does not begin"),
            ("http://", "slash"),
            ("http:///", "slash"),
            ("http://:8001", "not a URL"),
            ("http://a:99999", "not a URL"),
            ("http://a:8001/", "slash"),
            ("http://a:8001?x", "query"),
            ("http://a:8001#x", "query"),
            ("http://a b:8001", "blanks"),
            ("http://a:8001\n", "blanks"),
            ("http://张三:8001", "blanks"),
            ("http://me:secret@a:8001", "password"),
            ("http://@a:8001", "password"),
            ("http://a:8001/x/../y", "rewritten"),
            ("http://a:8001/%2e/y", "rewritten"),
            ("http://a\\b:8001", "not a URL"),
        ] {
            let answer = check(name).expect_err(name);
            assert!(answer.contains(why), "{name}: {answer}");
        }
    }
}
