//! The groups that are told when the ring changes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// A group, as the member list sees it.
pub(crate) trait OnRingChange: Send + Sync {
    fn name(&self) -> &Arc<str>;

    /// Moves entries between main and hot, for keys that have another owner by the new ring.
    fn reassign(&self);

    /// Does the same once a member is up again, for keys of its own that were kept in its place.
    fn came_back(&self);
}

/// The groups that are told when the ring changes, in the order in which they came.
#[derive(Clone, Default)]
pub(crate) struct Followers {
    groups: Arc<Mutex<Groups>>,
}

#[derive(Default)]
struct Groups {
    next_id: u64,
    by_id: BTreeMap<u64, Weak<dyn OnRingChange>>,
}

/// One group's place among the followers. It leaves them when this is dropped: a `Weak` that stays
/// behind would keep the memory of the group.
pub(crate) struct Following {
    followers: Followers,
    id: u64,
}

impl Followers {
    pub(super) fn add(&self, group: Weak<dyn OnRingChange>) -> Following {
        let mut groups = self.lock();
        let id = groups.next_id;
        groups.next_id += 1;
        groups.by_id.insert(id, group);
        Following { followers: self.clone(), id }
    }

    pub(crate) fn alive(&self) -> Vec<Arc<dyn OnRingChange>> {
        self.lock().by_id.values().filter_map(Weak::upgrade).collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().by_id.len()
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.followers.lock().by_id.remove(&self.id);
    }
}
