#![doc = include_str!("../README.md")]

mod answer;
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
mod load;
mod loader;
mod members;
mod panic;
mod peer;
mod permit;
mod placement;
mod registry;
mod seldom;
mod served;
mod stats;
mod value;

pub use bytes::Bytes;

pub use crate::{
    answer::{Answer, Source},
    builder::GroupBuilder,
    clock::Clock,
    error::{BoxError, ConfigError, Error, ErrorKind},
    get::{Detailed, Get},
    group::Group,
    hot::{Always, HotAdmission, Never, OneIn},
    key::Key,
    loader::{FromFn, IntoLoaded, LoadError, Loaded, Loader, With, from_fn, with},
    members::{MEMBERS_MAX, Members, MembersBuilder, View},
    peer::{Connect, Peer, PeerError, PeerReply, PeerRequest, Reply},
    placement::{GolangPlacement, NativePlacement, Placement, Ring},
    registry::Groups,
    served::{Served, ServedGroup},
    stats::{CacheStats, Stats},
    value::Value,
};
