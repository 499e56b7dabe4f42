//! Bytes in a URL's path: everything but `A-Za-z0-9-._~` as `%XX`, both ways.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

/// Escapes so strictly that no server, proxy or URL library between here and the peer takes a byte
/// for anything but itself: a space is `%20`, a plus `%2B`, a slash `%2F`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Appends the escaped bytes to a path.
pub(crate) fn escape_into(path: &mut String, bytes: &[u8]) {
    path.extend(percent_encode(bytes, ESCAPED));
}

/// The length of the bytes once they are escaped.
pub(crate) fn escaped_len(bytes: &[u8]) -> usize {
    percent_encode(bytes, ESCAPED).map(str::len).sum()
}

/// Whether a path carries these bytes. It does not carry `.` and `..`: URL libraries and servers
/// take them, escaped or not, for "here" and "one up".
pub(crate) fn survives_in_path(segment: &[u8]) -> bool {
    segment != b"." && segment != b".."
}

/// The bytes of an escaped segment; `None` when an escape is broken, which the library would keep
/// as it stands.
pub(crate) fn unescape(segment: &[u8], plus_is_space: bool) -> Option<Vec<u8>> {
    let is_whole = |rest: &[u8]| rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit);
    if !segment.split(|byte| *byte == b'%').skip(1).all(is_whole) {
        return None;
    }
    let mut segment = Cow::Borrowed(segment);
    if plus_is_space && segment.contains(&b'+') {
        segment.to_mut().iter_mut().filter(|byte| **byte == b'+').for_each(|plus| *plus = b' ');
    }
    Some(percent_decode(&segment).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escape(bytes: &[u8]) -> String {
        let mut path = String::new();
        escape_into(&mut path, bytes);
        path
    }

    #[test]
    fn only_unreserved_bytes_stay_as_they_are() {
        let all: Vec<u8> = (0..=255).collect();
        let bare: String = escape(&all).split('%').map(|part| part.get(2..).unwrap_or(part)).collect();
        assert_eq!(bare, "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~");
    }

    #[test]
    fn a_space_is_not_a_plus() {
        assert_eq!((escape(b"a b"), escape(b"a+b")), ("a%20b".to_owned(), "a%2Bb".to_owned()));
        assert_eq!(unescape(b"a+b", true).unwrap(), b"a b");
        assert_eq!(unescape(b"a%2Bb", true).unwrap(), b"a+b");
        assert_eq!(unescape(b"a+b", false).unwrap(), b"a+b");
    }

    #[test]
    fn a_broken_escape_is_refused() {
        for broken in ["%", "%2", "%2g", "%+1", "a%zz", "%%20"] {
            assert_eq!(unescape(broken.as_bytes(), true), None, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn all_bytes_come_back(bytes: Vec<u8>, plus_is_space: bool) {
            let escaped = escape(&bytes);
            prop_assert_eq!(escaped.len(), escaped_len(&bytes));
            prop_assert_eq!(unescape(escaped.as_bytes(), plus_is_space), Some(bytes));
        }

        #[test]
        fn any_segment_is_decoded_or_refused(segment: Vec<u8>, plus_is_space: bool) {
            if let Some(bytes) = unescape(&segment, plus_is_space) {
                prop_assert!(bytes.len() <= segment.len());
            }
        }
    }
}
