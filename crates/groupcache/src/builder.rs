//! The setters of a group, and its start.

use std::{fmt, sync::Arc, time::Duration};

use peercache_lru::EvictionPolicy;

use crate::{
    cache::CacheConfig, core::Core, core::state::GroupState, error::BuildError, group::Group, hot::HotAdmission,
    key::Key, loader::Loader, loader::any::AnyLoader, loader::batch::BatchLoader, registry::Groups,
    settings::OverloadPolicy, settings::Settings, value::Value,
};

/// Sets up a [`Group`]. Made by [`Groups::group`] and [`Groups::group_batched`].
#[must_use = "a group exists once it is built"]
pub struct GroupBuilder<V> {
    groups: Groups,
    name: String,
    loader: AnyLoader<V>,
    settings: Settings<V>,
}

impl Groups {
    /// Starts a group that loads with `loader`. It is a [`Loader`], or a closure by way of
    /// [`loader_fn_with`](crate::loader_fn_with) or [`loader_fn`](crate::loader_fn). The loader
    /// decides the type of the values.
    pub fn group<L: Loader>(&self, name: impl Into<String>, loader: L) -> GroupBuilder<L::Value> {
        GroupBuilder::new(self.clone(), name.into(), AnyLoader::Single(Arc::new(loader)))
    }

    /// Starts a group as [`group`](Groups::group) does, with a loader that loads many keys in one
    /// call.
    pub fn group_batched<L: BatchLoader>(&self, name: impl Into<String>, loader: L) -> GroupBuilder<L::Value> {
        GroupBuilder::new(self.clone(), name.into(), AnyLoader::Batched(Arc::new(loader)))
    }
}

impl<V: Value> GroupBuilder<V> {
    fn new(groups: Groups, name: String, loader: AnyLoader<V>) -> Self {
        GroupBuilder { groups, name, loader, settings: Settings::default() }
    }

    /// The budget of this node for the group, main and hot together: keys, values and overhead, in
    /// bytes. 0 caches nothing and still merges concurrent loads.
    ///
    /// A value is too large to cache if it takes more than half of the budget and more than twice
    /// what the others take. It is served, and not cached where others would have to be evicted for
    /// it. A value that is [set](Group::set) is cached all the same, and so is any value under
    /// [`EvictionPolicy::Lru`]. Defaults to 64 MiB.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_bytes = bytes;
        self
    }

    /// The bytes that a value is charged, beside its key and the overhead. Defaults to
    /// [`Value::weight`].
    pub fn weigher(mut self, weigher: impl Fn(&Key, &V) -> usize + Send + Sync + 'static) -> Self {
        self.settings.weigher = Box::new(weigher);
        self
    }

    /// The longest load. One that takes longer is ended, and is an error for all who wait. Defaults
    /// to 30 s.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.settings.limits.load_timeout = timeout;
        self
    }

    /// The longest life of a copy at a node that does not own the key. For this long a node that
    /// was out of reach may answer with an old value. Zero keeps no copies. Defaults to 30 s.
    pub fn hot_ttl(mut self, ttl: Duration) -> Self {
        self.settings.hot_ttl = ttl;
        self
    }

    /// The time for which a value is kept that was loaded here for a key of another member: because
    /// neither its owner nor a stand-in could be asked, or because members disagree about the
    /// owner. At most `hot_ttl`. A node that acts for an owner that is down keeps the value for its
    /// full time to live, until the owner is back. Defaults to 5 s.
    pub fn fallback_ttl(mut self, ttl: Duration) -> Self {
        self.settings.fallback_ttl = ttl;
        self
    }

    /// The time for which a value may be answered if its loader does not say. Zero is for ever.
    /// Defaults to zero.
    #[doc(alias = "time_to_idle")]
    pub fn time_to_live(mut self, ttl: Duration) -> Self {
        self.settings.expiry_policy.time_to_live = ttl;
        self
    }

    /// The most by which a time to live is shortened, as a share of it: values that came together
    /// do not expire together. Defaults to 0.05.
    pub fn expiry_jitter(mut self, share: f64) -> Self {
        self.settings.expiry_policy.jitter = share;
        self
    }

    /// The time after its time to live for which a value is still answered at once, marked
    /// [`Stale`](crate::Source::Stale), while one load in the background brings a new one. Defaults
    /// to zero.
    pub fn stale_while_revalidate(mut self, time: Duration) -> Self {
        self.settings.expiry_policy.stale_while_revalidate = time;
        self
    }

    /// The time after its time to live for which a value is answered, marked
    /// [`Stale`](crate::Source::Stale), if the load of a new one fails. Defaults to zero.
    pub fn stale_if_error(mut self, time: Duration) -> Self {
        self.settings.expiry_policy.stale_if_error = time;
        self
    }

    /// The share of a value's life after which a hit starts a load in the background, so that
    /// values in use never expire. 0.8 is the last fifth; 1 never starts one. Defaults to 1.
    pub fn refresh_ahead(mut self, share: f64) -> Self {
        self.settings.expiry_policy.refresh_ahead = share;
        self
    }

    /// The time for which a key whose load failed is answered with that error, before the origin is
    /// asked again. It doubles after each further failure, up to `longest`. Zero is off. Defaults
    /// to 100 ms and 1 s.
    pub fn error_backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.settings.error_backoff = (first, longest);
        self
    }

    /// The time for which a "not found" is cached. Zero caches none. Defaults to zero.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.settings.expiry_policy.negative_ttl = ttl;
        self
    }

    /// The most calls of the loader at one time. Fetches from peers are not counted, so that
    /// loaders may ask other groups. A loader that asks its own group for another key takes two.
    /// A [blocking](crate::blocking_loader_fn) load holds its permit until its thread has ended,
    /// however late. Defaults to 1,024.
    pub fn max_concurrent_loads(mut self, loads: usize) -> Self {
        self.settings.max_concurrent_loads = loads;
        self
    }

    /// The most loads that wait until another ends, each for `load_timeout` at most. One more is an
    /// error of kind [`Overloaded`](crate::ErrorKind::Overloaded). Defaults to 8,192.
    pub fn max_queued_loads(mut self, loads: usize) -> Self {
        self.settings.max_queued_loads = loads;
        self
    }

    /// The most keys that are fetched from peers at one time. A member gets one more only while it
    /// has fewer of them than are free: half of all at most, so that a silent member leaves as many
    /// for the others. For one more, [`overload`](Self::overload) says what is done. Defaults to
    /// 4,096.
    pub fn max_concurrent_fetches(mut self, keys: usize) -> Self {
        self.settings.max_concurrent_fetches = keys;
        self
    }

    /// The answer to a get whose key belongs to a member that has too much to do. With
    /// [`OverloadPolicy::LoadHere`] the key is loaded here, as after a failure of the member, but
    /// only if one more of [`max_concurrent_loads`](Self::max_concurrent_loads) may begin at once.
    /// [`OverloadPolicy::Answer`] answers the error. Defaults to `LoadHere`.
    pub fn overload(mut self, policy: OverloadPolicy) -> Self {
        self.settings.overload = policy;
        self
    }

    /// Whether keys are logged as they are. Else a log has a fingerprint of each, which is the same
    /// for the same key as long as the process lives. Defaults to false: keys may be secrets.
    pub fn log_keys(mut self, log_keys: bool) -> Self {
        self.settings.log_keys = log_keys;
        self
    }

    /// The time that each member has to acknowledge an update before it is reported as missed.
    /// Defaults to 1 s.
    pub fn update_timeout(mut self, timeout: Duration) -> Self {
        self.settings.update_timeout = timeout;
        self
    }

    /// The order of eviction when the budget is used up. Defaults to [`EvictionPolicy::Adaptive`],
    /// which resists scans. [`EvictionPolicy::Lru`] evicts exactly the least recently used, as
    /// golang/groupcache does, and has threads wait for each other.
    pub fn eviction_policy(mut self, policy: EvictionPolicy) -> Self {
        self.settings.eviction_policy = policy;
        self
    }

    /// The share of the cached bytes that hot copies may have, from 0 to 1, before they give way to
    /// entries that this node owns. With 0 no copies are kept once the budget is used up; with 1
    /// copies never give way. To keep none at all, set [`hot_admission`](Self::hot_admission) to
    /// [`Never`](crate::Never). Defaults to 0.15.
    pub fn hot_share(mut self, share: f64) -> Self {
        self.settings.hot_share = share;
        self
    }

    /// The rule that decides which fetched values become hot copies, where use decides what stays.
    /// [`Never`](crate::Never) opts out of mirroring; [`OneIn`](crate::OneIn) is
    /// golang/groupcache's rule. Defaults to [`Always`](crate::Always).
    pub fn hot_admission(mut self, admission: impl HotAdmission) -> Self {
        self.settings.hot_admission = Box::new(admission);
        self
    }

    /// The longest value by its [`Value::weight`]. A longer one is an error of kind
    /// [`ValueTooLarge`](crate::ErrorKind::ValueTooLarge), whichever member loaded it. Defaults to
    /// 32 MiB.
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.settings.limits.max_value_bytes = bytes;
        self
    }

    /// The longest key. A longer one is an error of kind
    /// [`KeyTooLong`](crate::ErrorKind::KeyTooLong). Defaults to 64 KiB.
    pub fn max_key_bytes(mut self, bytes: usize) -> Self {
        self.settings.limits.max_key_bytes = bytes;
        self
    }

    /// The number of shards of the cache, each with a lock; the budget is one for all. Each shard
    /// has an order of its own, so more shards mean less waiting and a rougher choice of the entry
    /// to evict. From 1 to 1,024, rounded up to a power of two. Defaults to about one for each 4
    /// MiB of the budget, at most 64.
    pub fn shards(mut self, shards: usize) -> Self {
        self.settings.shards = Some(shards);
        self
    }

    /// Builds the group and registers it, so that peers are served from it. Nothing is spawned.
    ///
    /// # Errors
    /// A setting out of range, a name that is empty or over 255 bytes, or one that this node has
    /// already.
    pub fn build(self) -> Result<Group<V>, BuildError> {
        self.build_core().map(Group::new)
    }

    pub(crate) fn build_core(self) -> Result<Core<V>, BuildError> {
        let GroupBuilder { groups, name, loader, settings } = self;
        if !(1..=255).contains(&name.len()) {
            return Err(BuildError::GroupName(name.len()));
        }
        settings.check()?;
        let cache = CacheConfig {
            max_bytes: settings.max_bytes,
            shards: settings.shards(),
            policy: settings.eviction_policy,
            hot_share: settings.hot_share,
        };
        let (members, clock, runtime) = (groups.members().clone(), groups.clock().clone(), groups.runtime().clone());
        // It follows the member list before it is registered: once peers are served, no change of
        // the ring may be missed.
        let state = GroupState::new(name.into(), members, clock, runtime, loader, settings, cache);
        groups.register(state.clone())?;
        Ok(Core::new(state))
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
