//! How often peers ask for an entry.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The asks of about the last minute: a count, and since when it counts, in 16 bits each. Raised by readers side by side, so that two at
/// once may count as one.
#[derive(Debug, Default)]
pub(crate) struct Rate(AtomicU32);

/// The time counts in steps of 256 ms, which 16 bits hold for four hours and a half.
const STEP_BITS: u32 = 8;

/// How far it looks back.
const WINDOW_STEPS: u16 = (60_000 >> STEP_BITS) as u16;

impl Rate {
    /// Counts an ask.
    pub(crate) fn count(&self, now_ms: u64) {
        let (count, since) = self.recent(now_ms);
        // At the highest count both are halved, which leaves the rate as it is.
        let (count, since) = match count {
            u16::MAX => (count / 2, since.wrapping_add(steps(now_ms).wrapping_sub(since) / 2)),
            _ => (count, since),
        };
        self.0.store(u32::from(count + 1) << 16 | u32::from(since), Relaxed);
    }

    /// The asks per second.
    pub(crate) fn qps(&self, now_ms: u64) -> f64 {
        /// So long at least they are taken to have come in: a single ask is no rate.
        const SECONDS_MIN: f64 = 5.0;
        let (count, since) = self.recent(now_ms);
        let seconds = f64::from(u32::from(steps(now_ms).wrapping_sub(since)) << STEP_BITS) / 1_000.0;
        f64::from(count) / seconds.max(SECONDS_MIN)
    }

    /// The count and its beginning, brought up to now: what is older than a window counts half, as if it had come in half a window.
    fn recent(&self, now_ms: u64) -> (u16, u16) {
        let (held, now) = (self.0.load(Relaxed), steps(now_ms));
        let (mut count, mut since) = ((held >> 16) as u16, held as u16);
        if count == 0 {
            return (0, now);
        }
        while now.wrapping_sub(since) > WINDOW_STEPS && count > 0 {
            count /= 2;
            since = since.wrapping_add(WINDOW_STEPS / 2);
        }
        (count, if count == 0 { now } else { since })
    }
}

fn steps(now_ms: u64) -> u16 {
    (now_ms >> STEP_BITS) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks `per_second` times a second for so many seconds.
    fn asked(rate: &Rate, from_ms: u64, seconds: u64, per_second: u64) {
        (0..seconds * per_second).for_each(|nth| rate.count(from_ms + nth * 1_000 / per_second));
    }

    #[test]
    fn a_steady_rate_is_told() {
        let rate = Rate::default();
        asked(&rate, 1 << 40, 200, 10);
        let told = rate.qps((1 << 40) + 200_000);
        assert!((7.0..13.0).contains(&told), "{told} asks a second of 10");
    }

    #[test]
    fn a_rate_beyond_the_count_is_told() {
        let rate = Rate::default();
        asked(&rate, 1 << 40, 60, 5_000);
        let told = rate.qps((1 << 40) + 60_000);
        assert!((3_000.0..7_000.0).contains(&told), "{told} asks a second of 5,000");
    }

    #[test]
    fn what_is_not_asked_for_any_more_is_forgotten() {
        let rate = Rate::default();
        asked(&rate, 1 << 40, 10, 10);
        let qps = [10, 60, 300, 3_000].map(|seconds| rate.qps((1 << 40) + seconds * 1_000));
        assert!(qps.is_sorted_by(|one, next| one >= next) && qps[0] > 5.0 && qps[2] < 0.2 && qps[3] == 0.0, "{qps:?}");
    }

    #[test]
    fn a_single_ask_is_no_rate() {
        let rate = Rate::default();
        rate.count(1 << 40);
        assert!(rate.qps(1 << 40) <= 0.2);
    }
}
