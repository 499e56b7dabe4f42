//! The expiry_policy of the entries that end; those of the others are but a time of birth.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::FixedState;

use crate::cache::expiry::Expiry;

/// By slot, and in the order in which they end. Nothing is spent on entries that do not.
#[derive(Default)]
pub(super) struct ExpiryQueue {
    by_time: BTreeSet<(u64, u32)>,
    /// The numbers of slots are nobody's choice, so that no seed is needed.
    expiry_policy: HashMap<u32, Expiry, FixedState>,
}

/// What an end costs, in bytes: the slot with its life in a table that is two thirds full, and the time with the slot and a B-tree's share of
/// empty places.
pub(super) const END_BYTES: usize = 48 + 24;

impl ExpiryQueue {
    /// Notes the life of the entry that has come into `slot`, if it ends.
    pub(super) fn insert(&mut self, slot: u32, expiry: Expiry) {
        if let Some(ends_ms) = expiry.ends_ms() {
            self.by_time.insert((ends_ms, slot));
            self.expiry_policy.insert(slot, expiry);
        }
    }

    /// Forgets the life of what was in `slot`, if it ended.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Expiry> {
        let expiry = self.expiry_policy.remove(&slot)?;
        self.by_time.remove(&(expiry.ends_ms().unwrap_or(u64::MAX), slot));
        if self.expiry_policy.capacity() > SMALL && self.expiry_policy.capacity() > 8 * self.expiry_policy.len() {
            self.expiry_policy.shrink_to(2 * self.expiry_policy.len());
        }
        Some(expiry)
    }

    /// What was in one slot is in another now.
    pub(super) fn moved(&mut self, from: u32, to: u32) {
        if let Some(expiry) = self.remove(from) {
            self.insert(to, expiry);
        }
    }

    /// The life of the entry in a slot, if it ends.
    pub(super) fn life(&self, slot: u32) -> Option<Expiry> {
        self.expiry_policy.get(&slot).copied()
    }

    /// When the first one ends, and where it is.
    pub(super) fn first(&self) -> Option<(u64, u32)> {
        self.by_time.first().copied()
    }
}

/// A table of so many places is not worth making smaller.
const SMALL: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_moves_with_its_entry() {
        let mut ends = ExpiryQueue::default();
        let expiry = Expiry::plain(100, 50);
        ends.insert(700, expiry);
        ends.moved(700, 3);
        assert_eq!((ends.first(), ends.life(3), ends.life(700)), (Some((150, 3)), Some(expiry), None));
        ends.moved(64, 5);
        assert_eq!(ends.first(), Some((150, 3)), "what has no end has none elsewhere");
        ends.remove(3);
        assert!(ends.first().is_none() && ends.expiry_policy.is_empty());
    }

    #[test]
    fn what_does_not_end_is_not_noted() {
        let mut ends = ExpiryQueue::default();
        ends.insert(1, Expiry::endless(100));
        assert!(ends.first().is_none() && ends.expiry_policy.is_empty());
    }
}
