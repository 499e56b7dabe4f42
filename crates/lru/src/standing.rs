//! How an entry stands with the policy.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// What an entry carries for its [`Segment`](crate::Segment): where it stands with the policy, and a small count of its uses, which readers
/// raise side by side.
///
/// Two that raise it at once may count once: what decides who leaves is a rough idea of use, and an exact one would cost every hit a locked
/// operation. At its highest it is only read, so that an entry in everybody's use stays in everybody's processor cache.
#[derive(Debug, Default)]
pub struct Standing {
    uses: AtomicU8,
    /// The list that the entry is on, as the order numbers them.
    pub(crate) list: u8,
}

/// The highest count of uses.
const USES_MAX: u8 = 3;

impl Standing {
    /// Of an entry that is new.
    #[must_use]
    pub const fn new() -> Self {
        Standing { uses: AtomicU8::new(0), list: 0 }
    }

    /// Counts a use.
    #[inline]
    pub fn count_use(&self) {
        let uses = self.uses.load(Relaxed);
        if uses < USES_MAX {
            self.uses.store(uses + 1, Relaxed);
        }
    }

    pub(crate) fn uses(&self) -> u8 {
        self.uses.load(Relaxed)
    }

    pub(crate) fn set_uses(&mut self, uses: u8) {
        *self.uses.get_mut() = uses;
    }
}
