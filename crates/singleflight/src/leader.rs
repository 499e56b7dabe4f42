//! The leader of a flight: how it brings the result, and what happens if it is dropped without one.

use std::fmt;
use std::hash::RandomState;
use std::panic::{self, AssertUnwindSafe};
use std::thread;

use crate::error::Abandoned;
use crate::flight::Flight;
use crate::sync::Arc;
use crate::table::Table;
use crate::waiter::Waiter;

/// The right, and the duty, to bring a key's result.
///
/// It owns what it needs, so it can move into a task of its own. When it ends, the key is free at
/// once and all waiters are told. [`publish`](Self::publish), [`finish`](Self::finish) and
/// [`finish_with`](Self::finish_with) give them a result. A leader that is dropped instead (its
/// task was aborted, its thread panics) gives them [`Abandoned`].
#[must_use = "a leader that is dropped abandons its flight"]
pub struct Leader<K, T, S = RandomState> {
    table: Arc<Table<K, T, S>>,
    flight: Arc<Flight<T>>,
    hash: u64,
    complete: bool,
}

impl<K, T, S> Leader<K, T, S> {
    pub(crate) fn new(table: Arc<Table<K, T, S>>, flight: Arc<Flight<T>>, hash: u64) -> Self {
        Self { table, flight, hash, complete: false }
    }

    /// A waiter for this flight, for the caller that started it while the leader runs elsewhere.
    ///
    /// It does not count as [joined](Waiter::joined).
    pub fn waiter(&self) -> Waiter<T> {
        Waiter::new(Arc::clone(&self.flight))
    }

    /// Whether the flight was [forgotten](crate::Shard::forget). Its result will then not be
    /// written.
    pub fn is_forgotten(&self) -> bool {
        !self.table.shard(self.hash).maps(self.hash, &self.flight)
    }

    /// Ends the flight if nobody waits for it, or else gives the leader back.
    ///
    /// This is for work that has not begun: all callers that wanted it may have left by now.
    ///
    /// # Errors
    ///
    /// The leader, if somebody waits or the key was [forgotten](crate::Shard::forget).
    pub fn end_unless_awaited(self) -> Result<(), Self> {
        let mut shard = self.table.shard(self.hash);
        // The table's reference and ours. Nobody joins while we hold the lock.
        let unawaited = Arc::strong_count(&self.flight) == 2 && shard.maps(self.hash, &self.flight);
        let unmapped = unawaited.then(|| shard.unmap(self.hash, &self.flight));
        drop(shard);
        match unmapped {
            Some(_) => Ok(()),
            None => Err(self),
        }
    }

    /// Gives `result` to all waiters, and frees the key.
    pub fn finish(self, result: T) {
        self.finish_with(|_| result);
    }

    /// Writes `result` with `write`, gives it to all waiters, and frees the key.
    ///
    /// `write` is called under the shard's lock, and only if the table still maps the key to *this*
    /// flight (nobody [forgot](crate::Shard::forget) it). Its answer is returned.
    ///
    /// A cache is written there: a caller that takes the lock finds either this flight or the
    /// cached value. To drop something outside the lock, `write` can return it. It must not take a
    /// lock of this table. If it panics, the key is free, the waiters get [`Abandoned`], and the
    /// panic goes on to our caller.
    pub fn publish<R>(self, result: T, write: impl FnOnce(&T) -> R) -> Option<R> {
        let mut written = None;
        self.finish_with(|still_mapped| {
            if still_mapped {
                written = Some(write(&result));
            }
            result
        });
        written
    }

    /// Gives the answer of `result` to all waiters, and frees the key.
    ///
    /// `result` is called under the shard's lock, as `write` is in [`publish`](Self::publish). It
    /// is always called, and told whether the table still maps the key to this flight.
    pub fn finish_with(self, result: impl FnOnce(bool) -> T) {
        // The leader is gone, and its waiters are told, before the panic goes on.
        if let Err(panic) = self.complete_with(result) {
            panic::resume_unwind(panic);
        }
    }

    /// Completes the flight, or returns the panic of `result`.
    ///
    /// The panic is caught, so that it never poisons the shard's lock.
    fn complete_with(mut self, result: impl FnOnce(bool) -> T) -> thread::Result<()> {
        let result = {
            let mut shard = self.table.shard(self.hash);
            let still_mapped = shard.maps(self.hash, &self.flight);
            let result = panic::catch_unwind(AssertUnwindSafe(|| result(still_mapped)));
            let unmapped = shard.unmap(self.hash, &self.flight);
            drop(shard);
            drop(unmapped);
            result
        };
        // On an error the drop of `self` tells the waiters.
        let result = result?;
        self.complete = true;
        self.flight.complete(Ok(result));
        Ok(())
    }
}

impl<K, T, S> Drop for Leader<K, T, S> {
    /// Frees the key and tells the waiters, if the leader brought no result. The key of a forgotten
    /// leader may be another's by now, and is left alone.
    fn drop(&mut self) {
        if self.complete {
            return;
        }
        let unmapped = self.table.shard(self.hash).unmap(self.hash, &self.flight);
        drop(unmapped);
        self.flight.complete(Err(Abandoned));
    }
}

impl<K, T, S> fmt::Debug for Leader<K, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leader").field("joined", &self.flight.joined()).finish_non_exhaustive()
    }
}
