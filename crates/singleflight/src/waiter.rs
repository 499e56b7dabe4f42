//! What a caller holds while it waits for a flight.

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
/// it, and it may be polled by one task and then by another. Polled again after it was ready, it
/// gives the result again. It keeps the result alive, but neither the table nor the key.
///
/// # Errors
///
/// [`Abandoned`] if the leader went away without a result.
#[must_use = "a waiter does nothing unless it is awaited"]
pub struct Waiter<T> {
    flight: Arc<Flight<T>>,
    /// Where our waker sits in the flight, from the first poll that had to wait.
    seat: Option<usize>,
}

impl<T> Waiter<T> {
    pub(crate) fn new(flight: Arc<Flight<T>>) -> Self {
        Self { flight, seat: None }
    }

    /// Whether anyone besides the leader joined this flight; a clone of a waiter does not count.
    /// Final once the result is there.
    pub fn shared(&self) -> bool {
        self.joined() > 0
    }

    /// How many callers joined this flight after its leader, those included that have left since.
    /// Final once the result is there.
    pub fn joined(&self) -> usize {
        self.flight.joined()
    }
}

impl<T: Clone> Future for Waiter<T> {
    type Output = Result<T, Abandoned>;

    /// Clones the result under the flight's lock: let `T` be cheap to clone, such as an `Arc`.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.flight.poll(&mut this.seat, context.waker())
    }
}

impl<T> Clone for Waiter<T> {
    /// Another waiter of the same flight.
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.flight))
    }
}

impl<T> Drop for Waiter<T> {
    fn drop(&mut self) {
        if let Some(seat) = self.seat {
            self.flight.leave(seat);
        }
    }
}

impl<T> fmt::Debug for Waiter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").field("joined", &self.joined()).finish_non_exhaustive()
    }
}
