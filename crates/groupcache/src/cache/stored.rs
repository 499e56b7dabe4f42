//! A key and its value, as the cache holds them.

use crate::value::{Value, block};

/// Values that are bytes share a block with their key; others lie beside it.
#[derive(Clone)]
pub(crate) enum Stored<V> {
    Joined { block: V, key_bytes: u32 },
    Apart { key: Box<[u8]>, value: Option<V> },
}

impl<V: Value> Stored<V> {
    /// In memory of its own; `None` is a "not found". May run a user's code.
    pub(crate) fn new(key: &[u8], value: Option<V>) -> Self {
        let joined = value.as_ref().and_then(|value| V::join(key, value)).zip(u32::try_from(key.len()).ok());
        match joined {
            Some((block, key_bytes)) => Stored::Joined { block, key_bytes },
            None => Stored::Apart { key: key.into(), value: value.map(V::detach) },
        }
    }

    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        match self {
            Stored::Joined { block, key_bytes } => block.head(*key_bytes as usize),
            Stored::Apart { key, .. } => key,
        }
    }

    #[inline]
    pub(crate) fn is_of(&self, key: &[u8]) -> bool {
        same(self.key(), key)
    }

    #[inline]
    pub(crate) fn value(&self) -> Option<V> {
        match self {
            Stored::Joined { block, key_bytes } => Some(block.tail(*key_bytes as usize)),
            Stored::Apart { value, .. } => value.clone(),
        }
    }

    pub(crate) fn is_found(&self) -> bool {
        !matches!(self, Stored::Apart { value: None, .. })
    }

    /// What the blocks on the heap take beyond what the key and the value weigh, in bytes.
    pub(crate) fn loss_bytes(key: &[u8], value: Option<&V>) -> usize {
        let apart = || {
            /// Header, and half a step of the allocator lost on average.
            const LOSS: usize = 16;
            let of_key = if key.is_empty() { 0 } else { block::allocated(key.len()) - key.len() };
            let of_value = if std::mem::needs_drop::<V>() && value.is_some() { LOSS } else { 0 };
            of_key + of_value
        };
        value.and_then(|value| value.joined_loss_bytes(key)).unwrap_or_else(apart)
    }
}

/// Whether the bytes are the same. Every hit asks, mostly of a short key, which is compared without a call: its first and its last eight bytes
/// are all of it.
#[inline]
fn same(one: &[u8], other: &[u8]) -> bool {
    let word = |bytes: Option<&[u8; 8]>| bytes.map(|bytes| u64::from_ne_bytes(*bytes));
    match one.len() == other.len() {
        false => false,
        true if (8..=16).contains(&one.len()) => {
            (word(one.first_chunk()), word(one.last_chunk())) == (word(other.first_chunk()), word(other.last_chunk()))
        }
        true => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bytes;

    fn round_trip<V: Value + PartialEq + std::fmt::Debug>(key: &[u8], value: Option<V>) {
        let stored = Stored::new(key, value.clone());
        assert_eq!((stored.key(), stored.value(), stored.is_found()), (key, value.clone(), value.is_some()));
    }

    #[test]
    fn what_is_stored_is_found_as_it_was() {
        for key in [&b""[..], b"k", b"\x00\xff"] {
            round_trip(key, Some(Bytes::from_static(b"value")));
            round_trip(key, Some(Bytes::new()));
            round_trip(key, None::<Bytes>);
            round_trip(key, Some(String::from("value")));
            round_trip(key, None::<String>);
        }
    }

    #[test]
    fn bytes_are_the_same_if_all_are() {
        for length in 0..40 {
            let bytes = vec![7; length];
            assert!(same(&bytes, &bytes.clone()) && !same(&bytes, &vec![7; length + 1]));
            for at in 0..length {
                let mut other = bytes.clone();
                other[at] = 8;
                assert!(!same(&bytes, &other), "they differ at {at} of {length}");
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
