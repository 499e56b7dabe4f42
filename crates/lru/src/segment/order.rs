//! The order in which entries leave: the policies there are, and which lane gives way.

mod adaptive;
mod exact;
mod ghosts;

use adaptive::Adaptive;
use exact::Lru;

use crate::{
    segment::list::List,
    segment::policy_state::{FIRST_HOT_LIST, HasPolicyState, Lane, UseCount},
    segment::slab::Slab,
};

/// Decides which entry is evicted first when room is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EvictionPolicy {
    /// Scan-resistant: entries that are used again stay, those that are used once leave soon. The
    /// default.
    #[default]
    Adaptive,
    /// The least recently used entry leaves first, exactly. Every use moves its entry under the
    /// shard's exclusive lock, so that threads wait for each other.
    Lru,
}

/// The number of a lane's entries and the sum of their charges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The number of entries.
    pub entries: usize,
    /// The sum of their charges, in bytes.
    pub bytes: usize,
}

/// The memory that a policy spends on evicted keys, in bytes for each entry present.
pub(crate) const HISTORY_BYTES: usize = ghosts::ENTRY_BYTES;

/// The order of each lane's entries, and the share that decides which lane gives way.
pub(crate) struct Order {
    main: LaneOrder,
    hot: LaneOrder,
    /// The share of all bytes that the hot lane may hold.
    hot_share: f64,
}

enum LaneOrder {
    Adaptive(Adaptive),
    Lru(Lru),
}

impl Order {
    pub(crate) fn new(policy: EvictionPolicy, capacity: usize, hot_share: f64) -> Self {
        let hot_share = hot_share.clamp(0.0, 1.0);
        let hot_capacity = ((capacity as f64 * hot_share) as usize).min(capacity);
        let lane = |capacity, first_list| match policy {
            EvictionPolicy::Adaptive => LaneOrder::Adaptive(Adaptive::new(capacity, first_list)),
            EvictionPolicy::Lru => LaneOrder::Lru(Lru::new(first_list)),
        };
        Order { main: lane(capacity - hot_capacity, 0), hot: lane(hot_capacity, FIRST_HOT_LIST), hot_share }
    }

    /// The same policy without entries and without history.
    pub(crate) fn emptied(&self) -> Self {
        Order { main: self.main.emptied(), hot: self.hot.emptied(), hot_share: self.hot_share }
    }

    pub(crate) fn needs_touch(&self) -> bool {
        matches!(self.main, LaneOrder::Lru(_))
    }

    pub(crate) fn touch<E: HasPolicyState>(&mut self, slab: &mut Slab<E>, slot: u32) {
        if let LaneOrder::Lru(order) = self.lane(slab.entry(slot).policy_state().lane()) {
            order.touch(slab, slot);
        }
    }

    pub(crate) fn inserted<E: HasPolicyState>(&mut self, slab: &mut Slab<E>, slot: u32, hash: u64, lane: Lane) {
        match self.lane(lane) {
            LaneOrder::Adaptive(order) => order.inserted(slab, slot, hash),
            LaneOrder::Lru(order) => order.inserted(slab, slot),
        }
    }

    /// Puts an entry on the list that its state names.
    pub(crate) fn reinserted<E: HasPolicyState>(&mut self, slab: &mut Slab<E>, slot: u32) {
        let list = slab.entry(slot).policy_state().list;
        self.list(list).push_front(slab, slot);
    }

    pub(crate) fn victim<E: HasPolicyState>(
        &mut self,
        slab: &mut Slab<E>,
        hash_of: &impl Fn(&E) -> u64,
    ) -> Option<u32> {
        let (main, hot) = (self.usage(Lane::Main).bytes, self.usage(Lane::Hot).bytes);
        let over_share = hot as f64 > (main + hot) as f64 * self.hot_share;
        let hot_first = over_share && (self.needs_touch() || !self.is_only_copy_in_use(slab));
        let first = if hot_first { [Lane::Hot, Lane::Main] } else { [Lane::Main, Lane::Hot] };
        first.into_iter().find_map(|lane| self.lane(lane).victim(slab, hash_of))
    }

    /// Whether the hot lane has one entry alone, which was used since it was last passed over.
    ///
    /// Such a copy is larger than the lane's share and yet worth its room. It is passed over once
    /// for each use.
    fn is_only_copy_in_use<E: HasPolicyState>(&self, slab: &mut Slab<E>) -> bool {
        let mut copies = self.slots(Lane::Hot, slab);
        let (Some(slot), None) = (copies.next(), copies.next()) else { return false };
        drop(copies);
        let state = slab.entry_mut(slot).policy_state_mut();
        let uses = state.use_count().get();
        state.set_use_count(UseCount::not_recent(uses.saturating_sub(1)));
        uses > 0
    }

    pub(crate) fn unlink<E: HasPolicyState>(&mut self, slab: &mut Slab<E>, slot: u32) {
        let list = slab.entry(slot).policy_state().list;
        self.list(list).unlink(slab, slot);
    }

    /// Moves an entry to a lower slot.
    pub(crate) fn move_down<E: HasPolicyState>(&mut self, slab: &mut Slab<E>, slot: u32) -> u32 {
        let list = slab.entry(slot).policy_state().list;
        slab.move_down(slot, self.list(list))
    }

    pub(crate) fn usage(&self, lane: Lane) -> Usage {
        self.lists(lane).iter().fold(Usage::default(), |sum, list| Usage {
            entries: sum.entries + list.len,
            bytes: sum.bytes + list.bytes,
        })
    }

    /// The slots of a lane; those that stay longest come first, roughly.
    pub(crate) fn slots<E>(&self, lane: Lane, slab: &Slab<E>) -> impl Iterator<Item = u32> {
        self.lists(lane).iter().rev().flat_map(|list| list.iter(slab))
    }

    fn lane(&mut self, lane: Lane) -> &mut LaneOrder {
        match lane {
            Lane::Main => &mut self.main,
            Lane::Hot => &mut self.hot,
        }
    }

    fn list(&mut self, list: u8) -> &mut List {
        let (order, number) =
            if list < FIRST_HOT_LIST { (&mut self.main, list) } else { (&mut self.hot, list - FIRST_HOT_LIST) };
        match order {
            LaneOrder::Adaptive(order) => &mut order.lists[usize::from(number)],
            LaneOrder::Lru(order) => &mut order.lists[usize::from(number)],
        }
    }

    fn lists(&self, lane: Lane) -> &[List] {
        match if lane == Lane::Main { &self.main } else { &self.hot } {
            LaneOrder::Adaptive(order) => &order.lists,
            LaneOrder::Lru(order) => &order.lists,
        }
    }
}

impl LaneOrder {
    fn emptied(&self) -> Self {
        match self {
            LaneOrder::Adaptive(order) => LaneOrder::Adaptive(order.emptied()),
            LaneOrder::Lru(order) => LaneOrder::Lru(order.emptied()),
        }
    }

    fn victim<E: HasPolicyState>(&mut self, slab: &mut Slab<E>, hash_of: &impl Fn(&E) -> u64) -> Option<u32> {
        match self {
            LaneOrder::Adaptive(order) => order.victim(slab, hash_of),
            LaneOrder::Lru(order) => order.victim(),
        }
    }
}
