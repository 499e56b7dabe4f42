//! The node: this process as a member, with its groups and its list of members.

use std::{fmt, future::Future, io, net::SocketAddr, sync::Arc};

use axum::Router;
use peercache_groupcache::{BatchLoader, BuildError, GroupBuilder, Groups, Loader, Member, Members, PeerStatus};
use peercache_transport_http::{Listener, PeerServer, Server, TrustStats};
use tokio::{net::TcpListener, runtime::Handle, sync::watch};

use crate::builder::NodeBuilder;

/// This process as a member of the cluster: its groups, its list of members, and its server for
/// peers.
///
/// It is a cheap handle: clones are the same node.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

struct Shared {
    groups: Groups,
    peer_server: PeerServer,
    /// Whether [`Node::shutdown`] was called.
    stopping: watch::Sender<bool>,
}

impl Node {
    /// Starts a node whose name in the member list is `self_name`, the URL at which peers reach it:
    /// `http://10.0.0.1:9090`.
    ///
    /// Names are compared byte for byte, so all members must write it alike.
    pub fn builder(self_name: impl Into<String>) -> NodeBuilder {
        NodeBuilder::new(self_name.into())
    }

    /// Makes a node without a cluster: it owns every key and can have no other members.
    ///
    /// Its groups merge concurrent loads, expire, refresh and evict as those of any node.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use peercache::{Key, Node, loader_fn};
    ///
    /// let load = loader_fn(|key: Key| async move { Ok(key.as_str()?.len().to_string()) });
    /// let lengths = Node::alone().group("lengths", load).max_bytes(1 << 20).build()?;
    /// assert_eq!(lengths.get("three").await?, "5");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn alone() -> Node {
        let groups = Groups::new(Members::alone());
        Node::new(groups.clone(), PeerServer::new(groups))
    }

    pub(crate) fn new(groups: Groups, peer_server: PeerServer) -> Self {
        Node { shared: Arc::new(Shared { groups, peer_server, stopping: watch::Sender::new(false) }) }
    }

    /// Starts a group that loads with `loader`, which decides the type of the values.
    ///
    /// A loader is a type that implements [`Loader`], or a closure in
    /// [`loader_fn_with`](crate::loader_fn_with) or [`loader_fn`](crate::loader_fn).
    pub fn group<L: Loader>(&self, name: impl Into<String>, loader: L) -> GroupBuilder<L::Value> {
        self.shared.groups.group(name, loader)
    }

    /// Starts a [`group`](Node::group) whose loader can load many keys in one call.
    pub fn group_batched<L: BatchLoader>(&self, name: impl Into<String>, loader: L) -> GroupBuilder<L::Value> {
        self.shared.groups.group_batched(name, loader)
    }

    /// Serves peers on `listener` until [`shutdown`](Node::shutdown).
    ///
    /// The future owns all it needs: spawn it. Its runtime carries all work of the groups from then
    /// on, unless the node was given [another](NodeBuilder::runtime). It speaks TLS where the node
    /// has certificates. The limits are the defaults of [`Server`]. For others, serve
    /// [`router`](Node::router) on [`listener`](Node::listener) with a `Server` of your own.
    ///
    /// # Errors
    /// `PermissionDenied` for an address that is refused by
    /// [`check_listener`](Node::check_listener), before a connection is accepted; a listener
    /// without an address. An error of one connection ends that connection alone.
    pub fn serve(&self, listener: TcpListener) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let mut stopping = self.shared.stopping.subscribe();
        let stopped = async move {
            // An error means that the last handle was dropped, and nobody can call `shutdown`.
            if stopping.wait_for(|stopping| *stopping).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let (router, listener, groups) = (self.router(), self.listener(listener), self.shared.groups.clone());
        async move {
            groups.served_in(Handle::current());
            let (listener, members) = (listener?, groups.members().clone());
            // Beside the server: others may look whether it is there before they answer.
            tokio::spawn(async move { members.announce().await });
            Server::new(router).serve(listener, stopped).await
        }
    }

    /// Checks the address at which peers are to be served, before anything is started.
    ///
    /// # Errors
    /// An address that others than this machine can reach, where the node has neither a secret nor
    /// TLS and does not trust the network. A Go dialect needs the latter.
    pub fn check_listener(&self, address: SocketAddr) -> Result<(), BuildError> {
        self.shared.peer_server.check_listener(address)
    }

    /// The listener to serve the [`router`](Node::router) on with a [`Server`] of your own. It
    /// speaks TLS where the node has certificates.
    ///
    /// # Errors
    /// Those of [`serve`](Node::serve).
    pub fn listener(&self, listener: TcpListener) -> io::Result<Listener> {
        self.shared.peer_server.listener(listener)
    }

    /// The peers' paths as an axum router, to merge into an app of your own.
    ///
    /// Better serve peers on a port of their own: everybody who reaches the router of a node with
    /// neither secret nor TLS can read, set and clear every group. [`PeerServer::router`] says who
    /// is answered.
    ///
    /// Serve it with [`Server`], which bounds the connections, time and memory that hostile clients
    /// can take; `axum::serve` does not.
    pub fn router(&self) -> Router {
        self.shared.peer_server.clone().router()
    }

    /// Tells all other members that this node is there, so that those it was down for ask it again
    /// at once, not some seconds later. [`serve`](Node::serve) does that by itself; await this
    /// after it to know when it is done. It takes a second at most.
    pub async fn announce(&self) {
        self.members().announce().await;
    }

    /// Ends [`serve`](Node::serve): it takes no more connections, finishes the requests in progress
    /// and returns.
    ///
    /// Groups still answer this process. A second call does nothing.
    pub fn shutdown(&self) {
        self.shared.stopping.send_replace(true);
    }

    /// Replaces the whole list of members, which must name this node unless it is
    /// [`client_only`](NodeBuilder::client_only).
    ///
    /// The list is in force when this returns. To build its ring takes some milliseconds of this
    /// thread's time.
    ///
    /// # Errors
    /// [`BuildError`] says why the list is refused; the old one stays in force. See
    /// [`Members::set`].
    pub fn set_members<M: Into<Member>>(&self, members: impl IntoIterator<Item = M>) -> Result<(), BuildError> {
        self.members().set(members)
    }

    /// The name of the member that owns `key`, exactly as the list in force has it, healthy or not.
    pub fn owner<K: AsRef<[u8]> + ?Sized>(&self, key: &K) -> String {
        self.members().view().owner_name(key).to_owned()
    }

    /// The list of members, with their names and their shares of the keys.
    pub fn members(&self) -> &Members {
        self.shared.groups.members()
    }

    /// The other members as this node sees them: whether each is up, since when, why not, and how
    /// many updates wait for it.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.members().peers()
    }

    /// The numbers of requests that this node refused, by reason, and of answers that it did not
    /// believe, since it started.
    pub fn trust_stats(&self) -> TrustStats {
        self.shared.peer_server.trust_stats()
    }

    /// The groups of this node by name, as its server for peers sees them.
    pub fn groups(&self) -> &Groups {
        &self.shared.groups
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("groups", &self.shared.groups).finish_non_exhaustive()
    }
}
