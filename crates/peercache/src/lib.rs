#![cfg_attr(feature = "http", doc = include_str!("../README.md"))]
#![cfg_attr(not(feature = "http"), doc = "A service's own processes as one distributed, self-filling cache.")]
#![cfg_attr(
    feature = "http",
    doc = r"
# Where to look

- [`Node`] is this process as a member, [`Group`] a cache with its loader. Most programs need no more.
- [`GroupBuilder`] has the settings of a group: budget, times to live, limits, the copies it keeps.
- [`loader_fn_with`] makes a loader of a closure. [`Loader`] and [`BatchLoader`] are for types.
- [`Value`] says which types a group can hold. [`Error`] says why a get has failed.
- [`HttpPool`] has the settings of the transport, [`Server`] those of the peers' port.
- [`Secrets`] says who may speak: see [`NodeBuilder::secret`] and its neighbours.
- [`transport`] is for the authors of transports and placements.
"
)]

#[cfg(feature = "http")]
mod builder;
#[cfg(feature = "http")]
mod node;

#[cfg(feature = "groupcache")]
pub mod transport;

#[cfg(feature = "http")]
pub use crate::{builder::NodeBuilder, node::Node};

#[cfg(feature = "groupcache")]
pub use peercache_groupcache::{
    Always, Answer, Batch, BatchLoader, BlockingLoaderFn, BoxError, BuildError, Bytes, CacheStats, Cached, Clock,
    Detailed, Error, ErrorKind, EvictionPolicy, Get, GetMany, GetStream, GolangPlacement, Group, GroupBuilder, Groups,
    HotAdmission, HotCandidate, IntoLoaded, Key, Limits, LoadError, Loaded, Loader, LoaderFn, LoaderFnWith, Member,
    Members, MembersBuilder, Missed, NativePlacement, Never, OneIn, OverloadPolicy, PeerState, PeerStatus, Source,
    Stats, UpdateError, Value, View, blocking_loader_fn, blocking_loader_fn_with, loader_fn, loader_fn_with,
};

#[cfg(feature = "tls")]
pub use peercache_transport_http::Tls;
#[cfg(feature = "http")]
pub use peercache_transport_http::{
    ArrivingBytes, BodyShare, ClientAddress, CutOff, Dialect, HttpPool, HttpPoolBuilder, Listener, Membership, NodeId,
    PeerServer, Secrets, Server, TrustStats, listen,
};

/// The crate `peercache-consistenthash`: the owner of a key among names.
#[cfg(feature = "consistenthash")]
pub use peercache_consistenthash as consistenthash;

/// The crate `peercache-lru`: caches bounded by bytes.
#[cfg(feature = "lru")]
pub use peercache_lru as lru;

/// The crate `peercache-singleflight`: one call for each key at a time.
#[cfg(feature = "singleflight")]
pub use peercache_singleflight as singleflight;
