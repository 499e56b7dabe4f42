//! The scan-resistant order: a window for new entries, a clock for used ones, ghosts of the
//! evicted.
//!
//! A new entry waits in the window, a FIFO, as in S3-FIFO (Yang et al., "FIFO queues are all you
//! need for cache eviction", 2023) and 2Q (Johnson and Shasha, 1994). If it is used there it moves
//! to the clock, else it is evicted. The clock's hand gives an entry that was used a second chance.
//! Hashes of evicted entries are remembered for a while, as ghosts.
//!
//! A key that returns while it has a ghost goes to the clock at once, if the entry under the hand
//! is not in use. This is the contest of TinyLFU (Einziger, Friedman and Manes, 2017). In a tie the
//! entry stays, so that a loop longer than the cache does not sweep the clock out.
//!
//! Returns also say which of the two is too small, as in ARC (Megiddo and Modha, 2003):
//!
//! - A key evicted from the window a moment ago, while the entry under the hand was idle, makes the
//!   window larger.
//! - A key evicted from the clock a moment ago makes the window smaller.
//!
//! The constants were found on 37 workloads, real and synthetic, at eight sizes each. They have the
//! best mean over exact LRU among those that are nowhere far below it.

use crate::{
    segment::list::{List, Nodes},
    segment::order::ghosts::Ghosts,
    segment::policy_state::{HasPolicyState, UseCount},
    segment::slab::Slab,
};

/// The entries of one lane.
pub(crate) struct Adaptive {
    /// Window and clock. The newest entry of each is in front.
    pub(super) lists: [List; 2],
    /// The number of the window's list; the clock's is the next.
    window: u8,
    ghosts: Ghosts,
    /// The bytes that the entries may hold until the first eviction. From then on, a smoothed mean
    /// of the bytes that they held at each eviction.
    capacity: usize,
    /// Whether there was an eviction since the lane was less than half full.
    full: bool,
    /// The window's share of the capacity.
    window_share: f64,
}

/// The window's share at the start, which is that of S3-FIFO.
const SHARE_START: f64 = 0.10;

/// The least share: with less, bursts no longer fit the window.
const MIN_SHARE: f64 = 0.05;

/// The largest share: with more, entries that are used again and again no longer fit the clock.
const MAX_SHARE: f64 = 0.70;

/// The largest change of the share by one return. With fewer than 512 entries it is one entry's
/// share.
const STEP: f64 = 1.0 / 512.0;

/// A step back is shorter: the clock's entries return more often, for they are more.
const BACK: f64 = 0.6875;

/// A return after at most one eviction for this many entries counts in full, since a slightly
/// larger list would have prevented it. Later returns count less.
const MARGIN: usize = 32;

/// The share beyond which the recent are worth more than the frequent. With a larger window the
/// hand gives an entry one second chance, however often it was used.
const RECENCY: f64 = 0.4;

/// An entry is heavy above this multiple of the mean weight. It takes more uses to enter the clock,
/// and fewer idle rounds to leave it.
const HEAVY: usize = 2;

/// The most entries that are passed over for one victim, so that no insertion takes long.
const MAX_STEPS: usize = 64;

impl Adaptive {
    /// An order of entries that are to hold about `capacity` bytes, on the lists `window` and the
    /// next.
    pub(super) fn new(capacity: usize, window: u8) -> Self {
        let (ghosts, window_share) = (Ghosts::default(), SHARE_START);
        Adaptive { lists: [List::default(); 2], window, ghosts, capacity, full: false, window_share }
    }

    /// The same order without entries and without ghosts.
    pub(super) fn emptied(&self) -> Self {
        Adaptive::new(self.capacity, self.window)
    }

    pub(super) fn inserted<E: HasPolicyState>(&mut self, slab: &mut Slab<E>, slot: u32, hash: u64) {
        let weight = slab.node(slot).weight as usize;
        self.full &= self.bytes() + weight >= self.capacity / 2;
        let returns_to_clock = match self.ghosts.take(hash) {
            None => false,
            Some(ghost) => {
                let (wins, idle) = self.contest(slab);
                self.adapt(ghost.left_clock, ghost.age, idle);
                wins
            }
        };
        self.fill_clock(slab, weight);
        let list = if returns_to_clock { self.clock() } else { self.window };
        self.push(slab, slot, list);
        self.ghosts.grow(self.len());
    }

    pub(super) fn victim<E: HasPolicyState>(
        &mut self,
        slab: &mut Slab<E>,
        hash_of: &impl Fn(&E) -> u64,
    ) -> Option<u32> {
        let bytes = self.bytes();
        self.capacity = if !self.full {
            bytes
        } else if bytes > self.capacity {
            // Weights differ, and so do the bytes held at each eviction: a sixteenth of the way.
            self.capacity + (bytes - self.capacity).div_ceil(16)
        } else {
            self.capacity - (self.capacity - bytes).div_ceil(16)
        };
        self.full = true;
        let (slot, left_clock) = match self.victim_of_window(slab) {
            Some(slot) => (slot, false),
            None => (self.victim_of_clock(slab)?, true),
        };
        self.ghosts.put(hash_of(slab.entry(slot)), left_clock);
        Some(slot)
    }

    /// The oldest of the window, if the window is as large as it should be. Entries that were used
    /// move to the clock instead.
    fn victim_of_window<E: HasPolicyState>(&mut self, slab: &mut Slab<E>) -> Option<u32> {
        for _ in 0..MAX_STEPS {
            let [window, clock] = &self.lists;
            if !clock.is_empty() && window.bytes < self.window_bytes() {
                return None;
            }
            let slot = window.last()?;
            if !self.is_worth_clock(slab, slot) {
                return Some(slot);
            }
            let has_room = clock.bytes + self.window_bytes() < self.capacity;
            self.move_to(slab, slot, self.clock(), UseCount::ZERO);
            if !has_room {
                return None;
            }
        }
        None
    }

    /// The first entry that the clock's hand finds unused since it last came by.
    fn victim_of_clock<E: HasPolicyState>(&mut self, slab: &mut Slab<E>) -> Option<u32> {
        for _ in 0..MAX_STEPS {
            let slot = self.lists[1].last()?;
            if slab.entry(slot).policy_state().use_count().get() == 0 {
                return Some(slot);
            }
            self.second_chance(slab, slot);
        }
        self.lists[1].last()
    }

    /// Compares a key that returns with the entry under the hand.
    ///
    /// Answers whether the key wins, and whether the entry was idle since the hand last came by.
    fn contest<E: HasPolicyState>(&mut self, slab: &mut Slab<E>) -> (bool, bool) {
        let Some(slot) = self.lists[1].last().filter(|_| self.full) else { return (true, false) };
        let uses = slab.entry(slot).policy_state().use_count();
        if uses.get() == 0 {
            return (true, true);
        }
        self.second_chance(slab, slot);
        (false, !uses.is_recent())
    }

    /// Moves the entry under the hand to the front, for a price: one of its uses, down to the last
    /// two. An idle or heavy entry pays half of them.
    fn second_chance<E: HasPolicyState>(&mut self, slab: &mut Slab<E>, slot: u32) {
        let uses = slab.entry(slot).policy_state().use_count();
        let count = uses.get();
        let left = match uses.is_recent() && !self.is_heavy(slab, slot, 1) {
            _ if self.window_share > RECENCY => 0,
            true => count - u8::from(count > 2),
            false => count / 2,
        };
        self.move_to(slab, slot, self.clock(), UseCount::not_recent(left));
    }

    /// Whether an entry was used, and the more often the heavier it is. The clock is for those with
    /// the most uses for each byte.
    fn is_worth_clock<E: HasPolicyState>(&self, slab: &Slab<E>, slot: u32) -> bool {
        let uses = slab.entry(slot).policy_state().use_count().get();
        uses > 0 && !self.is_heavy(slab, slot, uses.into())
    }

    fn is_heavy<E>(&self, slab: &Slab<E>, slot: u32, uses: usize) -> bool {
        let mean = self.bytes() / self.len().max(1);
        slab.node(slot).weight as usize > mean.saturating_mul(HEAVY * uses)
    }

    /// Moves the border between window and clock after a key has returned.
    fn adapt(&mut self, left_clock: bool, age: usize, idle: bool) {
        let entries = self.len().max(1);
        if !self.full || age > entries / 2 {
            return;
        }
        let near = (entries / MARGIN).max(1);
        let step = STEP.max(1.0 / entries as f64) * near as f64 / age.max(near) as f64;
        let change = match (left_clock, idle) {
            (true, _) => -BACK * step,
            (false, true) => step,
            (false, false) => 0.0,
        };
        self.window_share = (self.window_share + change).clamp(MIN_SHARE, MAX_SHARE);
    }

    /// Moves the oldest of the window to the clock, used or not, while there is room.
    fn fill_clock<E: HasPolicyState>(&mut self, slab: &mut Slab<E>, weight: usize) {
        let [window, clock] = &self.lists;
        if window.bytes >= self.window_bytes()
            && clock.bytes + self.window_bytes().max(weight) < self.capacity
            && self.bytes() < self.capacity
            && let Some(slot) = window.last()
        {
            self.move_to(slab, slot, self.clock(), UseCount::ZERO);
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

    fn clock(&self) -> u8 {
        self.window + 1
    }

    fn move_to<E: HasPolicyState>(&mut self, slab: &mut Slab<E>, slot: u32, list: u8, uses: UseCount) {
        let from = slab.entry(slot).policy_state().list;
        self.list(from).unlink(slab, slot);
        slab.entry_mut(slot).policy_state_mut().set_use_count(uses);
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
