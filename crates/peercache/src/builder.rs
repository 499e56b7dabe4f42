//! The settings of a node, and how it is put together.

use std::fmt;

use peercache_groupcache::{BuildError, Clock, Groups, Member, Members, MembersBuilder, Placement};
use peercache_transport_http::{HttpPool, HttpPoolBuilder, Membership, PeerServer, Secrets};
use tokio::runtime::Handle;

use crate::node::Node;

/// The settings of a [`Node`], from [`Node::builder`].
#[must_use = "a node exists once it is built"]
pub struct NodeBuilder {
    self_name: String,
    membership: Membership,
    /// The secrets that were set. An error is returned at the end, so that a setter need not fail.
    secrets: Option<Result<Secrets, BuildError>>,
    members: Option<Vec<Member>>,
    client_only: bool,
    placement: Option<Box<dyn FnOnce(MembersBuilder) -> MembersBuilder + Send>>,
    transport: Option<HttpPoolBuilder>,
    clock: Clock,
    runtime: Option<Handle>,
}

impl NodeBuilder {
    pub(crate) fn new(self_name: String) -> Self {
        NodeBuilder {
            membership: Membership::new(&self_name),
            self_name,
            secrets: None,
            members: None,
            client_only: false,
            placement: None,
            transport: None,
            clock: Clock::system(),
            runtime: None,
        }
    }

    /// Names all members, this node's own name among them: by their URLs, or as [`Member`]s where a
    /// member's name is not its address. Defaults to this node alone.
    ///
    /// Members that are not on this machine need a [`secret`](Self::secret), mutual TLS, or
    /// [`trust_network`](Self::trust_network).
    pub fn members<M: Into<Member>>(mut self, members: impl IntoIterator<Item = M>) -> Self {
        self.members = Some(members.into_iter().map(Into::into).collect());
        self
    }

    /// Names the cluster. Members of another one are refused, and their answers are not believed.
    ///
    /// Defaults to the empty name.
    pub fn cluster(mut self, cluster: impl Into<String>) -> Self {
        self.membership = self.membership.cluster(cluster);
        self
    }

    /// Shares a secret of at least 32 bytes with all members: requests are signed with it, and
    /// nothing is told to others.
    ///
    /// For several at once, as while one is changed, or for a file, see [`secrets`](Self::secrets).
    /// Defaults to none.
    pub fn secret(self, secret: impl AsRef<[u8]>) -> Self {
        let secrets = Secrets::new([secret]);
        NodeBuilder { secrets: Some(secrets), ..self }
    }

    /// Shares these secrets, of which the first signs and all are accepted. Defaults to none.
    pub fn secrets(self, secrets: Secrets) -> Self {
        NodeBuilder { secrets: Some(Ok(secrets)), ..self }
    }

    /// Speaks mutual TLS with all members, which are then `https://`. Defaults to none.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: peercache_transport_http::Tls) -> Self {
        self.membership = self.membership.tls(tls);
        self
    }

    /// Allows members beyond this machine with neither secret nor TLS: all who reach the peers'
    /// port can then read, set and clear every group. Defaults to no.
    pub fn trust_network(mut self) -> Self {
        self.membership = self.membership.trust_network(true);
        self
    }

    /// Answers golang/groupcache's GETs to everybody even where a secret or TLS is set, for Go
    /// members, which can show neither. Defaults to false.
    pub fn open_gets(mut self, open_gets: bool) -> Self {
        self.membership = self.membership.open_gets(open_gets);
        self
    }

    /// Allows the list to leave this node out.
    ///
    /// Such a node owns no keys and only asks the members, who need not know of it. Defaults to
    /// false.
    pub fn client_only(mut self, client_only: bool) -> Self {
        self.client_only = client_only;
        self
    }

    /// Places keys with `placement`. All members must place them alike.
    ///
    /// Defaults to [`NativePlacement`](crate::NativePlacement). Among Go peers it must be
    /// [`GolangPlacement`](crate::GolangPlacement).
    pub fn placement(mut self, placement: impl Placement) -> Self {
        self.placement = Some(Box::new(|members| members.placement(placement)));
        self
    }

    /// Asks peers by a pool with these settings. Its membership is this node's. Defaults to
    /// [`HttpPool::builder`].
    pub fn transport(mut self, pool: HttpPoolBuilder) -> Self {
        self.transport = Some(pool);
        self
    }

    /// Takes the time of the node's groups from `clock`.
    ///
    /// Defaults to [`Clock::system`]. Tests that pause tokio's time want [`Clock::tokio`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Has this runtime carry all work of the node: loads, fetches and updates, from whatever
    /// runtime they are started.
    ///
    /// Defaults to the runtime that [serves](Node::serve), and before there is one to the runtime
    /// of each caller. A caller of another runtime watches the one that carries its work: when that
    /// has shown no sign of life for 100 ms, the caller begins again in its own.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Checks the list and builds the ring. Nothing is sent and nothing is spawned.
    ///
    /// # Errors
    /// [`BuildError`] says what to change.
    pub fn build(self) -> Result<Node, BuildError> {
        let mut membership = self.membership;
        if let Some(secrets) = self.secrets {
            membership = membership.secrets(secrets?);
        }
        let pool = self.transport.unwrap_or_else(HttpPool::builder).membership(membership.clone()).build()?;
        let (dialect, base_path) = (pool.dialect(), pool.base_path().to_owned());
        let mut members = Members::builder(self.self_name, pool).client_only(self.client_only);
        if let Some(list) = self.members {
            members = members.members(list);
        }
        if let Some(place) = self.placement {
            members = place(members);
        }
        let groups = Groups::with_clock(members.build()?, self.clock);
        if let Some(runtime) = self.runtime {
            groups.run_in(runtime);
        }
        let peer_server =
            PeerServer::new(groups.clone()).membership(membership).dialect(dialect).base_path(base_path)?;
        Ok(Node::new(groups, peer_server))
    }
}

impl fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeBuilder")
            .field("self_name", &self.self_name)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}
