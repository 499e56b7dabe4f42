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
