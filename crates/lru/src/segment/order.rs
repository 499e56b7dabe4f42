//! In which order entries leave.

mod adaptive;
mod exact;
mod ghosts;

use adaptive::Adaptive;
use exact::Lru;

use crate::{
    segment::list::List,
    segment::policy_state::{GUESTS, Uses},
    segment::slab::{NIL, Slab},
    segment::{Held, Lane, Resident},
};

/// Who leaves first when room is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
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
    guest_share: f64,
}

enum LaneOrder {
    Adaptive(Adaptive),
    Lru(Lru),
}

impl Order {
    pub(crate) fn new(policy: Policy, capacity: usize, guest_share: f64) -> Self {
        let guest_share = guest_share.clamp(0.0, 1.0);
        let guests = ((capacity as f64 * guest_share) as usize).min(capacity);
        let (own, guests) = match policy {
            Policy::Adaptive => {
                let own = Adaptive::own(capacity - guests);
                (LaneOrder::Adaptive(own), LaneOrder::Adaptive(Adaptive::guests(guests)))
            }
            Policy::Lru => (LaneOrder::Lru(Lru::new(0)), LaneOrder::Lru(Lru::new(GUESTS))),
        };
        Order { own, guests, guest_share }
    }

    /// The same policy, with nothing in it and nothing remembered.
    pub(crate) fn emptied(&self) -> Self {
        Order { own: self.own.emptied(), guests: self.guests.emptied(), guest_share: self.guest_share }
    }

    pub(crate) fn needs_touch(&self) -> bool {
        matches!(self.own, LaneOrder::Lru(_))
    }

    pub(crate) fn touch<E: Resident>(&mut self, slab: &mut Slab<E>, slot: u32) {
        if let LaneOrder::Lru(order) = self.lane(slab.entry(slot).standing().lane()) {
            order.touch(slab, slot);
        }
    }

    pub(crate) fn inserted<E: Resident>(&mut self, slab: &mut Slab<E>, slot: u32, hash: u64, lane: Lane) {
        match self.lane(lane) {
            LaneOrder::Adaptive(order) => order.inserted(slab, slot, hash),
            LaneOrder::Lru(order) => order.inserted(slab, slot),
        }
    }

    /// Puts an entry on the list that its standing names.
    pub(crate) fn reinserted<E: Resident>(&mut self, slab: &mut Slab<E>, slot: u32) {
        let list = slab.entry(slot).standing().list;
        self.list(list).push_front(slab, slot);
    }

    pub(crate) fn victim<E: Resident>(&mut self, slab: &mut Slab<E>, hash_of: &impl Fn(&E) -> u64) -> Option<u32> {
        let (own, guests) = (self.held(Lane::Own).bytes, self.held(Lane::Guest).bytes);
        let too_many = guests as f64 > (own + guests) as f64 * self.guest_share;
        let guests_first = too_many && (self.needs_touch() || !self.is_a_guest_in_use(slab));
        let first = if guests_first { [Lane::Guest, Lane::Own] } else { [Lane::Own, Lane::Guest] };
        first.into_iter().find_map(|lane| self.lane(lane).victim(slab, hash_of))
    }

    /// Whether there is but one guest, and it was used since it was last passed over: larger than all guests should be together and yet worth it.
    /// It is passed over once for each use.
    fn is_a_guest_in_use<E: Resident>(&mut self, slab: &mut Slab<E>) -> bool {
        let mut guests = self.slots(Lane::Guest, slab);
        let (Some(slot), None) = (guests.next(), guests.next()) else { return false };
        drop(guests);
        let standing = slab.entry_mut(slot).standing_mut();
        let uses = standing.uses();
        standing.set_uses(Uses::idle(uses.count().saturating_sub(1)));
        uses.count() > 0
    }

    pub(crate) fn unlink<E: Resident>(&mut self, slab: &mut Slab<E>, slot: u32) {
        let list = slab.entry(slot).standing().list;
        self.list(list).unlink(slab, slot);
    }

    /// Moves an entry to a lower slot.
    pub(crate) fn move_down<E: Resident>(&mut self, slab: &mut Slab<E>, slot: u32) -> u32 {
        let list = slab.entry(slot).standing().list;
        slab.move_down(slot, self.list(list))
    }

    pub(crate) fn held(&self, lane: Lane) -> Held {
        self.lists(lane).iter().fold(Held::default(), |held, list| Held {
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
            Lane::Own => &mut self.own,
            Lane::Guest => &mut self.guests,
        }
    }

    fn list(&mut self, list: u8) -> &mut List {
        let (order, number) = if list < GUESTS { (&mut self.own, list) } else { (&mut self.guests, list - GUESTS) };
        match order {
            LaneOrder::Adaptive(order) => &mut order.lists[usize::from(number)],
            LaneOrder::Lru(order) => &mut order.lists[usize::from(number)],
        }
    }

    fn lists(&self, lane: Lane) -> &[List] {
        match if lane == Lane::Own { &self.own } else { &self.guests } {
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

    fn victim<E: Resident>(&mut self, slab: &mut Slab<E>, hash_of: &impl Fn(&E) -> u64) -> Option<u32> {
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
