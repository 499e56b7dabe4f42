//! The bytes that a group holds, counted against its budget.

use crate::sync::{AtomicUsize, Ordering::Relaxed};

/// The bytes that all shards of a cache, and the back-off beside it, hold together.
///
/// Each shard counts under its own lock. While several insert at once, the sum may be over by those
/// entries; it is never over when they are done.
pub(crate) struct Budget {
    max_bytes: usize,
    bytes: AtomicUsize,
}

impl Budget {
    pub(super) fn new(max_bytes: usize) -> Self {
        Budget { max_bytes, bytes: AtomicUsize::new(0) }
    }

    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    pub(crate) fn add(&self, weight: usize) {
        self.bytes.fetch_add(weight, Relaxed);
    }

    pub(crate) fn subtract(&self, weight: usize) {
        self.bytes.fetch_sub(weight, Relaxed);
    }

    /// The bytes by which an entry of `weight` more would exceed the budget.
    pub(super) fn excess(&self, weight: usize) -> usize {
        self.bytes().saturating_add(weight).saturating_sub(self.max_bytes)
    }
}
