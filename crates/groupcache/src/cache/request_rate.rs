//! The rate at which peers ask for an entry.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The requests of about the last minute: a count, and the time since which it counts, in 16 bits
/// each. Readers raise it side by side, so that two at once may count as one.
#[derive(Debug, Default)]
pub(crate) struct RequestRate(AtomicU32);

/// The time counts in steps of 256 ms, which 16 bits hold for four hours and a half.
const STEP_BITS: u32 = 8;

/// The length of the window: a minute.
const WINDOW_STEPS: u16 = (60_000 >> STEP_BITS) as u16;

/// The shortest time that requests are spread over: a single one is no rate.
const MIN_SECONDS: f64 = 5.0;

impl RequestRate {
    /// Counts a request.
    pub(crate) fn count(&self, now_ms: u64) {
        let (count, since) = self.recent(now_ms);
        // At the highest count both are halved, which leaves the rate as it is.
        let (count, since) = if count == u16::MAX {
            (count / 2, since.wrapping_add(steps(now_ms).wrapping_sub(since) / 2))
        } else {
            (count, since)
        };
        self.0.store(u32::from(count + 1) << 16 | u32::from(since), Relaxed);
    }

    /// The requests per second.
    pub(crate) fn qps(&self, now_ms: u64) -> f64 {
        let (count, since) = self.recent(now_ms);
        let seconds = f64::from(u32::from(steps(now_ms).wrapping_sub(since)) << STEP_BITS) / 1_000.0;
        f64::from(count) / seconds.max(MIN_SECONDS)
    }

    /// The count and its beginning, brought up to now: a count that is older than a window is
    /// halved, as if it had come in half a window.
    fn recent(&self, now_ms: u64) -> (u16, u16) {
        let (packed, now) = (self.0.load(Relaxed), steps(now_ms));
        let (mut count, mut since) = ((packed >> 16) as u16, packed as u16);
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

    const START_MS: u64 = 1 << 40;

    /// Counts `per_second` requests a second, for this many seconds.
    fn count(rate: &RequestRate, seconds: u64, per_second: u64) {
        (0..seconds * per_second).for_each(|nth| rate.count(START_MS + nth * 1_000 / per_second));
    }

    #[test]
    fn a_steady_rate_is_measured() {
        let rate = RequestRate::default();
        count(&rate, 200, 10);
        let qps = rate.qps(START_MS + 200_000);
        assert!((7.0..13.0).contains(&qps), "{qps} requests a second of 10");
    }

    #[test]
    fn a_rate_beyond_the_count_is_measured() {
        let rate = RequestRate::default();
        count(&rate, 60, 5_000);
        let qps = rate.qps(START_MS + 60_000);
        assert!((3_000.0..7_000.0).contains(&qps), "{qps} requests a second of 5,000");
    }

    #[test]
    fn a_rate_fades_when_requests_end() {
        let rate = RequestRate::default();
        count(&rate, 10, 10);
        let qps = [10, 60, 300, 3_000].map(|seconds| rate.qps(START_MS + seconds * 1_000));
        assert!(qps.is_sorted_by(|one, next| one >= next) && qps[0] > 5.0 && qps[2] < 0.2 && qps[3] == 0.0, "{qps:?}");
    }

    #[test]
    fn a_single_request_is_no_rate() {
        let rate = RequestRate::default();
        rate.count(START_MS);
        assert!(rate.qps(START_MS) <= 0.2);
    }
}
