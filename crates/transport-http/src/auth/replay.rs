//! The counts of each asker that have been used, so that a recorded update is made once.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The farthest that a count may lie behind the highest one: updates overtake each other, a few at
/// a time.
pub(crate) const WINDOW: u64 = 1024;

/// The most askers that are remembered: a list has at most 1,000 members, and each may restart
/// within the lifetime of two nonces. Only requests whose tag is right are counted, so strangers
/// fill no place. One asker more, and all have to sign with a new nonce: to forget one would be to
/// take its recorded updates again.
const MAX_ASKERS: usize = 8 * 1024;

const WORDS: usize = (WINDOW / 64) as usize;

/// The counts that have been used, by the id of the asking process.
#[derive(Default)]
pub(crate) struct UsedCounts {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    windows: HashMap<u64, Window>,
}

/// The end of a try to use a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    First,
    /// It was used before, or may have been.
    Repeated,
    /// There is no place for another asker.
    TooManyAskers,
}

/// The highest count and which of the [`WINDOW`] up to it have been used.
struct Window {
    highest: u64,
    /// A bit for each count, at its remainder by [`WINDOW`].
    used: [u64; WORDS],
}

impl UsedCounts {
    /// Whether a count of an asker may be used, without using it.
    pub(crate) fn is_free(&self, node: u64, count: u64) -> bool {
        self.state().windows.get(&node).is_none_or(|window| window.is_free(count))
    }

    /// Uses a count of an asker.
    pub(crate) fn try_use(&self, node: u64, count: u64) -> Use {
        let mut state = self.state();
        if state.windows.len() >= MAX_ASKERS && !state.windows.contains_key(&node) {
            return Use::TooManyAskers;
        }
        let window = state.windows.entry(node).or_insert_with(|| Window::starting_at(count));
        if window.try_use(count) { Use::First } else { Use::Repeated }
    }

    /// Forgets all counts. To be called when no request that was signed before is taken any more.
    pub(crate) fn forget_all(&self) {
        let forgotten = std::mem::take(&mut *self.state());
        drop(forgotten);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// A window that knows nothing of what was before, but that it may have been used.
    fn starting_at(count: u64) -> Self {
        Window { highest: count, used: [0; WORDS] }
    }

    fn is_free(&self, count: u64) -> bool {
        let (word, bit) = place(count);
        count > self.highest || (self.highest - count < WINDOW && self.used[word] & bit == 0)
    }

    fn try_use(&mut self, count: u64) -> bool {
        if !self.is_free(count) {
            return false;
        }
        if count > self.highest {
            self.advance(count);
        }
        let (word, bit) = place(count);
        self.used[word] |= bit;
        true
    }

    /// Makes room for a new highest count: what falls out of the window was used, as far as anybody
    /// knows.
    fn advance(&mut self, count: u64) {
        if count - self.highest >= WINDOW {
            self.used = [0; WORDS];
        } else {
            for passed in self.highest + 1..=count {
                let (word, bit) = place(passed);
                self.used[word] &= !bit;
            }
        }
        self.highest = count;
    }
}

fn place(count: u64) -> (usize, u64) {
    let position = count % WINDOW;
    ((position / 64) as usize, 1 << (position % 64))
}

impl fmt::Debug for UsedCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsedCounts").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// Whether the count is used for the first time, after a look that uses nothing.
    fn uses(used: &UsedCounts, node: u64, count: u64) -> bool {
        let is_free = used.is_free(node, count);
        assert_eq!(used.is_free(node, count), is_free);
        assert_eq!(used.try_use(node, count), if is_free { Use::First } else { Use::Repeated });
        is_free
    }

    #[test]
    fn a_count_is_used_once() {
        let used = UsedCounts::default();
        assert!(uses(&used, 1, 5));
        assert!(!uses(&used, 1, 5));
        assert!(uses(&used, 2, 5), "another asker counts for itself");
        assert!(uses(&used, 1, 4), "updates overtake each other");
        assert!(!uses(&used, 1, 4));
        assert!(uses(&used, 1, 5 + WINDOW));
        assert!(!uses(&used, 1, 5), "it is too old to be known");
        assert!(uses(&used, 1, 6));
    }

    #[test]
    fn no_asker_is_forgotten_for_another() {
        let used = UsedCounts::default();
        for node in 0..MAX_ASKERS as u64 {
            assert!(uses(&used, node, 1));
        }
        assert_eq!(used.try_use(u64::MAX, 1), Use::TooManyAskers);
        assert!(uses(&used, 0, 2) && !uses(&used, 1, 1));
        used.forget_all();
        assert!(uses(&used, u64::MAX, 1));
    }

    proptest! {
        /// The model remembers every count.
        #[test]
        fn no_count_is_used_twice(
            counts in prop::collection::vec(prop_oneof![0_u64..3_000, 0_u64..50, any::<u64>()], 0..300),
        ) {
            let (used, mut model, mut highest) = (UsedCounts::default(), HashSet::new(), None::<u64>);
            for count in counts {
                let is_within = highest.is_none_or(|highest| count > highest || highest - count < WINDOW);
                let expected = is_within && model.insert(count);
                prop_assert_eq!(uses(&used, 7, count), expected);
                highest = Some(highest.map_or(count, |highest| highest.max(count)));
            }
        }
    }
}
