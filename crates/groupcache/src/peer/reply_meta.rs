//! The facts that go with a peer's answer.

use std::time::Duration;

/// Describes a peer's answer beside its value: how old it is, how long it holds, where it was
/// placed and how often it is asked for.
///
/// The default describes a value that was loaded just now and does not expire.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReplyMeta {
    /// The time since the value was loaded or set.
    pub age: Duration,
    /// The time for which it may still be answered; `None` is without end.
    pub remaining: Option<Duration>,
    /// Whether its time to live is over, and it is answered because the group allows stale answers.
    pub stale: bool,
    /// The digest of the owner's ring; `None` from peers that do not say. An answer from a member
    /// that places keys otherwise is not cached.
    pub ring: Option<u64>,
    /// The rate at which peers ask the owner for this key: per second, over about the last minute.
    /// `None` from owners that do not say.
    pub minute_qps: Option<f64>,
}

impl ReplyMeta {
    /// The same facts, after `passed`.
    #[must_use]
    pub fn after(mut self, passed: Duration) -> Self {
        self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(passed));
        self.age = self.age.saturating_add(passed);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_without_overflow() {
        let meta = ReplyMeta { remaining: Some(Duration::from_secs(1)), age: Duration::MAX, ..ReplyMeta::default() };
        let later = meta.after(Duration::from_secs(2));
        assert_eq!((later.remaining, later.age), (Some(Duration::ZERO), Duration::MAX));
    }
}
