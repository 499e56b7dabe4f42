//! The dialects in which a pool may ask.

/// The protocol in which peers are asked. In either dialect a node's
/// [`PeerServer`](crate::PeerServer) answers both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Dialect {
    /// The protocol of our own nodes: it carries any key, and tells silence from a slow load. All
    /// members are ours; one that does not say so in its answers counts as failed.
    #[default]
    Native,
    /// The protocol of golang/groupcache, for a cluster that has Go processes in it. An answer
    /// counts only in the form that library gives it. A peer that turns out to be one of ours is
    /// asked natively from then on.
    Golang,
}

impl Dialect {
    /// Whether a raw `+` in a path stands for a space. golang/groupcache escapes a path as a query,
    /// where it does; a real plus is `%2B` there.
    pub(crate) fn plus_is_space(self) -> bool {
        match self {
            Dialect::Golang => true,
            Dialect::Native => false,
        }
    }
}
