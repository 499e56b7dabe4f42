//! In which order entries leave.

mod adaptive;
mod exact;
mod ghosts;

use crate::{
    Held, Lane, Resident,
    list::List,
    slab::{NIL, Slab},
    standing::GUESTS,
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

pub(crate) enum Order {
    Adaptive(adaptive::Adaptive),
    Lru(exact::Lru),
}

impl Order {
    pub(crate) fn new(policy: Policy, capacity: usize, guest_share: f64) -> Self {
        match policy {
            Policy::Adaptive => Order::Adaptive(adaptive::Adaptive::new(capacity, guest_share)),
            Policy::Lru => Order::Lru(exact::Lru::new(guest_share)),
        }
    }

    /// The same policy, with nothing in it and nothing remembered.
    pub(crate) fn emptied(&self) -> Self {
        match self {
            Order::Adaptive(order) => Order::Adaptive(order.emptied()),
            Order::Lru(order) => Order::Lru(order.emptied()),
        }
    }

    pub(crate) fn needs_touch(&self) -> bool {
        matches!(self, Order::Lru(_))
    }

    pub(crate) fn touch<E: Resident>(&mut self, slab: &mut Slab<E>, slot: u32) {
        if let Order::Lru(order) = self {
            order.touch(slab, slot);
        }
    }

    pub(crate) fn inserted<E: Resident>(&mut self, slab: &mut Slab<E>, slot: u32, hash: u64, lane: Lane) {
        match self {
            Order::Adaptive(order) => order.inserted(slab, slot, hash, lane),
            Order::Lru(order) => order.inserted(slab, slot, lane),
        }
    }

    /// Puts an entry on the list that its standing names.
    pub(crate) fn reinserted<E: Resident>(&mut self, slab: &mut Slab<E>, slot: u32) {
        let list = slab.entry(slot).standing().list;
        self.list(list).push_front(slab, slot);
    }

    pub(crate) fn victim<E: Resident>(&mut self, slab: &mut Slab<E>, hash_of: &impl Fn(&E) -> u64) -> Option<u32> {
        match self {
            Order::Adaptive(order) => order.victim(slab, hash_of),
            Order::Lru(order) => order.victim(),
        }
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

    /// The slots of a lane, from who stays longest.
    pub(crate) fn slots<E>(&self, lane: Lane, slab: &Slab<E>) -> impl Iterator<Item = u32> {
        self.lists(lane).iter().flat_map(|list| list.iter(slab))
    }

    fn list(&mut self, list: u8) -> &mut List {
        let (own, guests) = match self {
            Order::Adaptive(order) => (&mut order.own[..], &mut order.guests),
            Order::Lru(order) => (&mut order.own[..], &mut order.guests),
        };
        if list < GUESTS { &mut own[usize::from(list)] } else { guests }
    }

    fn lists(&self, lane: Lane) -> &[List] {
        let (own, guests) = match self {
            Order::Adaptive(order) => (&order.own[..], &order.guests),
            Order::Lru(order) => (&order.own[..], &order.guests),
        };
        match lane {
            Lane::Own => own,
            Lane::Guest => std::slice::from_ref(guests),
        }
    }
}

/// The last slot of a list, if there is one.
fn last(list: &List) -> Option<u32> {
    Some(list.back()).filter(|&slot| slot != NIL)
}
