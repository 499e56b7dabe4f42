//! Measured operations, the caches they are made with, and what all benches have in common.
//!
//! Criterion benches, `check` and `instructions` measure the same functions: they are here.

#![allow(dead_code, unused_imports, unused_macros, reason = "each bench has use for a part")]

pub mod durations;
pub mod flights;
pub mod hits;
pub mod ours;
pub mod ring;
pub mod rivals;
pub mod threads;
pub mod workload;
