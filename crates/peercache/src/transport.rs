//! What only the author of a transport or of a placement needs: how members ask each other, and who owns a key.

pub use peercache_groupcache::{
    Ack, Change, Connect, Peer, PeerError, PeerReply, PeerRequest, PeerUpdate, Placement, Reply, ReplyMeta, Ring,
    Served, ServedGroup, SetValue, Stamp, Terms,
};
