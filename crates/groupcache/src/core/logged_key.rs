//! A key as it is logged: keys may be secrets.

use std::fmt;

use ahash::RandomState;

use crate::key::Key;

/// A key for a log: as it is where the group allows it, else a number that is the same for the same
/// key as long as the process lives.
pub(crate) enum LoggedKey<'a> {
    Key(&'a Key),
    Fingerprint(u64),
}

impl<'a> LoggedKey<'a> {
    pub(crate) fn new(key: &'a Key, is_allowed: bool, hasher: &RandomState) -> Self {
        if is_allowed { LoggedKey::Key(key) } else { LoggedKey::Fingerprint(hasher.hash_one(key)) }
    }
}

impl fmt::Display for LoggedKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoggedKey::Key(key) => key.fmt(f),
            LoggedKey::Fingerprint(fingerprint) => write!(f, "#{fingerprint:016x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_tells_keys_apart_and_does_not_show_them() {
        let hasher = RandomState::new();
        let logged = |key: &str, is_allowed| LoggedKey::new(&Key::from(key), is_allowed, &hasher).to_string();
        assert_eq!((logged("secret", true).as_str(), logged("secret", false).len()), ("secret", 17));
        assert_eq!(logged("secret", false), logged("secret", false));
        assert_ne!(logged("secret", false), logged("other", false));
    }
}
