#![doc = include_str!("../README.md")]

mod answer;
mod builder;
mod cache;
mod carrier;
mod catch_panic;
mod clock;
mod core;
mod error;
mod get;
mod group;
mod hot;
mod key;
mod limits;
mod loader;
mod many;
mod members;
#[cfg(peercache_loom)]
#[doc(hidden)]
pub mod model;
mod peer;
mod registry;
mod settings;
mod stats;
mod store;
mod sync;
mod value;

pub use bytes::Bytes;
pub use peercache_lru::EvictionPolicy;

pub use crate::{
    answer::{Answer, Cached, Source},
    builder::GroupBuilder,
    clock::Clock,
    error::{BoxError, BuildError, Error, ErrorKind},
    get::{Detailed, Get},
    group::Group,
    hot::{Always, HotAdmission, HotCandidate, Never, OneIn},
    key::Key,
    limits::Limits,
    loader::batch::{Batch, BatchLoader},
    loader::blocking::{BlockingLoaderFn, blocking_loader_fn, blocking_loader_fn_with},
    loader::chain::LoadChain,
    loader::{IntoLoaded, LoadError, Loaded, Loader, LoaderFn, LoaderFnWith, loader_fn, loader_fn_with},
    many::{GetMany, GetStream},
    members::health::PeerState,
    members::member::{Member, PeerStatus},
    members::placement::{GolangPlacement, NativePlacement, Placement, Ring},
    members::view::View,
    members::{Members, MembersBuilder},
    peer::reply_meta::ReplyMeta,
    peer::served_group::{HoldAll, HoldLimit, Served, ServedGroup},
    peer::update::{Ack, Change, Missed, PeerUpdate, SecondRound, SetValue, Stamp, UpdateError},
    peer::{Connect, Peer, PeerError, PeerReply, PeerRequest, Reply, Terms},
    registry::Groups,
    settings::OverloadPolicy,
    stats::{CacheStats, Stats},
    value::Value,
};
