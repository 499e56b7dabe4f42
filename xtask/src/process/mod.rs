//! Child processes, none of which outlives us.
//!
//! The program `benches/compare` has these files as well.

pub mod build;
pub mod child;
pub mod supervisor;
