//! The one who flies: what it may do with its key, and what happens if it disappears.

use std::fmt;
use std::hash::RandomState;
use std::panic::{self, AssertUnwindSafe};
use std::thread;

use crate::error::Abandoned;
use crate::flight::Flight;
use crate::sync::Arc;
use crate::table::Table;
use crate::waiter::Waiter;

/// The right, and the duty, to bring a key's result. It owns what it needs, so it can move into a
/// task of its own.
///
/// However it ends, the key is free at once and everyone who waits is told:
/// [`publish`](Self::publish) and its kin give them a result; a leader that is dropped instead (its
/// task was aborted, its thread panics) gives them [`Abandoned`].
#[must_use = "a leader that is dropped abandons its flight"]
pub struct Leader<K, T, S = RandomState> {
    table: Arc<Table<K, T, S>>,
    flight: Arc<Flight<T>>,
    hash: u64,
    landed: bool,
}

impl<K, T, S> Leader<K, T, S> {
    pub(crate) fn new(table: Arc<Table<K, T, S>>, flight: Arc<Flight<T>>, hash: u64) -> Self {
        Self { table, flight, hash, landed: false }
    }

    /// A waiter for this very flight: what the caller that started it awaits, while the leader runs
    /// elsewhere. It does not count as [joined](Waiter::joined).
    pub fn waiter(&self) -> Waiter<T> {
        Waiter::new(Arc::clone(&self.flight))
    }

    /// Whether the table maps the key to this flight no more, since somebody
    /// [forgot](crate::Shard::forget) it: nothing that it brings will be written.
    pub fn is_forgotten(&self) -> bool {
        !self.table.shard(self.hash).maps(self.hash, &self.flight)
    }

    /// Frees the key if nobody waits for the result, or gives the leader back. For work that has not begun: those who
    /// wanted it may all have left by now.
    ///
    /// # Errors
    ///
    /// The leader, if somebody waits or the key was [forgotten](crate::Shard::forget).
    pub fn end_unless_awaited(self) -> Result<(), Self> {
        let mut shard = self.table.shard(self.hash);
        // The table's and ours. Nobody joins while we hold the lock.
        let unawaited = Arc::strong_count(&self.flight) == 2 && shard.maps(self.hash, &self.flight);
        let unmapped = unawaited.then(|| shard.unmap(self.hash, &self.flight));
        drop(shard);
        match unmapped {
            Some(_) => Ok(()),
            None => Err(self),
        }
    }

    /// Gives `result` to everyone who waits, and frees the key.
    pub fn finish(self, result: T) {
        self.finish_with(|_| result);
    }

    /// Gives `result` to everyone who waits, and frees the key; if the table still maps the key to
    /// *this* flight (nobody [forgot](crate::Shard::forget) it), calls `write` before that, under
    /// the shard's lock, and returns what it returned.
    ///
    /// `write` is where a cache is written: a caller that takes the lock finds either this flight
    /// or what `write` left. Whatever it wants dropped outside the lock it can return. It must not
    /// take a lock of this table. If it panics, the key is free, those who wait get [`Abandoned`],
    /// and the panic goes on to our caller.
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

    /// As [`publish`](Self::publish), for a result that depends on what is found under the lock:
    /// `result` is always called, and told whether the table still maps the key to this flight.
    pub fn finish_with(self, result: impl FnOnce(bool) -> T) {
        // Everything of ours is dropped before the panic goes on.
        if let Err(panic) = self.land_with(result) {
            panic::resume_unwind(panic);
        }
    }

    /// The panic is caught rather than left to our own drop, so that the shard's lock is never
    /// poisoned by it.
    fn land_with(mut self, result: impl FnOnce(bool) -> T) -> thread::Result<()> {
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
        self.landed = true;
        self.flight.land(Ok(result));
        Ok(())
    }
}

impl<K, T, S> Drop for Leader<K, T, S> {
    /// The guard: a leader that did not land frees its key, unless it was forgotten and the key is
    /// another's by now, and tells those who wait.
    fn drop(&mut self) {
        if self.landed {
            return;
        }
        let unmapped = self.table.shard(self.hash).unmap(self.hash, &self.flight);
        drop(unmapped);
        self.flight.land(Err(Abandoned));
    }
}

impl<K, T, S> fmt::Debug for Leader<K, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leader").field("joined", &self.flight.joined()).finish_non_exhaustive()
    }
}
