//! Keys whose load has just failed, which are not loaded again for a while.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use ahash::RandomState;

use crate::{
    cache::Budget,
    error::Error,
    key::Key,
    sync::Ordering::Relaxed,
    sync::{AtomicUsize, Mutex, lock},
};

/// What failed, until when it is not tried again, and how long the next pause would be.
///
/// It is bounded, and charged to the group's budget; when it is full, the failure that is over first is forgotten.
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    memory: Duration,
    bytes_max: usize,
    state: Mutex<State>,
    /// Lets a miss pass without the lock while nothing fails.
    len: AtomicUsize,
}

struct State {
    failures: HashMap<Key, Failure, RandomState>,
    /// The failures by when they are forgotten.
    ends: BTreeSet<(u64, Key)>,
    bytes: usize,
}

struct Failure {
    error: Error,
    pause_ms: u64,
    retry_ms: u64,
    /// Long after the pause, so that a key that fails each time it is tried is known for it.
    forget_ms: u64,
}

/// Map, set and the error's text, which is small: what peers say is at most 1 KiB, and a loader's own error is shared.
const FAILURE_BYTES: usize = 384;

/// Some failures of a group with a tiny budget are held all the same: they protect the origin.
const BYTES_MIN: usize = 16 * FAILURE_BYTES;

/// How much of the budget failures may take: one part in so many.
const SHARE: usize = 16;

impl Backoff {
    /// With a pause of `first` to begin with, of `longest` in the end, remembered for `memory` after it is over: a load that is tried
    /// again and fails late is still known.
    pub(crate) fn new(
        first: Duration,
        longest: Duration,
        memory: Duration,
        max_bytes: usize,
        hasher: RandomState,
    ) -> Self {
        let state = State { failures: HashMap::with_hasher(hasher), ends: BTreeSet::new(), bytes: 0 };
        let bytes_max = (max_bytes / SHARE).max(BYTES_MIN);
        Backoff {
            first,
            longest: longest.max(first),
            memory,
            bytes_max,
            state: Mutex::new(state),
            len: AtomicUsize::new(0),
        }
    }

    /// The error to answer with instead of a load, if the key's pause is not over.
    pub(crate) fn error(&self, key: &Key, now_ms: u64) -> Option<Error> {
        if self.len.load(Relaxed) == 0 {
            return None;
        }
        let state = lock(&self.state);
        let failure = state.failures.get(key)?;
        (now_ms < failure.retry_ms).then(|| failure.error.clone())
    }

    /// Has the key pause, twice as long as the last time.
    pub(crate) fn failed(&self, key: &Key, error: &Error, now_ms: u64, budget: &Budget) {
        if self.first.is_zero() {
            return;
        }
        let mut state = lock(&self.state);
        let [first_ms, longest_ms, memory_ms] =
            [self.first, self.longest, self.memory].map(|time| time.as_millis() as u64);
        let last = state.take(key, budget).filter(|last| now_ms < last.forget_ms);
        let pause_ms = last.map_or(first_ms, |last| last.pause_ms.saturating_mul(2)).clamp(1, longest_ms.max(1));
        let retry_ms = now_ms.saturating_add(pause_ms);
        let failure =
            Failure { error: error.clone(), pause_ms, retry_ms, forget_ms: retry_ms.saturating_add(memory_ms) };
        state.put(key.clone(), failure, budget);
        while state.bytes > self.bytes_max && state.failures.len() > 1 {
            state.forget_first(budget);
        }
        self.len.store(state.failures.len(), Relaxed);
    }

    /// The key is as good as any other.
    pub(crate) fn forget(&self, key: &Key, budget: &Budget) {
        if self.len.load(Relaxed) > 0 {
            let mut state = lock(&self.state);
            state.take(key, budget);
            self.len.store(state.failures.len(), Relaxed);
        }
    }

    pub(crate) fn clear(&self, budget: &Budget) {
        self.sweep(u64::MAX, budget);
    }

    /// Forgets what is long over.
    pub(crate) fn sweep(&self, now_ms: u64, budget: &Budget) {
        if self.len.load(Relaxed) == 0 {
            return;
        }
        let mut state = lock(&self.state);
        while state.ends.first().is_some_and(|(forget_ms, _)| *forget_ms <= now_ms) {
            state.forget_first(budget);
        }
        self.len.store(state.failures.len(), Relaxed);
    }
}

impl State {
    fn put(&mut self, key: Key, failure: Failure, budget: &Budget) {
        let bytes = key.len() + FAILURE_BYTES;
        self.bytes += bytes;
        budget.add(bytes);
        self.ends.insert((failure.forget_ms, key.clone()));
        self.failures.insert(key, failure);
    }

    fn take(&mut self, key: &Key, budget: &Budget) -> Option<Failure> {
        let failure = self.failures.remove(key)?;
        self.ends.remove(&(failure.forget_ms, key.clone()));
        let bytes = key.len() + FAILURE_BYTES;
        self.bytes -= bytes;
        budget.subtract(bytes);
        Some(failure)
    }

    fn forget_first(&mut self, budget: &Budget) {
        if let Some((_, key)) = self.ends.first().cloned() {
            self.take(&key, budget);
        }
    }
}
