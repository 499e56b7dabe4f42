//! The router of a peer server: its settings and its paths.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::any,
};
use http::{HeaderValue, Method, StatusCode, header};
use peercache_groupcache::{BuildError, Groups, Limits};
use tokio::net::TcpListener;

use crate::{
    auth::gate::{Admitted, Repeats},
    auth::trust_stats::TrustStats,
    dialect::Dialect,
    membership::Membership,
    server::access::Access,
    server::arriving_bytes::ArrivingBytes,
    server::listener::Listener,
    server::permits::Permits,
    server::response::text,
    server::response_budget::ResponseBudget,
    server::settings::MAX_TIMEOUT,
    server::state::ServerState,
    server::{get_http, get_native, health, receive_update},
    wire::base_path::{self, DEFAULT_BASE_PATH},
    wire::paths::{GET_PATH, HEALTH_PATH, UPDATE_PATH},
};

/// The bytes of request bodies that arrive at once: as many as may be on their way out.
const MAX_ARRIVING_BYTES: usize = 20 * 1024 * 1024;

/// The time in which the body of a request has to arrive. It is a key or a few.
const BODY_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Readers that do not read cost less than 50 MB with it: a hundred clients that asked for one
/// string of 4 MiB cost 45 MiB, the allocator's share included. A longer value goes alone.
const MAX_HELD_BYTES: usize = 20 * 1024 * 1024;

/// Answers peers, ours and Go's, from a node's groups.
///
/// An answer was loaded here, or is loaded here; a request is never passed on.
#[derive(Clone)]
#[must_use]
pub struct PeerServer {
    groups: Groups,
    base_path: String,
    max_key_bytes: usize,
    body_read_timeout: Duration,
    max_held_bytes: usize,
    /// `None` is that of the groups.
    max_value_bytes: Option<usize>,
    membership: Membership,
    dialect: Dialect,
}

impl PeerServer {
    /// A server for these groups, and for those that are registered later.
    pub fn new(groups: Groups) -> Self {
        PeerServer {
            membership: Membership::new(groups.members().self_name()),
            groups,
            base_path: DEFAULT_BASE_PATH.to_owned(),
            max_key_bytes: Limits::DEFAULT.max_key_bytes,
            body_read_timeout: BODY_READ_TIMEOUT,
            max_held_bytes: MAX_HELD_BYTES,
            max_value_bytes: None,
            dialect: Dialect::default(),
        }
    }

    /// Sets who this node is and whom it answers: `pool.membership().clone()`. Defaults to the name
    /// that the member list has for this node, in the cluster without a name, with neither secret
    /// nor TLS. By that default it cannot notice that it asks itself.
    pub fn membership(mut self, membership: Membership) -> Self {
        self.membership = membership;
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

    /// Sets the longest value that a peer may set, in bytes, at most 2 GiB. Defaults to the longest
    /// that any of the groups takes.
    ///
    /// Bodies that arrive share 20 MiB, as [`ArrivingBytes`] says: a longer one arrives alone, and
    /// the slowest is cut off where there is no room.
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = Some(bytes);
        self
    }

    /// Checks the address at which peers are to be served, before anything is started.
    ///
    /// # Errors
    /// An address that others than this machine can reach, where nothing says who may speak. See
    /// [`Membership::check_listener`].
    pub fn check_listener(&self, address: SocketAddr) -> Result<(), BuildError> {
        self.membership.check_listener(address, self.dialect)
    }

    /// The numbers of requests that were refused, and of answers that were not believed, as
    /// [`Membership::trust_stats`] has them.
    pub fn trust_stats(&self) -> TrustStats {
        self.membership.trust_stats()
    }

    /// The listener to serve the [`router`](Self::router) on: it speaks TLS where the membership
    /// has certificates.
    ///
    /// # Errors
    /// `PermissionDenied` for an address that is refused by
    /// [`check_listener`](Self::check_listener); a listener without an address.
    pub fn listener(&self, listener: TcpListener) -> io::Result<Listener> {
        let refused = |error| io::Error::new(io::ErrorKind::PermissionDenied, error);
        self.check_listener(listener.local_addr()?).map_err(refused)?;
        #[cfg(feature = "tls")]
        if let Some(tls) = self.membership.tls_files() {
            return Ok(Listener::with_tls(listener, tls.clone(), self.membership.gets_are_open()));
        }
        Ok(listener.into())
    }

    /// The router of the paths that peers ask for, to be served by a [`Server`](crate::Server) or
    /// merged into an application. Middleware is a tower layer on it.
    ///
    /// Requests are decided upon one by one, so they are by whatever server and through whatever
    /// proxy they come:
    /// - With a secret, only requests that are signed with it are answered, and `open_gets` answers
    ///   golang's GETs to everybody.
    /// - With TLS, only those over a connection that has shown a member's certificate are. A
    ///   [`Server`](crate::Server) on this server's [`listener`](Self::listener) knows that; any
    ///   other answers none of them.
    /// - With neither, **everybody who reaches the router can read, set and clear every group**, by
    ///   a header that is no secret. A web page cannot send that header. golang's GETs are answered
    ///   where all members and the listener of the [`Server`](crate::Server) are on this machine,
    ///   where the network is trusted, and in a Go dialect.
    ///
    /// Nothing is checked here: [`check_listener`](Self::check_listener) says whether an address
    /// may be listened on.
    pub fn router(self) -> Router {
        let base_path = self.base_path.clone();
        let state = Arc::new(ServerState {
            access: Access::new(self.membership, self.dialect, self.groups.members().clone()),
            groups: self.groups,
            base_path: self.base_path,
            max_key_bytes: self.max_key_bytes,
            max_value_bytes: self.max_value_bytes,
            body_read_timeout: self.body_read_timeout,
            budget: ResponseBudget::new(self.max_held_bytes),
            permits: Permits::new(),
            arriving: ArrivingBytes::new(MAX_ARRIVING_BYTES),
        });
        let native = |action| any(move |state, request| answer_native(state, request, action));
        Router::new()
            .route(GET_PATH, native(Action::Get))
            .route(UPDATE_PATH, native(Action::Update))
            .route(HEALTH_PATH, native(Action::Health))
            .route("/_peercache/", native(Action::Unknown))
            .route("/_peercache/{*rest}", native(Action::Unknown))
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
            .field("membership", &self.membership)
            .field("base_path", &self.base_path)
            .finish_non_exhaustive()
    }
}

async fn http_get(State(state): State<Arc<ServerState>>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let admitted = match state.access.admit_http_get(&head).await {
        Ok(admitted) => admitted,
        Err(refusal) => return state.access.refuse(&head, refusal).await,
    };
    let answer = match head.method {
        Method::GET | Method::HEAD => get_http::answer(&state, &head).await,
        _ => wrong_method("GET, HEAD"),
    };
    state.access.identified(answer, admitted.as_ref().and_then(Admitted::provable))
}

/// The path of a native request.
#[derive(Clone, Copy)]
enum Action {
    Get,
    Update,
    Health,
    /// One that may mean something to a later release.
    Unknown,
}

async fn answer_native(State(state): State<Arc<ServerState>>, request: Request, action: Action) -> Response {
    let (head, body) = request.into_parts();
    let repeats = match action {
        Action::Get | Action::Health | Action::Unknown => Repeats::Allowed,
        Action::Update => Repeats::Refused,
    };
    let admitted = match state.access.admit(&head, repeats).await {
        Ok(admitted) => admitted,
        Err(refusal) => return state.access.refuse(&head, refusal).await,
    };
    let answer = match action {
        Action::Unknown => text(StatusCode::NOT_FOUND, "no such path\n"),
        Action::Get | Action::Update | Action::Health if head.method != Method::POST => wrong_method("POST"),
        // A signature does not cover it.
        _ if head.uri.query().is_some() => text(StatusCode::BAD_REQUEST, "no query is understood\n"),
        Action::Get => get_native::answer(&state, &head, &admitted, body).await,
        Action::Health => health::answer(&state, &head).await,
        Action::Update => receive_update::answer(&state, &head, &admitted, body).await,
    };
    state.access.identified(answer, admitted.provable())
}

fn wrong_method(allowed: &'static str) -> Response {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}
