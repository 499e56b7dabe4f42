//! The answer to a detailed get: a value, its source and its age.

use std::time::Duration;

use crate::key::Key;

/// A value with where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer<V> {
    /// The value.
    pub value: V,
    /// The place it came from. A caller who waited for another's load is told the source of that
    /// load.
    pub source: Source,
    /// The time since it was loaded or set, to some 10 ms; since it arrived, if it is from a peer
    /// that does not say.
    pub age: Duration,
    /// The rest of its time to live, to some 10 ms: zero for a stale one, `None` for one that does
    /// not expire.
    pub remaining: Option<Duration>,
}

/// The place where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// This node's main cache: it owns the key.
    Main,
    /// This node's hot copies: another member owns the key.
    Hot,
    /// The member that owns the key.
    Peer,
    /// The origin, by this node's loader.
    Origin,
    /// A value past its time to live, from this node or the owner, that the group allows for a
    /// while.
    Stale,
}

impl Source {
    /// The source in one lower-case word, for logs and headers: `main`, `hot`, `peer`, `origin` or
    /// `stale`.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Main => "main",
            Source::Hot => "hot",
            Source::Peer => "peer",
            Source::Origin => "origin",
            Source::Stale => "stale",
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An entry of a node's cache, as [`Group::snapshot`](crate::Group::snapshot) shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cached<V> {
    /// The key.
    pub key: Key,
    /// The value; `None` is a "not found" that is kept for `negative_ttl`.
    pub value: Option<V>,
    /// [`Main`](Source::Main) or [`Hot`](Source::Hot).
    pub place: Source,
    /// The time since it was loaded or set.
    pub age: Duration,
    /// The rest of its time to live; `None` for one that does not expire.
    pub remaining: Option<Duration>,
}
