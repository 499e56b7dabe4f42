//! Members' addresses: checked, compared, never rewritten. No name is resolved for it.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use http::Uri;
#[cfg(feature = "server")]
use http::uri::Authority;

/// The place at which a member is reached, read from its URL. Two spellings of one place are equal:
/// the case of scheme and host, the default port, the dot behind a name and the forms of an IPv6
/// address make no difference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MemberAddress {
    is_https: bool,
    host: Host,
    port: u16,
    /// The path behind the host, for a proxy.
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    /// A name in lower case, without the dot at its end.
    Name(String),
    Ip(IpAddr),
}

impl MemberAddress {
    /// Reads a member's URL.
    ///
    /// # Errors
    /// The reason why it cannot be a member's, in words for the author of the list. A request goes
    /// to the URL with a path appended, so it has to stand as it is in front of one.
    pub(crate) fn read(url: &str) -> Result<Self, &'static str> {
        check_spelling(url)?;
        let uri: Uri = url.parse().map_err(|_| NOT_A_URL)?;
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("it does not begin with http:// or https://"),
        };
        let authority = uri.authority().ok_or(NOT_A_URL)?;
        let host = Host::read(authority.host())?;
        // `Uri` takes a port that is no number for none at all.
        let behind_host = &authority.as_str()[authority.host().len()..];
        let port = match behind_host.strip_prefix(':') {
            None if behind_host.is_empty() => {
                if is_https {
                    443
                } else {
                    80
                }
            }
            Some(digits) if digits.starts_with(|digit: char| digit.is_ascii_digit()) => {
                digits.parse().map_err(|_| NOT_A_URL)?
            }
            _ => return Err(NOT_A_URL),
        };
        if port == 0 {
            return Err("its port is 0, at which nobody can be reached");
        }
        let path = if uri.path() == "/" { String::new() } else { uri.path().to_owned() };
        if path.split('/').any(is_rewritten) {
            return Err("its path has `.` or `..` segments or characters that would be rewritten");
        }
        Ok(MemberAddress { is_https, host, port, path })
    }

    /// Whether it is asked over TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.is_https
    }

    #[cfg(feature = "client")]
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether only processes of this machine are there.
    pub(crate) fn is_on_loopback(&self) -> bool {
        match &self.host {
            Host::Ip(ip) => is_loopback(*ip),
            Host::Name(name) => is_localhost(name),
        }
    }
}

const NOT_A_URL: &str = "it is not a URL with a host, such as http://10.0.0.2:8001";

/// Whether an address of the network is one of this machine alone.
pub(crate) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Whether the host of a request may be a name that somebody on the web owns: not an IP address,
/// nor `localhost`, nor a name without a dot. A port makes no difference.
#[cfg(feature = "server")]
pub(crate) fn may_be_public(text: &[u8]) -> bool {
    // Most are such, and no name of the web has only digits.
    let is_address = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b':');
    if text.first().is_some_and(|first| (b'1'..=b'9').contains(first)) && text.iter().all(is_address) {
        return false;
    }
    let Ok(authority) = Authority::try_from(text) else { return true };
    match Host::read(authority.host()) {
        Ok(Host::Ip(_)) => false,
        Ok(Host::Name(name)) => name.contains('.') && !is_localhost(&name),
        Err(_) => true,
    }
}

/// Whether a name in lower case is reserved for this machine (RFC 6761, section 6.3).
fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

fn check_spelling(url: &str) -> Result<(), &'static str> {
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it has blanks or characters that a URL cannot carry as they stand");
    }
    let begins_with = |scheme: &str| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if !begins_with("http://") && !begins_with("https://") {
        return Err("it does not begin with http:// or https://");
    }
    if url.contains(['?', '#']) {
        return Err("it has a query or a fragment, and the path of a request is appended to it");
    }
    if url.ends_with('/') {
        return Err("it ends with a slash, and the path of a request, which begins with one, is appended to it");
    }
    if url.contains('@') {
        return Err("it has a user or a password, which names would carry into logs; give your own reqwest::Client \
                    a default header instead");
    }
    if url.contains('\\') {
        return Err(NOT_A_URL);
    }
    Ok(())
}

impl Host {
    fn read(text: &str) -> Result<Self, &'static str> {
        let in_brackets = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Some(text) = in_brackets {
            let ip: Ipv6Addr = text.parse().map_err(|_| "its IPv6 address cannot be read")?;
            return check_ip(IpAddr::V6(ip).to_canonical()).map(Host::Ip);
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return check_ip(ip).map(Host::Ip);
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.is_empty() {
            return Err("it has no host");
        }
        // `0x7f.1` and `2130706433` are addresses to a resolver, and no two programs agree on
        // which.
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.bytes().next().is_some_and(|byte| byte.is_ascii_digit()) && is_number(last) {
            return Err("its host is a number that is no IP address");
        }
        Ok(Host::Name(name))
    }
}

fn is_number(label: &str) -> bool {
    let digits = label.strip_prefix("0x").unwrap_or(label);
    digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && (digits.len() < label.len() || !digits.contains(|c: char| !c.is_ascii_digit()))
}

fn check_ip(ip: IpAddr) -> Result<IpAddr, &'static str> {
    let (is_link_local, is_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.is_multicast() || ip.is_broadcast()),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.is_multicast()),
    };
    if ip.is_unspecified() {
        return Err(
            "its host is a wildcard, which every machine takes for itself; write the address that others reach",
        );
    }
    if is_link_local {
        return Err("its host is a link-local address, which other networks and metadata services share");
    }
    if is_multicast {
        return Err("its host is an address of many machines");
    }
    Ok(ip)
}

/// Whether a URL library would not send this segment of a path as it stands.
fn is_rewritten(segment: &str) -> bool {
    let decoded = segment.to_ascii_lowercase().replace("%2e", ".");
    decoded == "."
        || decoded == ".."
        || !segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:".contains(&byte))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Ip(ip) => ip.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_can_be_asked() {
        for url in [
            "http://127.0.0.1:8001",
            "http://localhost:8001",
            "https://cache-7.cache.svc.cluster.local",
            "http://[::1]:8001",
            "http://10.0.0.2:80",
            "HTTP://HOST:8001",
            "http://proxy:8001/caches/7",
            "http://7up:80",
            "http://10.0.0.2.nip.io:80",
            "http://fe80.example:1",
        ] {
            assert!(MemberAddress::read(url).is_ok(), "{url}: {:?}", MemberAddress::read(url));
        }
    }

    #[test]
    fn addresses_that_cannot() {
        for (url, why) in [
            ("", "does not begin"),
            ("10.0.0.2:8001", "does not begin"),
            ("ftp://10.0.0.2", "does not begin"),
            ("http:10.0.0.2", "does not begin"),
            ("http://", "slash"),
            ("http:///", "slash"),
            ("http://:8001", ""),
            ("http://a:99999", "not a URL"),
            ("http://a:x", "not a URL"),
            ("http://a:", "not a URL"),
            ("http://a:+80", "not a URL"),
            ("http://a:0", "port is 0"),
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
            ("http://a:8001/.%2E/y", "rewritten"),
            ("http://a\\b:8001", "not a URL"),
            ("http://0.0.0.0:1", "wildcard"),
            ("http://[::]:1", "wildcard"),
            ("http://[::ffff:0.0.0.0]:1", "wildcard"),
            ("http://169.254.169.254", "link-local"),
            ("http://[fe80::1]:1", "link-local"),
            ("http://[::ffff:169.254.1.1]:1", "link-local"),
            ("http://224.0.0.1:1", "many machines"),
            ("http://255.255.255.255:1", "many machines"),
            ("http://2130706433:1", "number"),
            ("http://0x7f.0.0.1:1", "number"),
            ("http://127.1:1", "number"),
            ("http://127.0.0.0x1:1", "number"),
            ("http://0:1", "number"),
            ("http://[::1%25lo]:1", ""),
        ] {
            let answer = MemberAddress::read(url).expect_err(url);
            assert!(answer.contains(why), "{url}: {answer}");
        }
    }

    #[test]
    fn two_spellings_of_one_address_are_equal() {
        for (one, other) in [
            ("http://A:80", "http://a"),
            ("https://a:443", "HTTPS://A"),
            ("http://a.example.:9090", "http://a.example:9090"),
            ("http://[::1]:9090", "http://[0:0:0:0:0:0:0:1]:9090"),
            ("http://[::ffff:10.0.0.1]:9090", "http://10.0.0.1:9090"),
        ] {
            assert_eq!(MemberAddress::read(one), MemberAddress::read(other), "{one} {other}");
        }
        for (one, other) in [
            ("http://a:80", "https://a:80"),
            ("http://a:80", "http://a:81"),
            ("http://localhost:1", "http://127.0.0.1:1"),
            ("http://a:80/x", "http://a:80/y"),
        ] {
            assert_ne!(MemberAddress::read(one), MemberAddress::read(other), "{one} {other}");
        }
    }

    #[cfg(feature = "server")]
    #[test]
    fn hosts_that_somebody_on_the_web_may_own() {
        for host in ["localhost", "LOCALHOST.:80", "a.localhost:1", "127.0.0.1:9090", "[::1]:9090", "role"] {
            assert!(!may_be_public(host.as_bytes()), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "a.notlocalhost", "0.0.0.0:1", "", "a b"] {
            assert!(may_be_public(host.as_bytes()), "{host}");
        }
        assert!(may_be_public(b"\xff"));
    }

    #[test]
    fn what_is_on_loopback() {
        let on_loopback = |url: &str| MemberAddress::read(url).unwrap().is_on_loopback();
        for url in [
            "http://127.0.0.1:1",
            "http://127.9.9.9:1",
            "http://[::1]:1",
            "http://LOCALHOST:1",
            "http://a.localhost.:1",
            "http://[::ffff:127.0.0.1]:1",
        ] {
            assert!(on_loopback(url), "{url}");
        }
        for url in ["http://10.0.0.1:1", "http://localhost.example:1", "http://notlocalhost:1", "http://[::2]:1"] {
            assert!(!on_loopback(url), "{url}");
        }
    }
}
