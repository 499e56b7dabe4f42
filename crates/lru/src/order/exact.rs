//! Exact LRU: a list in the order of use.

use super::last;
use crate::{Lane, Resident, list::List, slab::Slab};

pub(crate) struct Lru {
    /// The most recently used is in front.
    pub(super) lists: [List; 2],
    guest_share: f64,
}

pub(super) const LANES: [Lane; 2] = [Lane::Own, Lane::Guest];

impl Lru {
    pub(super) fn new(guest_share: f64) -> Self {
        Lru { lists: [List::default(); 2], guest_share }
    }

    pub(super) fn guest_share(&self) -> f64 {
        self.guest_share
    }

    pub(super) fn inserted<E: Resident>(&mut self, slab: &mut Slab<E>, slot: u32, lane: Lane) {
        let list = usize::from(lane == Lane::Guest);
        slab.entry_mut(slot).standing_mut().list = list as u8;
        self.lists[list].push_front(slab, slot);
    }

    pub(super) fn touch<E: Resident>(&mut self, slab: &mut Slab<E>, slot: u32) {
        let list = &mut self.lists[usize::from(slab.entry(slot).standing().list)];
        list.unlink(slab, slot);
        list.push_front(slab, slot);
    }

    pub(super) fn victim(&self) -> Option<u32> {
        let [own, guests] = &self.lists;
        let held = (own.bytes + guests.bytes) as f64;
        let too_many = guests.bytes as f64 > held * self.guest_share;
        let first = if too_many { [guests, own] } else { [own, guests] };
        first.into_iter().find_map(last)
    }
}
