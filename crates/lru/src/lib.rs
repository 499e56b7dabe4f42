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
mod list;
mod order;
mod segment;
mod sharded;
mod shards;
mod slab;
mod standing;
mod stats;
mod store;
mod tally;
mod weight;

pub use builder::Builder;
pub use cache::{Cache, Iter};
pub use entry::{Entry, Removal};
pub use error::TooHeavy;
pub use order::Policy;
pub use segment::{Held, Lane, Resident, Segment};
pub use sharded::{ShardedCache, sharded_entry_overhead};
pub use shards::{shard_count, shard_of};
pub use standing::Standing;
pub use stats::Stats;
pub use tally::Tally;
pub use weight::{ByHeapBytes, HeapBytes, Weigher, entry_overhead};
