//! Back-off: keys whose load has just failed are not loaded again for a while.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use ahash::RandomState;

use crate::{
    cache::budget::Budget,
    error::Error,
    key::Key,
    sync::Ordering::Relaxed,
    sync::{AtomicUsize, Mutex, lock},
};

/// The recent failures of a group: each key's error, its pause, and how long the next would be.
///
/// They are bounded, and charged to the group's budget. When there are too many, the failure whose
/// time is up first is forgotten.
pub(crate) struct Backoff {
    config: BackoffConfig,
    max_bytes: usize,
    state: Mutex<State>,
    /// Lets a miss pass without the lock while nothing fails.
    len: AtomicUsize,
}

/// The lengths of the pauses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackoffConfig {
    /// The first pause. Zero is no back-off at all.
    pub(crate) first: Duration,
    /// The longest pause: each is twice as long as the one before.
    pub(crate) longest: Duration,
    /// The time for which a failure is known after its pause, so that a load that is tried again
    /// and fails late doubles the pause.
    pub(crate) memory: Duration,
}

struct State {
    failures: HashMap<Key, Failure, RandomState>,
    /// The keys of all failures, the first to be forgotten first.
    by_time: BTreeSet<(u64, Key)>,
    bytes: usize,
}

struct Failure {
    error: Error,
    pause_ms: u64,
    retry_ms: u64,
    /// Long after the pause, so that a key that fails each time it is tried is known for it.
    forget_ms: u64,
}

impl Failure {
    fn bytes(&self, key: &Key) -> usize {
        FAILURE_BYTES + key.len() + self.error.text_bytes()
    }
}

/// The size of a failure in the map and the set, beside its key and its error's text.
const FAILURE_BYTES: usize = 384;

/// Enough for a few failures in a group with a tiny budget: they protect the origin.
const MIN_BYTES: usize = 16 * FAILURE_BYTES;

/// Failures may take one part in this many of the budget.
const BUDGET_PARTS: usize = 16;

impl Backoff {
    pub(crate) fn new(config: BackoffConfig, budget_bytes: usize, hasher: RandomState) -> Self {
        let state = State { failures: HashMap::with_hasher(hasher), by_time: BTreeSet::new(), bytes: 0 };
        Backoff {
            config: BackoffConfig { longest: config.longest.max(config.first), ..config },
            max_bytes: (budget_bytes / BUDGET_PARTS).max(MIN_BYTES),
            state: Mutex::new(state),
            len: AtomicUsize::new(0),
        }
    }

    /// The error to answer with instead of a load, while the key's pause lasts.
    pub(crate) fn error(&self, key: &Key, now_ms: u64) -> Option<Error> {
        if self.len.load(Relaxed) == 0 {
            return None;
        }
        let state = lock(&self.state);
        let failure = state.failures.get(key)?;
        (now_ms < failure.retry_ms).then(|| failure.error.clone())
    }

    /// Whether failures are recorded at all.
    pub(crate) fn is_on(&self) -> bool {
        !self.config.first.is_zero()
    }

    /// Has the key pause, twice as long as the last time. `error` holds nothing of the loader's: it
    /// was made by [`Error::to_text`].
    pub(crate) fn record_failure(&self, key: &Key, error: Error, now_ms: u64, budget: &Budget) {
        let BackoffConfig { first, longest, memory } = self.config;
        if !self.is_on() {
            return;
        }
        let [first_ms, longest_ms, memory_ms] = [first, longest, memory].map(|time| time.as_millis() as u64);
        let mut state = lock(&self.state);
        let last = state.remove(key, budget).filter(|last| now_ms < last.forget_ms);
        let pause_ms = last.map_or(first_ms, |last| last.pause_ms.saturating_mul(2)).clamp(1, longest_ms.max(1));
        let retry_ms = now_ms.saturating_add(pause_ms);
        let forget_ms = retry_ms.saturating_add(memory_ms);
        state.insert(key.clone(), Failure { error, pause_ms, retry_ms, forget_ms }, budget);
        while state.bytes > self.max_bytes && state.failures.len() > 1 {
            state.forget_first(budget);
        }
        self.len.store(state.failures.len(), Relaxed);
    }

    /// The time at which the next failure is forgotten. `u64::MAX` while there is none.
    pub(crate) fn next_due_ms(&self) -> u64 {
        if self.len.load(Relaxed) == 0 {
            return u64::MAX;
        }
        lock(&self.state).by_time.first().map_or(u64::MAX, |(forget_ms, _)| *forget_ms)
    }

    /// Ends the key's pause, and the memory of it.
    pub(crate) fn forget(&self, key: &Key, budget: &Budget) {
        if self.len.load(Relaxed) > 0 {
            let mut state = lock(&self.state);
            state.remove(key, budget);
            self.len.store(state.failures.len(), Relaxed);
        }
    }

    /// Forgets all failures.
    pub(crate) fn clear(&self, budget: &Budget) {
        self.sweep(u64::MAX, budget);
    }

    /// Forgets the failures whose time is up.
    pub(crate) fn sweep(&self, now_ms: u64, budget: &Budget) {
        if self.len.load(Relaxed) == 0 {
            return;
        }
        let mut state = lock(&self.state);
        while state.by_time.first().is_some_and(|(forget_ms, _)| *forget_ms <= now_ms) {
            state.forget_first(budget);
        }
        self.len.store(state.failures.len(), Relaxed);
    }
}

impl State {
    fn insert(&mut self, key: Key, failure: Failure, budget: &Budget) {
        let bytes = failure.bytes(&key);
        self.bytes += bytes;
        budget.add(bytes);
        self.by_time.insert((failure.forget_ms, key.clone()));
        self.failures.insert(key, failure);
    }

    fn remove(&mut self, key: &Key, budget: &Budget) -> Option<Failure> {
        let failure = self.failures.remove(key)?;
        self.by_time.remove(&(failure.forget_ms, key.clone()));
        let bytes = failure.bytes(key);
        self.bytes -= bytes;
        budget.subtract(bytes);
        Some(failure)
    }

    fn forget_first(&mut self, budget: &Budget) {
        if let Some((_, key)) = self.by_time.first().cloned() {
            self.remove(&key, budget);
        }
    }
}
