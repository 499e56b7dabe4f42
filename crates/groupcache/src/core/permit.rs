use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// How many loads and fetches may be under way at one time. Nobody waits for a permit: there is one, or the get ends.
pub(crate) struct Permits {
    free: AtomicUsize,
}

/// The right to one load or fetch, given back when it is dropped.
pub(crate) struct Permit {
    permits: Arc<Permits>,
}

impl Permits {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Permits { free: AtomicUsize::new(max) })
    }

    pub(crate) fn acquire(self: &Arc<Self>) -> Option<Permit> {
        // Only a number is guarded here, so no ordering is needed.
        self.free.fetch_update(Relaxed, Relaxed, |free| free.checked_sub(1)).ok()?;
        Some(Permit { permits: self.clone() })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.free.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_permit_can_be_had_again() {
        let permits = Permits::new(1);
        let permit = permits.acquire();
        assert!(permits.acquire().is_none());
        drop(permit);
        assert!(permits.acquire().is_some());
    }
}
