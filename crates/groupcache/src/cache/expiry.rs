//! The expiry of an entry: the stages that it passes, and the policy that sets them.

use std::time::Duration;

use ahash::RandomState;

use crate::{
    clock::{TICK, millis},
    key::Key,
};

/// The ages, in milliseconds, at which an entry passes from one stage to the next.
///
/// Each is at most the one after it. They are ages rather than times, so that they fit in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    created_ms: u64,
    refresh_from: u32,
    fresh_until: u32,
    stale_until: u32,
    expires: u32,
}

/// The use that may be made of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It is answered.
    Fresh,
    /// It is answered, and a hit starts a refresh.
    RefreshDue,
    /// It is answered as stale, and a hit starts a refresh.
    StaleWhileRevalidate,
    /// It is answered as stale, if a new value cannot be had.
    StaleIfError,
    /// It is of no use.
    Expired,
}

/// The age that is never reached. A longer time to live than the 49 days below it is cut to that.
const NEVER: u32 = u32::MAX;

/// The group's settings from which the expiry of each entry is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpiryPolicy {
    /// Zero is for ever.
    pub(crate) time_to_live: Duration,
    pub(crate) jitter: f64,
    pub(crate) stale_while_revalidate: Duration,
    pub(crate) stale_if_error: Duration,
    pub(crate) refresh_ahead: f64,
    /// Zero is not at all.
    pub(crate) negative_ttl: Duration,
}

impl Expiry {
    /// The expiry of an entry that is fresh for ever.
    #[inline]
    pub(crate) fn never(created_ms: u64) -> Self {
        Expiry { created_ms, refresh_from: NEVER, fresh_until: NEVER, stale_until: NEVER, expires: NEVER }
    }

    /// The expiry of an entry that is fresh until it expires at this age.
    pub(crate) fn after(created_ms: u64, age_ms: u32) -> Self {
        Expiry { created_ms, refresh_from: age_ms, fresh_until: age_ms, stale_until: age_ms, expires: age_ms }
    }

    /// The expiry of a fetched "not found", which is never stale, from the time that remains at its
    /// owner. `None` is one that the owner does not cache.
    pub(crate) fn of_fetched_not_found(remaining: Option<Duration>, now_ms: u64) -> Option<Self> {
        match remaining {
            None => Some(Expiry::never(now_ms)),
            Some(Duration::ZERO) => None,
            Some(remaining) => Some(Expiry::after(now_ms, saturated(tick_shorter_ms(remaining)))),
        }
    }

    /// An expiry with each of its four ages.
    #[cfg(all(test, not(peercache_loom)))]
    pub(crate) fn staged(created_ms: u64, [refresh_from, fresh_until, stale_until, expires]: [u32; 4]) -> Self {
        Expiry { created_ms, refresh_from, fresh_until, stale_until, expires }
    }

    #[inline]
    pub(crate) fn stage(&self, now_ms: u64) -> Stage {
        let age = self.stage_age(now_ms);
        if age < self.refresh_from {
            Stage::Fresh
        } else if age < self.fresh_until {
            Stage::RefreshDue
        } else if age < self.stale_until {
            Stage::StaleWhileRevalidate
        } else if age < self.expires {
            Stage::StaleIfError
        } else {
            Stage::Expired
        }
    }

    pub(crate) fn created_ms(&self) -> u64 {
        self.created_ms
    }

    #[inline]
    pub(crate) fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.created_ms)
    }

    /// The time for which it stays fresh; `None` is for ever.
    #[inline]
    pub(crate) fn remaining_ms(&self, now_ms: u64) -> Option<u64> {
        (self.fresh_until != NEVER).then(|| u64::from(self.fresh_until).saturating_sub(self.age_ms(now_ms)))
    }

    /// The time at which it expires; `None` is never.
    pub(crate) fn expires_ms(&self) -> Option<u64> {
        (self.expires != NEVER).then(|| self.created_ms.saturating_add(self.expires.into()))
    }

    /// Shortens this expiry to at most `ttl` from now; `None` if that is now.
    pub(crate) fn shortened_to(self, ttl: Duration, now_ms: u64, refresh_ahead: f64) -> Option<Self> {
        if ttl.is_zero() {
            return None;
        }
        let (age, ttl) = (self.age_ms(now_ms), tick_shorter_ms(ttl));
        let expires = saturated(age.saturating_add(ttl));
        // A copy that expires before its value does is refreshed before it expires.
        let refresh_from = saturated(age.saturating_add((ttl as f64 * refresh_ahead) as u64));
        Some(Expiry {
            refresh_from: self.refresh_from.min(refresh_from),
            fresh_until: self.fresh_until.min(expires),
            stale_until: self.stale_until.min(expires),
            expires: self.expires.min(expires),
            ..self
        })
    }

    /// The age in 32 bits: below [`NEVER`], so that an entry that never expires is always fresh.
    fn stage_age(&self, now_ms: u64) -> u32 {
        saturated(self.age_ms(now_ms))
    }
}

impl ExpiryPolicy {
    /// The expiry of a value that was loaded or set just now, with the time to live that its loader
    /// gave, if any. `None` is not cached.
    pub(crate) fn of_loaded(&self, key: &Key, ttl: Option<Duration>, now_ms: u64) -> Option<Expiry> {
        let ttl = match ttl {
            Some(Duration::ZERO) => return None,
            Some(ttl) => ttl,
            None if self.time_to_live.is_zero() => return Some(Expiry::never(now_ms)),
            None => self.time_to_live,
        };
        Some(self.of_remaining(tick_shorter_ms(self.jittered(key, ttl, now_ms)), now_ms, now_ms))
    }

    /// The expiry of a "not found" of just now; `None` is not cached.
    pub(crate) fn of_not_found(&self, key: &Key, now_ms: u64) -> Option<Expiry> {
        let ttl = self.jittered(key, self.negative_ttl, now_ms);
        (!ttl.is_zero()).then(|| Expiry::after(now_ms, saturated(tick_shorter_ms(ttl))))
    }

    /// The expiry of a fetched value, from the time that remains at its owner (`None` is for ever)
    /// and its age. `None` is one that the owner does not cache.
    pub(crate) fn of_fetched(&self, remaining: Option<Duration>, age: Duration, now_ms: u64) -> Option<Expiry> {
        let created_ms = now_ms.saturating_sub(millis(age));
        match remaining {
            None => Some(Expiry::never(created_ms)),
            Some(Duration::ZERO) => None,
            Some(remaining) => Some(self.of_remaining(tick_shorter_ms(remaining), created_ms, now_ms)),
        }
    }

    fn of_remaining(&self, remaining_ms: u64, created_ms: u64, now_ms: u64) -> Expiry {
        let age_ms = now_ms - created_ms;
        let fresh_until = saturated(age_ms.saturating_add(remaining_ms));
        let later = |time: Duration| saturated(u64::from(fresh_until).saturating_add(millis(time)));
        let stale_until = later(self.stale_while_revalidate);
        Expiry {
            created_ms,
            refresh_from: ((f64::from(fresh_until) * self.refresh_ahead) as u32).min(fresh_until),
            fresh_until,
            stale_until,
            expires: stale_until.max(later(self.stale_if_error)),
        }
    }

    /// Shortens `ttl` by a share that depends on the key and the time: entries expire at different
    /// times, and at the same ones when a run is repeated.
    fn jittered(&self, key: &Key, ttl: Duration, now_ms: u64) -> Duration {
        let random = RandomState::with_seeds(1, 2, 3, 4).hash_one((key.as_bytes(), now_ms));
        ttl - ttl.mul_f64(self.jitter * (random >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// The time to live less a tick: the coarse time may be a tick late, and an entry may expire a tick
/// early but never late.
fn tick_shorter_ms(ttl: Duration) -> u64 {
    millis(ttl - TICK.min(ttl / 2))
}

fn saturated(ms: u64) -> u32 {
    u32::try_from(ms).unwrap_or(NEVER).min(NEVER - 1)
}

#[cfg(all(test, not(peercache_loom)))]
mod tests {
    use super::*;

    const POLICY: ExpiryPolicy = ExpiryPolicy {
        time_to_live: Duration::from_secs(100),
        jitter: 0.0,
        stale_while_revalidate: Duration::from_secs(10),
        stale_if_error: Duration::from_secs(20),
        refresh_ahead: 0.8,
        negative_ttl: Duration::ZERO,
    };

    fn stages(expiry: Expiry, now_ms: [u64; 5]) -> [Stage; 5] {
        now_ms.map(|now_ms| expiry.stage(now_ms))
    }

    #[test]
    fn an_entry_passes_five_stages() {
        let expiry = POLICY.of_loaded(&Key::from("k"), None, 1_000).expect("it is cached");
        assert_eq!(
            stages(expiry, [1_000, 81_000, 101_000, 111_000, 121_000]),
            [Stage::Fresh, Stage::RefreshDue, Stage::StaleWhileRevalidate, Stage::StaleIfError, Stage::Expired]
        );
        assert_eq!(expiry.remaining_ms(51_000), Some(49_990));
    }

    #[test]
    fn jitter_only_shortens_and_spreads() {
        let policy = ExpiryPolicy { jitter: 0.1, ..POLICY };
        let remaining: Vec<u64> = (0..100_u64)
            .map(|nth| {
                let expiry = policy.of_loaded(&Key::from(nth.to_string()), None, 0).expect("it is cached");
                expiry.remaining_ms(0).expect("it expires")
            })
            .collect();
        assert!(remaining.iter().all(|ms| (89_990..=99_990).contains(ms)), "{remaining:?}");
        let early = remaining.iter().filter(|ms| **ms < 94_990).count();
        assert!((20..=80).contains(&early), "{early} of 100 in the earlier half");
    }

    #[test]
    fn a_copy_expires_by_its_own_bound_whatever_the_owner_allows() {
        let expiry = POLICY.of_fetched(Some(Duration::from_secs(100)), Duration::from_secs(5), 50_000);
        let copy =
            expiry.and_then(|expiry| expiry.shortened_to(Duration::from_secs(30), 50_000, 1.0)).expect("it is kept");
        assert_eq!((copy.age_ms(50_000), copy.expires_ms()), (5_000, Some(79_990)));
        assert_eq!(copy.stage(79_990), Stage::Expired);
    }

    #[test]
    fn never_is_never_and_a_century_is_49_days() {
        let day_ms = 24 * 3_600 * 1_000;
        assert_eq!(Expiry::never(0).stage(u64::MAX), Stage::Fresh);
        let century = Duration::from_secs(100 * 365 * 24 * 3_600);
        let long = POLICY.of_loaded(&Key::from("k"), Some(century), 0).expect("it is cached");
        assert_eq!(long.expires_ms().map(|ms| ms / day_ms), Some(49));
    }

    #[test]
    fn the_claims_of_a_hostile_peer_are_harmless() {
        let expiry = POLICY.of_fetched(Some(Duration::MAX), Duration::MAX, 1_000).expect("it is kept");
        assert_eq!((expiry.stage(1_000), expiry.age_ms(1_000)), (Stage::Fresh, 1_000));
    }
}
