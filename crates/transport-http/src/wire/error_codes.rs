//! The answers without a value: each as a number in a frame, a word in a header and an
//! [`ErrorKind`].

use std::error::Error as _;

use bytes::Bytes;
use http::HeaderName;
use peercache_groupcache::{Error, ErrorKind};

/// The word for an error, beside the status that golang's protocol has for it: statuses are few.
pub(crate) const ERROR_WORD: HeaderName = HeaderName::from_static("peercache-error");

/// The longest text of an error, in bytes. It is for people; more would only fill logs.
pub(crate) const MAX_TEXT_BYTES: usize = 1024;

// Codes below 64 are the owner's answer. The others mean that the peer cannot answer.

/// The peer has no group of this name.
pub(crate) const UNKNOWN_GROUP: u8 = 64;
/// The client has reached itself.
pub(crate) const IS_SELF: u8 = 65;

const ANSWERS: [(u8, &str, ErrorKind); 8] = [
    (1, "not-found", ErrorKind::NotFound),
    (2, "load-failed", ErrorKind::LoadFailed),
    (3, "load-timed-out", ErrorKind::LoadTimedOut),
    (4, "overloaded", ErrorKind::Overloaded),
    (5, "value-too-large", ErrorKind::ValueTooLarge),
    (6, "key-too-long", ErrorKind::KeyTooLong),
    (7, "codec", ErrorKind::Codec),
    (8, "deadline-exceeded", ErrorKind::DeadlineExceeded),
];

/// The code and the word for an error. An error without them is a failed load to the client.
pub(crate) fn code_and_word(kind: ErrorKind) -> (u8, &'static str) {
    match ANSWERS.iter().find(|answer| answer.2 == kind) {
        Some((code, word, _)) => (*code, word),
        None => code_and_word(ErrorKind::LoadFailed),
    }
}

/// The error as a client gets it. If its callers wait without end, the deadline was another
/// client's, hit while loading: the load took too long.
pub(crate) fn kind_for(has_deadline: bool, kind: ErrorKind) -> ErrorKind {
    match kind {
        ErrorKind::DeadlineExceeded if !has_deadline => ErrorKind::LoadTimedOut,
        kind => kind,
    }
}

pub(crate) fn kind_of_code(code: u8) -> Option<ErrorKind> {
    ANSWERS.iter().find(|answer| answer.0 == code).map(|answer| answer.2)
}

pub(crate) fn kind_of_word(word: &[u8]) -> Option<ErrorKind> {
    ANSWERS.iter().find(|answer| answer.1.as_bytes() == word).map(|answer| answer.2)
}

/// The text of an error: its causes, if it has any, else the error itself.
pub(crate) fn text_of(error: &Error) -> String {
    let Some(mut cause) = error.source() else {
        return head(&error.to_string(), MAX_TEXT_BYTES).to_owned();
    };
    let mut text = cause.to_string();
    while let Some(deeper) = cause.source() {
        if text.len() > MAX_TEXT_BYTES {
            break;
        }
        text.push_str(": ");
        text.push_str(&deeper.to_string());
        cause = deeper;
    }
    head(&text, MAX_TEXT_BYTES).to_owned()
}

/// The error that the owner answered, from its kind and its text.
pub(crate) fn error_of(kind: ErrorKind, text: &[u8]) -> Error {
    let text = text_from(text);
    match kind {
        ErrorKind::LoadFailed if !text.is_empty() => Error::with_source(kind, text),
        _ if text.is_empty() || text == kind.to_string() => Error::new(kind),
        _ => Error::with_message(kind, text),
    }
}

/// A peer's text, made fit to be shown: UTF-8, short, without the end of the line.
pub(crate) fn text_from(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TEXT_BYTES + 1)]);
    head(text.strip_suffix('\n').unwrap_or(&text), MAX_TEXT_BYTES).to_owned()
}

/// The start of a text, of at most this many bytes and of whole characters.
pub(crate) fn head(text: &str, max_bytes: usize) -> &str {
    let mut end = text.len().min(max_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The payload of an error's frame: the code, then the text.
pub(crate) fn payload(code: u8, text: &str) -> Bytes {
    [&[code], head(text, MAX_TEXT_BYTES).as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_arrives_as_it_was_sent() {
        for (code, word, kind) in ANSWERS {
            assert_eq!(code_and_word(kind), (code, word));
            assert_eq!((kind_of_code(code), kind_of_word(word.as_bytes())), (Some(kind), Some(kind)));
        }
    }

    #[test]
    fn the_loaders_error_arrives_with_its_text() {
        let error =
            error_of(ErrorKind::LoadFailed, text_of(&Error::with_source(ErrorKind::LoadFailed, "no disk")).as_bytes());
        assert_eq!(error.to_string(), "the loader failed");
        assert_eq!(error.source().unwrap().to_string(), "no disk");
    }

    #[test]
    fn a_long_text_ends_between_characters() {
        let text = text_of(&Error::with_source(ErrorKind::LoadFailed, format!("a{}", "é".repeat(1024))));
        assert_eq!((text.len(), text.chars().last()), (1023, Some('é')));
        assert!(text_from(&[0xff; 5000]).len() <= MAX_TEXT_BYTES);
    }
}
