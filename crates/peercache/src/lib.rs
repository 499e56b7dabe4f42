#![cfg_attr(feature = "http", doc = include_str!("../README.md"))]
#![cfg_attr(not(feature = "http"), doc = "A service's own processes as one distributed, self-filling cache.")]

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
    Always, Answer, Batch, BatchLoader, BoxError, BuildError, Bytes, CacheStats, Cached, Clock, Detailed, Error,
    ErrorKind, EvictionPolicy, Get, GetMany, GetStream, GolangPlacement, Group, GroupBuilder, Groups, HotAdmission,
    HotCandidate, IntoLoaded, Key, LoadError, Loaded, Loader, LoaderFn, LoaderFnWith, Members, MembersBuilder, Missed,
    NativePlacement, Never, OneIn, Source, Stats, UpdateError, Value, View, loader_fn, loader_fn_with,
};

#[cfg(feature = "http")]
pub use peercache_transport_http::{Dialect, HttpPool, HttpPoolBuilder, NodeId, PeerServer, Server, listen};

/// A key's owner among names: `peercache-consistenthash`.
#[cfg(feature = "consistenthash")]
pub use peercache_consistenthash as consistenthash;

/// A cache bounded by bytes: `peercache-lru`.
#[cfg(feature = "lru")]
pub use peercache_lru as lru;

/// One call per key at a time: `peercache-singleflight`.
#[cfg(feature = "singleflight")]
pub use peercache_singleflight as singleflight;
