use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// How many loads and fetches may be under way at one time. Nobody waits for a permit: there is one, or the get ends.
pub(crate) struct FetchLimiter {
    free: AtomicUsize,
}

/// The right to one load or fetch, given back when it is dropped.
pub(crate) struct FetchPermit {
    permits: Arc<FetchLimiter>,
}

impl FetchLimiter {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(FetchLimiter { free: AtomicUsize::new(max) })
    }

    pub(crate) fn acquire(self: &Arc<Self>) -> Option<FetchPermit> {
        // Only a number is guarded here, so no ordering is needed.
        self.free.fetch_update(Relaxed, Relaxed, |free| free.checked_sub(1)).ok()?;
        Some(FetchPermit { permits: self.clone() })
    }
}

impl Drop for FetchPermit {
    fn drop(&mut self) {
        self.permits.free.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_permit_can_be_had_again() {
        let permits = FetchLimiter::new(1);
        let permit = permits.acquire();
        assert!(permits.acquire().is_none());
        drop(permit);
        assert!(permits.acquire().is_some());
    }
}
