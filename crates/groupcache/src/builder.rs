use std::{fmt, sync::Arc, time::Duration};

use crate::{
    ConfigError, Group, Groups, HotAdmission, Key, Loader, OneIn, Value,
    cache::Cache,
    core::{Core, Settings},
    loader::DynLoader,
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
const CONCURRENT_MAX: usize = 4_096;

/// golang/groupcache mirrors one fetch in ten.
const HOT_ONE_IN: u32 = 10;

/// Longest time that any setting may say: far beyond use, far from where sums of times overflow.
const TIME_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// Sets up a [`Group`]. Made by [`Groups::group`].
#[must_use = "a group exists once it is built"]
pub struct GroupBuilder<V> {
    groups: Groups,
    name: String,
    loader: Arc<dyn DynLoader<V>>,
    settings: Settings<V>,
    max_bytes: usize,
    shards: Option<usize>,
}

impl<V: Value> GroupBuilder<V> {
    pub(crate) fn new(groups: Groups, name: String, loader: impl Loader<Value = V>) -> Self {
        let settings = Settings {
            load_timeout: LOAD_TIMEOUT,
            hot_ttl: HOT_TTL,
            fallback_ttl: FALLBACK_TTL,
            value_bytes_max: VALUE_BYTES_MAX,
            key_bytes_max: KEY_BYTES_MAX,
            concurrent_max: CONCURRENT_MAX,
            hot_admission: Box::new(OneIn::new(HOT_ONE_IN)),
            weigher: Box::new(|_, value: &V| value.weight()),
        };
        GroupBuilder { groups, name, loader: Arc::new(loader), settings, max_bytes: MAX_BYTES, shards: None }
    }

    /// The budget of this node for the group, main and hot together: keys, values and overhead, in bytes. 0 caches
    /// nothing and still merges concurrent loads. Defaults to 64 MiB.
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

    /// Which fetched values are kept as hot copies. Defaults to one fetch in ten, [`OneIn`].
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

    /// The most different keys that may be loaded or fetched at one time; gets of further ones end at once with an error
    /// of kind [`Overloaded`](crate::ErrorKind::Overloaded). Defaults to 4,096.
    pub fn max_concurrent(mut self, keys: usize) -> Self {
        self.settings.concurrent_max = keys;
        self
    }

    /// Into how many shards, each with a lock, the cache is cut; the budget is one for all. Each shard evicts its own least
    /// recently used, so more shards mean less waiting and a rougher order. Defaults to about one for each 4 MiB of the
    /// budget, at most 64.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Builds the group and registers it, so that peers are served from it. Nothing is spawned.
    ///
    /// # Errors
    /// A setting out of range, a name that is empty or over 255 bytes, or one that this node has already.
    pub fn build(self) -> Result<Group<V>, ConfigError> {
        self.build_core().map(Group::new)
    }

    pub(crate) fn build_core(self) -> Result<Arc<Core<V>>, ConfigError> {
        self.check()?;
        let shards = self.shards.unwrap_or_else(|| default_shards(self.max_bytes));
        let cache = Cache::new(self.max_bytes, shards);
        let core = Core::new(self.name.into(), &self.groups, self.loader, self.settings, cache);
        // In this order: once peers are served, no change of the ring may be missed.
        core.follow_members();
        self.groups.register(core.clone())?;
        Ok(core)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if !(1..=255).contains(&self.name.len()) {
            return Err(ConfigError::GroupName(self.name.len()));
        }
        let bad = |name, expected| Err(ConfigError::Setting { name, expected });
        let settings = &self.settings;
        if settings.load_timeout.is_zero() || settings.load_timeout > TIME_MAX {
            return bad("load_timeout", "more than zero and at most 100 years");
        }
        if settings.hot_ttl > TIME_MAX || settings.fallback_ttl > TIME_MAX {
            return bad("hot_ttl and fallback_ttl", "at most 100 years");
        }
        if settings.concurrent_max == 0 {
            return bad("max_concurrent", "at least 1");
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
    peercache_lru::shard_count(max_bytes, EXPECTED_ENTRY_BYTES).min(DEFAULT_MAX)
}

impl<V> fmt::Debug for GroupBuilder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupBuilder")
            .field("name", &self.name)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}
