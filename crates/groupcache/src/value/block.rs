//! A key and a value of `Bytes` in one block of memory.

use bytes::Bytes;

/// The most bytes of a pair for which there is a block of the right size. A longer pair pays for a
/// second block, of [`SHARED_BYTES`], which is little beside it.
const MAX_SMALL_BYTES: usize = 1_024;

/// The steps in which small blocks grow, which are those of glibc's allocator.
const STEP: usize = 16;

/// The bytes that the allocator puts before a block.
const HEADER: usize = 8;

/// The count of clones that `Bytes` keeps in the block of an owner.
const CLONE_COUNT: usize = 8;

/// The block with the count of clones that `Bytes` keeps beside a vector's buffer once it has been
/// cloned.
const SHARED_BYTES: usize = 32;

/// Copies both into one block, one behind the other. No clone or slice of it ever allocates.
pub(crate) fn of(key: &[u8], value: &[u8]) -> Bytes {
    match small(key, value) {
        Some(block) => block.slice(..key.len() + value.len()),
        None => {
            let block = Bytes::from([key, value].concat());
            // The first clone of such a `Bytes` allocates its count: done here, so that no hit
            // does.
            drop(block.clone());
            block
        }
    }
}

/// The bytes that such a block takes beyond the key and the value.
pub(crate) fn overhead(key_bytes: usize, value_bytes: usize) -> usize {
    let bytes = key_bytes.saturating_add(value_bytes);
    if bytes <= MAX_SMALL_BYTES {
        allocated(CLONE_COUNT + bytes.next_multiple_of(STEP).max(STEP)) - bytes
    } else {
        (allocated(bytes) - bytes).saturating_add(SHARED_BYTES)
    }
}

/// The bytes that glibc's allocator takes for a block of `bytes`, which is not empty.
pub(crate) fn allocated(bytes: usize) -> usize {
    bytes.saturating_add(HEADER).checked_next_multiple_of(STEP).unwrap_or(usize::MAX).max(2 * STEP)
}

/// A block of the smallest size that holds both.
fn small(key: &[u8], value: &[u8]) -> Option<Bytes> {
    macro_rules! by_size {
        ($($steps:literal)*) => {
            match (key.len() + value.len()).div_ceil(STEP) {
                0 => Some(block::<STEP>(key, value)),
                $($steps => Some(block::<{ $steps * STEP }>(key, value)),)*
                _ => None,
            }
        };
    }
    by_size! {
        1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
        33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64
    }
}

/// One allocation with the bytes and the count of their clones in it.
fn block<const N: usize>(key: &[u8], value: &[u8]) -> Bytes {
    let mut bytes = [0; N];
    bytes[..key.len()].copy_from_slice(key);
    bytes[key.len()..][..value.len()].copy_from_slice(value);
    Bytes::from_owner(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_there_whatever_their_length() {
        for (key, value) in [(0, 0), (0, 1), (1, 0), (16, 100), (16, 0), (7, 9), (24, 1_000), (25, 1_000), (3, 70_000)]
        {
            let (key, value) = (vec![b'k'; key], vec![b'v'; value]);
            assert_eq!(of(&key, &value), [&key[..], &value].concat());
        }
    }

    #[test]
    fn every_small_size_has_a_block() {
        assert!((0..=MAX_SMALL_BYTES).all(|bytes| small(&[], &vec![7; bytes]).is_some()));
        assert!(small(&[], &vec![7; MAX_SMALL_BYTES + 1]).is_none());
    }

    #[test]
    fn the_overhead_is_what_the_allocator_takes() {
        // Header, count and the rounding up to 144 for 16 + 100 bytes; header and the second block
        // for 16 + 3,000.
        assert_eq!([overhead(16, 100), overhead(0, 0), overhead(16, 3_000)], [28, 32, 40]);
        assert_eq!(overhead(usize::MAX, 1), SHARED_BYTES);
    }
}
