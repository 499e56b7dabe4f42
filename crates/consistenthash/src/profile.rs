//! The profile of a ring: its hashes, and the number of points per name.

/// The hashes of a [`Ring`](crate::Ring) for names and keys, and its number of points per name.
///
/// [`Profile::GOLANG`] is that of golang/groupcache. Other rings of its family differ in the hashes
/// alone:
///
/// ```
/// use peercache_consistenthash::{Profile, Ring};
///
/// fn fnv1a(bytes: &[u8]) -> u64 {
///     bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
///         (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
///     })
/// }
///
/// let profile = Profile::new("fnv1a", fnv1a, fnv1a).replicas(160);
/// let ring = Ring::new(profile, ["a", "b", "c"])?;
/// assert!(ring.owner(b"key").is_some());
/// # Ok::<(), peercache_consistenthash::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    pub(crate) label: &'static str,
    pub(crate) point_hash: fn(&[u8]) -> u64,
    pub(crate) key_hash: fn(&[u8]) -> u64,
    pub(crate) replicas: usize,
}

impl Profile {
    /// The default of golang/groupcache: CRC-32 (IEEE 802.3) of names and of keys, 50 points per
    /// name.
    ///
    /// Its balance is modest. With ten names the largest share is some 1.3 of the mean, and with
    /// fifty names that differ in one digit it was 2.6. Use it to live among Go peers, and a
    /// [`Table`](crate::Table) otherwise.
    pub const GOLANG: Profile = Profile::new("golang", crc32, crc32);

    /// Makes a profile of your own: `point_hash` places the points of names, `key_hash` places
    /// keys.
    ///
    /// `point_hash` is given a point's number in decimal, starting at 0, followed by the name:
    /// `0http://10.0.0.1:8000`. The `label` goes into the [digest](crate::Ring::digest), so give
    /// different hashes different labels. Hashes of fewer than 64 bits may be returned as they are,
    /// as long as both have the same range. Points per name default to 50.
    pub const fn new(label: &'static str, point_hash: fn(&[u8]) -> u64, key_hash: fn(&[u8]) -> u64) -> Self {
        Profile { label, point_hash, key_hash, replicas: 50 }
    }

    /// Sets the number of points of each name: 1 to [`MAX_REPLICAS`](crate::MAX_REPLICAS), checked
    /// when the ring is built.
    ///
    /// Defaults to 50.
    #[must_use]
    pub const fn replicas(self, replicas: usize) -> Self {
        Profile { replicas, ..self }
    }
}

fn crc32(bytes: &[u8]) -> u64 {
    crc32fast::hash(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Values printed by Go's hash/crc32.ChecksumIEEE.
    #[test]
    fn point_hash_of_golang_is_crc32_ieee() {
        assert_eq!((Profile::GOLANG.point_hash)(b"0http://127.0.0.1:8001"), 1_053_699_627);
    }

    #[test]
    fn key_hash_of_golang_is_crc32_ieee() {
        assert_eq!((Profile::GOLANG.key_hash)(b"hello"), 907_060_870);
    }
}
