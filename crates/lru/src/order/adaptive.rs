//! Placeholder.

use super::last;
use crate::{Lane, Resident, list::List, slab::Slab};

pub(crate) struct Adaptive {
    pub(super) lists: [List; 3],
    guest_share: f64,
}

const SMALL: usize = 0;
const MAIN: usize = 1;
const GUESTS: usize = 2;

pub(super) const LANES: [Lane; 3] = [Lane::Own, Lane::Own, Lane::Guest];

impl Adaptive {
    pub(super) fn new(guest_share: f64) -> Self {
        Adaptive { lists: [List::default(); 3], guest_share }
    }

    pub(super) fn guest_share(&self) -> f64 {
        self.guest_share
    }

    pub(super) fn inserted<E: Resident>(&mut self, slab: &mut Slab<E>, slot: u32, _hash: u64, lane: Lane) {
        let list = if lane == Lane::Guest { GUESTS } else { SMALL };
        self.push(slab, slot, list);
    }

    fn push<E: Resident>(&mut self, slab: &mut Slab<E>, slot: u32, list: usize) {
        let standing = slab.entry_mut(slot).standing_mut();
        standing.set_uses(0);
        standing.list = list as u8;
        self.lists[list].push_front(slab, slot);
    }

    pub(super) fn victim<E: Resident>(&mut self, slab: &mut Slab<E>, _hash_of: &impl Fn(&E) -> u64) -> Option<u32> {
        loop {
            let held: usize = self.lists.iter().map(|list| list.bytes).sum();
            let list = match () {
                () if self.lists[GUESTS].bytes as f64 > held as f64 * self.guest_share => GUESTS,
                () if self.lists[SMALL].bytes * 10 > held || self.lists[MAIN].is_empty() => SMALL,
                () => MAIN,
            };
            let list = if self.lists[list].is_empty() { GUESTS } else { list };
            let slot = last(&self.lists[list])?;
            let uses = slab.entry(slot).standing().uses();
            if uses == 0 {
                return Some(slot);
            }
            let to = if list == SMALL { MAIN } else { list };
            self.lists[list].unlink(slab, slot);
            self.push(slab, slot, to);
            if list != SMALL {
                slab.entry_mut(slot).standing_mut().set_uses(uses - 1);
            }
        }
    }
}
