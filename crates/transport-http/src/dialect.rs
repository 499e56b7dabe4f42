//! The dialects in which a pool may ask.

/// The protocol in which peers are asked first. In either dialect a node's
/// [`PeerServer`](crate::PeerServer) answers both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Dialect {
    /// The protocol of our own nodes: it carries any key, and tells silence from a slow load. A
    /// peer that does not know it is asked with a plain GET, as golang/groupcache asks.
    #[default]
    Native,
    /// The protocol of golang/groupcache, for a cluster that has Go processes in it. A peer that
    /// turns out to be one of ours is asked natively from then on.
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
