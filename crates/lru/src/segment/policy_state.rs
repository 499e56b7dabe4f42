//! How an entry stands with the policy.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use crate::segment::Lane;

/// What an entry carries for its [`Segment`](crate::segment::Segment): where it stands with the policy, and a small count of its uses, which readers
/// raise side by side.
///
/// Two that raise it at once may count once: what decides who leaves is a rough idea of use, and an exact one would cost every hit a locked
/// operation. At its highest it is only read, so that an entry in everybody's use stays in everybody's processor cache.
#[derive(Debug, Default)]
pub struct PolicyState {
    uses: AtomicU8,
    /// The list that the entry is on, as the order numbers them; those of guests from [`HOT_LISTS`] on.
    pub(crate) list: u8,
}

/// The first list of guests.
pub(crate) const HOT_LISTS: u8 = 4;

/// A count up to 15 in the lower bits, and in the highest whether there was a use since the entry was last passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses(u8);

const COUNT: u8 = 0x0f;
const RECENT: u8 = 0x80;

impl PolicyState {
    /// Of an entry that is new.
    #[must_use]
    pub const fn new() -> Self {
        PolicyState { uses: AtomicU8::new(0), list: 0 }
    }

    /// Counts a use.
    #[inline]
    pub fn count_use(&self) {
        let uses = self.uses.load(Relaxed);
        if uses != RECENT | COUNT {
            self.uses.store((uses & COUNT).saturating_add(1).min(COUNT) | RECENT, Relaxed);
        }
    }

    /// Whose the entry is.
    #[inline]
    #[must_use]
    pub fn lane(&self) -> Lane {
        if self.list < HOT_LISTS { Lane::Main } else { Lane::Hot }
    }

    pub(crate) fn uses(&self) -> Uses {
        Uses(self.uses.load(Relaxed))
    }

    pub(crate) fn set_uses(&mut self, uses: Uses) {
        *self.uses.get_mut() = uses.0;
    }
}

impl Uses {
    pub(crate) const NONE: Uses = Uses(0);

    /// So many, none of them recent.
    pub(crate) fn idle(count: u8) -> Self {
        Uses(count.min(COUNT))
    }

    pub(crate) fn count(self) -> u8 {
        self.0 & COUNT
    }

    pub(crate) fn is_recent(self) -> bool {
        self.0 & RECENT != 0
    }
}
