//! The expiries of a shard's entries that expire, in the order in which they do.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::FixedState;

use crate::cache::expiry::Expiry;

/// The expiries by slot and by time. Entries that never expire are not in here and cost nothing.
#[derive(Default)]
pub(super) struct ExpiryQueue {
    by_time: BTreeSet<(u64, u32)>,
    /// No seed is needed: nobody outside chooses the numbers of slots.
    by_slot: HashMap<u32, Expiry, FixedState>,
}

/// The cost of an expiry in bytes: slot and expiry in a table that is two thirds full; time and
/// slot in a B-tree, with its share of unused space.
pub(super) const EXPIRY_BYTES: usize = 48 + 24;

/// A table of this capacity or less is not worth shrinking.
const MIN_CAPACITY: usize = 256;

impl ExpiryQueue {
    /// Adds the expiry of the entry in `slot`, unless that never expires.
    pub(super) fn insert(&mut self, slot: u32, expiry: Expiry) {
        if let Some(expires_ms) = expiry.expires_ms() {
            self.by_time.insert((expires_ms, slot));
            self.by_slot.insert(slot, expiry);
        }
    }

    /// Takes out the expiry of the entry in `slot`, if it has one.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Expiry> {
        let expiry = self.by_slot.remove(&slot)?;
        self.by_time.remove(&(expiry.expires_ms().unwrap_or(u64::MAX), slot));
        if self.by_slot.capacity() > MIN_CAPACITY && self.by_slot.capacity() > 8 * self.by_slot.len() {
            self.by_slot.shrink_to(2 * self.by_slot.len());
        }
        Some(expiry)
    }

    /// Follows an entry that has moved to another slot.
    pub(super) fn moved(&mut self, from: u32, to: u32) {
        if let Some(expiry) = self.remove(from) {
            self.insert(to, expiry);
        }
    }

    /// The expiry of the entry in `slot`, if it has one.
    pub(super) fn get(&self, slot: u32) -> Option<Expiry> {
        self.by_slot.get(&slot).copied()
    }

    /// The time and the slot of the next entry to expire.
    pub(super) fn first(&self) -> Option<(u64, u32)> {
        self.by_time.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_moves_with_its_entry() {
        let mut queue = ExpiryQueue::default();
        let expiry = Expiry::after(100, 50);
        queue.insert(700, expiry);
        queue.moved(700, 3);
        assert_eq!((queue.first(), queue.get(3), queue.get(700)), (Some((150, 3)), Some(expiry), None));
        queue.moved(64, 5);
        assert_eq!(queue.first(), Some((150, 3)), "an entry that never expires has nothing to move");
        queue.remove(3);
        assert!(queue.first().is_none() && queue.by_slot.is_empty());
    }

    #[test]
    fn an_entry_that_never_expires_is_not_queued() {
        let mut queue = ExpiryQueue::default();
        queue.insert(1, Expiry::never(100));
        assert!(queue.first().is_none() && queue.by_slot.is_empty());
    }
}
