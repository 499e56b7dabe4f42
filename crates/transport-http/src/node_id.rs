//! The random id of a running node.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    str::FromStr,
    time::SystemTime,
};

/// The random number of one running node, by which it recognises itself at the other end of a
/// request.
///
/// A name cannot serve for that: one process may be reached by many names, and this is to find a
/// wrong peer list. A node's pool and its server have the same one, that of their
/// [`Membership`](crate::Membership). It is written as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId(u64);

impl NodeId {
    /// A new id. Of 10,000 nodes, two have the same one in 1 of 300 billion cases.
    pub fn random() -> Self {
        // `RandomState` is seeded by the operating system, once a thread. The process id and the
        // time tell processes apart that were forked after that.
        NodeId(RandomState::new().hash_one((std::process::id(), SystemTime::now())))
    }

    pub(crate) fn to_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// Exactly 16 hexadecimal digits.
impl FromStr for NodeId {
    type Err = NotANodeId;

    fn from_str(text: &str) -> Result<Self, NotANodeId> {
        if text.len() != 16 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(NotANodeId);
        }
        u64::from_str_radix(text, 16).map(NodeId).map_err(|_| NotANodeId)
    }
}

/// The text is not 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node id has 16 hexadecimal digits")]
#[non_exhaustive]
pub struct NotANodeId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_another() {
        let ids: std::collections::HashSet<NodeId> = (0..1_000).map(|_| NodeId::random()).collect();
        assert_eq!(ids.len(), 1_000);
    }

    #[test]
    fn reads_what_it_writes() {
        let id = NodeId(0xab);
        assert_eq!(id.to_string(), "00000000000000ab");
        assert_eq!("00000000000000ab".parse(), Ok(id));
        assert_eq!("+0000000000000ab".parse::<NodeId>(), Err(NotANodeId));
        assert_eq!("ab".parse::<NodeId>(), Err(NotANodeId));
    }
}
