use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use peercache_groupcache::{BoxError, Connect, Peer};

use crate::{client::builder::HttpPoolBuilder, dialect::Dialect, node_id::NodeId};
use crate::{client::connection::Lines, client::member_name, client::peer::HttpPeer};

/// Reaches members over HTTP: the transport that a node's member list is built with. A cheap handle; clones share
/// their connections.
///
/// A member's name is the URL that requests begin with, `http://10.0.0.2:8001` for instance, with a host (a name or
/// an address) and perhaps a path. The base path is appended to it as it stands, and the name is never rewritten; one
/// that ends with a slash, has a query or would not survive a URL library is refused when the list is set.
#[derive(Clone)]
pub struct HttpPool {
    site: Arc<Site>,
}

/// What all peers of a pool share.
pub(super) struct Site {
    pub(super) base_path: String,
    pub(super) dialect: Dialect,
    pub(super) plain_gets: bool,
    pub(super) peer_timeout: Duration,
    pub(super) connections_max: usize,
    pub(super) fetches_max: usize,
    pub(super) key_bytes_max: usize,
    pub(super) node_id: NodeId,
    pub(super) greeting: (HeaderName, HeaderValue),
    pub(super) lines: Box<dyn Lines>,
}

impl HttpPool {
    /// A pool to be set up. `HttpPool::builder().build()` is one that asks natively.
    pub fn builder() -> HttpPoolBuilder {
        HttpPoolBuilder::new()
    }

    pub(super) fn new(site: Arc<Site>) -> Self {
        HttpPool { site }
    }

    /// The path under which peers are asked in a Go dialect: `/_groupcache/`, unless the builder said otherwise.
    pub fn base_path(&self) -> &str {
        &self.site.base_path
    }

    /// The id that this pool's requests carry. Give it to the node's own [`PeerServer`](crate::PeerServer).
    pub fn node_id(&self) -> NodeId {
        self.site.node_id
    }

    /// Whether it is kept to plain GETs. Tell the node's own [`PeerServer`](crate::PeerServer).
    pub fn is_kept_to_plain_gets(&self) -> bool {
        self.site.plain_gets
    }
}

impl Connect for HttpPool {
    fn connect(&self, name: &str) -> Result<Arc<dyn Peer>, BoxError> {
        member_name::check_member(name)?;
        Ok(Arc::new(HttpPeer::new(name, self.site.clone())))
    }
}

impl fmt::Debug for HttpPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPool")
            .field("base_path", &self.site.base_path)
            .field("dialect", &self.site.dialect)
            .field("peer_timeout", &self.site.peer_timeout)
            .field("node_id", &self.site.node_id)
            .finish_non_exhaustive()
    }
}
