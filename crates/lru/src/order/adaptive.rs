//! The scan-resistant order: a window for what is new, a clock for what has come again, and a memory of what has left.
//!
//! A new entry waits in the window, a FIFO, as in S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", 2023) and 2Q (Johnson
//! and Shasha, 1994). If it is used there it moves to main, else it leaves. Main is a clock: its hand spares an entry once for each use.
//! Hashes of what has left are remembered for a while. A key that returns goes to main at once, if the entry under the hand is not in use: the
//! contest of TinyLFU (Einziger, Friedman and Manes, 2017), in which a tie keeps the resident, so that a loop longer than the cache
//! does not sweep it out. And the returns say which of the two is too small: one that had left the window a moment ago, while the entry
//! under the hand was idle, makes the window larger; one that had left main a moment ago makes it smaller, as in ARC (Megiddo and Modha, 2003).

use super::{ghosts::Ghosts, last};
use crate::{
    Lane, Resident,
    list::List,
    slab::Slab,
    standing::{GUESTS, Uses},
};

pub(crate) struct Adaptive {
    /// Window and main. What came last is in front.
    pub(super) own: [List; 2],
    pub(super) guests: List,
    guest_share: f64,
    ghosts: Ghosts,
    /// What the own entries weigh together when something has to leave, smoothed; what they may, before anything has.
    capacity: usize,
    /// Whether anything has left since there was much room.
    full: bool,
    /// The window's share of the capacity.
    window_share: f64,
}

const WINDOW: u8 = 0;
const MAIN: u8 = 1;

/// S3-FIFO's, to begin with.
const SHARE_START: f64 = 0.10;

/// With less, bursts no longer fit the window; with more, what is used again and again no longer fits main.
const SHARE_MIN: f64 = 0.05;
const SHARE_MAX: f64 = 0.70;

/// By how much a return changes the share, if the cache holds more than so many entries that one of them is less.
const STEP: f64 = 1.0 / 1024.0;

/// A step back is shorter: main's entries return more often for being many.
const BACK: f64 = 0.625;

/// A return within one part in so many of the entries is one that a slightly larger list would have spared.
const MARGIN: usize = 8;

/// With a larger window than this the recent are worth more than the frequent: the hand then spares an entry once however often it was used.
const RECENCY: f64 = 0.5;

/// The most entries that are passed over for one victim, so that no insertion takes long.
const STEPS_MAX: usize = 64;

impl Adaptive {
    pub(super) fn new(capacity: usize, guest_share: f64) -> Self {
        Adaptive {
            own: [List::default(); 2],
            guests: List::default(),
            guest_share,
            ghosts: Ghosts::default(),
            capacity,
            full: false,
            window_share: SHARE_START,
        }
    }

    /// The same with nothing in it and nothing remembered.
    pub(super) fn emptied(&self) -> Self {
        Adaptive::new(self.capacity, self.guest_share)
    }

    pub(super) fn inserted<E: Resident>(&mut self, slab: &mut Slab<E>, slot: u32, hash: u64, lane: Lane) {
        if lane == Lane::Guest {
            return self.push(slab, slot, GUESTS);
        }
        let weight = slab.node(slot).weight as usize;
        self.full &= self.bytes() + weight >= self.capacity / 2;
        let returns_to_main = match self.ghosts.take(hash) {
            None => false,
            Some(ghost) => {
                let (wins, idle) = self.contest(slab);
                self.adapt(ghost.left_main, ghost.age, idle);
                wins
            }
        };
        self.fill_main(slab, weight);
        self.push(slab, slot, if returns_to_main { MAIN } else { WINDOW });
        self.ghosts.grow(self.own[0].len + self.own[1].len);
    }

    pub(super) fn victim<E: Resident>(&mut self, slab: &mut Slab<E>, hash_of: &impl Fn(&E) -> u64) -> Option<u32> {
        let held = self.bytes() + self.guests.bytes;
        let too_many_guests = self.guests.bytes as f64 > held as f64 * self.guest_share;
        if too_many_guests || self.own.iter().all(List::is_empty) {
            return self.spare_used(slab, GUESTS);
        }
        self.capacity = match self.full {
            // Weights differ, and so does what is held when something has to leave.
            true => self.capacity - self.capacity / 16 + self.bytes() / 16,
            false => self.bytes(),
        };
        self.full = true;
        let (slot, left_main) = match self.victim_of_window(slab) {
            Some(slot) => (slot, false),
            None => (self.spare_used(slab, MAIN)?, true),
        };
        self.ghosts.put(hash_of(slab.entry(slot)), left_main);
        Some(slot)
    }

    /// The oldest of the window, if it is as large as it should be; those that were used go to main instead.
    fn victim_of_window<E: Resident>(&mut self, slab: &mut Slab<E>) -> Option<u32> {
        for _ in 0..STEPS_MAX {
            let [window, main] = &self.own;
            if !main.is_empty() && window.bytes < self.window_bytes() {
                return None;
            }
            let slot = last(window)?;
            if slab.entry(slot).standing().uses().count() == 0 {
                return Some(slot);
            }
            let has_room = main.bytes + self.window_bytes() < self.capacity;
            self.move_to(slab, slot, MAIN, Uses::NONE);
            if !has_room {
                return None;
            }
        }
        None
    }

    /// The hand of a clock: the oldest that was not used since it last came by.
    fn spare_used<E: Resident>(&mut self, slab: &mut Slab<E>, list: u8) -> Option<u32> {
        for _ in 0..STEPS_MAX {
            let slot = last(self.list(list))?;
            if slab.entry(slot).standing().uses().count() == 0 {
                return Some(slot);
            }
            self.spare(slab, slot, list);
        }
        last(self.list(list))
    }

    /// The entry under the hand against a key that returns: whether the key wins, and whether the entry was idle since the hand last came by.
    fn contest<E: Resident>(&mut self, slab: &mut Slab<E>) -> (bool, bool) {
        let Some(slot) = last(&self.own[usize::from(MAIN)]).filter(|_| self.full) else { return (true, false) };
        let uses = slab.entry(slot).standing().uses();
        if uses.count() == 0 {
            return (true, true);
        }
        self.spare(slab, slot, MAIN);
        (false, !uses.is_recent())
    }

    /// It pays with a use, an idle one with half of them.
    fn spare<E: Resident>(&mut self, slab: &mut Slab<E>, slot: u32, list: u8) {
        let uses = slab.entry(slot).standing().uses();
        let left = match uses.is_recent() {
            _ if list == MAIN && self.window_share > RECENCY => 0,
            true => uses.count() - 1,
            false => uses.count() / 2,
        };
        self.move_to(slab, slot, list, Uses::idle(left));
    }

    fn adapt(&mut self, left_main: bool, age: usize, idle: bool) {
        let entries = (self.own[0].len + self.own[1].len).max(1);
        if !self.full || age > entries / MARGIN {
            return;
        }
        let step = STEP.max(1.0 / entries as f64);
        let change = match (left_main, idle) {
            (true, _) => -BACK * step,
            (false, true) => step,
            (false, false) => 0.0,
        };
        self.window_share = (self.window_share + change).clamp(SHARE_MIN, SHARE_MAX);
    }

    /// While main has room, the oldest of the window moves there unused.
    fn fill_main<E: Resident>(&mut self, slab: &mut Slab<E>, weight: usize) {
        let [window, main] = &self.own;
        if window.bytes >= self.window_bytes()
            && main.bytes + self.window_bytes().max(weight) < self.capacity
            && self.bytes() < self.capacity
            && let Some(slot) = last(window)
        {
            self.move_to(slab, slot, MAIN, Uses::NONE);
        }
    }

    fn window_bytes(&self) -> usize {
        (self.window_share * self.capacity as f64) as usize
    }

    fn bytes(&self) -> usize {
        self.own[0].bytes + self.own[1].bytes
    }

    fn move_to<E: Resident>(&mut self, slab: &mut Slab<E>, slot: u32, list: u8, uses: Uses) {
        let from = slab.entry(slot).standing().list;
        self.list(from).unlink(slab, slot);
        slab.entry_mut(slot).standing_mut().set_uses(uses);
        self.push(slab, slot, list);
    }

    fn push<E: Resident>(&mut self, slab: &mut Slab<E>, slot: u32, list: u8) {
        slab.entry_mut(slot).standing_mut().list = list;
        self.list(list).push_front(slab, slot);
    }

    fn list(&mut self, list: u8) -> &mut List {
        if list == GUESTS { &mut self.guests } else { &mut self.own[usize::from(list)] }
    }
}
