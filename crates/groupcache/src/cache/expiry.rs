//! How long an entry is of use.

use std::time::Duration;

use ahash::RandomState;

use crate::{clock::TICK, key::Key};

/// The ages, in milliseconds, at which an entry passes from one stage to the next; each is at most the one after it.
/// Ages rather than times, so that they fit in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    born_ms: u64,
    renewed_from: u32,
    fresh_until: u32,
    stale_until: u32,
    ends: u32,
}

/// What an entry is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// To be answered.
    Fresh,
    /// To be answered, and time to bring a new one.
    RefreshDue,
    /// To be answered as stale, and high time.
    StaleWhileRevalidate,
    /// Of use only if there is no getting a new one.
    StaleIfError,
    /// Of no use.
    Expired,
}

/// The age that is never reached. What is to live longer than the 49 days below it lives as long as that.
const NEVER: u32 = u32::MAX;

/// What the group's builder says of expiry_policy.
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
    /// Without an end.
    #[inline]
    pub(crate) fn endless(born_ms: u64) -> Self {
        Expiry { born_ms, renewed_from: NEVER, fresh_until: NEVER, stale_until: NEVER, ends: NEVER }
    }

    /// Fresh for so long and then of no use.
    pub(crate) fn plain(born_ms: u64, fresh_ms: u32) -> Self {
        Expiry { born_ms, renewed_from: fresh_ms, fresh_until: fresh_ms, stale_until: fresh_ms, ends: fresh_ms }
    }

    /// That is renewed, fresh, stale and of use until these ages.
    #[cfg(all(test, not(peercache_loom)))]
    pub(crate) fn staged(born_ms: u64, [renewed_from, fresh_until, stale_until, ends]: [u32; 4]) -> Self {
        Expiry { born_ms, renewed_from, fresh_until, stale_until, ends }
    }

    #[inline]
    pub(crate) fn stage(&self, now_ms: u64) -> Stage {
        let age = self.age(now_ms);
        match () {
            () if age < self.renewed_from => Stage::Fresh,
            () if age < self.fresh_until => Stage::RefreshDue,
            () if age < self.stale_until => Stage::StaleWhileRevalidate,
            () if age < self.ends => Stage::StaleIfError,
            () => Stage::Expired,
        }
    }

    pub(crate) fn born_ms(&self) -> u64 {
        self.born_ms
    }

    #[inline]
    pub(crate) fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.born_ms)
    }

    /// How much longer it is fresh; `None` is for ever.
    #[inline]
    pub(crate) fn remaining_ms(&self, now_ms: u64) -> Option<u64> {
        (self.fresh_until != NEVER).then(|| u64::from(self.fresh_until).saturating_sub(self.age_ms(now_ms)))
    }

    /// When it is of no use any more; `None` is never.
    pub(crate) fn ends_ms(&self) -> Option<u64> {
        (self.ends != NEVER).then(|| self.born_ms.saturating_add(self.ends.into()))
    }

    /// The same, over `ttl` from now at the latest. `None` if that is now.
    pub(crate) fn ending_within(self, ttl: Duration, now_ms: u64, refresh_ahead: f64) -> Option<Self> {
        if ttl.is_zero() {
            return None;
        }
        let (age, left) = (self.age_ms(now_ms), shortened_ms(ttl));
        let end = saturated(age.saturating_add(left));
        // A copy that ends before its value is renewed before it ends.
        let late = saturated(age.saturating_add((left as f64 * refresh_ahead) as u64));
        Some(Expiry {
            renewed_from: self.renewed_from.min(late),
            fresh_until: self.fresh_until.min(end),
            stale_until: self.stale_until.min(end),
            ends: self.ends.min(end),
            ..self
        })
    }

    /// Below [`NEVER`], so that an entry without an end is always in its first stage.
    fn age(&self, now_ms: u64) -> u32 {
        saturated(self.age_ms(now_ms))
    }
}

impl ExpiryPolicy {
    /// Of a value loaded or set just now, whose loader may have said how long it holds. `None` is not cached at all.
    pub(crate) fn of_loaded(&self, key: &Key, ttl: Option<Duration>, now_ms: u64) -> Option<Expiry> {
        let ttl = match ttl {
            Some(Duration::ZERO) => return None,
            Some(ttl) => ttl,
            None if self.time_to_live.is_zero() => return Some(Expiry::endless(now_ms)),
            None => self.time_to_live,
        };
        Some(self.of_remaining(shortened_ms(self.jittered(key, ttl, now_ms)), now_ms, now_ms))
    }

    /// Of a "not found"; `None` is not cached.
    pub(crate) fn of_not_found(&self, key: &Key, now_ms: u64) -> Option<Expiry> {
        let ttl = self.jittered(key, self.negative_ttl, now_ms);
        (!ttl.is_zero()).then(|| Expiry::plain(now_ms, saturated(shortened_ms(ttl))))
    }

    /// Of a value that its owner answers so much longer and has had for so long. `None` is one that it does not cache.
    pub(crate) fn of_fetched(&self, remaining: Option<Duration>, age: Duration, now_ms: u64) -> Option<Expiry> {
        let born_ms = now_ms.saturating_sub(millis(age));
        match remaining {
            None => Some(Expiry::endless(born_ms)),
            Some(Duration::ZERO) => None,
            Some(remaining) => Some(self.of_remaining(shortened_ms(remaining), born_ms, now_ms)),
        }
    }

    /// Of a "not found" that its owner answers so much longer. It is never stale.
    pub(crate) fn of_fetched_nothing(&self, remaining: Option<Duration>, now_ms: u64) -> Option<Expiry> {
        match remaining {
            None => Some(Expiry::endless(now_ms)),
            Some(Duration::ZERO) => None,
            Some(remaining) => Some(Expiry::plain(now_ms, saturated(shortened_ms(remaining)))),
        }
    }

    fn of_remaining(&self, remaining_ms: u64, born_ms: u64, now_ms: u64) -> Expiry {
        let age_ms = now_ms - born_ms;
        let fresh_until = saturated(age_ms.saturating_add(remaining_ms));
        let later = |time: Duration| saturated(u64::from(fresh_until).saturating_add(millis(time)));
        let stale_until = later(self.stale_while_revalidate);
        Expiry {
            born_ms,
            renewed_from: ((f64::from(fresh_until) * self.refresh_ahead) as u32).min(fresh_until),
            fresh_until,
            stale_until,
            ends: stale_until.max(later(self.stale_if_error)),
        }
    }

    /// Shorter by a share that depends on the key and the time, so that it is spread and yet the same when a run is repeated.
    fn jittered(&self, key: &Key, ttl: Duration, now_ms: u64) -> Duration {
        let spread = RandomState::with_seeds(1, 2, 3, 4).hash_one((key.as_bytes(), now_ms));
        ttl - ttl.mul_f64(self.jitter * (spread >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// The coarse time may be a tick late, so what counts by it ends a tick early and never late.
fn shortened_ms(ttl: Duration) -> u64 {
    millis(ttl - TICK.min(ttl / 2))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn saturated(ms: u64) -> u32 {
    u32::try_from(ms).unwrap_or(NEVER).min(NEVER - 1)
}

#[cfg(all(test, not(peercache_loom)))]
mod tests {
    use super::*;

    const LIVES: ExpiryPolicy = ExpiryPolicy {
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
    fn a_life_has_five_stages() {
        let expiry = LIVES.of_loaded(&Key::from("k"), None, 1_000).expect("it is cached");
        assert_eq!(
            stages(expiry, [1_000, 81_000, 101_000, 111_000, 121_000]),
            [Stage::Fresh, Stage::RefreshDue, Stage::StaleWhileRevalidate, Stage::StaleIfError, Stage::Expired]
        );
        assert_eq!(expiry.remaining_ms(51_000), Some(49_990));
    }

    #[test]
    fn jitter_only_shortens_and_spreads() {
        let expiry_policy = ExpiryPolicy { jitter: 0.1, ..LIVES };
        let ends: Vec<u64> = (0..100_u64)
            .map(|nth| {
                let expiry = expiry_policy.of_loaded(&Key::from(nth.to_string()), None, 0).expect("it is cached");
                expiry.remaining_ms(0).expect("it ends")
            })
            .collect();
        assert!(ends.iter().all(|end| (89_990..=99_990).contains(end)), "{ends:?}");
        let early = ends.iter().filter(|end| **end < 94_990).count();
        assert!((20..=80).contains(&early), "{early} of 100 in the earlier half");
    }

    #[test]
    fn a_copy_ends_with_its_own_bound_whatever_the_owner_allows() {
        let expiry = LIVES.of_fetched(Some(Duration::from_secs(100)), Duration::from_secs(5), 50_000);
        let copy =
            expiry.and_then(|expiry| expiry.ending_within(Duration::from_secs(30), 50_000, 1.0)).expect("it is kept");
        assert_eq!((copy.age_ms(50_000), copy.ends_ms()), (5_000, Some(79_990)));
        assert_eq!(copy.stage(79_990), Stage::Expired);
    }

    #[test]
    fn endless_is_endless_and_a_century_is_49_days() {
        let day_ms = 24 * 3_600 * 1_000;
        assert_eq!(Expiry::endless(0).stage(u64::MAX), Stage::Fresh);
        let long =
            LIVES.of_loaded(&Key::from("k"), Some(Duration::from_secs(100 * 365 * 24 * 3_600)), 0).expect("kept");
        assert_eq!(long.ends_ms().map(|ends| ends / day_ms), Some(49));
    }

    #[test]
    fn what_a_hostile_peer_claims_is_harmless() {
        let expiry = LIVES.of_fetched(Some(Duration::MAX), Duration::MAX, 1_000).expect("it is kept");
        assert_eq!((expiry.stage(1_000), expiry.age_ms(1_000)), (Stage::Fresh, 1_000));
    }
}
