#![cfg_attr(feature = "http", doc = include_str!("../README.md"))]
#![cfg_attr(not(feature = "http"), doc = "A service's own processes as one distributed, self-filling cache.")]

#[cfg(feature = "http")]
mod builder;
#[cfg(feature = "http")]
mod node;

#[cfg(feature = "http")]
pub use crate::{
    builder::{BuildError, NodeBuilder},
    node::Node,
};

#[cfg(feature = "groupcache")]
pub use peercache_groupcache::{
    Ack, Always, Answer, Batch, BatchLoader, BoxError, Bytes, CacheStats, Cached, Change, Clock, ConfigError, Connect,
    Detailed, Error, ErrorKind, FromFn, Get, GetMany, GetStream, GolangPlacement, Group, GroupBuilder, Groups,
    HotAdmission, HotCandidate, IntoLoaded, Key, LoadError, Loaded, Loader, MEMBERS_MAX, Members, MembersBuilder,
    Missed, NativePlacement, Never, OneIn, Peer, PeerError, PeerReply, PeerRequest, PeerUpdate, Placement, Policy,
    Reply, Ring, Served, ServedGroup, SetValue, Source, Stamp, Stats, Terms, UpdateError, Value, View, With, from_fn,
    with,
};

#[cfg(feature = "http")]
pub use peercache_transport_http::{
    BuildError as TransportError, Dialect, HttpPool, HttpPoolBuilder, NodeId, PeerServer, Server, listen,
};

/// A key's owner among names: `peercache-consistenthash`.
#[cfg(feature = "consistenthash")]
pub use peercache_consistenthash as consistenthash;

/// A cache bounded by bytes: `peercache-lru`.
#[cfg(feature = "lru")]
pub use peercache_lru as lru;

/// One call per key at a time: `peercache-singleflight`.
#[cfg(feature = "singleflight")]
pub use peercache_singleflight as singleflight;
