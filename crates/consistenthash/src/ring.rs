//! The placement of Go peers: points on a circle.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

use crate::{digest::Digester, error::Error, limits::MAX_REPLICAS, names, profile::Profile};

/// Tells which of several names owns a key, with the same answers as golang/groupcache.
///
/// Every name has some points on a circle of hashes. A key belongs to the first point at or after
/// its own hash, and past the last point to the first (Karger et al., 1997). The [`Profile`] says
/// how points and keys are hashed.
///
/// If points of two names fall together, the name *added last* has it, as in Go. So the order of
/// names matters, though rarely. Peers that must agree with Go peers give their names in the same
/// order. [`names`](Ring::names) keeps that order and all indices are into it.
///
/// ```
/// use peercache_consistenthash::Ring;
///
/// let names = ["http://127.0.0.1:8001", "http://127.0.0.1:8002", "http://127.0.0.1:8003"];
/// let ring = Ring::golang(names)?;
/// assert_eq!(ring.owner(b"user:42"), Some("http://127.0.0.1:8003"));
/// # Ok::<(), peercache_consistenthash::Error>(())
/// ```
#[derive(Clone)]
pub struct Ring {
    /// Names in the order given.
    names: Arc<[String]>,
    /// All points, ascending. Of equal points the last added is first, so that a search finds it.
    points: Arc<[u64]>,
    /// The owner of each point, in the order of `points`, as an index into `names`.
    owners: Arc<[u16]>,
    profile: Profile,
}

impl Ring {
    /// Makes the ring of golang/groupcache over these names: [`Profile::GOLANG`].
    ///
    /// Names are used verbatim; in Go they are the base URLs of the peers. An empty list makes an
    /// empty ring, which owns nothing.
    ///
    /// # Errors
    ///
    /// [`Error::DuplicateName`] if a name is there twice, [`Error::TooManyNames`] if there are more
    /// than [`MAX_NAMES`](crate::MAX_NAMES).
    pub fn golang<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<Self, Error> {
        Ring::new(Profile::GOLANG, names)
    }

    /// Makes a ring with hashes and a number of points of your own.
    ///
    /// # Errors
    ///
    /// Those of [`golang`](Ring::golang), and [`Error::Replicas`] if the profile gives a name no
    /// points or more than [`MAX_REPLICAS`].
    pub fn new<N: AsRef<str>>(profile: Profile, names: impl IntoIterator<Item = N>) -> Result<Self, Error> {
        if !(1..=MAX_REPLICAS).contains(&profile.replicas) {
            return Err(Error::Replicas(profile.replicas));
        }
        let names = names::collect(names)?;
        let (points, owners): (Vec<u64>, Vec<u16>) = place(profile, &names).into_iter().unzip();
        Ok(Ring { names: names.into(), points: points.into(), owners: owners.into(), profile })
    }

    /// The owner of `key`, or `None` if the ring is empty.
    pub fn owner(&self, key: &[u8]) -> Option<&str> {
        self.owner_index(key).map(|index| self.names[index].as_str())
    }

    /// The owner of `key` as an index into [`names`](Ring::names), or `None` if the ring is empty.
    pub fn owner_index(&self, key: &[u8]) -> Option<usize> {
        let at = self.first_point(key);
        self.owners.get(at).or(self.owners.first()).copied().map(usize::from)
    }

    /// The first `n` owners of `key`, all different: its owner, then the next on the way round. All
    /// names if there are fewer.
    ///
    /// The first is always [`owner`](Ring::owner). The second owns the key once the first is gone,
    /// the third once the first two are gone, and so on.
    pub fn owners(&self, key: &[u8], n: usize) -> Vec<&str> {
        self.owner_indices(key, n).into_iter().map(|index| self.names[index].as_str()).collect()
    }

    /// The first `n` owners of `key` as indices into [`names`](Ring::names).
    pub fn owner_indices(&self, key: &[u8], n: usize) -> Vec<usize> {
        let (before, after) = self.owners.split_at(self.first_point(key));
        let mut seen = vec![false; self.names.len()];
        after
            .iter()
            .chain(before)
            .map(|&owner| usize::from(owner))
            .filter(|&owner| !std::mem::replace(&mut seen[owner], true))
            .take(n.min(self.names.len()))
            .collect()
    }

    /// The names in the order given.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// A fingerprint of the placement: rings with equal digests give every key the same owners, on
    /// any machine.
    ///
    /// It is the xxh3 hash of [`VERSION`](crate::VERSION), the profile's label, the sorted names
    /// and the ring itself. So the order of names counts only where points fall together.
    pub fn digest(&self) -> u64 {
        let (sorted, rank) = ranks(&self.names);
        let digester =
            Digester::new("ring").text(self.profile.label).texts(sorted.into_iter()).number(self.points.len() as u64);
        self.points
            .iter()
            .zip(self.owners.iter())
            .fold(digester, |digester, (&point, &owner)| digester.number(point).number(rank[usize::from(owner)]))
            .finish()
    }

    /// The place of `key` on the ring: the number of points before its hash.
    fn first_point(&self, key: &[u8]) -> usize {
        let hash = (self.profile.key_hash)(key);
        self.points.partition_point(|&point| point < hash)
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("profile", &self.profile.label)
            .field("replicas", &self.profile.replicas)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// All points with their owners, in the order of the ring.
fn place(profile: Profile, names: &[String]) -> Vec<(u64, u16)> {
    let mut points = Vec::with_capacity(names.len() * profile.replicas);
    for (owner, name) in names.iter().enumerate() {
        for replica in 0..profile.replicas {
            let point = (profile.point_hash)(format!("{replica}{name}").as_bytes());
            points.push((point, owner as u16));
        }
    }
    points.sort_unstable_by_key(|&(point, owner)| (point, Reverse(owner)));
    points
}

/// The names sorted, and the new place of each name, in the old order.
fn ranks(names: &[String]) -> (Vec<&str>, Vec<u64>) {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_unstable_by_key(|&index| &names[index]);
    let mut rank = vec![0; names.len()];
    for (place, &index) in order.iter().enumerate() {
        rank[index] = place as u64;
    }
    (order.into_iter().map(|index| names[index].as_str()).collect(), rank)
}
