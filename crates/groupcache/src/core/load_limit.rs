//! The limit of a group's loads: those in progress, and those that wait for another to end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

/// Gives out the permits for calls of a group's loader. Fetches need none of these: a loader that
/// asks another group may wait for that group's peers.
pub(crate) struct LoadLimiter {
    permits: Arc<Semaphore>,
    free_places: Arc<AtomicUsize>,
}

/// A permit for a load, or a place in the queue for one.
pub(crate) enum AcquirePermit {
    Ready(LoadPermit),
    Queued { permits: Arc<Semaphore>, place: QueuePlace },
}

/// The right to call the loader, until it is dropped.
pub(crate) type LoadPermit = OwnedSemaphorePermit;

/// The reason why a load gets no permit.
pub(crate) enum NoPermit {
    /// The caller who started the load has stopped waiting. If others still want the key, one of
    /// them starts again.
    CallerGone,
    /// It waited for as long as a load may take.
    TimedOut,
}

/// A place in the queue, given up when it is dropped.
pub(crate) struct QueuePlace {
    free_places: Arc<AtomicUsize>,
}

impl LoadLimiter {
    pub(crate) fn new(max_loads: usize, max_queued: usize) -> Self {
        LoadLimiter {
            permits: Arc::new(Semaphore::new(max_loads)),
            free_places: Arc::new(AtomicUsize::new(max_queued)),
        }
    }

    /// Whether a permit is taken.
    pub(crate) fn is_busy(&self) -> bool {
        Arc::strong_count(&self.permits) > 1
    }

    /// A permit if one is free, else a place in the queue; `None` if the queue is full, or if the
    /// load may not queue.
    pub(crate) fn acquire(&self, may_queue: bool) -> Option<AcquirePermit> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Some(AcquirePermit::Ready(permit));
        }
        if !may_queue {
            return None;
        }
        take_one(&self.free_places)?;
        let place = QueuePlace { free_places: self.free_places.clone() };
        Some(AcquirePermit::Queued { permits: self.permits.clone(), place })
    }
}

impl AcquirePermit {
    pub(crate) fn is_queued(&self) -> bool {
        matches!(self, AcquirePermit::Queued { .. })
    }

    /// Waits for the permit: for `load_timeout` at most, and no longer than the caller who started
    /// the load.
    pub(crate) async fn wait(self, load_timeout: Duration, deadline: Option<Instant>) -> Result<LoadPermit, NoPermit> {
        let last = Instant::now() + load_timeout;
        let permit = match self {
            AcquirePermit::Ready(permit) => Some(permit),
            AcquirePermit::Queued { permits, place } => {
                let by = deadline.map_or(last, |deadline| deadline.min(last));
                let permit = timeout_at(by, permits.acquire_owned()).await.ok();
                drop(place);
                permit.map(|permit| permit.expect("the semaphore is never closed"))
            }
        };
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(NoPermit::CallerGone);
        }
        permit.ok_or(NoPermit::TimedOut)
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        self.free_places.fetch_add(1, Relaxed);
    }
}

/// Takes one of those that are free. The number guards no other memory, so no ordering is needed.
fn take_one(free: &AtomicUsize) -> Option<()> {
    free.fetch_update(Relaxed, Relaxed, |free| free.checked_sub(1)).ok().map(|_| ())
}
