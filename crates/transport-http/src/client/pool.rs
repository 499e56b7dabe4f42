//! The pool: turns the names of members into peers.

use std::{fmt, sync::Arc};

use peercache_groupcache::{BoxError, BuildError, Connect, Member, Peer};

use crate::{
    client::config::PoolConfig, client::http_peer::HttpPeer, client::member_name, dialect::Dialect,
    membership::Membership, node_id::NodeId,
};

/// Reaches members over HTTP: the transport that a node's member list is built with. A cheap
/// handle; clones share their connections.
///
/// A member's name is the URL that requests begin with, `http://10.0.0.2:8001` for instance, with a
/// host (a name or an address) and perhaps a path. The base path is appended to it as it stands,
/// and the name is never rewritten. A name that ends with a slash, has a query or would not survive
/// a URL library is refused when the list is set.
#[derive(Clone)]
pub struct HttpPool {
    pub(super) config: Arc<PoolConfig>,
}

impl HttpPool {
    /// The path under which peers are asked in a Go dialect: `/_groupcache/`, unless the builder
    /// said otherwise.
    pub fn base_path(&self) -> &str {
        &self.config.base_path
    }

    /// The dialect in which peers are asked.
    pub fn dialect(&self) -> Dialect {
        self.config.dialect
    }

    /// Who this node is, for its own [`PeerServer`](crate::PeerServer) too.
    pub fn membership(&self) -> &Membership {
        &self.config.membership
    }

    /// The id that this pool's requests carry. Give it to the node's own
    /// [`PeerServer`](crate::PeerServer).
    pub fn node_id(&self) -> NodeId {
        self.config.identity.node_id()
    }

    /// Whether it is kept to plain GETs. Tell the node's own [`PeerServer`](crate::PeerServer).
    pub fn is_kept_to_plain_gets(&self) -> bool {
        self.config.plain_gets
    }
}

impl Connect for HttpPool {
    fn connect(&self, member: &Member) -> Result<Arc<dyn Peer>, BoxError> {
        member_name::check(&member.address)?;
        Ok(Arc::new(HttpPeer::new(member, self.config.clone())))
    }

    fn check(&self, members: &[Member]) -> Result<(), BuildError> {
        let PoolConfig { membership, dialect, own_client, .. } = &*self.config;
        membership.check_list(members, *dialect, *own_client)
    }
}

impl fmt::Debug for HttpPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPool")
            .field("base_path", &self.config.base_path)
            .field("dialect", &self.config.dialect)
            .field("peer_timeout", &self.config.peer_timeout)
            .field("node_id", &self.node_id())
            .finish_non_exhaustive()
    }
}
