//! The weight of an entry: the bytes that its key and value hold, and the cache's own part.

use std::{
    borrow::Cow,
    ffi::{OsStr, OsString},
    mem::{needs_drop, size_of, size_of_val},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// Says how many bytes a key and a value hold on the heap.
///
/// Closures `Fn(&K, &V) -> usize` are weighers; [`ByHeapBytes`] is the default. For strings and
/// vectors the answer is simply `key.len() + value.len()`.
///
/// The answer leaves out what the cache adds by itself, which is [`entry_overhead`]: the `size_of`
/// of both, the list, the index and the allocator's rounding. A weigher is asked once for each
/// insertion and its answer is kept, so it need not answer the same twice. Sums saturate, so an
/// absurd answer makes an entry too heavy and does no other harm.
pub trait Weigher<K, V> {
    /// The heap bytes of this key and this value.
    fn weigh(&self, key: &K, value: &V) -> usize;
}

impl<K, V, F: Fn(&K, &V) -> usize> Weigher<K, V> for F {
    fn weigh(&self, key: &K, value: &V) -> usize {
        self(key, value)
    }
}

/// The default weigher, which asks key and value for their [`HeapBytes`].
#[derive(Debug, Clone, Copy, Default)]
pub struct ByHeapBytes;

impl<K: HeapBytes, V: HeapBytes> Weigher<K, V> for ByHeapBytes {
    fn weigh(&self, key: &K, value: &V) -> usize {
        key.heap_bytes().saturating_add(value.heap_bytes())
    }
}

/// The overhead of an entry of a [`Cache`](crate::Cache) in bytes, beside the heap bytes of key and
/// value.
///
/// | part | of `Cache<String, Vec<u8>>` |
/// |---|---|
/// | list node: key, value, weight, two links, as the allocator rounds it | 80 |
/// | index: pointers and control bytes, most of them vacant | 32 |
/// | header and rounding of the key's block on the heap, if it has one | 16 |
/// | the same of the value's | 16 |
/// | together | 144 |
///
/// A type that needs no drop owns no block. The figures are for 64 bits and glibc's allocator. They
/// were read off the layouts, and compared with resident memory after the budget had been filled
/// several times over (the crate's test `memory` repeats it). Memory gained is 1.0 of the charge
/// for values of 100 bytes and more, and up to 1.2 of it where key and value have some 10 bytes
/// each.
#[must_use]
pub const fn entry_overhead<K, V>() -> usize {
    let node = (size_of::<(K, V, usize)>() + 2 * size_of::<usize>() + BLOCK_HEADER).next_multiple_of(BLOCK_STEP);
    node + INDEX + block_loss::<K>() + block_loss::<V>()
}

/// The bytes lost in the heap block of a type that owns one.
pub(crate) const fn block_loss<T>() -> usize {
    if needs_drop::<T>() { BLOCK_LOSS } else { 0 }
}

/// The index's memory for each entry.
///
/// A table bucket has 9 bytes and a filled table is 7/16 to 7/8 full: 10 to 21 bytes for each
/// entry. Where entries come and go the table fills up with marks of removed ones. It then doubles
/// once more if it is more than about half full: 21 to 41 bytes. 32 is near the mean measured, with
/// the freed smaller tables. A table that rehashes in place instead would halve it.
const INDEX: usize = 32;

/// The bytes that glibc puts before a block.
const BLOCK_HEADER: usize = 8;

/// The steps in which glibc's blocks grow.
const BLOCK_STEP: usize = 16;

/// The header, and half a step lost on average. Blocks of less than 24 bytes lose more, because the
/// smallest takes 32.
const BLOCK_LOSS: usize = BLOCK_HEADER + BLOCK_STEP / 2;

/// A type that knows how many bytes its values hold on the heap, beyond their own `size_of`.
///
/// The standard library's common types have it. Implement it for yours, or give the builder a
/// weigher. The target of an [`Arc`] or an [`Rc`] is counted in full, shared or not: to drop an
/// entry does not free a value that others still hold.
///
/// ```
/// use peercache_lru::HeapBytes;
///
/// struct Person {
///     name: String,
///     age: u8,
/// }
///
/// impl HeapBytes for Person {
///     fn heap_bytes(&self) -> usize {
///         self.name.heap_bytes()
///     }
/// }
///
/// assert_eq!(Person { name: String::from("Li"), age: 7 }.heap_bytes(), 2);
/// assert_eq!(7_u64.heap_bytes(), 0);
/// ```
pub trait HeapBytes {
    /// The bytes asked of the allocator, without its rounding.
    fn heap_bytes(&self) -> usize;
}

/// Implements it for types that hold nothing on the heap.
macro_rules! inline {
    ($($type:ty),* $(,)?) => {$(
        impl HeapBytes for $type {
            fn heap_bytes(&self) -> usize {
                0
            }
        }
    )*};
}

inline!(
    (),
    bool,
    char,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    f32,
    f64,
    num::NonZeroU8,
    num::NonZeroU16,
    num::NonZeroU32,
    num::NonZeroU64,
    num::NonZeroU128,
    num::NonZeroUsize,
    str,
    OsStr,
    Path,
    Duration,
    Instant,
    SystemTime,
    IpAddr,
    Ipv4Addr,
    Ipv6Addr,
    SocketAddr,
);

/// A borrowed value owns nothing.
impl<T: ?Sized> HeapBytes for &T {
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl HeapBytes for String {
    fn heap_bytes(&self) -> usize {
        self.capacity()
    }
}

impl HeapBytes for OsString {
    fn heap_bytes(&self) -> usize {
        self.capacity()
    }
}

impl HeapBytes for PathBuf {
    fn heap_bytes(&self) -> usize {
        self.capacity()
    }
}

impl<T: HeapBytes> HeapBytes for Vec<T> {
    fn heap_bytes(&self) -> usize {
        (self.capacity() * size_of::<T>()).saturating_add(self.as_slice().heap_bytes())
    }
}

impl<T: HeapBytes> HeapBytes for [T] {
    fn heap_bytes(&self) -> usize {
        // No walk over a megabyte of `u8`.
        if !needs_drop::<T>() {
            return 0;
        }
        self.iter().map(HeapBytes::heap_bytes).fold(0, usize::saturating_add)
    }
}

impl<T: HeapBytes, const N: usize> HeapBytes for [T; N] {
    fn heap_bytes(&self) -> usize {
        self.as_slice().heap_bytes()
    }
}

impl<T: HeapBytes + ?Sized> HeapBytes for Box<T> {
    fn heap_bytes(&self) -> usize {
        size_of_val(&**self).saturating_add((**self).heap_bytes())
    }
}

/// Counts the target and its two counters.
impl<T: HeapBytes + ?Sized> HeapBytes for Arc<T> {
    fn heap_bytes(&self) -> usize {
        COUNTERS.saturating_add(size_of_val(&**self)).saturating_add((**self).heap_bytes())
    }
}

/// Counts the target and its two counters.
impl<T: HeapBytes + ?Sized> HeapBytes for Rc<T> {
    fn heap_bytes(&self) -> usize {
        COUNTERS.saturating_add(size_of_val(&**self)).saturating_add((**self).heap_bytes())
    }
}

const COUNTERS: usize = 2 * size_of::<usize>();

impl<T: HeapBytes> HeapBytes for Option<T> {
    fn heap_bytes(&self) -> usize {
        self.as_ref().map_or(0, HeapBytes::heap_bytes)
    }
}

impl<T: HeapBytes, E: HeapBytes> HeapBytes for Result<T, E> {
    fn heap_bytes(&self) -> usize {
        self.as_ref().map_or_else(HeapBytes::heap_bytes, HeapBytes::heap_bytes)
    }
}

impl<T: ToOwned<Owned: HeapBytes> + ?Sized> HeapBytes for Cow<'_, T> {
    fn heap_bytes(&self) -> usize {
        match self {
            Cow::Borrowed(_) => 0,
            Cow::Owned(owned) => owned.heap_bytes(),
        }
    }
}

/// Implements it for tuples: the sum of their parts.
macro_rules! tuples {
    ($(($($name:ident . $index:tt),+)),*) => {$(
        impl<$($name: HeapBytes),+> HeapBytes for ($($name,)+) {
            fn heap_bytes(&self) -> usize {
                0_usize $(.saturating_add(self.$index.heap_bytes()))+
            }
        }
    )*};
}

tuples!((A.0), (A.0, B.1), (A.0, B.1, C.2), (A.0, B.1, C.2, D.3));

/// Counts the length. A slice of a larger buffer keeps all of that buffer alive, which cannot be
/// seen from here: cache a copy of it instead.
#[cfg(feature = "bytes")]
impl HeapBytes for bytes::Bytes {
    fn heap_bytes(&self) -> usize {
        self.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_vectors_weigh_their_capacity() {
        assert_eq!(String::with_capacity(40).heap_bytes(), 40);
        assert_eq!(Vec::<u32>::with_capacity(10).heap_bytes(), 40);
    }

    #[test]
    fn what_elements_hold_is_counted() {
        let names = vec![String::from("Li"), String::from("Wang")];
        assert_eq!(names.heap_bytes(), names.capacity() * size_of::<String>() + 6);
    }

    #[test]
    fn shared_values_count_in_full() {
        assert_eq!(Arc::<[u8]>::from(vec![0; 100]).heap_bytes(), 116);
        assert_eq!(Rc::new(7_u64).heap_bytes(), 24);
    }

    #[test]
    fn composed_types_sum_their_parts() {
        let row = (7_u8, Some(Box::<str>::from("role")), Cow::Borrowed("free"), Err::<(), _>(String::from("no")));
        assert_eq!(row.heap_bytes(), 4 + 2);
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn overhead_is_what_its_table_says() {
        assert_eq!(entry_overhead::<String, Vec<u8>>(), 144);
        assert_eq!(entry_overhead::<u64, u64>(), 80);
    }

    #[test]
    #[cfg(feature = "bytes")]
    fn bytes_weigh_their_length() {
        assert_eq!(bytes::Bytes::from_static(b"role").heap_bytes(), 4);
    }
}
