//! How many calls of the loader there may be at one time, and how many may wait for their turn.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

/// The turns of a group's loads. Fetches take none: a loader that asks another group may wait for that group's peers.
pub(crate) struct LoadLimiter {
    free: Arc<Semaphore>,
    queue: Arc<Queue>,
}

struct Queue {
    places: AtomicUsize,
}

/// A load's turn, or its place in the queue for one.
pub(crate) enum Slot {
    Taken(LoadPermit),
    Queued { free: Arc<Semaphore>, place: Place },
}

/// The right to call the loader, until it is dropped.
pub(crate) type LoadPermit = OwnedSemaphorePermit;

/// A place in the queue, given up when it is dropped.
pub(crate) struct Place(Arc<Queue>);

impl LoadLimiter {
    pub(crate) fn new(at_once: usize, queued: usize) -> Self {
        LoadLimiter {
            free: Arc::new(Semaphore::new(at_once)),
            queue: Arc::new(Queue { places: AtomicUsize::new(queued) }),
        }
    }

    /// A turn if there is one, else a place in the queue if there is one.
    pub(crate) fn take(&self) -> Option<Slot> {
        if let Ok(turn) = self.free.clone().try_acquire_owned() {
            return Some(Slot::Taken(turn));
        }
        // Only a number is guarded here, so no ordering is needed.
        self.queue.places.fetch_update(Relaxed, Relaxed, |places| places.checked_sub(1)).ok()?;
        Some(Slot::Queued { free: self.free.clone(), place: Place(self.queue.clone()) })
    }
}

impl Slot {
    pub(crate) fn is_queued(&self) -> bool {
        matches!(self, Slot::Queued { .. })
    }

    /// The turn, if it comes by then.
    pub(crate) async fn turn(self, by: Instant) -> Option<LoadPermit> {
        match self {
            Slot::Taken(turn) => Some(turn),
            Slot::Queued { free, place } => {
                let turn = timeout_at(by, free.acquire_owned()).await.ok()?;
                drop(place);
                Some(turn.expect("the semaphore is never closed"))
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.places.fetch_add(1, Relaxed);
    }
}
