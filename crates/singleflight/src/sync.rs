//! The locks and counters everything here is built on: std's, or loom's when the models of
//! `tests/loom.rs` run.

#[cfg(peercache_loom)]
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard, atomic::AtomicUsize};
use std::sync::PoisonError;
#[cfg(not(peercache_loom))]
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, atomic::AtomicUsize};

/// Locks, whether or not someone panicked under this lock. The only foreign code that runs under
/// our locks is `Hash`, `Eq`, `Drop` of a key and `Clone` of a result; it runs before we change
/// anything or after, so what it leaves behind is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
