//! The queue of what is due at a tick: each subscriber is called when its time has come, and not
//! before.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::AcqRel},
    },
};

/// A group, as the clock sees it.
pub(crate) trait OnTick: Send + Sync {
    /// Does what is due at `now_ms`, the coarse time of this tick.
    fn tick(&self, now_ms: u64);
}

/// The subscribers that have something due, by the time at which it is. A subscriber with nothing
/// due is not in it, and costs a tick nothing.
#[derive(Default)]
pub(super) struct DueQueue {
    queue: Mutex<Queue>,
    next_id: AtomicU64,
}

#[derive(Default)]
struct Queue {
    by_time: BTreeMap<(u64, u64), Weak<dyn OnTick>>,
    times: HashMap<u64, u64>,
}

/// One subscriber's place in the queue of a clock. It leaves the queue when this is dropped.
///
/// # No due time is lost between a tick and an entry that comes meanwhile
///
/// A group notes an entry's expiry in its cache, and then calls [`due_by`](Alarm::due_by). A tick
/// calls [`rang`](Alarm::rang), and then looks for the earliest expiry in the cache. Both change
/// `earliest_ms` in one step, so one of them comes first.
///   - `rang` first: `due_by` finds no earlier time noted, and queues its own.
///   - `due_by` first: the tick looks after it, finds the expiry, and queues that.
pub(crate) struct Alarm {
    due: Arc<DueQueue>,
    subscriber: Weak<dyn OnTick>,
    id: u64,
    /// The time for which the subscriber is queued. `u64::MAX` is never.
    earliest_ms: AtomicU64,
}

impl DueQueue {
    pub(super) fn alarm(self: &Arc<Self>, subscriber: Weak<dyn OnTick>) -> Alarm {
        let id = self.next_id.fetch_add(1, AcqRel);
        Alarm { due: self.clone(), subscriber, id, earliest_ms: AtomicU64::new(u64::MAX) }
    }

    /// Calls the subscribers whose time has come, with no lock held: they drop values of a user's
    /// type.
    pub(super) fn tick(&self, now_ms: u64) {
        let due = self.lock().take_due(now_ms);
        for (id, subscriber) in due {
            let Some(alive) = subscriber.upgrade() else { continue };
            // A value's drop that panics stops neither the time nor the process.
            let tick = || alive.tick(now_ms);
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(tick)).is_err() {
                // It has not come to its end, so the rest is due at the next tick.
                self.lock().insert(id, now_ms + 1, subscriber);
            }
        }
    }

    /// The number of subscribers with something due.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().by_time.len()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn take_due(&mut self, now_ms: u64) -> Vec<(u64, Weak<dyn OnTick>)> {
        let mut due = Vec::new();
        while let Some(entry) = self.by_time.first_entry().filter(|entry| entry.key().0 <= now_ms) {
            let ((_, id), subscriber) = entry.remove_entry();
            self.times.remove(&id);
            due.push((id, subscriber));
        }
        due
    }

    /// Queues a subscriber, unless it is queued for an earlier time.
    fn insert(&mut self, id: u64, time_ms: u64, subscriber: Weak<dyn OnTick>) {
        if let Some(&queued_ms) = self.times.get(&id) {
            if queued_ms <= time_ms {
                return;
            }
            self.by_time.remove(&(queued_ms, id));
        }
        self.times.insert(id, time_ms);
        self.by_time.insert((time_ms, id), subscriber);
    }

    fn remove(&mut self, id: u64) {
        if let Some(time_ms) = self.times.remove(&id) {
            self.by_time.remove(&(time_ms, id));
        }
        if self.times.is_empty() {
            // What many short-lived groups took is given back.
            self.times.shrink_to_fit();
        }
    }
}

impl Alarm {
    /// Has the subscriber called at the first tick that is not before `time_ms`. `u64::MAX` is
    /// never.
    pub(crate) fn due_by(&self, time_ms: u64) {
        if time_ms < self.earliest_ms.fetch_min(time_ms, AcqRel) {
            self.due.lock().insert(self.id, time_ms, self.subscriber.clone());
        }
    }

    /// Notes that the subscriber was called. It says next what else is due, and when.
    pub(crate) fn rang(&self) {
        self.earliest_ms.swap(u64::MAX, AcqRel);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.due.lock().remove(self.id);
    }
}

impl fmt::Debug for DueQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DueQueue").field("len", &self.lock().by_time.len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(peercache_loom)))]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    /// Keeps the times of its ticks, and asks for more of them.
    #[derive(Default)]
    struct Subscriber {
        alarm: OnceLock<Alarm>,
        ticks: Mutex<Vec<u64>>,
        next: Mutex<Vec<u64>>,
    }

    impl OnTick for Subscriber {
        fn tick(&self, now_ms: u64) {
            let alarm = self.alarm.get().unwrap();
            alarm.rang();
            self.ticks.lock().unwrap().push(now_ms);
            if let Some(next) = self.next.lock().unwrap().pop() {
                alarm.due_by(next);
            }
            assert_ne!(now_ms, 50, "a value's drop that panics");
        }
    }

    fn subscriber(due: &Arc<DueQueue>) -> Arc<Subscriber> {
        let subscriber = Arc::new(Subscriber::default());
        let weak: Weak<Subscriber> = Arc::downgrade(&subscriber);
        assert!(subscriber.alarm.set(due.alarm(weak)).is_ok());
        subscriber
    }

    fn ticks(due: &DueQueue, subscriber: &Subscriber) -> Vec<u64> {
        (0..=100).step_by(10).for_each(|now_ms| due.tick(now_ms));
        subscriber.ticks.lock().unwrap().clone()
    }

    #[test]
    fn who_has_nothing_due_is_never_called() {
        let due = Arc::default();
        let subscriber = subscriber(&due);
        assert!(ticks(&due, &subscriber).is_empty());
    }

    #[test]
    fn each_is_called_once_for_what_is_due_first_and_then_for_the_rest() {
        let due = Arc::default();
        let subscriber = subscriber(&due);
        [70, 11, 30].into_iter().for_each(|time_ms| subscriber.alarm.get().unwrap().due_by(time_ms));
        assert_eq!(due.len(), 1);
        subscriber.next.lock().unwrap().push(71);
        assert_eq!(ticks(&due, &subscriber), [20, 80]);
    }

    #[test]
    fn a_tick_that_panics_is_made_again() {
        let due = Arc::default();
        let subscriber = subscriber(&due);
        subscriber.alarm.get().unwrap().due_by(50);
        assert_eq!(ticks(&due, &subscriber), [50, 60]);
    }

    #[test]
    fn who_is_gone_leaves_nothing_behind() {
        let due: Arc<DueQueue> = Arc::default();
        let subscriber = subscriber(&due);
        subscriber.alarm.get().unwrap().due_by(50);
        drop(subscriber);
        assert_eq!((due.len(), due.lock().times.capacity()), (0, 0));
    }
}
