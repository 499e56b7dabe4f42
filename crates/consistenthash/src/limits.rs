//! The most names, and the most points for each.

/// The most names that a [`Table`](crate::Table) or a [`Ring`](crate::Ring) takes.
///
/// A table of this many names still gives each of them 64 slots, and takes some seconds to build.
pub const MAX_NAMES: usize = 4096;

/// The most points per name that a [`Ring`](crate::Ring) takes.
pub const MAX_REPLICAS: usize = 1024;
