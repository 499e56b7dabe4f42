//! The future of a caller that waits for a flight.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::Abandoned;
use crate::flight::Flight;
use crate::sync::Arc;

/// A future of a flight's result, for any executor.
///
/// It may be dropped at any time, which neither disturbs the flight nor leaves anything behind in
/// it. It may be polled by one task and then by another. Polled again after it was ready, it gives
/// the result again. It keeps the result alive, but neither the table nor the key.
///
/// # Errors
///
/// [`Abandoned`] if the leader went away without a result.
#[must_use = "a waiter does nothing unless it is awaited"]
pub struct Waiter<T> {
    flight: Arc<Flight<T>>,
    /// The slot of our waker in the flight, from the first poll that had to wait.
    waker_slot: Option<usize>,
}

impl<T> Waiter<T> {
    pub(crate) fn new(flight: Arc<Flight<T>>) -> Self {
        Self { flight, waker_slot: None }
    }

    pub(crate) fn flight(&self) -> &Arc<Flight<T>> {
        &self.flight
    }

    /// Whether another caller joined this flight after its leader. A clone of a waiter does not
    /// count. Final once the result is there.
    pub fn shared(&self) -> bool {
        self.joined() > 0
    }

    /// The number of callers that joined this flight after its leader. Those that have left since
    /// count as well. Final once the result is there.
    pub fn joined(&self) -> usize {
        self.flight.joined()
    }
}

impl<T: Clone> Future for Waiter<T> {
    type Output = Result<T, Abandoned>;

    /// Clones the result under the flight's lock. Let `T` be cheap to clone, such as an `Arc`.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.flight.poll(&mut this.waker_slot, context.waker())
    }
}

impl<T> Clone for Waiter<T> {
    /// Makes another waiter of the same flight.
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.flight))
    }
}

impl<T> Drop for Waiter<T> {
    fn drop(&mut self) {
        if let Some(slot) = self.waker_slot {
            self.flight.remove_waker(slot);
        }
    }
}

impl<T> fmt::Debug for Waiter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").field("joined", &self.joined()).finish_non_exhaustive()
    }
}
