//! Request traces, and what caches make of them.
//!
//! [`Trace`] reads a file or makes a [`Workload`] up, [`CachePolicy`] is anything that answers
//! hit or miss, [`replay`] puts the two together. The policies here are references, written to be
//! read: exact LRU, S3-FIFO, SIEVE, Belady's optimum. With the feature `groups`, [`Alone`] replays
//! through a real group, and [`Cluster`] through several that are each other's peers.

#![expect(missing_debug_implementations, reason = "nobody prints a cache of a million entries")]

#[cfg(feature = "groups")]
mod alone;
mod belady;
mod capacity;
#[cfg(feature = "groups")]
mod cluster;
#[cfg(feature = "groups")]
mod direct;
mod golang;
mod lru;
mod order;
mod replay;
mod rng;
mod s3_fifo;
mod sieve;
mod trace;
mod workload;

pub use belady::Belady;
pub use capacity::{Capacity, Unit};
pub use golang::Golang;
pub use lru::Lru;
pub use replay::{CachePolicy, ReplayCounts, Shared, SharedPolicy, replay, replay_shared};
pub use rng::Rng;
pub use s3_fifo::S3Fifo;
pub use sieve::Sieve;
pub use trace::{Records, Request, Trace, TraceError};
pub use workload::Workload;
#[cfg(feature = "groups")]
pub use {
    alone::Alone,
    cluster::{Cluster, owners},
    direct::Direct,
};
