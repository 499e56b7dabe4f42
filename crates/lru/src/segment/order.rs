//! In which order entries leave.

mod adaptive;
mod exact;
mod ghosts;

use adaptive::Adaptive;
use exact::Lru;

use crate::{
    segment::list::List,
    segment::policy_state::{HOT_LISTS, Uses},
    segment::slab::{NIL, Slab},
    segment::{HasPolicyState, Lane, Usage},
};

/// Who leaves first when room is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EvictionPolicy {
    /// Scan-resistant: what is used again stays, what came once leaves soon. The default.
    #[default]
    Adaptive,
    /// The least recently used, exactly. Every use moves its entry and takes the shard's lock alone, so that threads wait for each other.
    Lru,
}

/// What a policy remembers of entries that have left, for each entry that is there.
pub(crate) const HISTORY_BYTES: usize = ghosts::ENTRY_BYTES;

/// The order of own entries and that of guests, and which of the two has to give way.
pub(crate) struct Order {
    own: LaneOrder,
    guests: LaneOrder,
    /// The share of all bytes that guests may have.
    hot_share: f64,
}

enum LaneOrder {
    Adaptive(Adaptive),
    Lru(Lru),
}

impl Order {
    pub(crate) fn new(policy: EvictionPolicy, capacity: usize, hot_share: f64) -> Self {
        let hot_share = hot_share.clamp(0.0, 1.0);
        let guests = ((capacity as f64 * hot_share) as usize).min(capacity);
        let (own, guests) = match policy {
            EvictionPolicy::Adaptive => {
                let own = Adaptive::own(capacity - guests);
                (LaneOrder::Adaptive(own), LaneOrder::Adaptive(Adaptive::guests(guests)))
            }
            EvictionPolicy::Lru => (LaneOrder::Lru(Lru::new(0)), LaneOrder::Lru(Lru::new(HOT_LISTS))),
        };
        Order { own, guests, hot_share }
    }

    /// The same policy, with nothing in it and nothing remembered.
    pub(crate) fn emptied(&self) -> Self {
        Order { own: self.own.emptied(), guests: self.guests.emptied(), hot_share: self.hot_share }
    }

    pub(crate) fn needs_touch(&self) -> bool {
        matches!(self.own, LaneOrder::Lru(_))
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

    /// Puts an entry on the list that its standing names.
    pub(crate) fn reinserted<E: HasPolicyState>(&mut self, slab: &mut Slab<E>, slot: u32) {
        let list = slab.entry(slot).policy_state().list;
        self.list(list).push_front(slab, slot);
    }

    pub(crate) fn victim<E: HasPolicyState>(
        &mut self,
        slab: &mut Slab<E>,
        hash_of: &impl Fn(&E) -> u64,
    ) -> Option<u32> {
        let (own, guests) = (self.usage(Lane::Main).bytes, self.usage(Lane::Hot).bytes);
        let too_many = guests as f64 > (own + guests) as f64 * self.hot_share;
        let guests_first = too_many && (self.needs_touch() || !self.is_a_guest_in_use(slab));
        let first = if guests_first { [Lane::Hot, Lane::Main] } else { [Lane::Main, Lane::Hot] };
        first.into_iter().find_map(|lane| self.lane(lane).victim(slab, hash_of))
    }

    /// Whether there is but one guest, and it was used since it was last passed over: larger than all guests should be together and yet worth it.
    /// It is passed over once for each use.
    fn is_a_guest_in_use<E: HasPolicyState>(&mut self, slab: &mut Slab<E>) -> bool {
        let mut guests = self.slots(Lane::Hot, slab);
        let (Some(slot), None) = (guests.next(), guests.next()) else { return false };
        drop(guests);
        let standing = slab.entry_mut(slot).policy_state_mut();
        let uses = standing.uses();
        standing.set_uses(Uses::idle(uses.count().saturating_sub(1)));
        uses.count() > 0
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
        self.lists(lane).iter().fold(Usage::default(), |held, list| Usage {
            entries: held.entries + list.len,
            bytes: held.bytes + list.bytes,
        })
    }

    /// The slots of a lane, roughly from who stays longest.
    pub(crate) fn slots<E>(&self, lane: Lane, slab: &Slab<E>) -> impl Iterator<Item = u32> {
        self.lists(lane).iter().rev().flat_map(|list| list.iter(slab))
    }

    fn lane(&mut self, lane: Lane) -> &mut LaneOrder {
        match lane {
            Lane::Main => &mut self.own,
            Lane::Hot => &mut self.guests,
        }
    }

    fn list(&mut self, list: u8) -> &mut List {
        let (order, number) =
            if list < HOT_LISTS { (&mut self.own, list) } else { (&mut self.guests, list - HOT_LISTS) };
        match order {
            LaneOrder::Adaptive(order) => &mut order.lists[usize::from(number)],
            LaneOrder::Lru(order) => &mut order.lists[usize::from(number)],
        }
    }

    fn lists(&self, lane: Lane) -> &[List] {
        match if lane == Lane::Main { &self.own } else { &self.guests } {
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

/// The last slot of a list, if there is one.
fn last(list: &List) -> Option<u32> {
    Some(list.back()).filter(|&slot| slot != NIL)
}
