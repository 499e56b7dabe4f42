use std::{fmt, future::Future, io, sync::Arc};

use axum::Router;
use peercache_groupcache::{BatchLoader, BuildError, GroupBuilder, Groups, Loader, Members};
use peercache_transport_http::{PeerServer, Server};
use tokio::{net::TcpListener, sync::watch};

use crate::builder::NodeBuilder;

/// This process as a member: its groups, its list of members, and the door at which peers ask. A cheap handle: clones
/// are the same node.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

struct Shared {
    groups: Groups,
    peer_server: PeerServer,
    /// True from [`Node::shutdown`] on.
    stopping: watch::Sender<bool>,
}

impl Node {
    /// Starts a node that the member list names `self_name`, the URL at which peers reach it: `http://10.0.0.1:9090`.
    /// Names are compared byte for byte, so all members must write it alike.
    pub fn builder(self_name: impl Into<String>) -> NodeBuilder {
        NodeBuilder::new(self_name.into())
    }

    /// A node without a cluster: it owns every key, is asked by nobody and cannot be given other members.
    ///
    /// Its groups still merge concurrent loads, expire, refresh and evict as those of any node.
    pub fn alone() -> Node {
        let groups = Groups::new(Members::alone());
        Node::new(groups.clone(), PeerServer::new(groups))
    }

    pub(crate) fn new(groups: Groups, peer_server: PeerServer) -> Self {
        Node { shared: Arc::new(Shared { groups, peer_server, stopping: watch::Sender::new(false) }) }
    }

    /// Starts a group that loads with `loader`: a [`Loader`], or a closure by way of [`loader_fn_with`](crate::loader_fn_with) or
    /// [`loader_fn`](crate::loader_fn). The loader decides the type of the values.
    pub fn group<L: Loader>(&self, name: impl Into<String>, loader: L) -> GroupBuilder<L::Value> {
        self.shared.groups.group(name, loader)
    }

    /// As [`group`](Node::group), with a loader that brings many keys in one go.
    pub fn group_batched<L: BatchLoader>(&self, name: impl Into<String>, loader: L) -> GroupBuilder<L::Value> {
        self.shared.groups.group_batched(name, loader)
    }

    /// Serves peers on `listener` until [`shutdown`](Node::shutdown), with the limits that [`Server`] has by default; for
    /// others, serve [`router`](Node::router) with a `Server` of your own.
    /// The future owns what it needs: spawn it.
    ///
    /// # Errors
    /// When the listener is broken for good. What goes wrong with one connection ends that connection alone.
    pub fn serve(&self, listener: TcpListener) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let mut stopping = self.shared.stopping.subscribe();
        let stopped = async move {
            // An error means that the last handle is gone, and with it the only way to say stop.
            if stopping.wait_for(|stopping| *stopping).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        Server::new(self.router()).serve(listener, stopped)
    }

    /// The peers' paths, to merge into an axum app of your own. Serve that with [`Server`], which bounds what hostile
    /// clients can hold; `axum::serve` does not.
    pub fn router(&self) -> Router {
        self.shared.peer_server.clone().router()
    }

    /// Has [`serve`](Node::serve) take no more connections, finish the requests under way and return. Groups go on
    /// answering this process. Calling it again does nothing.
    pub fn shutdown(&self) {
        self.shared.stopping.send_replace(true);
    }

    /// Replaces the whole list of members, which must name this node unless it is `client_only`.
    ///
    /// In force when it returns; that takes some milliseconds of this thread's time for a new ring.
    ///
    /// # Errors
    /// A list that cannot be; the old one stays in force. See [`Members::set`].
    pub fn set_members<N: Into<String>>(&self, names: impl IntoIterator<Item = N>) -> Result<(), BuildError> {
        self.members().set(names)
    }

    /// The name of the member that owns `key`, as the list in force has it, whether that member is well or not.
    pub fn owner<K: AsRef<[u8]> + ?Sized>(&self, key: &K) -> String {
        self.members().view().owner_name(key).to_owned()
    }

    /// Who the members are and what they own.
    pub fn members(&self) -> &Members {
        self.shared.groups.members()
    }

    /// The groups of this node, as the peer server sees them.
    pub fn groups(&self) -> &Groups {
        &self.shared.groups
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("groups", &self.shared.groups).finish_non_exhaustive()
    }
}
