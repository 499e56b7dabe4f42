//! The limit of second asks: fetches that ask another member after one has failed.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Allows one second ask for ten fetches, and 16 at once.
///
/// Most gets find out that a member is down before they ask it. What asks twice is what already
/// waited for it: without a limit, a member that falls silent under load would have the others
/// asked for all of that at one moment.
pub(crate) struct SecondAsks {
    /// Tenths of a second ask.
    allowed: AtomicU32,
}

const TENTHS: u32 = 10;
const MAX_ALLOWED: u32 = 16 * TENTHS;

impl SecondAsks {
    /// Counts a fetch.
    pub(crate) fn fetched(&self) {
        if self.allowed.load(Relaxed) < MAX_ALLOWED {
            self.allowed.fetch_add(1, Relaxed);
        }
    }

    /// Whether one more may be made; it is counted.
    pub(crate) fn may_ask(&self) -> bool {
        self.allowed.fetch_update(Relaxed, Relaxed, |allowed| allowed.checked_sub(TENTHS)).is_ok()
    }
}

impl Default for SecondAsks {
    fn default() -> Self {
        SecondAsks { allowed: AtomicU32::new(MAX_ALLOWED) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_fetches_may_be_asked_again_and_sixteen_at_once() {
        let asks = SecondAsks::default();
        let made = |asks: &SecondAsks| std::iter::repeat_with(|| asks.may_ask()).take_while(|made| *made).count();
        assert_eq!(made(&asks), 16);
        (0..100).for_each(|_| asks.fetched());
        assert_eq!(made(&asks), 10);
        (0..10_000).for_each(|_| asks.fetched());
        assert_eq!(made(&asks), 16, "they do not add up for ever");
    }
}
