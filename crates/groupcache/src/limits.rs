//! The bounds that more than one part of a node must know.

use std::time::Duration;

/// The most members a list may have. The native table for this many takes about 0.3 s to build; a
/// longer list is a mistake.
pub(crate) const MAX_MEMBERS: usize = 1_000;

/// The bounds on which groups, peer clients and peer servers must agree, with one set of defaults
/// for all three.
///
/// A server that takes shorter keys than the groups behind it refuses requests that the groups
/// would answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest key, in bytes. 64 KiB by default: longer than any key that means something,
    /// short enough that keys in flight stay small.
    pub max_key_bytes: usize,
    /// The longest value, in bytes. 32 MiB by default: a service can hold it in memory several
    /// times over.
    pub max_value_bytes: usize,
    /// The longest load. 30 s by default: enough for a slow origin, while a dead one does not hold
    /// callers for ever.
    pub load_timeout: Duration,
}

impl Limits {
    /// The bounds that groups, peer clients and peer servers use unless they are told otherwise.
    pub const DEFAULT: Limits =
        Limits { max_key_bytes: 64 << 10, max_value_bytes: 32 << 20, load_timeout: Duration::from_secs(30) };
}

impl Default for Limits {
    fn default() -> Self {
        Limits::DEFAULT
    }
}
