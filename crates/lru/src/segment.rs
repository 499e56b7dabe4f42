//! What lies under one lock: the entries, their index, and the order in which they leave.

mod list;
pub(crate) mod order;
pub(crate) mod policy_state;
mod slab;

pub use crate::segment::policy_state::PolicyState;

use std::fmt;

use hashbrown::HashTable;

use crate::{
    segment::order::{EvictionPolicy, Order},
    segment::slab::{Slab, slot_bytes},
};

/// The entries of one shard, for those who bring the lock, the budget and the hashing: [`ShardedCache`](crate::ShardedCache) is one such.
///
/// An entry is found by its hash and a look at it, and is known by its slot from then on: a number that holds until the entry is removed or
/// another removal moves it, which is told. Finding and reading need a shared borrow only. There is no budget in here:
/// [`victim`](Self::victim) says who should leave, and the owner has it leave for as long as that must be.
///
/// Wherever a function `hash_of` is asked for, it is the hash under which the entry was inserted.
pub struct Segment<E> {
    index: HashTable<u32>,
    slab: Slab<E>,
    order: Order,
}

/// An entry as a [`Segment`] needs it.
pub trait HasPolicyState {
    /// Its standing. Whoever reads the entry [counts](PolicyState::count_use) the use.
    fn policy_state(&self) -> &PolicyState;

    /// The same, to be changed.
    fn policy_state_mut(&mut self) -> &mut PolicyState;
}

/// Whose an entry is. Guests have a share of the room and leave first when they hold more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// An entry like all others.
    Main,
    /// A copy of what is somebody else's, kept while it earns its place.
    Hot,
}

/// A bucket is a number and a byte. A table is from 7/16 to 7/8 full, and at times less, where marks of removed entries have made it double early.
const INDEX_BYTES: usize = 10;

impl<E> Segment<E> {
    /// What an entry takes of memory here, in bytes: its slot, its share of the index and of the policy's memory.
    #[must_use]
    pub const fn overhead() -> usize {
        slot_bytes::<E>() + INDEX_BYTES + order::HISTORY_BYTES
    }
}

impl<E: HasPolicyState> Segment<E> {
    /// An empty one that is to hold about `capacity` bytes, of which guests may have `hot_share`, from 0 to 1, before they have to leave first.
    #[must_use]
    pub fn new(policy: EvictionPolicy, capacity: usize, hot_share: f64) -> Self {
        Segment { index: HashTable::new(), slab: Slab::new(), order: Order::new(policy, capacity, hot_share) }
    }

    /// The slot of the entry with this hash that `is_it`.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(&E) -> bool) -> Option<u32> {
        self.index.find(hash, |&slot| is_it(self.slab.entry(slot))).copied()
    }

    /// The entry with this hash that `is_it`, with its slot.
    #[inline]
    pub fn get(&self, hash: u64, mut is_it: impl FnMut(&E) -> bool) -> Option<(u32, &E)> {
        // The entry is kept from the comparison: every hit comes through here.
        let mut found = None;
        self.index.find(hash, |&slot| {
            let entry = self.slab.entry(slot);
            let it = is_it(entry);
            found = it.then_some((slot, entry));
            it
        })?;
        found
    }

    /// The entry in a slot.
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    #[must_use]
    pub fn entry(&self, slot: u32) -> &E {
        self.slab.entry(slot)
    }

    /// The entry in a slot, to be changed in all but its hash.
    ///
    /// # Panics
    /// If there is none.
    pub fn entry_mut(&mut self, slot: u32) -> &mut E {
        self.slab.entry_mut(slot)
    }

    /// What the entry in a slot is charged, in bytes.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn weight(&self, slot: u32) -> usize {
        self.slab.node(slot).weight as usize
    }

    /// Whose the entry in a slot is.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn lane(&self, slot: u32) -> Lane {
        self.slab.entry(slot).policy_state().lane()
    }

    /// Whether a use has to be told by [`touch`](Self::touch), with an exclusive borrow, beside being counted.
    #[must_use]
    pub fn needs_touch(&self) -> bool {
        self.order.needs_touch()
    }

    /// Makes an entry the most recently used, where the policy keeps such an order.
    ///
    /// # Panics
    /// If the slot is empty.
    pub fn touch(&mut self, slot: u32) {
        self.order.touch(&mut self.slab, slot);
    }

    /// Takes an entry in whose key is not there, charged `weight` bytes.
    ///
    /// # Panics
    /// If it is the 2^32nd.
    pub fn insert(&mut self, hash: u64, entry: E, weight: u32, lane: Lane, hash_of: impl Fn(&E) -> u64) -> u32 {
        let slot = self.put(hash, entry, weight, hash_of);
        self.order.inserted(&mut self.slab, slot, hash, lane);
        slot
    }

    /// Takes an entry in that stands with the policy as its [`PolicyState`] says, which is that of an entry that has been removed: the new value of
    /// a key.
    ///
    /// # Panics
    /// If it is the 2^32nd.
    pub fn insert_again(&mut self, hash: u64, entry: E, weight: u32, hash_of: impl Fn(&E) -> u64) -> u32 {
        let slot = self.put(hash, entry, weight, hash_of);
        self.order.reinserted(&mut self.slab, slot);
        slot
    }

    fn put(&mut self, hash: u64, entry: E, weight: u32, hash_of: impl Fn(&E) -> u64) -> u32 {
        // Hashing may be a user's code, which may panic: first, while nothing is half done.
        let slab = &self.slab;
        self.index.reserve(1, |&slot| hash_of(slab.entry(slot)));
        let slot = self.slab.insert(entry, weight);
        self.index.insert_unique(hash, slot, |_| hash);
        slot
    }

    fn forget(&mut self, slot: u32, hash_of: &impl Fn(&E) -> u64) {
        let found = self.index.find_entry(hash_of(self.slab.entry(slot)), |&other| other == slot);
        found.expect("every entry is in the index").remove();
    }

    /// Who should leave next to make room. It is to be removed: the policy takes it for gone, and remembers it where it remembers.
    #[must_use]
    pub fn victim(&mut self, hash_of: impl Fn(&E) -> u64) -> Option<u32> {
        self.order.victim(&mut self.slab, &hash_of)
    }

    /// Takes an entry out. If another moves to another slot for it, `moved` hears from where to where.
    ///
    /// # Panics
    /// If the slot is empty.
    pub fn remove(&mut self, slot: u32, hash_of: impl Fn(&E) -> u64, mut moved: impl FnMut(u32, u32)) -> E {
        self.forget(slot, &hash_of);
        self.order.unlink(&mut self.slab, slot);
        let entry = self.slab.take(slot);
        // When entries have become few: the index of many small ones is no use to some large ones.
        if self.index.capacity() > INDEX_MIN && self.index.capacity() > 8 * self.index.len() {
            let slab = &self.slab;
            self.index.shrink_to(2 * self.slab.len(), |&slot| hash_of(slab.entry(slot)));
        }
        for _ in 0..MOVES_MAX {
            let Some(from) = self.slab.last_if_sparse() else { break };
            let hash = hash_of(self.slab.entry(from));
            let to = self.order.move_down(&mut self.slab, from);
            let found = self.index.find_mut(hash, |&slot| slot == from);
            *found.expect("every entry is in the index") = to;
            moved(from, to);
        }
        entry
    }

    /// Changes whose an entry is, and what it is charged. It begins anew among the others.
    ///
    /// # Panics
    /// If the slot is empty.
    pub fn move_to(&mut self, slot: u32, lane: Lane, weight: u32, hash_of: impl Fn(&E) -> u64) {
        self.order.unlink(&mut self.slab, slot);
        self.slab.node_mut(slot).weight = weight;
        let hash = hash_of(self.slab.entry(slot));
        self.order.inserted(&mut self.slab, slot, hash, lane);
    }

    /// The entries from the one to stay longest, roughly, to the one to leave first; within each lane in this order, own ones first.
    pub fn iter(&self) -> impl Iterator<Item = (Lane, &E)> {
        let lanes = [Lane::Main, Lane::Hot].into_iter();
        lanes.flat_map(move |lane| self.order.slots(lane, &self.slab).map(move |slot| (lane, self.slab.entry(slot))))
    }

    /// The slots in use, in the order of [`iter`](Self::iter).
    pub fn slots(&self, lane: Lane) -> impl Iterator<Item = u32> {
        self.order.slots(lane, &self.slab)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries of a lane there are, and what they are charged together.
    #[must_use]
    pub fn usage(&self, lane: Lane) -> Usage {
        self.order.usage(lane)
    }

    /// Takes all entries out, and gives their memory and the index's back.
    pub fn take(&mut self) -> Self {
        let empty = Segment { index: HashTable::new(), slab: Slab::new(), order: self.order.emptied() };
        std::mem::replace(self, empty)
    }
}

/// What a lane of a [`Segment`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The number of its entries.
    pub entries: usize,
    /// What they are charged together, in bytes.
    pub bytes: usize,
}

/// An index of so many places is not worth making smaller.
const INDEX_MIN: usize = 1_024;

/// An entry that leaves has at most so many others move, so that no removal takes long.
const MOVES_MAX: usize = 2;

impl<E> fmt::Debug for Segment<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("len", &self.slab.len()).finish_non_exhaustive()
    }
}
