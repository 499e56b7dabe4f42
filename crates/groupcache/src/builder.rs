use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use peercache_lru::EvictionPolicy;
use tokio::sync::Semaphore;

use crate::{
    cache::CacheConfig,
    cache::expiry::ExpiryPolicy,
    core::{Core, Settings},
    error::BuildError,
    group::Group,
    hot::{Always, HotAdmission},
    key::Key,
    loader::AnyLoader,
    registry::Groups,
    value::Value,
};

/// Long enough for a slow origin, short enough that a dead one does not hold callers for ever.
pub(crate) const LOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// What a service can hold in memory several times over without trouble.
pub(crate) const VALUE_BYTES_MAX: usize = 32 << 20;

/// Longer than any key that means something, short enough that keys in flight stay small.
const KEY_BYTES_MAX: usize = 64 << 10;

const MAX_BYTES: usize = 64 << 20;
const HOT_TTL: Duration = Duration::from_secs(30);
const FALLBACK_TTL: Duration = Duration::from_secs(5);
/// More calls at one time than most origins like; those that like fewer say so.
const LOADS_MAX: usize = 1_024;
/// A storm of cold keys, fetches that fall back included, waits rather than fails.
const QUEUED_MAX: usize = 8_192;
const FETCHES_MAX: usize = 4_096;
/// Long enough for a member that is well.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(1);
/// The first pause and the longest.
const ERROR_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// Enough to spread the loads of a second over a minute's end, too little to matter.
const JITTER: f64 = 0.05;

/// Copies end, and are charged for that, so in entries it is about golang/groupcache's eighth of main. On the trace of a web shop, with 3 and 10 nodes of 5
/// and 10 % of the keys each, fetches are 0.83 to 0.90 of golang's and origin loads 0.90 to 1.00; with a ninth, 0.86 to 0.93 and 0.89 to 1.00.
/// `cargo xtask hit-ratio --nodes 10` repeats it.
const HOT_SHARE: f64 = 0.15;

/// Longest time that any setting may say: far beyond use, far from where sums of times overflow.
const TIME_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// Sets up a [`Group`]. Made by [`Groups::group`].
#[must_use = "a group exists once it is built"]
pub struct GroupBuilder<V> {
    groups: Groups,
    name: String,
    loader: AnyLoader<V>,
    settings: Settings<V>,
    max_bytes: usize,
    shards: Option<usize>,
    policy: EvictionPolicy,
    hot_share: f64,
}

impl<V: Value> GroupBuilder<V> {
    pub(crate) fn new(groups: Groups, name: String, loader: AnyLoader<V>) -> Self {
        let expiry_policy = ExpiryPolicy {
            time_to_live: Duration::ZERO,
            jitter: JITTER,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            refresh_ahead: 1.0,
            negative_ttl: Duration::ZERO,
        };
        let settings = Settings {
            expiry_policy,
            load_timeout: LOAD_TIMEOUT,
            hot_ttl: HOT_TTL,
            fallback_ttl: FALLBACK_TTL,
            error_backoff: ERROR_BACKOFF,
            update_timeout: UPDATE_TIMEOUT,
            loads_max: LOADS_MAX,
            queued_max: QUEUED_MAX,
            value_bytes_max: VALUE_BYTES_MAX,
            key_bytes_max: KEY_BYTES_MAX,
            fetches_max: FETCHES_MAX,
            hot_admission: Box::new(Always),
            weigher: Box::new(|_, value: &V| value.weight()),
        };
        GroupBuilder {
            groups,
            name,
            loader,
            settings,
            max_bytes: MAX_BYTES,
            shards: None,
            policy: EvictionPolicy::default(),
            hot_share: HOT_SHARE,
        }
    }

    /// The budget of this node for the group, main and hot together: keys, values and overhead, in bytes. 0 caches
    /// nothing and still merges concurrent loads. A value that takes more than half of it, and more than
    /// twice what others do, is served and not cached where others would have to leave for it, unless it is [set](Group::set) or the policy is
    /// [`EvictionPolicy::Lru`]. Defaults to 64 MiB.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// What a value is charged beside its key and the overhead, in bytes. Defaults to [`Value::weight`].
    pub fn weigher(mut self, weigher: impl Fn(&Key, &V) -> usize + Send + Sync + 'static) -> Self {
        self.settings.weigher = Box::new(weigher);
        self
    }

    /// The longest load; one that takes longer is ended and is an error for all who wait. Defaults to 30 s.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.settings.load_timeout = timeout;
        self
    }

    /// The longest life of a copy at a node that does not own the key, which is how long a node that was out of reach may
    /// answer with an old value. Zero keeps no copies. Defaults to 30 s.
    pub fn hot_ttl(mut self, ttl: Duration) -> Self {
        self.settings.hot_ttl = ttl;
        self
    }

    /// How long a value is kept that was loaded here for a key of another member, because its owner could not be asked or
    /// because members disagree about the owner. At most `hot_ttl`. Defaults to 5 s.
    pub fn fallback_ttl(mut self, ttl: Duration) -> Self {
        self.settings.fallback_ttl = ttl;
        self
    }

    /// How long a value may be answered, for values whose loader does not say. Zero is for ever. Defaults to zero.
    pub fn time_to_live(mut self, ttl: Duration) -> Self {
        self.settings.expiry_policy.time_to_live = ttl;
        self
    }

    /// By how much at most a time to live is shortened, as a share of it, so that values that came together do not expire
    /// together. Defaults to 0.05.
    pub fn expiry_jitter(mut self, share: f64) -> Self {
        self.settings.expiry_policy.jitter = share;
        self
    }

    /// How long after its time to live a value is still answered at once, marked [`Stale`](crate::Source::Stale), while one load in the
    /// background brings a new one. Defaults to zero.
    pub fn stale_while_revalidate(mut self, time: Duration) -> Self {
        self.settings.expiry_policy.stale_while_revalidate = time;
        self
    }

    /// How long after its time to live a value is answered, marked [`Stale`](crate::Source::Stale), if the load of a new one fails.
    /// Defaults to zero.
    pub fn stale_if_error(mut self, time: Duration) -> Self {
        self.settings.expiry_policy.stale_if_error = time;
        self
    }

    /// From which share of its life on a hit starts a load in the background, so that values in use never expire: 0.8 is the
    /// last fifth. 1 never does. Defaults to 1.
    pub fn refresh_ahead(mut self, share: f64) -> Self {
        self.settings.expiry_policy.refresh_ahead = share;
        self
    }

    /// How long a key whose load failed is answered with that error before the origin is asked again; twice as long after each
    /// further failure, up to `longest`. Zero is off. Defaults to 100 ms and 1 s.
    pub fn error_backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.settings.error_backoff = (first, longest);
        self
    }

    /// How long a "not found" is cached. Zero does not. Defaults to zero.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.settings.expiry_policy.negative_ttl = ttl;
        self
    }

    /// The most calls of the loader at one time. Fetches from peers are not counted, so that loaders may ask other groups.
    /// A loader that asks its own group can wait for itself. Defaults to 1,024.
    pub fn max_concurrent_loads(mut self, loads: usize) -> Self {
        self.settings.loads_max = loads;
        self
    }

    /// The most loads that wait for their turn, each for `load_timeout` at most; one more is an error of kind
    /// [`Overloaded`](crate::ErrorKind::Overloaded). Defaults to 8,192.
    pub fn max_queued_loads(mut self, loads: usize) -> Self {
        self.settings.queued_max = loads;
        self
    }

    /// The most keys that are fetched from peers at one time; one more is an error of kind [`Overloaded`](crate::ErrorKind::Overloaded).
    /// Defaults to 4,096.
    pub fn max_concurrent_fetches(mut self, keys: usize) -> Self {
        self.settings.fetches_max = keys;
        self
    }

    /// How long each member may take to acknowledge a change before it is reported as missed. Defaults to 1 s.
    pub fn update_timeout(mut self, timeout: Duration) -> Self {
        self.settings.update_timeout = timeout;
        self
    }

    /// Who leaves first when the budget is used up. Defaults to [`EvictionPolicy::Adaptive`], which resists scans; [`EvictionPolicy::Lru`] is exactly the
    /// least recently used, as golang/groupcache has it, and has threads wait for each other.
    pub fn eviction_policy(mut self, policy: EvictionPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The share of what is cached that hot copies may have, from 0 to 1, before they give way to entries that this node owns. 0 keeps no copies
    /// once the budget is used up, and with 1 copies never give way to own entries; to keep none at all, say [`hot_admission`](Self::hot_admission) [`Never`](crate::Never). Defaults to 0.15.
    pub fn hot_share(mut self, share: f64) -> Self {
        self.hot_share = share;
        self
    }

    /// Which fetched values are given a place among the hot copies, where use decides what stays. [`Never`](crate::Never) opts out of mirroring;
    /// [`OneIn`](crate::OneIn) is golang/groupcache's rule. Defaults to [`Always`].
    pub fn hot_admission(mut self, admission: impl HotAdmission) -> Self {
        self.settings.hot_admission = Box::new(admission);
        self
    }

    /// The longest value by its [`Value::weight`]; a longer one is an error of kind [`ValueTooLarge`](crate::ErrorKind::ValueTooLarge), whoever
    /// loaded it. Defaults to 32 MiB.
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.settings.value_bytes_max = bytes;
        self
    }

    /// The longest key; a longer one is an error of kind [`KeyTooLong`](crate::ErrorKind::KeyTooLong). Defaults to 64 KiB.
    pub fn max_key_bytes(mut self, bytes: usize) -> Self {
        self.settings.key_bytes_max = bytes;
        self
    }

    /// Into how many shards, each with a lock, the cache is cut; the budget is one for all. Each shard has an
    /// order of its own, so more shards mean less waiting and a rougher choice of who leaves. From 1 to 1,024, rounded up to a power of two. Defaults
    /// to about one for each 4 MiB of the budget, at most 64.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Builds the group and registers it, so that peers are served from it. Nothing is spawned.
    ///
    /// # Errors
    /// A setting out of range, a name that is empty or over 255 bytes, or one that this node has already.
    pub fn build(self) -> Result<Group<V>, BuildError> {
        self.build_core().map(Group::new)
    }

    pub(crate) fn build_core(self) -> Result<Arc<Core<V>>, BuildError> {
        self.check()?;
        let shards = self.shards.unwrap_or_else(|| default_shards(self.max_bytes));
        let cache = CacheConfig { max_bytes: self.max_bytes, shards, policy: self.policy, hot_share: self.hot_share };
        let core = Core::new(self.name.into(), &self.groups, self.loader, self.settings, cache);
        // In this order: once peers are served, no change of the ring may be missed.
        core.follow();
        self.groups.register(core.clone())?;
        Ok(core)
    }

    fn check(&self) -> Result<(), BuildError> {
        if !(1..=255).contains(&self.name.len()) {
            return Err(BuildError::GroupName(self.name.len()));
        }
        let bad = |name, expected| Err(BuildError::Setting { name, expected: Cow::Borrowed(expected) });
        let settings = &self.settings;
        let expiry_policy = &settings.expiry_policy;
        let times = [
            settings.hot_ttl,
            settings.fallback_ttl,
            expiry_policy.time_to_live,
            expiry_policy.negative_ttl,
            expiry_policy.stale_while_revalidate,
            expiry_policy.stale_if_error,
            settings.error_backoff.0,
            settings.error_backoff.1,
        ];
        let in_time = |time: Duration| !time.is_zero() && time <= TIME_MAX;
        let counts = 1..=Semaphore::MAX_PERMITS;
        let checks = [
            ("load_timeout", in_time(settings.load_timeout), "more than zero and at most 100 years"),
            ("update_timeout", in_time(settings.update_timeout), "more than zero and at most 100 years"),
            ("a time", times.iter().all(|time| *time <= TIME_MAX), "at most 100 years"),
            ("expiry_jitter", (0.0..=1.0).contains(&expiry_policy.jitter), "from 0 to 1"),
            (
                "refresh_ahead",
                expiry_policy.refresh_ahead > 0.0 && expiry_policy.refresh_ahead <= 1.0,
                "more than 0 and at most 1",
            ),
            ("hot_share", (0.0..=1.0).contains(&self.hot_share), "from 0 to 1"),
            ("max_concurrent_loads", counts.contains(&settings.loads_max), "from 1 to what a semaphore counts"),
            ("max_concurrent_fetches", settings.fetches_max > 0, "at least 1"),
        ];
        if let Some((name, _, expected)) = checks.into_iter().find(|(_, good, _)| !good) {
            return bad(name, expected);
        }
        if self.shards.is_some_and(|shards| !(1..=SHARDS_MAX).contains(&shards)) {
            return bad("shards", "1 to 1,024");
        }
        Ok(())
    }
}

const SHARDS_MAX: usize = 1_024;

fn default_shards(max_bytes: usize) -> usize {
    /// With the overhead, a value of some hundred bytes: what most caches hold.
    const EXPECTED_ENTRY_BYTES: usize = 512;
    /// More locks than that no machine of today contends for.
    const DEFAULT_MAX: usize = 64;
    peercache_lru::sharding::shard_count(max_bytes, EXPECTED_ENTRY_BYTES).min(DEFAULT_MAX)
}

impl<V> fmt::Debug for GroupBuilder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupBuilder")
            .field("name", &self.name)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}
