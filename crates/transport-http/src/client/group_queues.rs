//! The groups of one peer, and whose turn it is.

use std::{
    collections::{HashMap, VecDeque},
    ops::{Index, IndexMut},
    sync::Arc,
};

use crate::client::{
    group_queue::GroupQueue,
    pending::{GroupCount, Pending, PendingCount},
    sweep::SweepTime,
};

/// The queues of the groups, each in a slot of its own.
///
/// A group that has keys waiting or exchanges in flight keeps its slot. Groups without either leave
/// it when many have come.
pub(super) struct GroupQueues {
    count: Arc<PendingCount>,
    slots: Vec<Option<GroupQueue>>,
    by_name: HashMap<Arc<str>, usize>,
    free: Vec<usize>,
    /// The groups with keys that wait, in the order of their turns. One whose keys have all left
    /// drops out when its turn comes.
    turns: VecDeque<usize>,
    sweep: SweepTime,
}

impl GroupQueues {
    pub(super) fn new(max_pending: usize) -> Self {
        GroupQueues {
            count: PendingCount::new(max_pending),
            slots: Vec::new(),
            by_name: HashMap::new(),
            free: Vec::new(),
            turns: VecDeque::new(),
            sweep: SweepTime::default(),
        }
    }

    /// The slot of a group's queue.
    pub(super) fn slot(&mut self, group: &Arc<str>) -> usize {
        if let Some(&slot) = self.by_name.get(group) {
            return slot;
        }
        if self.sweep.is_due(self.by_name.len()) {
            self.forget_idle();
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let count = Arc::new(GroupCount::new(self.count.clone()));
        self.slots[slot] = Some(GroupQueue::new(group.clone(), count));
        self.by_name.insert(group.clone(), slot);
        slot
    }

    /// Adds a key to the end of a group's queue.
    pub(super) fn push(&mut self, slot: usize, pending: Pending) {
        self[slot].waiting.push_back(pending);
        self.gets_turn(slot);
    }

    /// Adds keys to the front of a group's queue, in their order.
    pub(super) fn push_front(&mut self, slot: usize, pending: Vec<Pending>) {
        if !pending.is_empty() {
            let group = &mut self[slot];
            pending.into_iter().rev().for_each(|pending| group.waiting.push_front(pending));
            self.gets_turn(slot);
        }
    }

    /// The number of groups that have a turn.
    pub(super) fn turns(&self) -> usize {
        self.turns.len()
    }

    /// The group whose turn it is. It gets its next one behind all others, if it still has keys.
    pub(super) fn next_turn(&mut self) -> Option<usize> {
        let slot = self.turns.pop_front()?;
        if self[slot].waiting.is_empty() {
            self[slot].empty();
            None
        } else {
            self.turns.push_back(slot);
            Some(slot)
        }
    }

    /// The keys of all groups that wait.
    pub(super) fn take_waiting(&mut self) -> Vec<Pending> {
        self.slots.iter_mut().flatten().flat_map(|group| group.waiting.drain(..)).collect()
    }

    fn gets_turn(&mut self, slot: usize) {
        let group = &mut self[slot];
        if !group.has_turn {
            group.has_turn = true;
            self.turns.push_back(slot);
        }
    }

    fn forget_idle(&mut self) {
        for (slot, place) in self.slots.iter_mut().enumerate() {
            if let Some(group) = place.take_if(|group| group.is_idle()) {
                self.by_name.remove(&group.group);
                self.free.push(slot);
            }
        }
        self.sweep.swept(self.by_name.len());
    }
}

const KEEPS_SLOT: &str = "a group that is in use keeps its slot";

impl Index<usize> for GroupQueues {
    type Output = GroupQueue;

    fn index(&self, slot: usize) -> &GroupQueue {
        self.slots[slot].as_ref().expect(KEEPS_SLOT)
    }
}

impl IndexMut<usize> for GroupQueues {
    fn index_mut(&mut self, slot: usize) -> &mut GroupQueue {
        self.slots[slot].as_mut().expect(KEEPS_SLOT)
    }
}

#[cfg(test)]
mod tests {
    use peercache_groupcache::{PeerRequest, Reply};
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn groups_that_came_and_went_are_forgotten() {
        let mut groups = GroupQueues::new(100);
        let busy = groups.slot(&"busy".into());
        let counted = groups[busy].count.count().unwrap();
        let pending = Pending::new(PeerRequest::new("busy", "k"), Reply::new(drop), Instant::now(), counted);
        groups.push(busy, pending);
        for n in 0..20_000 {
            let slot = groups.slot(&format!("short-lived-{n}").into());
            assert!(groups[slot].is_idle());
        }
        assert!(groups.slots.len() <= 65 && groups.by_name.len() <= 65, "{}", groups.slots.len());
        assert_eq!(groups.slot(&"busy".into()), busy);
        assert_eq!(groups.next_turn(), Some(busy));
    }
}
