//! The permits of batches: they bound the keys that are answered at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::share::may_take;

/// The keys of batches that are answered at once; a longer key counts as one for each
/// [`KEY_BYTES`], and one more. They need some 15 MB then. Further batches are answered as
/// overload. A group has the share that [`may_take`] gives it, so that one whose loads take their
/// time leaves places to the others.
const MAX_KEYS: usize = 16 * 1024;

/// The length of a key, in bytes, from which it counts as more than one.
const KEY_BYTES: usize = 64;

/// The permits of one peer server.
pub(super) struct Permits {
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_group: HashMap<Arc<str>, usize>,
}

/// The permit of the keys of one batch, given back when it is dropped.
pub(super) struct KeysPermit {
    taken: Arc<Mutex<Taken>>,
    group: Arc<str>,
    keys: usize,
}

impl Permits {
    pub(super) fn new() -> Self {
        Permits { taken: Arc::default() }
    }

    /// The permit of the keys of a batch, given by their lengths; to be held until they are
    /// answered. `None` when too many are asked for.
    pub(super) fn keys(&self, group: &Arc<str>, lengths: impl Iterator<Item = usize>) -> Option<KeysPermit> {
        let keys: usize = lengths.map(|length| 1 + length / KEY_BYTES).sum();
        let mut taken = lock(&self.taken);
        let own = taken.by_group.get(group).copied().unwrap_or(0);
        // The last of them may take a place, and so may all before it.
        let (own_then, all_then) = (own + keys, taken.all + keys);
        if all_then > MAX_KEYS || !may_take(own_then - keys.min(1), all_then - keys.min(1), MAX_KEYS) {
            return None;
        }
        taken.all = all_then;
        taken.by_group.insert(group.clone(), own_then);
        Some(KeysPermit { taken: self.taken.clone(), group: group.clone(), keys })
    }
}

impl Drop for KeysPermit {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all -= self.keys;
        let left = taken.by_group.get_mut(&self.group).map(|own| {
            *own -= self.keys;
            *own
        });
        let unused = if left == Some(0) { taken.by_group.remove_entry(&self.group) } else { None };
        drop(taken);
        drop(unused);
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_takes_all_it_may_leaves_places_to_others() {
        let permits = Permits::new();
        let batch = |group: &str| permits.keys(&group.into(), std::iter::repeat_n(10, 1_024));
        let of_slow: Vec<_> = std::iter::from_fn(|| batch("slow")).collect();
        assert_eq!(of_slow.len(), 12, "three quarters of sixteen");
        let of_other: Vec<_> = std::iter::from_fn(|| batch("other")).collect();
        assert_eq!(of_other.len(), 3);
        drop((of_slow, of_other));
        assert_eq!(lock(&permits.taken).all, 0);
        assert!(lock(&permits.taken).by_group.is_empty(), "a group that is gone leaves nothing");
        // A long key counts as several.
        assert!(permits.keys(&"g".into(), std::iter::repeat_n(60_000, 14)).is_none());
    }
}
