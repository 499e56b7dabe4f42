//! The router of a peer server: its settings and its paths.

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::any,
};
use http::{HeaderValue, Method, StatusCode, header};
use peercache_groupcache::{BuildError, Groups, Limits};

use crate::{
    dialect::Dialect,
    membership::Membership,
    node_id::NodeId,
    server::permits::Permits,
    server::response::text,
    server::response_budget::ResponseBudget,
    server::settings::MAX_TIMEOUT,
    server::state::ServerState,
    server::{get_http, get_native, receive_update},
    wire::base_path::{self, DEFAULT_BASE_PATH},
    wire::identity_header::{GET_PATH, OwnIdentity, UPDATE_PATH},
};

/// The time in which the body of a request has to arrive. It is a key or a few.
const BODY_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Readers that do not read cost less than 50 MB with it: a hundred clients that asked for one
/// string of 4 MiB cost 45 MiB, the allocator's share included. A longer value goes alone.
const MAX_HELD_BYTES: usize = 20 * 1024 * 1024;

/// The largest setting for the longest value. Much longer ones have no place in a frame.
const VALUE_BYTES_LIMIT: usize = u32::MAX as usize >> 1;

/// Answers peers, ours and Go's, from a node's groups.
///
/// An answer was loaded here, or is loaded here; a request is never passed on.
#[derive(Clone)]
#[must_use]
pub struct PeerServer {
    groups: Groups,
    node_id: NodeId,
    base_path: String,
    max_key_bytes: usize,
    body_read_timeout: Duration,
    max_held_bytes: usize,
    max_value_bytes: usize,
    plain_gets: bool,
    membership: Option<Membership>,
    dialect: Dialect,
}

impl PeerServer {
    /// A server for these groups, and for those that are registered later.
    pub fn new(groups: Groups) -> Self {
        PeerServer {
            groups,
            node_id: NodeId::random(),
            base_path: DEFAULT_BASE_PATH.to_owned(),
            max_key_bytes: Limits::DEFAULT.max_key_bytes,
            body_read_timeout: BODY_READ_TIMEOUT,
            max_held_bytes: MAX_HELD_BYTES,
            max_value_bytes: Limits::DEFAULT.max_value_bytes,
            plain_gets: false,
            membership: None,
            dialect: Dialect::default(),
        }
    }

    /// Sets the id of this node, so that it notices when it is asked by itself:
    /// `PeerServer::new(groups).node_id(pool.node_id())`. Defaults to a random one, with which it
    /// cannot notice.
    pub fn node_id(mut self, node_id: NodeId) -> Self {
        self.node_id = node_id;
        self
    }

    /// Sets who this node is and whom it answers: `pool.membership().clone()`. Defaults to the name
    /// that the member list has for this node, in the cluster without a name, answering this
    /// machine alone.
    pub fn membership(mut self, membership: Membership) -> Self {
        self.node_id = membership.node_id();
        self.membership = Some(membership);
        self
    }

    /// Sets the dialect in which this node asks its peers: where it is one of Go's, plain GETs are
    /// answered. Defaults to [`Dialect::Native`].
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Sets the path under which golang/groupcache's GET is answered. The native paths stay where
    /// they are, under `/_peercache/`. Defaults to `/_groupcache/`.
    ///
    /// # Errors
    /// A path that does not begin and end with a slash, or that has other than letters, digits and
    /// `-._~/` in it.
    pub fn base_path(mut self, base_path: impl Into<String>) -> Result<Self, BuildError> {
        self.base_path = base_path::check(base_path.into())?;
        Ok(self)
    }

    /// Sets the longest key that a peer may ask for in the body of a request, in bytes. Defaults to
    /// [64 KiB](Limits::DEFAULT).
    pub fn max_key_bytes(mut self, bytes: usize) -> Self {
        self.max_key_bytes = bytes;
        self
    }

    /// Sets the time in which the body of a request has to arrive. Defaults to 10 s.
    pub fn body_read_timeout(mut self, timeout: Duration) -> Self {
        self.body_read_timeout = timeout.min(MAX_TIMEOUT);
        self
    }

    /// Sets how many bytes of values may be on their way to readers at once, not counting values of
    /// at most 16 KiB. Defaults to 20 MiB.
    ///
    /// Readers that do not read can make the node hold no more than this. Further values wait their
    /// turn, for 5 s, and are answered as overload then; one that is larger than all of it goes
    /// alone.
    pub fn max_held_bytes(mut self, bytes: usize) -> Self {
        self.max_held_bytes = bytes;
        self
    }

    /// Sets the longest value that a peer may set, in bytes, at most 2 GiB. Defaults to
    /// [32 MiB](Limits::DEFAULT).
    ///
    /// Values that are not small wait their turn to arrive, so that peers that send slowly make the
    /// node hold no more than 20 MiB at once, or one longer value.
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes.min(VALUE_BYTES_LIMIT);
        self
    }

    /// Restricts the server to plain GETs, as if this node did not know the native protocol. Its
    /// peers take it for one that does not. Defaults to false.
    pub fn plain_gets(mut self, plain_gets: bool) -> Self {
        self.plain_gets = plain_gets;
        self
    }

    /// The router of the paths that peers ask for, to be served by a [`Server`](crate::Server) or
    /// merged into an application. Middleware is a tower layer on it.
    pub fn router(self) -> Router {
        let base_path = self.base_path.clone();
        let state = Arc::new(ServerState {
            groups: self.groups,
            base_path: self.base_path,
            max_key_bytes: self.max_key_bytes,
            max_value_bytes: self.max_value_bytes,
            body_read_timeout: self.body_read_timeout,
            identity: OwnIdentity::new(self.node_id),
            shows_identity: !self.plain_gets,
            budget: Arc::new(ResponseBudget::new(self.max_held_bytes)),
            permits: Permits::new(),
        });
        let native = if self.plain_gets {
            Router::new()
        } else {
            Router::new().route(GET_PATH, any(native_get)).route(UPDATE_PATH, any(update))
        };
        native
            // A catch-all does not match an empty rest.
            .route(&base_path, any(http_get))
            .route(&format!("{base_path}{{*rest}}"), any(http_get))
            .with_state(state)
    }
}

impl fmt::Debug for PeerServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerServer")
            .field("groups", &self.groups)
            .field("node_id", &self.node_id)
            .field("base_path", &self.base_path)
            .finish_non_exhaustive()
    }
}

async fn http_get(State(state): State<Arc<ServerState>>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let answer = match head.method {
        Method::GET | Method::HEAD => get_http::answer(&state, &head).await,
        _ => wrong_method("GET, HEAD"),
    };
    state.identified(answer)
}

async fn native_get(State(state): State<Arc<ServerState>>, request: Request) -> Response {
    let answer = match *request.method() {
        Method::POST => get_native::answer(&state, request).await,
        _ => wrong_method("POST"),
    };
    state.identified(answer)
}

async fn update(State(state): State<Arc<ServerState>>, request: Request) -> Response {
    let answer = match *request.method() {
        Method::POST => receive_update::answer(&state, request).await,
        _ => wrong_method("POST"),
    };
    state.identified(answer)
}

fn wrong_method(allowed: &'static str) -> Response {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}
