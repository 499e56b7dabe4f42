use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Says when a warning is due again: once a second at most, however often its cause comes.
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
        let seldom = LogLimit::default();
        assert_eq!([0, 1, 999, 1_000, 1_001].map(|now_ms| seldom.due(now_ms)), [true, false, false, true, false]);
    }
}
