#![doc = include_str!("../README.md")]
//!
//! # Where to look
//!
//! [`Cache`] is the exact LRU, [`ShardedCache`] its form for threads, [`Builder`] makes both. [`HeapBytes`] and [`Weigher`] say what an
//! entry weighs, [`entry_overhead`] what the cache adds to it, [`Removal`] why an entry left, [`TooHeavy`] that one was refused.

mod builder;
mod cache;
mod entry;
mod error;
mod sharded;
mod shards;
mod stats;
mod store;
mod weight;

pub use builder::Builder;
pub use cache::{Cache, Iter};
pub use entry::{Entry, Removal};
pub use error::TooHeavy;
pub use sharded::ShardedCache;
pub use shards::shard_count;
pub use stats::Stats;
pub use weight::{ByHeapBytes, HeapBytes, Weigher, entry_overhead};
