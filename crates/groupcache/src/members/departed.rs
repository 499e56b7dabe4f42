//! Members that have left the list: whether one that returns may have missed an update meanwhile.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use crate::{limits::MAX_MEMBERS, members::undelivered::Removal, members::view::View};

/// Members that have left the list, for when they return.
///
/// Nobody sends updates to a member that is in no list. So one that returns after an update has to
/// remove all that it has, before it is asked for anything.
#[derive(Default)]
pub(crate) struct DepartedMembers {
    /// Grows with every update that this node makes or applies.
    updates: AtomicU64,
    by_name: Mutex<HashMap<String, Departed>>,
}

/// A member's state when it left the list.
enum Departed {
    /// It had missed nothing, and this many updates had been counted.
    UpToDate { updates: u64 },
    /// It had missed an update.
    Behind,
}

/// The most members that have left and are remembered. Beyond that all are forgotten, and are new
/// ones if they return.
const MAX_DEPARTED: usize = 4 * MAX_MEMBERS;

impl DepartedMembers {
    /// Counts an update, which all members miss that are not in the list.
    pub(crate) fn count_update(&self) {
        self.updates.fetch_add(1, SeqCst);
    }

    /// Remembers the members of the old list that the new one does not name.
    pub(crate) fn remember(&self, old: &View, new: &View) {
        let mut departed = self.lock();
        for remote in old.remotes_not_in(new) {
            if departed.len() >= MAX_DEPARTED {
                departed.clear();
            }
            let state = if remote.is_up_to_date() {
                Departed::UpToDate { updates: self.updates.load(SeqCst) }
            } else {
                Departed::Behind
            };
            departed.insert(remote.name.clone(), state);
        }
    }

    /// Queues a removal of everything, in each group, for members that return and have missed an
    /// update.
    ///
    /// Called before the new list is in force, so that no get asks such a member too early. The
    /// removals are delivered later: this may run where there is no runtime.
    pub(crate) fn queue_for_returned(&self, old: &View, new: &View, groups: &[Arc<str>]) {
        let mut departed = self.lock();
        for remote in new.remotes_not_in(old) {
            let is_up_to_date = match departed.remove(&remote.name) {
                None => true,
                Some(Departed::Behind) => false,
                Some(Departed::UpToDate { updates }) => updates == self.updates.load(SeqCst),
            };
            if !is_up_to_date {
                groups.iter().for_each(|group| remote.add_undelivered(group, &Removal::All));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Departed>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
