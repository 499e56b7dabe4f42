//! The locks and atomics of this crate: std's, or loom's when `tests/loom.rs` runs.

#[cfg(peercache_loom)]
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard, atomic::AtomicUsize};
use std::sync::PoisonError;
#[cfg(not(peercache_loom))]
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, atomic::AtomicUsize};

/// Locks, and ignores poison.
///
/// The only foreign code that runs under our locks is `Hash`, `Eq`, `Drop` of a key and `Clone` of
/// a result. It runs before we change anything or after, so a panic in it leaves the data whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
