//! The settings of a group: their defaults, the range that each must be in, and the check.

use std::{borrow::Cow, time::Duration};

use peercache_lru::EvictionPolicy;
use tokio::sync::Semaphore;

use crate::{
    cache::expiry::ExpiryPolicy,
    error::BuildError,
    hot::{Always, HotAdmission},
    key::Key,
    limits::Limits,
    value::Value,
};

/// The values of a [`GroupBuilder`](crate::GroupBuilder)'s setters, by the setters' names.
pub(crate) struct Settings<V> {
    pub(crate) max_bytes: usize,
    pub(crate) shards: Option<usize>,
    pub(crate) eviction_policy: EvictionPolicy,
    pub(crate) hot_share: f64,
    pub(crate) hot_admission: Box<dyn HotAdmission>,
    pub(crate) weigher: Box<Weigher<V>>,
    pub(crate) limits: Limits,
    pub(crate) max_concurrent_loads: usize,
    pub(crate) max_queued_loads: usize,
    pub(crate) max_concurrent_fetches: usize,
    pub(crate) expiry_policy: ExpiryPolicy,
    pub(crate) hot_ttl: Duration,
    pub(crate) fallback_ttl: Duration,
    /// The first pause after a failed load, and the longest.
    pub(crate) error_backoff: (Duration, Duration),
    pub(crate) update_timeout: Duration,
    pub(crate) overload: OverloadPolicy,
    pub(crate) log_keys: bool,
}

/// The answer to a get whose key belongs to a member that has too much to do, or that cannot be
/// asked because too many of its keys are being fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OverloadPolicy {
    /// An error of kind [`Overloaded`](crate::ErrorKind::Overloaded): the origin is spared.
    Answer,
    /// A load at this node if the loader may be called at once, else the error of
    /// [`Answer`](OverloadPolicy::Answer). The default.
    #[default]
    LoadHere,
}

/// A function that says what a value weighs, in bytes.
pub(crate) type Weigher<V> = dyn Fn(&Key, &V) -> usize + Send + Sync;

/// The longest time that a setting takes: far beyond use, far from where sums of times overflow.
const MAX_TIME: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

const MAX_SHARDS: usize = 1_024;

impl<V: Value> Default for Settings<V> {
    fn default() -> Self {
        Settings {
            max_bytes: 64 << 20,
            shards: None,
            eviction_policy: EvictionPolicy::default(),
            // Copies end, and are charged for that, so in entries it is about golang/groupcache's
            // eighth of main. On the trace of a web shop, with 3 and 10 nodes of 5 and 10 % of the
            // keys each, fetches are 0.83 to 0.90 of golang's and origin loads 0.90 to 1.00. With a
            // ninth they are 0.86 to 0.93 and 0.89 to 1.00. `cargo xtask hit-ratio --nodes 10`
            // repeats it.
            hot_share: 0.15,
            hot_admission: Box::new(Always),
            weigher: Box::new(|_, value: &V| value.weight()),
            limits: Limits::DEFAULT,
            // More calls at one time than most origins like; those that like fewer say so.
            max_concurrent_loads: 1_024,
            // A storm of cold keys, fetches that fall back included, waits rather than fails.
            max_queued_loads: 8_192,
            max_concurrent_fetches: 4_096,
            expiry_policy: ExpiryPolicy {
                time_to_live: Duration::ZERO,
                // Enough to spread the loads of a second over a minute's end, too little to matter.
                jitter: 0.05,
                stale_while_revalidate: Duration::ZERO,
                stale_if_error: Duration::ZERO,
                refresh_ahead: 1.0,
                negative_ttl: Duration::ZERO,
            },
            hot_ttl: Duration::from_secs(30),
            fallback_ttl: Duration::from_secs(5),
            error_backoff: (Duration::from_millis(100), Duration::from_secs(1)),
            // Long enough for a member that is well.
            update_timeout: Duration::from_secs(1),
            overload: OverloadPolicy::default(),
            log_keys: false,
        }
    }
}

impl<V> Settings<V> {
    /// The number of shards that was set, or one that suits the budget.
    pub(crate) fn shards(&self) -> usize {
        /// A value of some hundred bytes with its overhead: what most caches hold.
        const EXPECTED_ENTRY_BYTES: usize = 512;
        /// No machine of today contends for more locks than that.
        const MAX_DEFAULT: usize = 64;
        let suiting = || peercache_lru::sharding::shard_count(self.max_bytes, EXPECTED_ENTRY_BYTES).min(MAX_DEFAULT);
        self.shards.unwrap_or_else(suiting)
    }

    /// Checks that each setting is in its range; the error names the first that is not.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let expiry_policy = &self.expiry_policy;
        let times = [
            self.hot_ttl,
            self.fallback_ttl,
            expiry_policy.time_to_live,
            expiry_policy.negative_ttl,
            expiry_policy.stale_while_revalidate,
            expiry_policy.stale_if_error,
            self.error_backoff.0,
            self.error_backoff.1,
        ];
        let is_timeout = |time: Duration| !time.is_zero() && time <= MAX_TIME;
        let is_share = |share: f64| (0.0..=1.0).contains(&share);
        let is_permits = |permits: usize| (1..=Semaphore::MAX_PERMITS).contains(&permits);
        let refresh_ahead = expiry_policy.refresh_ahead;
        let checks = [
            ("load_timeout", is_timeout(self.limits.load_timeout), "more than zero and at most 100 years"),
            ("update_timeout", is_timeout(self.update_timeout), "more than zero and at most 100 years"),
            ("a time", times.iter().all(|time| *time <= MAX_TIME), "at most 100 years"),
            ("expiry_jitter", is_share(expiry_policy.jitter), "from 0 to 1"),
            ("refresh_ahead", refresh_ahead > 0.0 && refresh_ahead <= 1.0, "more than 0 and at most 1"),
            ("hot_share", is_share(self.hot_share), "from 0 to 1"),
            ("max_concurrent_loads", is_permits(self.max_concurrent_loads), "from 1 to what a semaphore counts"),
            ("max_concurrent_fetches", self.max_concurrent_fetches > 0, "at least 1"),
            ("shards", self.shards.is_none_or(|shards| (1..=MAX_SHARDS).contains(&shards)), "1 to 1,024"),
        ];
        match checks.into_iter().find(|(_, is_good, _)| !is_good) {
            None => Ok(()),
            Some((name, _, expected)) => Err(BuildError::Setting { name, expected: Cow::Borrowed(expected) }),
        }
    }
}
