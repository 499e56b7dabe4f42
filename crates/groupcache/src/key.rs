//! A key: any bytes, and how they are shown.

use std::{borrow::Borrow, fmt, str::Utf8Error};

use bytes::Bytes;

/// Any bytes at all, compared byte for byte, that name a value.
///
/// A key is never trimmed, normalised or required to be UTF-8; the empty key is a key. Cloning is
/// cheap, for the bytes are shared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(Bytes);

impl Key {
    /// Copies `bytes` into a key of its own, so that the key keeps no larger buffer alive.
    pub fn copy_from(bytes: &[u8]) -> Self {
        Key(Bytes::copy_from_slice(bytes))
    }

    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key as text.
    ///
    /// # Errors
    /// When the key is not UTF-8. A loader whose origin knows only text can answer
    /// [`LoadError::not_found`](crate::LoadError::not_found) then.
    pub fn as_str(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(&self.0)
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this is the empty key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, shared with this key.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Lets a map of keys be searched by a slice. `Bytes` hashes and compares as the slice does, which
/// `Borrow` asks for.
impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<Bytes> for Key {
    fn from(bytes: Bytes) -> Self {
        Key(bytes)
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Key(bytes.into())
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Key(text.into())
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Key::copy_from(bytes)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Key::copy_from(text.as_bytes())
    }
}

/// The key as text with what is not printable escaped, at most 64 bytes of it.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Enough to tell keys apart in a log line, too little to flood it.
        const MAX_SHOWN_BYTES: usize = 64;
        let shown = &self.0[..self.len().min(MAX_SHOWN_BYTES)];
        for chunk in shown.utf8_chunks() {
            write!(f, "{}", chunk.valid().escape_debug())?;
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        if shown.len() < self.len() {
            write!(f, "... ({} bytes)", self.len())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_text_as_text_and_other_bytes_escaped() {
        assert_eq!(Key::from("张三\n").to_string(), "张三\\n");
        assert_eq!(Key::from(&b"a\xff\xfe"[..]).to_string(), "a\\xff\\xfe");
    }

    #[test]
    fn shows_only_the_head_of_a_long_key() {
        assert_eq!(Key::from("a".repeat(65)).to_string(), format!("{}... (65 bytes)", "a".repeat(64)));
    }
}
