//! Lengths of time in the 32 bits that frames have for them: whole milliseconds, and the largest
//! number for "without end".
//!
//! A frame has a length of time, never a reading of a clock: the clocks of two nodes have nothing
//! to do with each other.

use std::time::Duration;

/// The number for "without end".
pub(crate) const WITHOUT_END: u32 = u32::MAX;

/// The milliseconds of a time, rounded down, so that no value holds longer for having travelled. 49
/// days and more do not fit and are cut short.
pub(crate) fn of(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(WITHOUT_END).min(WITHOUT_END - 1)
}

/// The milliseconds of a bound; `None` is without end.
pub(crate) fn of_bound(bound: Option<Duration>) -> u32 {
    bound.map_or(WITHOUT_END, of)
}

/// The bound of this many milliseconds.
pub(crate) fn to_bound(ms: u32) -> Option<Duration> {
    (ms != WITHOUT_END).then(|| Duration::from_millis(ms.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_not_time_without_end() {
        for (bound, ms) in [
            (None, u32::MAX),
            (Some(Duration::MAX), u32::MAX - 1),
            (Some(Duration::from_micros(1_999)), 1),
            (Some(Duration::ZERO), 0),
        ] {
            assert_eq!(of_bound(bound), ms);
        }
        assert_eq!([to_bound(u32::MAX), to_bound(0)], [None, Some(Duration::ZERO)]);
    }
}
