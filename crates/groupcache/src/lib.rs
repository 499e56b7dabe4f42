#![doc = include_str!("../README.md")]

mod answer;
mod backlog;
mod backoff;
mod batch;
mod block;
mod builder;
mod cache;
mod clock;
mod core;
mod error;
mod fetch;
mod flight;
mod get;
mod group;
mod hot;
mod key;
mod life;
mod load;
mod load_batch;
mod loader;
mod many;
mod members;
#[cfg(peercache_loom)]
#[doc(hidden)]
pub mod model;
mod panic;
mod peer;
mod permit;
mod placement;
mod registry;
mod seldom;
mod serve;
mod served;
mod slots;
mod spread;
mod stats;
mod store;
mod sync;
mod update;
mod value;

pub use bytes::Bytes;
pub use peercache_lru::Policy;

pub use crate::{
    answer::{Answer, Cached, Source},
    batch::{Batch, BatchLoader},
    builder::GroupBuilder,
    clock::Clock,
    error::{BoxError, ConfigError, Error, ErrorKind},
    get::{Detailed, Get},
    group::Group,
    hot::{Always, HotAdmission, HotCandidate, Never, OneIn},
    key::Key,
    loader::{FromFn, IntoLoaded, LoadError, Loaded, Loader, With, from_fn, with},
    many::{GetMany, GetStream},
    members::{MEMBERS_MAX, Members, MembersBuilder, View},
    peer::{Connect, Peer, PeerError, PeerReply, PeerRequest, Reply, Terms},
    placement::{GolangPlacement, NativePlacement, Placement, Ring},
    registry::Groups,
    served::{Served, ServedGroup},
    stats::{CacheStats, Stats},
    update::{Ack, Change, Missed, PeerUpdate, SetValue, Stamp, UpdateError},
    value::Value,
};
