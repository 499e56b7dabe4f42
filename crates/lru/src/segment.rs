//! Building block for caches of your own: one shard's entries with the eviction policies.
//!
//! A [`Segment`] keeps entries, finds them by their hash and says which one to evict. The lock, the
//! budget and the hashing are its user's. [`ShardedCache`](crate::ShardedCache) is built of
//! segments, and so is the cache of a `peercache` group.

mod list;
pub(crate) mod order;
pub(crate) mod policy_state;
mod slab;

pub use crate::{
    segment::order::Usage,
    segment::policy_state::{HasPolicyState, Lane, PolicyState},
};

use std::fmt;

use hashbrown::HashTable;

use crate::{
    segment::list::Nodes,
    segment::order::{EvictionPolicy, HISTORY_BYTES, Order},
    segment::slab::{Slab, slot_bytes},
};

/// The entries of one shard, their index, and the order in which they leave.
///
/// An entry is found by its hash and a comparison. From then on it is known by its slot, a number
/// that holds until the entry is removed or moved. Only [`remove`](Self::remove) moves other
/// entries, and it says so. To find and to read takes a shared borrow.
///
/// A segment has no budget: its user removes the [`victim`](Self::victim) for as long as room is
/// needed. A function `hash_of` must give the hash under which the entry was inserted.
pub struct Segment<E> {
    index: HashTable<u32>,
    slab: Slab<E>,
    order: Order,
}

/// The index's memory for each entry. A bucket has five bytes, a slot's number and a tag. A table
/// is 7/16 to 7/8 full, and at times less, where marks of removed entries have made it double
/// early.
const INDEX_BYTES: usize = 10;

impl<E> Segment<E> {
    /// The memory that an entry takes here, in bytes: its slot, and its share of the index and of
    /// the policy's history.
    #[must_use]
    pub const fn overhead() -> usize {
        slot_bytes::<E>() + INDEX_BYTES + HISTORY_BYTES
    }
}

impl<E: HasPolicyState> Segment<E> {
    /// An empty segment for about `capacity` bytes.
    ///
    /// Of these the hot lane may hold `hot_share`, from 0 to 1. Hot entries leave first while they
    /// hold more.
    #[must_use]
    pub fn new(policy: EvictionPolicy, capacity: usize, hot_share: f64) -> Self {
        Segment { index: HashTable::new(), slab: Slab::new(), order: Order::new(policy, capacity, hot_share) }
    }

    /// Finds the slot of the entry that has this hash and for which `is_it` answers true.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(&E) -> bool) -> Option<u32> {
        self.index.find(hash, |&slot| is_it(self.slab.entry(slot))).copied()
    }

    /// Finds an entry as [`find`](Self::find) does, and returns it with its slot.
    #[inline]
    pub fn get(&self, hash: u64, mut is_it: impl FnMut(&E) -> bool) -> Option<(u32, &E)> {
        // The entry is kept from the comparison rather than looked up again: this is every hit.
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
    /// If the slot is empty.
    #[inline]
    #[must_use]
    pub fn entry(&self, slot: u32) -> &E {
        self.slab.entry(slot)
    }

    /// The entry in a slot, to be changed. Its hash must stay the same.
    ///
    /// # Panics
    /// If the slot is empty.
    pub fn entry_mut(&mut self, slot: u32) -> &mut E {
        self.slab.entry_mut(slot)
    }

    /// The charge of the entry in a slot, in bytes.
    ///
    /// # Panics
    /// If the slot is empty.
    #[must_use]
    pub fn weight(&self, slot: u32) -> usize {
        self.slab.node(slot).weight as usize
    }

    /// The lane of the entry in a slot.
    ///
    /// # Panics
    /// If the slot is empty.
    #[must_use]
    pub fn lane(&self, slot: u32) -> Lane {
        self.slab.entry(slot).policy_state().lane()
    }

    /// Whether each use needs a [`touch`](Self::touch), with an exclusive borrow, beside the
    /// [count](PolicyState::count_use).
    #[must_use]
    pub fn needs_touch(&self) -> bool {
        self.order.needs_touch()
    }

    /// Makes an entry the most recently used, if the policy keeps such an order.
    ///
    /// # Panics
    /// If the slot is empty.
    pub fn touch(&mut self, slot: u32) {
        self.order.touch(&mut self.slab, slot);
    }

    /// Inserts an entry whose key is not present, charged `weight` bytes, and returns its slot.
    ///
    /// # Panics
    /// If there are 2^32 entries already.
    pub fn insert(&mut self, hash: u64, entry: E, weight: u32, lane: Lane, hash_of: impl Fn(&E) -> u64) -> u32 {
        let slot = self.put(hash, entry, weight, hash_of);
        self.order.inserted(&mut self.slab, slot, hash, lane);
        slot
    }

    /// Inserts the new value of a key whose entry was just removed.
    ///
    /// The new entry carries the [`PolicyState`] of the removed one, and takes its place with the
    /// policy.
    ///
    /// # Panics
    /// If there are 2^32 entries already.
    pub fn insert_again(&mut self, hash: u64, entry: E, weight: u32, hash_of: impl Fn(&E) -> u64) -> u32 {
        let slot = self.put(hash, entry, weight, hash_of);
        self.order.reinserted(&mut self.slab, slot);
        slot
    }

    /// Puts an entry into the slab and the index; it is on no list yet.
    fn put(&mut self, hash: u64, entry: E, weight: u32, hash_of: impl Fn(&E) -> u64) -> u32 {
        // Hashing may be a user's code, which may panic: it comes first, while nothing is half
        // done.
        let slab = &self.slab;
        self.index.reserve(1, |&slot| hash_of(slab.entry(slot)));
        let slot = self.slab.insert(entry, weight);
        self.index.insert_unique(hash, slot, |_| hash);
        slot
    }

    fn remove_from_index(&mut self, slot: u32, hash_of: &impl Fn(&E) -> u64) {
        let found = self.index.find_entry(hash_of(self.slab.entry(slot)), |&other| other == slot);
        found.expect("every entry is in the index").remove();
    }

    /// Chooses the entry to evict next.
    ///
    /// The caller must remove it, since the policy counts it as evicted.
    #[must_use]
    pub fn victim(&mut self, hash_of: impl Fn(&E) -> u64) -> Option<u32> {
        self.order.victim(&mut self.slab, &hash_of)
    }

    /// Removes an entry. For each entry that is moved to fill a gap, `moved` is called with its old
    /// and its new slot.
    ///
    /// # Panics
    /// If the slot is empty.
    pub fn remove(&mut self, slot: u32, hash_of: impl Fn(&E) -> u64, mut moved: impl FnMut(u32, u32)) -> E {
        self.remove_from_index(slot, &hash_of);
        self.order.unlink(&mut self.slab, slot);
        let entry = self.slab.take(slot);
        // Entries have become few: the index of many small ones is no use to some large ones.
        if self.index.capacity() > MIN_INDEX && self.index.capacity() > 8 * self.index.len() {
            let slab = &self.slab;
            self.index.shrink_to(2 * self.slab.len(), |&slot| hash_of(slab.entry(slot)));
        }
        for _ in 0..MAX_MOVES {
            let Some(from) = self.slab.last_if_sparse() else { break };
            let hash = hash_of(self.slab.entry(from));
            let to = self.order.move_down(&mut self.slab, from);
            let found = self.index.find_mut(hash, |&slot| slot == from);
            *found.expect("every entry is in the index") = to;
            moved(from, to);
        }
        entry
    }

    /// Moves an entry to a lane, with a new charge. There it starts as a new entry does.
    ///
    /// # Panics
    /// If the slot is empty.
    pub fn move_to(&mut self, slot: u32, lane: Lane, weight: u32, hash_of: impl Fn(&E) -> u64) {
        self.order.unlink(&mut self.slab, slot);
        self.slab.node_mut(slot).weight = weight;
        let hash = hash_of(self.slab.entry(slot));
        self.order.inserted(&mut self.slab, slot, hash, lane);
    }

    /// The entries of the main lane, then those of the hot lane. Within a lane those that stay
    /// longest come first, roughly.
    pub fn iter(&self) -> impl Iterator<Item = (Lane, &E)> {
        let lanes = [Lane::Main, Lane::Hot].into_iter();
        lanes.flat_map(move |lane| self.order.slots(lane, &self.slab).map(move |slot| (lane, self.slab.entry(slot))))
    }

    /// The slots of a lane, in the order of [`iter`](Self::iter).
    pub fn slots(&self, lane: Lane) -> impl Iterator<Item = u32> {
        self.order.slots(lane, &self.slab)
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of a lane's entries, and the sum of their charges.
    #[must_use]
    pub fn usage(&self, lane: Lane) -> Usage {
        self.order.usage(lane)
    }

    /// Takes all entries out and leaves an empty segment, which holds no memory.
    #[must_use = "the entries are dropped with it"]
    pub fn take(&mut self) -> Self {
        let empty = Segment { index: HashTable::new(), slab: Slab::new(), order: self.order.emptied() };
        std::mem::replace(self, empty)
    }
}

/// An index of this capacity is not worth making smaller.
const MIN_INDEX: usize = 1_024;

/// The most entries that are moved for one removal, so that none takes long.
const MAX_MOVES: usize = 2;

impl<E> fmt::Debug for Segment<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment").field("len", &self.slab.len()).finish_non_exhaustive()
    }
}
