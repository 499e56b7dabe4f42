//! Loads whose loader blocks its thread beyond the load's time: the clock ends them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    clock::{TICK, millis},
    key::Key,
    store::flight::Waiter,
};

/// The loads in progress, by the time at which they should have ended.
///
/// A load is ended by a timer of its own task, but not while its loader blocks the thread. The
/// clock ticks on in another, and finds such a load here.
pub(crate) struct Watchdog<V> {
    running: Arc<Mutex<Running<V>>>,
}

struct Running<V> {
    next_id: u64,
    loads: BTreeMap<(u64, u64), (Key, Waiter<V>)>,
}

/// A load that is watched until this is dropped.
pub(crate) struct Watched<V> {
    running: Arc<Mutex<Running<V>>>,
    place: (u64, u64),
}

/// The time that the load's own timer has to end it first.
const GRACE: Duration = TICK.saturating_mul(5);

impl<V> Watchdog<V> {
    /// Watches a load that may run for `load_timeout` from now.
    pub(crate) fn watch(&self, key: Key, waiter: Waiter<V>, now_ms: u64, load_timeout: Duration) -> Watched<V> {
        let overdue_ms = now_ms.saturating_add(millis(load_timeout.saturating_add(GRACE)));
        let mut running = lock(&self.running);
        let place = (overdue_ms, running.next_id);
        running.next_id += 1;
        running.loads.insert(place, (key, waiter));
        Watched { running: self.running.clone(), place }
    }

    /// The time at which the next load should have ended. `u64::MAX` while there is none.
    pub(crate) fn next_due_ms(&self) -> u64 {
        lock(&self.running).loads.first_key_value().map_or(u64::MAX, |((overdue_ms, _), _)| *overdue_ms)
    }

    /// Takes out the loads that should have ended.
    pub(crate) fn take_overdue(&self, now_ms: u64) -> Vec<(Key, Waiter<V>)> {
        let mut running = lock(&self.running);
        let mut overdue = Vec::new();
        while let Some(first) = running.loads.first_entry().filter(|first| first.key().0 <= now_ms) {
            overdue.push(first.remove());
        }
        overdue
    }
}

impl<V> Default for Watchdog<V> {
    fn default() -> Self {
        let running = Running { next_id: 0, loads: BTreeMap::new() };
        Watchdog { running: Arc::new(Mutex::new(running)) }
    }
}

impl<V> Watched<V> {
    pub(crate) fn overdue_ms(&self) -> u64 {
        self.place.0
    }
}

impl<V> Drop for Watched<V> {
    fn drop(&mut self) {
        let removed = lock(&self.running).loads.remove(&self.place);
        // The last waiter of a flight holds its value, which is dropped outside the lock.
        drop(removed);
    }
}

fn lock<V>(running: &Mutex<Running<V>>) -> MutexGuard<'_, Running<V>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}
