//! The state that an entry carries for the eviction policy.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// The list that an entry is on, and a small count of its uses, which readers raise concurrently.
///
/// Two readers that raise the count at the same time may count once. A rough idea of use is enough
/// to choose who leaves, and an exact one would cost every hit a locked operation. At its highest
/// the count is only read, so that a popular entry stays in the cache of every processor.
#[derive(Debug, Default)]
pub struct PolicyState {
    use_count: AtomicU8,
    /// The entry's list as `Order` numbers them. Those of the hot lane begin at [`FIRST_HOT_LIST`].
    pub(crate) list: u8,
}

/// An entry that a [`Segment`](crate::segment::Segment) can hold: one that carries a
/// [`PolicyState`].
pub trait HasPolicyState {
    /// The state of this entry. Readers of the entry [count](PolicyState::count_use) their use
    /// here.
    fn policy_state(&self) -> &PolicyState;

    /// The state of this entry, to be changed.
    fn policy_state_mut(&mut self) -> &mut PolicyState;
}

/// The two kinds of entries that share a segment's room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// An ordinary entry: in a distributed cache, one that this node owns.
    Main,
    /// A copy of an entry that another node owns. Copies have a share of the room, and leave first
    /// when they hold more.
    Hot,
}

/// The number of the hot lane's first list.
pub(crate) const FIRST_HOT_LIST: u8 = 4;

/// A count up to 15 in the lower bits. The highest bit says that there was a use since the policy
/// last passed over the entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UseCount(u8);

const COUNT: u8 = 0x0f;
const RECENT: u8 = 0x80;

impl PolicyState {
    /// The state of a new entry.
    #[must_use]
    pub const fn new() -> Self {
        PolicyState { use_count: AtomicU8::new(0), list: 0 }
    }

    /// Counts a use.
    #[inline]
    pub fn count_use(&self) {
        let count = self.use_count.load(Relaxed);
        if count != RECENT | COUNT {
            self.use_count.store((count & COUNT).saturating_add(1).min(COUNT) | RECENT, Relaxed);
        }
    }

    /// The lane that the entry is in.
    #[inline]
    #[must_use]
    pub fn lane(&self) -> Lane {
        if self.list < FIRST_HOT_LIST { Lane::Main } else { Lane::Hot }
    }

    pub(crate) fn use_count(&self) -> UseCount {
        UseCount(self.use_count.load(Relaxed))
    }

    pub(crate) fn set_use_count(&mut self, count: UseCount) {
        *self.use_count.get_mut() = count.0;
    }
}

impl UseCount {
    pub(crate) const ZERO: UseCount = UseCount(0);

    /// A count of `uses`, none of them recent.
    pub(crate) fn not_recent(uses: u8) -> Self {
        UseCount(uses.min(COUNT))
    }

    pub(crate) fn get(self) -> u8 {
        self.0 & COUNT
    }

    pub(crate) fn is_recent(self) -> bool {
        self.0 & RECENT != 0
    }
}
