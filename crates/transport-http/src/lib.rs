#![doc = include_str!("../README.md")]
#![cfg_attr(
    not(all(feature = "client", feature = "server")),
    allow(dead_code, reason = "client and server share their codecs, of which each alone uses a half")
)]

mod address;
mod auth;
mod dialect;
mod file_limit;
mod membership;
mod node_id;
mod share;
#[cfg(feature = "tls")]
mod tls;

mod wire;

#[cfg(any(fuzzing, test))]
mod fuzzing;

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "server")]
mod server;
#[cfg(fuzzing)]
pub use crate::fuzzing::{read_as_both_sides, read_identity};

pub use crate::auth::{secrets::Secrets, trust_stats::TrustStats};
pub use crate::dialect::Dialect;
pub use crate::membership::Membership;
pub use crate::node_id::{NodeId, NotANodeId};
#[cfg(feature = "tls")]
pub use crate::tls::Tls;
pub use peercache_groupcache::BuildError;

#[cfg(feature = "client")]
pub use crate::{client::builder::HttpPoolBuilder, client::pool::HttpPool};
#[cfg(feature = "server")]
pub use crate::{
    server::arriving_bytes::{ArrivingBytes, BodyShare, CutOff},
    server::connection::ClientAddress,
    server::http_server::Server,
    server::listen::listen,
    server::listener::Listener,
    server::router::PeerServer,
};
