#![doc = include_str!("../README.md")]
//!
//! # Where to look
//!
//! - [`Cache`] is the exact LRU for one thread, [`ShardedCache`] the cache for many threads.
//!   [`Builder`] makes both.
//! - [`HeapBytes`] and [`Weigher`] say how heavy an entry is; [`entry_overhead`] is added to that.
//! - [`Removal`] says why an entry left, [`TooHeavy`] that one was refused.
//! - The modules [`segment`] and [`sharding`] are the parts of `ShardedCache`, for those who build
//!   a cache of their own.

mod builder;
mod cache;
mod entry;
mod error;
pub mod segment;
mod sharded;
pub mod sharding;
mod stats;
mod store;
mod weight;

pub use crate::{
    builder::Builder,
    cache::{Cache, Iter},
    entry::{Entry, Removal},
    error::TooHeavy,
    segment::order::EvictionPolicy,
    sharded::{ShardedCache, sharded_entry_overhead},
    stats::Stats,
    weight::{ByHeapBytes, HeapBytes, Weigher, entry_overhead},
};
