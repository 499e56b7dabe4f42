//! The counts of each asker that have been used, so that a recorded update is made once.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

/// The farthest that a count may lie behind the highest one: updates overtake each other, a few at
/// a time.
pub(crate) const WINDOW: u64 = 1024;

/// The most askers that are remembered: a list has at most 1,000 members, and each may restart
/// within the lifetime of two nonces. Only requests whose tag is right are counted, so strangers
/// fill no place.
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
    /// Grows with every request, to know who has been silent longest.
    time: u64,
}

/// The highest count and which of the [`WINDOW`] up to it have been used.
struct Window {
    highest: u64,
    /// A bit for each count, at its remainder by [`WINDOW`].
    used: [u64; WORDS],
    last_use: u64,
}

impl UsedCounts {
    /// Uses a count of an asker: false if it was used before, or may have been.
    pub(crate) fn try_use(&self, node: u64, count: u64) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.time += 1;
        let time = state.time;
        if state.windows.len() >= MAX_ASKERS && !state.windows.contains_key(&node) {
            state.forget_longest_silent();
        }
        let window = state.windows.entry(node).or_insert_with(|| Window::starting_at(count));
        window.last_use = time;
        window.try_use(count)
    }
}

impl State {
    fn forget_longest_silent(&mut self) {
        let silent = self.windows.iter().min_by_key(|(_, window)| window.last_use).map(|(&node, _)| node);
        silent.map(|node| self.windows.remove(&node));
    }
}

impl Window {
    /// A window that knows nothing of what was before, but that it may have been used.
    fn starting_at(count: u64) -> Self {
        Window { highest: count, used: [0; WORDS], last_use: 0 }
    }

    fn try_use(&mut self, count: u64) -> bool {
        if count > self.highest {
            self.advance(count);
        } else if self.highest - count >= WINDOW {
            return false;
        }
        let (word, bit) = place(count);
        let is_new = self.used[word] & bit == 0;
        self.used[word] |= bit;
        is_new
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

    #[test]
    fn a_count_is_used_once() {
        let used = UsedCounts::default();
        assert!(used.try_use(1, 5));
        assert!(!used.try_use(1, 5));
        assert!(used.try_use(2, 5), "another asker counts for itself");
        assert!(used.try_use(1, 4), "updates overtake each other");
        assert!(!used.try_use(1, 4));
        assert!(used.try_use(1, 5 + WINDOW));
        assert!(!used.try_use(1, 5), "it is too old to be known");
        assert!(used.try_use(1, 6));
    }

    #[test]
    fn the_longest_silent_asker_is_forgotten_first() {
        let used = UsedCounts::default();
        for node in 0..MAX_ASKERS as u64 {
            assert!(used.try_use(node, 1));
        }
        assert!(used.try_use(0, 2));
        assert!(used.try_use(u64::MAX, 1));
        assert!(!used.try_use(0, 1), "who has just asked is remembered");
        assert_eq!(used.state.lock().unwrap().windows.len(), MAX_ASKERS);
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
                prop_assert_eq!(used.try_use(7, count), expected);
                highest = Some(highest.map_or(count, |highest| highest.max(count)));
            }
        }
    }
}
