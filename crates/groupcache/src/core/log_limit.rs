//! A limit on how often a warning is logged.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Says whether a warning is to be logged again: once a second at most.
#[derive(Default)]
pub(crate) struct LogLimit {
    next_ms: AtomicU64,
}

impl LogLimit {
    pub(crate) fn due(&self, now_ms: u64) -> bool {
        const BETWEEN_MS: u64 = 1_000;
        let next_ms = self.next_ms.load(Relaxed);
        now_ms >= next_ms && self.next_ms.compare_exchange(next_ms, now_ms + BETWEEN_MS, Relaxed, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_once_a_second() {
        let limit = LogLimit::default();
        assert_eq!([0, 1, 999, 1_000, 1_001].map(|now_ms| limit.due(now_ms)), [true, false, false, true, false]);
    }
}
