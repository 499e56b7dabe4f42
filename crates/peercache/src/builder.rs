//! The settings of a node, and how it is put together.

use std::fmt;

use peercache_groupcache::{BuildError, Clock, Connect, Groups, Members, MembersBuilder, Placement};
use peercache_transport_http::{HttpPool, PeerServer};

use crate::node::Node;

/// The settings of a [`Node`], from [`Node::builder`].
#[must_use = "a node exists once it is built"]
pub struct NodeBuilder {
    self_name: String,
    members: Option<Vec<String>>,
    client_only: bool,
    placement: Option<Box<dyn FnOnce(MembersBuilder) -> MembersBuilder + Send>>,
    transport: Option<HttpPool>,
    clock: Clock,
}

impl NodeBuilder {
    pub(crate) fn new(self_name: String) -> Self {
        NodeBuilder {
            self_name,
            members: None,
            client_only: false,
            placement: None,
            transport: None,
            clock: Clock::system(),
        }
    }

    /// Names all members by their URLs, this node's own among them. Defaults to this node alone.
    pub fn members<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.members = Some(names.into_iter().map(Into::into).collect());
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

    /// Asks peers by `pool`. Defaults to a pool with the defaults of [`HttpPool::builder`].
    pub fn transport(mut self, pool: HttpPool) -> Self {
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

    /// Checks the list and builds the ring. Nothing is sent and nothing is spawned.
    ///
    /// # Errors
    /// [`BuildError`] says what to change.
    pub fn build(self) -> Result<Node, BuildError> {
        let pool = match self.transport {
            Some(pool) => pool,
            None => HttpPool::builder().build()?,
        };
        let (node_id, base_path) = (pool.node_id(), pool.base_path().to_owned());
        let plain_gets = pool.is_kept_to_plain_gets();
        // The member list never connects to this node itself, so its name is checked here.
        pool.connect(&self.self_name)
            .map_err(|why| BuildError::MemberName { name: self.self_name.clone(), why: why.to_string() })?;
        let mut members = Members::builder(self.self_name, pool).client_only(self.client_only);
        if let Some(names) = self.members {
            members = members.members(names);
        }
        if let Some(place) = self.placement {
            members = place(members);
        }
        let groups = Groups::with_clock(members.build()?, self.clock);
        let peer_server = PeerServer::new(groups.clone()).node_id(node_id).base_path(base_path)?.plain_gets(plain_gets);
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
