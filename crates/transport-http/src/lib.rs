#![doc = include_str!("../README.md")]
// Asking and answering share their codecs, of which each alone uses a half.
#![cfg_attr(not(all(feature = "client", feature = "server")), allow(dead_code))]

mod dialect;
mod error;
mod node_id;

// What is on the wire, for both sides.
mod answer;
mod base_path;
mod decoder;
mod escape;
mod frame;
mod gather;
mod greeting;
mod life;
mod millis;
mod request;
mod update;
mod wire;

#[cfg(any(fuzzing, test))]
mod fuzzing;

#[cfg(feature = "server")]
mod answering;
#[cfg(feature = "client")]
mod asking;

#[cfg(fuzzing)]
pub use fuzzing::read_as_everybody_does;

pub use dialect::Dialect;
pub use error::BuildError;
pub use node_id::{NodeId, NotANodeId};

#[cfg(feature = "server")]
pub use answering::{PeerServer, Server, listen};
#[cfg(feature = "client")]
pub use asking::{HttpPool, HttpPoolBuilder};
