//! Traits and types for the authors of transports and placements.
//!
//! An application with [`Node`](crate::Node) needs none of them.
//!
//! - A transport implements [`Connect`] and [`Peer`]: it turns a member's name into a peer, and
//!   sends [`PeerRequest`]s and [`PeerUpdate`]s to it. Answers go into a [`Reply`].
//! - The server of a transport asks [`Groups`](crate::Groups) for a [`ServedGroup`], which answers
//!   the requests of peers.
//! - A placement implements [`Placement`] and [`Ring`]: it says which member owns a key.

pub use peercache_groupcache::{
    Ack, Change, Connect, HoldAll, HoldLimit, Limits, LoadChain, Peer, PeerError, PeerReply, PeerRequest, PeerUpdate,
    Placement, Reply, ReplyMeta, Ring, SecondRound, Served, ServedGroup, SetValue, Stamp, Terms,
};
