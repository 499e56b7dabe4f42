//! Exact LRU: a list in the order of use.

use crate::{segment::list::List, segment::policy_state::HasPolicyState, segment::slab::Slab};

/// The entries of one lane.
pub(crate) struct Lru {
    /// The most recently used entry is in front.
    pub(super) lists: [List; 1],
    /// The list's number.
    number: u8,
}

impl Lru {
    pub(super) fn new(number: u8) -> Self {
        Lru { lists: [List::default()], number }
    }

    pub(super) fn emptied(&self) -> Self {
        Lru::new(self.number)
    }

    pub(super) fn inserted<E: HasPolicyState>(&mut self, slab: &mut Slab<E>, slot: u32) {
        slab.entry_mut(slot).policy_state_mut().list = self.number;
        self.lists[0].push_front(slab, slot);
    }

    pub(super) fn touch<E: HasPolicyState>(&mut self, slab: &mut Slab<E>, slot: u32) {
        self.lists[0].unlink(slab, slot);
        self.lists[0].push_front(slab, slot);
    }

    pub(super) fn victim(&self) -> Option<u32> {
        self.lists[0].last()
    }
}
