//! Exact LRU: a list in the order of use.

use super::last;
use crate::{Lane, Resident, list::List, slab::Slab, standing::GUESTS};

pub(crate) struct Lru {
    /// The most recently used is in front.
    pub(super) own: [List; 1],
    pub(super) guests: List,
    guest_share: f64,
}

impl Lru {
    pub(super) fn new(guest_share: f64) -> Self {
        Lru { own: [List::default()], guests: List::default(), guest_share }
    }

    pub(super) fn emptied(&self) -> Self {
        Lru::new(self.guest_share)
    }

    pub(super) fn inserted<E: Resident>(&mut self, slab: &mut Slab<E>, slot: u32, lane: Lane) {
        slab.entry_mut(slot).standing_mut().list = if lane == Lane::Guest { GUESTS } else { 0 };
        self.list(lane).push_front(slab, slot);
    }

    pub(super) fn touch<E: Resident>(&mut self, slab: &mut Slab<E>, slot: u32) {
        let list = self.list(slab.entry(slot).standing().lane());
        list.unlink(slab, slot);
        list.push_front(slab, slot);
    }

    pub(super) fn victim(&self) -> Option<u32> {
        let (own, guests) = (&self.own[0], &self.guests);
        let held = (own.bytes + guests.bytes) as f64;
        let too_many = guests.bytes as f64 > held * self.guest_share;
        let first = if too_many { [guests, own] } else { [own, guests] };
        first.into_iter().find_map(last)
    }

    fn list(&mut self, lane: Lane) -> &mut List {
        match lane {
            Lane::Own => &mut self.own[0],
            Lane::Guest => &mut self.guests,
        }
    }
}
