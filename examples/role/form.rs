//! The fields of a query, decoded as an HTML form is.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// The first field of this name in a query, decoded to bytes as an HTML form is.
///
/// `+` is a space, and `%` with two hexadecimal digits is a byte. Any other `%` stays as it is. The
/// bytes need not be UTF-8.
pub fn field(query: Option<&str>, name: &str) -> Option<Vec<u8>> {
    query?.split('&').find_map(|pair| {
        let (field, value) = pair.split_once('=').unwrap_or((pair, ""));
        (!pair.is_empty() && decode(field) == name.as_bytes()).then(|| decode(value))
    })
}

fn decode(text: &str) -> Vec<u8> {
    let spaced = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    percent_decode(spaced.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plus_is_a_space_and_escapes_are_bytes() {
        assert_eq!(field(Some("name=a+b%2Bc%20%FF%00"), "name").unwrap(), b"a b+c \xff\0");
    }

    #[test]
    fn other_percent_signs_stay() {
        assert_eq!(field(Some("name=%zz%4"), "name").unwrap(), b"%zz%4");
    }

    #[test]
    fn an_empty_value_is_a_value() {
        assert_eq!(field(Some("a=1&name="), "name").unwrap(), b"");
        assert_eq!(field(Some("name"), "name").unwrap(), b"");
    }

    #[test]
    fn a_missing_field_is_none() {
        for query in [None, Some(""), Some("names=x"), Some("a=name")] {
            assert_eq!(field(query, "name"), None, "{query:?}");
        }
    }

    #[test]
    fn the_first_of_several_counts_and_names_are_decoded_too() {
        assert_eq!(field(Some("n%61me=1&name=2"), "name").unwrap(), b"1");
    }
}
