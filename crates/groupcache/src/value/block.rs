//! Key and value in one block of memory.

use bytes::Bytes;

/// The longest pair for which there is a block of the right size. Longer ones pay a second block of [`SHARE_COUNT`], which is little beside
/// them.
const SMALL_MAX: usize = 1_024;

/// The steps in which small blocks grow, which are those of glibc's allocator.
const STEP: usize = 16;

/// What the allocator puts before a block.
const HEADER: usize = 8;

/// The count that `Bytes` keeps in the block of an owner.
const COUNT: usize = 8;

/// The block with the share count that `Bytes` keeps beside a vector's buffer once it has been cloned.
const SHARE_COUNT: usize = 32;

/// Both, one behind the other, so that no clone or slice of it ever allocates.
pub(crate) fn of(key: &[u8], value: &[u8]) -> Bytes {
    match small(key, value) {
        Some(block) => block.slice(..key.len() + value.len()),
        None => {
            let block = Bytes::from([key, value].concat());
            // The first clone of such a `Bytes` allocates its share count: done here, and no hit ever allocates.
            drop(block.clone());
            block
        }
    }
}

/// What such a block takes beyond the two, in bytes.
pub(crate) fn loss(key_bytes: usize, value_bytes: usize) -> usize {
    let bytes = key_bytes.saturating_add(value_bytes);
    if bytes <= SMALL_MAX {
        allocated(COUNT + bytes.next_multiple_of(STEP).max(STEP)) - bytes
    } else {
        (allocated(bytes) - bytes).saturating_add(SHARE_COUNT)
    }
}

/// What glibc's allocator takes for so many bytes, where it takes anything.
pub(crate) fn allocated(bytes: usize) -> usize {
    bytes.saturating_add(HEADER).checked_next_multiple_of(STEP).unwrap_or(usize::MAX).max(2 * STEP)
}

/// A block of the least of the sizes that holds both.
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

/// One allocation with the bytes and their share count in it.
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
        assert!((0..=SMALL_MAX).all(|bytes| small(&[], &vec![7; bytes]).is_some()));
        assert!(small(&[], &vec![7; SMALL_MAX + 1]).is_none());
    }

    #[test]
    fn the_loss_is_what_the_allocator_takes() {
        // Header, count and the rounding up to 144 for 16 + 100 bytes; header and share count for 16 + 3,000.
        assert_eq!([loss(16, 100), loss(0, 0), loss(16, 3_000)], [28, 32, 40]);
        assert_eq!(loss(usize::MAX, 1), SHARE_COUNT);
    }
}
