//! The scan-resistant order: a window for what is new, a clock for what has come again, and a memory of what has left.
//!
//! A new entry waits in the window, a FIFO, as in S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", 2023) and 2Q (Johnson
//! and Shasha, 1994). If it is used there it moves to main, else it leaves. Main is a clock: its hand spares an entry that was used.
//! Hashes of what has left are remembered for a while. A key that returns goes to main at once, if the entry under the hand is not in use: the
//! contest of TinyLFU (Einziger, Friedman and Manes, 2017), in which a tie keeps the resident, so that a loop longer than the cache
//! does not sweep it out. And the returns say which of the two is too small: one that had left the window a moment ago, while the entry
//! under the hand was idle, makes the window larger; one that had left main a moment ago makes it smaller, as in ARC (Megiddo and Modha,
//! 2003).
//!
//! The constants were found on 37 workloads, real and synthetic, at eight sizes each, for the best mean over exact LRU among those that are
//! nowhere far below it.

use crate::{
    segment::HasPolicyState,
    segment::list::List,
    segment::policy_state::{HOT_LISTS, Uses},
    segment::slab::Slab,
};
use crate::{segment::order::ghosts::Ghosts, segment::order::last};

/// The entries of one lane.
pub(crate) struct Adaptive {
    /// Window and main. What came last is in front.
    pub(super) lists: [List; 2],
    /// The number of the window's list; main's is the next.
    window: u8,
    ghosts: Ghosts,
    /// What the entries weigh together when something has to leave, smoothed; what they may, before anything has.
    capacity: usize,
    /// Whether anything has left since there was much room.
    full: bool,
    /// The window's share of the capacity.
    window_share: f64,
}

/// S3-FIFO's, to begin with.
const SHARE_START: f64 = 0.10;

/// With less, bursts no longer fit the window; with more, what is used again and again no longer fits main.
const SHARE_MIN: f64 = 0.05;
const SHARE_MAX: f64 = 0.70;

/// By how much a return changes the share at most, if the cache holds more than so many entries that one of them is less.
const STEP: f64 = 1.0 / 512.0;

/// A step back is shorter: main's entries return more often for being many.
const BACK: f64 = 0.6875;

/// A return within one part in so many of the entries is one that a slightly larger list would have spared. Later ones count less.
const MARGIN: usize = 32;

/// With a larger window than this the recent are worth more than the frequent: the hand then spares an entry once however often it was used.
const RECENCY: f64 = 0.4;

/// An entry of more than so many times the mean weight is heavy: it takes more uses to enter main, and fewer idle rounds to leave.
const HEAVY: usize = 2;

/// The most entries that are passed over for one victim, so that no insertion takes long.
const STEPS_MAX: usize = 64;

impl Adaptive {
    /// Of entries that are to weigh about `capacity` together.
    pub(super) fn own(capacity: usize) -> Self {
        Adaptive::new(capacity, 0)
    }

    /// The same for guests.
    pub(super) fn guests(capacity: usize) -> Self {
        Adaptive::new(capacity, HOT_LISTS)
    }

    fn new(capacity: usize, window: u8) -> Self {
        let (ghosts, window_share) = (Ghosts::default(), SHARE_START);
        Adaptive { lists: [List::default(); 2], window, ghosts, capacity, full: false, window_share }
    }

    /// With nothing in it and nothing remembered.
    pub(super) fn emptied(&self) -> Self {
        Adaptive::new(self.capacity, self.window)
    }

    pub(super) fn inserted<E: HasPolicyState>(&mut self, slab: &mut Slab<E>, slot: u32, hash: u64) {
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
        let list = if returns_to_main { self.main() } else { self.window };
        self.push(slab, slot, list);
        self.ghosts.grow(self.len());
    }

    pub(super) fn victim<E: HasPolicyState>(
        &mut self,
        slab: &mut Slab<E>,
        hash_of: &impl Fn(&E) -> u64,
    ) -> Option<u32> {
        let bytes = self.bytes();
        self.capacity = match self.full {
            // Weights differ, and so does what is held when something has to leave: a sixteenth of the way each time.
            true if bytes > self.capacity => self.capacity + (bytes - self.capacity).div_ceil(16),
            true => self.capacity - (self.capacity - bytes).div_ceil(16),
            false => bytes,
        };
        self.full = true;
        let (slot, left_main) = match self.victim_of_window(slab) {
            Some(slot) => (slot, false),
            None => (self.victim_of_main(slab)?, true),
        };
        self.ghosts.put(hash_of(slab.entry(slot)), left_main);
        Some(slot)
    }

    /// The oldest of the window, if it is as large as it should be; those that were used go to main instead.
    fn victim_of_window<E: HasPolicyState>(&mut self, slab: &mut Slab<E>) -> Option<u32> {
        for _ in 0..STEPS_MAX {
            let [window, main] = &self.lists;
            if !main.is_empty() && window.bytes < self.window_bytes() {
                return None;
            }
            let slot = last(window)?;
            if !self.is_worth_main(slab, slot) {
                return Some(slot);
            }
            let has_room = main.bytes + self.window_bytes() < self.capacity;
            self.move_to(slab, slot, self.main(), Uses::NONE);
            if !has_room {
                return None;
            }
        }
        None
    }

    /// The hand of the clock: the oldest that was not used since it last came by.
    fn victim_of_main<E: HasPolicyState>(&mut self, slab: &mut Slab<E>) -> Option<u32> {
        for _ in 0..STEPS_MAX {
            let slot = last(&self.lists[1])?;
            if slab.entry(slot).policy_state().uses().count() == 0 {
                return Some(slot);
            }
            self.spare(slab, slot);
        }
        last(&self.lists[1])
    }

    /// The entry under the hand against a key that returns: whether the key wins, and whether the entry was idle since the hand last came by.
    fn contest<E: HasPolicyState>(&mut self, slab: &mut Slab<E>) -> (bool, bool) {
        let Some(slot) = last(&self.lists[1]).filter(|_| self.full) else { return (true, false) };
        let uses = slab.entry(slot).policy_state().uses();
        if uses.count() == 0 {
            return (true, true);
        }
        self.spare(slab, slot);
        (false, !uses.is_recent())
    }

    /// An entry in use pays with one of its uses, down to its last two; an idle or a heavy one with half of them.
    fn spare<E: HasPolicyState>(&mut self, slab: &mut Slab<E>, slot: u32) {
        let uses = slab.entry(slot).policy_state().uses();
        let count = uses.count();
        let left = match uses.is_recent() && !self.is_heavy(slab, slot, 1) {
            _ if self.window_share > RECENCY => 0,
            true => count - u8::from(count > 2),
            false => count / 2,
        };
        self.move_to(slab, slot, self.main(), Uses::idle(left));
    }

    /// Used, and the more often the heavier it is: main is for the most uses by the byte.
    fn is_worth_main<E: HasPolicyState>(&self, slab: &Slab<E>, slot: u32) -> bool {
        let uses = slab.entry(slot).policy_state().uses().count();
        uses > 0 && !self.is_heavy(slab, slot, uses.into())
    }

    fn is_heavy<E>(&self, slab: &Slab<E>, slot: u32, uses: usize) -> bool {
        let mean = self.bytes() / self.len().max(1);
        slab.node(slot).weight as usize > mean.saturating_mul(HEAVY * uses)
    }

    fn adapt(&mut self, left_main: bool, age: usize, idle: bool) {
        let entries = self.len().max(1);
        if !self.full || age > entries / 2 {
            return;
        }
        let near = (entries / MARGIN).max(1);
        let step = STEP.max(1.0 / entries as f64) * near as f64 / age.max(near) as f64;
        let change = match (left_main, idle) {
            (true, _) => -BACK * step,
            (false, true) => step,
            (false, false) => 0.0,
        };
        self.window_share = (self.window_share + change).clamp(SHARE_MIN, SHARE_MAX);
    }

    /// While main has room, the oldest of the window moves there unused.
    fn fill_main<E: HasPolicyState>(&mut self, slab: &mut Slab<E>, weight: usize) {
        let [window, main] = &self.lists;
        if window.bytes >= self.window_bytes()
            && main.bytes + self.window_bytes().max(weight) < self.capacity
            && self.bytes() < self.capacity
            && let Some(slot) = last(window)
        {
            self.move_to(slab, slot, self.main(), Uses::NONE);
        }
    }

    fn window_bytes(&self) -> usize {
        (self.window_share * self.capacity as f64) as usize
    }

    fn bytes(&self) -> usize {
        self.lists[0].bytes + self.lists[1].bytes
    }

    fn len(&self) -> usize {
        self.lists[0].len + self.lists[1].len
    }

    fn main(&self) -> u8 {
        self.window + 1
    }

    fn move_to<E: HasPolicyState>(&mut self, slab: &mut Slab<E>, slot: u32, list: u8, uses: Uses) {
        let from = slab.entry(slot).policy_state().list;
        self.list(from).unlink(slab, slot);
        slab.entry_mut(slot).policy_state_mut().set_uses(uses);
        self.push(slab, slot, list);
    }

    fn push<E: HasPolicyState>(&mut self, slab: &mut Slab<E>, slot: u32, list: u8) {
        slab.entry_mut(slot).policy_state_mut().list = list;
        self.list(list).push_front(slab, slot);
    }

    fn list(&mut self, list: u8) -> &mut List {
        &mut self.lists[usize::from(list - self.window)]
    }
}
