//! The pool: turns members into peers.

use std::{fmt, sync::Arc};

use peercache_groupcache::{BoxError, BuildError, Connect, Member, Peer};

use crate::{
    address::MemberAddress, client::config::PoolConfig, client::http_peer::HttpPeer, dialect::Dialect,
    membership::Membership,
};

/// Reaches members over HTTP: the transport that a node's member list is built with. A cheap
/// handle; clones share their connections.
///
/// A member's address is the URL that requests begin with, `http://10.0.0.2:8001` for instance,
/// with a host (a name or an IP address) and perhaps a path. It is the member's name unless the
/// list says otherwise. The base path is appended to it as it stands, and it is never rewritten. An
/// address that ends with a slash, has a query or would not survive a URL library is refused when
/// the list is set.
///
/// An answer counts only if it is of the member that was asked: requests say whom they mean by its
/// name, and a native answer that does not say the same is one of a failed peer.
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

    /// The membership of this node, for its own [`PeerServer`](crate::PeerServer) too.
    pub fn membership(&self) -> &Membership {
        &self.config.membership
    }
}

impl Connect for HttpPool {
    fn connect(&self, member: &Member) -> Result<Arc<dyn Peer>, BoxError> {
        let PoolConfig { membership, own_client, .. } = &*self.config;
        membership.check_scheme(&MemberAddress::read(&member.address)?, *own_client)?;
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
            .field("membership", &self.config.membership)
            .finish_non_exhaustive()
    }
}
