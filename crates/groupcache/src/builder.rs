//! The setters of a group, and its start.

use std::{fmt, sync::Arc, time::Duration};

use peercache_lru::EvictionPolicy;

use crate::{
    cache::{Cache, Shape},
    core::Core,
    error::BuildError,
    group::Group,
    hot::HotAdmission,
    key::Key,
    loader::AnyLoader,
    registry::Groups,
    settings::Settings,
    value::Value,
};

/// Sets up a [`Group`]. Made by [`Groups::group`].
#[must_use = "a group exists once it is built"]
pub struct GroupBuilder<V> {
    groups: Groups,
    name: String,
    loader: AnyLoader<V>,
    settings: Settings<V>,
}

impl<V: Value> GroupBuilder<V> {
    pub(crate) fn new(groups: Groups, name: String, loader: AnyLoader<V>) -> Self {
        GroupBuilder { groups, name, loader, settings: Settings::default() }
    }

    /// The budget of this node for the group, main and hot together: keys, values and overhead, in bytes. 0 caches
    /// nothing and still merges concurrent loads. A value that takes more than half of it, and more than
    /// twice what others do, is served and not cached where others would have to leave for it, unless it is [set](Group::set) or the policy is
    /// [`EvictionPolicy::Lru`]. Defaults to 64 MiB.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_bytes = bytes;
        self
    }

    /// What a value is charged beside its key and the overhead, in bytes. Defaults to [`Value::weight`].
    pub fn weigher(mut self, weigher: impl Fn(&Key, &V) -> usize + Send + Sync + 'static) -> Self {
        self.settings.weigher = Box::new(weigher);
        self
    }

    /// The longest load; one that takes longer is ended and is an error for all who wait. Defaults to 30 s.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.settings.limits.load_timeout = timeout;
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
        self.settings.max_concurrent_loads = loads;
        self
    }

    /// The most loads that wait for their turn, each for `load_timeout` at most; one more is an error of kind
    /// [`Overloaded`](crate::ErrorKind::Overloaded). Defaults to 8,192.
    pub fn max_queued_loads(mut self, loads: usize) -> Self {
        self.settings.max_queued_loads = loads;
        self
    }

    /// The most keys that are fetched from peers at one time; one more is an error of kind [`Overloaded`](crate::ErrorKind::Overloaded).
    /// Defaults to 4,096.
    pub fn max_concurrent_fetches(mut self, keys: usize) -> Self {
        self.settings.max_concurrent_fetches = keys;
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
        self.settings.eviction_policy = policy;
        self
    }

    /// The share of what is cached that hot copies may have, from 0 to 1, before they give way to entries that this node owns. 0 keeps no copies
    /// once the budget is used up, and with 1 copies never give way to own entries; to keep none at all, say [`hot_admission`](Self::hot_admission) [`Never`](crate::Never). Defaults to 0.15.
    pub fn hot_share(mut self, share: f64) -> Self {
        self.settings.hot_share = share;
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
        self.settings.limits.max_value_bytes = bytes;
        self
    }

    /// The longest key; a longer one is an error of kind [`KeyTooLong`](crate::ErrorKind::KeyTooLong). Defaults to 64 KiB.
    pub fn max_key_bytes(mut self, bytes: usize) -> Self {
        self.settings.limits.max_key_bytes = bytes;
        self
    }

    /// Into how many shards, each with a lock, the cache is cut; the budget is one for all. Each shard has an
    /// order of its own, so more shards mean less waiting and a rougher choice of who leaves. From 1 to 1,024, rounded up to a power of two. Defaults
    /// to about one for each 4 MiB of the budget, at most 64.
    pub fn shards(mut self, shards: usize) -> Self {
        self.settings.shards = Some(shards);
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
        let GroupBuilder { groups, name, loader, settings } = self;
        if !(1..=255).contains(&name.len()) {
            return Err(BuildError::GroupName(name.len()));
        }
        settings.check()?;
        let cache = Cache::new(Shape {
            max_bytes: settings.max_bytes,
            shards: settings.shards(),
            policy: settings.eviction_policy,
            hot_share: settings.hot_share,
        });
        let (members, clock) = (groups.members().clone(), groups.clock().clone());
        let core = Core::new(name.into(), members, clock, loader, settings, cache);
        // In this order: once peers are served, no change of the ring may be missed.
        core.follow();
        groups.register(core.clone())?;
        Ok(core)
    }
}

impl<V> fmt::Debug for GroupBuilder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupBuilder")
            .field("name", &self.name)
            .field("max_bytes", &self.settings.max_bytes)
            .finish_non_exhaustive()
    }
}
