//! The errors of gets, and those of building a group, a member list or a node.

use std::{borrow::Cow, error::Error as StdError, fmt, fmt::Write as _, sync::Arc};

/// Any error, as loaders and peers give them.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// The reason why a get got no value. Small and cheap to clone: all callers who shared a load share
/// its error.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    detail: Option<Arc<Detail>>,
}

/// The kinds of errors, for a `match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The origin has no such key. The loader said so, with
    /// [`LoadError::not_found`](crate::LoadError::not_found), here or at the owner.
    NotFound,
    /// The loader failed or panicked, here or at the owner. Its error is the
    /// [`source`](StdError::source); from the owner it arrives as text.
    LoadFailed,
    /// The load took longer than the group's `load_timeout`, here or at the owner.
    LoadTimedOut,
    /// The caller's own deadline, set with [`Get::timeout`](crate::Get::timeout), passed. The load
    /// goes on for others.
    DeadlineExceeded,
    /// This node or the owner has as many loads in flight as it allows. Worth another try a little
    /// later.
    Overloaded,
    /// The value is larger than the group's `max_value_bytes`.
    ValueTooLarge,
    /// The key is longer than the group's `max_key_bytes`.
    KeyTooLong,
    /// The value could not be turned into bytes for a peer.
    Codec,
    /// A loader asked for the key that it loads, itself or by way of other keys: it would have
    /// waited for itself. The loads around it fail with the same kind, and those at other members
    /// with [`LoadFailed`](ErrorKind::LoadFailed). A circle through more than four loads of several
    /// members is not found, nor are loads that began apart and then wait for each other: they end
    /// with `load_timeout`.
    RecursiveLoad,
    /// A key that is not cached was asked for outside a tokio runtime, where nothing can be loaded.
    NoRuntime,
}

struct Detail {
    message: String,
    source: Option<BoxError>,
}

impl Error {
    /// Creates an error of this kind that says no more than the kind does.
    pub fn new(kind: ErrorKind) -> Self {
        Error { kind, detail: None }
    }

    /// Creates an error of this kind in the words of `message`.
    pub fn with_message(kind: ErrorKind, message: impl Into<String>) -> Self {
        let detail = Detail { message: message.into(), source: None };
        Error { kind, detail: Some(Arc::new(detail)) }
    }

    /// Creates an error of this kind with its cause.
    pub fn with_source(kind: ErrorKind, source: impl Into<BoxError>) -> Self {
        let detail = Detail { message: kind.as_str().to_owned(), source: Some(source.into()) };
        Error { kind, detail: Some(Arc::new(detail)) }
    }

    /// Creates an error of the same kind and words, which holds nothing of the loader's: its text,
    /// with those of its causes, is at most [`MAX_TEXT_BYTES`] long. Runs a user's code.
    pub(crate) fn to_text(&self) -> Self {
        let Some(detail) = &self.detail else { return self.clone() };
        let mut text = BoundedText::default();
        // The causes say more than the kind's own words, which each error of the kind has.
        let written = match &detail.source {
            None => write!(text, "{}", detail.message),
            Some(source) => write_chain(&mut text, source.as_ref()),
        };
        // It fails where the space ends. The words before that stay.
        let _ = written;
        let text = text.0;
        let detail = match &detail.source {
            Some(_) => Detail { message: detail.message.clone(), source: Some(text.into()) },
            None => Detail { message: text, source: None },
        };
        Error { kind: self.kind, detail: Some(Arc::new(detail)) }
    }

    /// The bytes of its text and of its cause's, if it was made by [`to_text`](Self::to_text).
    pub(crate) fn text_bytes(&self) -> usize {
        self.detail.as_ref().map_or(0, |detail| {
            detail.message.len() + detail.source.as_ref().map_or(0, |source| source.to_string().len())
        })
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the origin has no such key, which many callers treat as an answer.
    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }
}

impl ErrorKind {
    fn as_str(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "not found",
            ErrorKind::LoadFailed => "the loader failed",
            ErrorKind::LoadTimedOut => "the load took too long",
            ErrorKind::DeadlineExceeded => "the caller's deadline passed",
            ErrorKind::Overloaded => "too many loads under way",
            ErrorKind::ValueTooLarge => "the value is too large",
            ErrorKind::KeyTooLong => "the key is too long",
            ErrorKind::Codec => "the value cannot be encoded",
            ErrorKind::RecursiveLoad => "a loader asked for the key that it is loading",
            ErrorKind::NoRuntime => "nothing can be loaded outside a tokio runtime",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            Some(detail) => f.write_str(&detail.message),
            None => f.write_str(self.kind.as_str()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.kind);
        if let Some(detail) = &self.detail {
            out.field("message", &detail.message);
            if let Some(source) = &detail.source {
                out.field("source", source);
            }
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = self.detail.as_ref()?.source.as_ref()?;
        Some(source.as_ref())
    }
}

/// The longest text of an error that is kept, in bytes.
const MAX_TEXT_BYTES: usize = 1_024;

/// A text that ends at the last whole character that there is room for.
#[derive(Default)]
struct BoundedText(String);

impl fmt::Write for BoundedText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut end = text.len().min(MAX_TEXT_BYTES - self.0.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.0.push_str(&text[..end]);
        if end < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Writes an error and its causes, as far as there is room.
fn write_chain(text: &mut BoundedText, error: &(dyn StdError + 'static)) -> fmt::Result {
    write!(text, "{error}")?;
    let mut cause = error.source();
    while let Some(deeper) = cause {
        write!(text, ": {deeper}")?;
        cause = deeper.source();
    }
    Ok(())
}

/// A group, a member list, a transport or a node that cannot be built as asked. Found when it is
/// built or set, never later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A group of this name exists at this node already.
    #[error("a group named {0:?} exists already")]
    DuplicateGroup(String),
    /// A group's name is empty or longer than 255 bytes.
    #[error("a group's name has 1 to 255 bytes, not {0}")]
    GroupName(usize),
    /// A setting is outside its range.
    #[error("{name} must be {expected}")]
    Setting {
        /// The setter's name.
        name: &'static str,
        /// The range that it takes.
        expected: Cow<'static, str>,
    },
    /// The member list does not name this node, which is not `client_only`.
    #[error("the member list does not contain this node, {0:?}; add it, or build the node as client_only")]
    SelfMissing(String),
    /// The member list names one member twice.
    #[error("the member list names {0:?} twice")]
    DuplicateMember(String),
    /// The member list is empty.
    #[error("the member list is empty")]
    NoMembers,
    /// The member list has more members than a ring takes.
    #[error("the member list has {0} members, more than {max}", max = crate::limits::MAX_MEMBERS)]
    TooManyMembers(usize),
    /// A member's name is not one that the transport can reach.
    #[error("{name:?} cannot be a member: {why}")]
    MemberName {
        /// The name, as it was given.
        name: String,
        /// The reason why it is refused.
        why: String,
    },
    /// The transport cannot be set up. The words say why.
    #[error("{0}")]
    Transport(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_two_words() {
        assert!(size_of::<Error>() <= 2 * size_of::<usize>());
    }

    #[test]
    fn a_kept_text_is_bounded_and_ends_at_a_character() {
        let error = Error::with_source(ErrorKind::LoadFailed, format!("x{}", "é".repeat(2_000))).to_text();
        let text = error.source().map(ToString::to_string).unwrap_or_default();
        assert_eq!((error.kind(), text.len(), text.ends_with('é')), (ErrorKind::LoadFailed, 1_023, true));
        let long = Error::with_message(ErrorKind::LoadFailed, "x".repeat(5_000)).to_text();
        assert_eq!(long.to_string().len(), MAX_TEXT_BYTES);
    }

    #[test]
    fn a_kept_text_has_the_causes_of_the_cause() {
        let cause = Error::with_source(ErrorKind::Codec, Error::with_source(ErrorKind::LoadFailed, "no disk"));
        let kept = Error::with_source(ErrorKind::LoadFailed, cause).to_text();
        let text = kept.source().map(ToString::to_string);
        assert_eq!(text.as_deref(), Some("the value cannot be encoded: the loader failed: no disk"));
        assert!(kept.source().is_some_and(|source| source.source().is_none()));
    }

    #[test]
    fn the_cause_is_kept() {
        let error = Error::with_source(ErrorKind::LoadFailed, "disk on fire");
        assert_eq!(error.to_string(), "the loader failed");
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("disk on fire"));
    }
}
