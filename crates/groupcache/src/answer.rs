/// A value with where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer<V> {
    /// The value.
    pub value: V,
    /// Where it came from. One who waited for another's load is told what that load did.
    pub source: Source,
}

/// Where a value came from.
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
}

impl Source {
    /// The source in one lower-case word, for logs and headers: `main`, `hot`, `peer` or `origin`.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Main => "main",
            Source::Hot => "hot",
            Source::Peer => "peer",
            Source::Origin => "origin",
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
