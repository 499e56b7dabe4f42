//! The log of one member's failures: a warning once a second at most, and a line when it is back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Says what is to be logged of a member, over all groups.
#[derive(Default)]
pub(crate) struct FailureLog {
    next_ms: AtomicU64,
    is_failing: AtomicBool,
}

impl FailureLog {
    /// Records a failure. Says whether a warning of it is due.
    pub(crate) fn failed(&self, now_ms: u64) -> bool {
        const BETWEEN_MS: u64 = 1_000;
        self.is_failing.store(true, Relaxed);
        let next_ms = self.next_ms.load(Relaxed);
        now_ms >= next_ms && self.next_ms.compare_exchange(next_ms, now_ms + BETWEEN_MS, Relaxed, Relaxed).is_ok()
    }

    /// Records an answer. Says whether the member had failed before, so that its return is logged.
    pub(crate) fn answered(&self) -> bool {
        self.is_failing.load(Relaxed) && self.is_failing.swap(false, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_due_once_a_second() {
        let log = FailureLog::default();
        assert_eq!([0, 1, 999, 1_000, 1_001].map(|now_ms| log.failed(now_ms)), [true, false, false, true, false]);
    }

    #[test]
    fn a_return_is_told_once() {
        let log = FailureLog::default();
        assert!(!log.answered(), "it has never failed");
        log.failed(0);
        assert_eq!([log.answered(), log.answered()], [true, false]);
    }
}
