//! The path of golang/groupcache's GET, checked.

use std::borrow::Cow;

use peercache_groupcache::BuildError;

/// The path under which golang/groupcache answers by default.
pub(crate) const DEFAULT_BASE_PATH: &str = "/_groupcache/";

/// Checks a base path. It stands in a request line and in a route, so it may have only the
/// characters that stand for themselves in both.
pub(crate) fn check(path: String) -> Result<String, BuildError> {
    let plain = |segment: &str| {
        let unreserved = segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
        unreserved && !["", ".", ".."].contains(&segment)
    };
    let segments = path.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
    let plain = path == "/" || segments.is_some_and(|segments| segments.split('/').all(plain));
    if plain && !path.starts_with("/_peercache/") { Ok(path) } else { Err(bad(&path)) }
}

fn bad(path: &str) -> BuildError {
    let expected = format!(
        "a path that begins and ends with `/`, has letters, digits and `-._~/` between, no empty, `.` or `..` segment \
         and is not below /_peercache/; {path:?} is not such a path"
    );
    BuildError::Setting { name: "base_path", expected: Cow::Owned(expected) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_paths() {
        for good in ["/", "/_groupcache/", "/v1/cache-7.x/"] {
            assert_eq!(check(good.into()).unwrap(), good);
        }
        for bad in
            ["", "x", "/x", "x/", "//", "/a//b/", "/../", "/./", "/a b/", "/{a}/", "/%41/", "/a?/", "/_peercache/x/"]
        {
            check(bad.into()).expect_err(bad);
        }
    }
}
