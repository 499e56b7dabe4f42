//! A key and its value as the cache holds them.

use std::any::Any;

use bytes::{Buf, Bytes};

use crate::value::{Value, block};

/// A key and its value, in as few blocks of memory as possible.
#[derive(Clone)]
pub(crate) enum Stored<V> {
    /// Key and value in one block: the layout of [`Bytes`], and of no other type.
    Joined { block: V, key_bytes: u32 },
    /// Key and value side by side; `None` is a "not found".
    Apart { key: Box<[u8]>, value: Option<V> },
}

impl<V: Value> Stored<V> {
    /// Copies the key, and the value where it may be a slice of a larger buffer; `None` is a
    /// "not found". May run a user's code.
    pub(crate) fn new(key: &[u8], value: Option<V>) -> Self {
        let Some(mut value) = value else { return Stored::Apart { key: key.into(), value: None } };
        match (as_bytes_mut(&mut value), u32::try_from(key.len())) {
            (Some(bytes), Ok(key_bytes)) => {
                *bytes = block::of(key, bytes);
                Stored::Joined { block: value, key_bytes }
            }
            _ => Stored::Apart { key: key.into(), value: Some(value.detach()) },
        }
    }

    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        match self {
            Stored::Joined { block, key_bytes } => as_bytes(block).map_or(&[], |block| &block[..*key_bytes as usize]),
            Stored::Apart { key, .. } => key,
        }
    }

    #[inline]
    pub(crate) fn has_key(&self, key: &[u8]) -> bool {
        are_equal(self.key(), key)
    }

    /// A clone of the value; `None` is a "not found".
    #[inline]
    pub(crate) fn value(&self) -> Option<V> {
        match self {
            Stored::Joined { block, key_bytes } => {
                let mut value = block.clone();
                as_bytes_mut(&mut value)?.advance(*key_bytes as usize);
                Some(value)
            }
            Stored::Apart { value, .. } => value.clone(),
        }
    }

    /// The bytes that the value holds; none for a "not found".
    pub(crate) fn weight(&self) -> usize {
        match self {
            Stored::Joined { block, key_bytes } => block.weight() - *key_bytes as usize,
            Stored::Apart { value, .. } => value.as_ref().map_or(0, V::weight),
        }
    }

    pub(crate) fn is_found(&self) -> bool {
        !matches!(self, Stored::Apart { value: None, .. })
    }

    /// The bytes that the blocks take on the heap beyond the weight of key and value.
    pub(crate) fn overhead(key: &[u8], value: Option<&V>) -> usize {
        /// The allocator's header, and half a step that is lost on average.
        const VALUE_BLOCK: usize = 16;
        if let Some(bytes) = value.and_then(as_bytes) {
            return block::overhead(key.len(), bytes.len());
        }
        let of_key = if key.is_empty() { 0 } else { block::allocated(key.len()) - key.len() };
        let of_value = if std::mem::needs_drop::<V>() && value.is_some() { VALUE_BLOCK } else { 0 };
        of_key + of_value
    }
}

/// The value as [`Bytes`], if that is its type.
///
/// The compiler knows the answer for each `V`. It is always inlined, so that nothing of the
/// question is left in a hit: without, a hit took two instructions more.
#[inline(always)]
fn as_bytes<V: Value>(value: &V) -> Option<&Bytes> {
    (value as &dyn Any).downcast_ref()
}

#[inline(always)]
fn as_bytes_mut<V: Value>(value: &mut V) -> Option<&mut Bytes> {
    (value as &mut dyn Any).downcast_mut()
}

/// Compares the bytes of two keys. Every hit does, mostly of a short key, which is compared without
/// a call: its first and its last eight bytes are all of it.
#[inline]
fn are_equal(one: &[u8], other: &[u8]) -> bool {
    let word = |bytes: Option<&[u8; 8]>| bytes.map(|bytes| u64::from_ne_bytes(*bytes));
    if one.len() != other.len() {
        return false;
    }
    if (8..=16).contains(&one.len()) {
        (word(one.first_chunk()), word(one.last_chunk())) == (word(other.first_chunk()), word(other.last_chunk()))
    } else {
        one == other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<V: Value + PartialEq + std::fmt::Debug>(key: &[u8], value: Option<&V>) {
        let stored = Stored::new(key, value.cloned());
        assert_eq!((stored.key(), stored.value().as_ref(), stored.is_found()), (key, value, value.is_some()));
        assert_eq!(stored.weight(), value.map_or(0, V::weight));
    }

    #[test]
    fn what_is_stored_is_found_as_it_was() {
        for key in [&b""[..], b"k", b"\x00\xff"] {
            round_trip(key, Some(&Bytes::from_static(b"value")));
            round_trip(key, Some(&Bytes::new()));
            round_trip(key, None::<&Bytes>);
            round_trip(key, Some(&String::from("value")));
            round_trip(key, None::<&String>);
        }
    }

    #[test]
    fn bytes_alone_are_joined_with_their_key() {
        assert!(matches!(Stored::new(b"key", Some(Bytes::new())), Stored::Joined { .. }));
        assert!(matches!(Stored::new(b"key", Some(String::new())), Stored::Apart { .. }));
        assert!(matches!(Stored::new(b"key", Some(std::sync::Arc::new(Bytes::new()))), Stored::Apart { .. }));
    }

    #[test]
    fn keys_are_equal_if_all_bytes_are() {
        for length in 0..40 {
            let bytes = vec![7; length];
            assert!(are_equal(&bytes, &bytes.clone()) && !are_equal(&bytes, &vec![7; length + 1]));
            for at in 0..length {
                let mut other = bytes.clone();
                other[at] = 8;
                assert!(!are_equal(&bytes, &other), "they differ at {at} of {length}");
            }
        }
    }

    #[test]
    fn a_slice_lets_its_buffer_go() {
        let buffer = Bytes::from(vec![7; 65_536]);
        let stored = Stored::new(b"key", Some(buffer.slice(..100)));
        assert!(buffer.is_unique(), "what is stored still holds the buffer");
        assert_eq!(stored.value().map(|value| value.len()), Some(100));
    }

    /// The slot of an entry is one cache line because of it.
    #[test]
    fn bytes_take_48_bytes_beside_their_block() {
        assert_eq!(size_of::<Stored<Bytes>>(), 48);
    }
}
