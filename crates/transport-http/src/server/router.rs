use std::{fmt, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::any,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use peercache_groupcache::{BuildError, Groups};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::{
    dialect::Dialect,
    node_id::NodeId,
    wire::base_path::{self, DEFAULT_BASE_PATH},
    wire::identity_header::{GET_PATH, Identity, OwnIdentity, UPDATE_PATH},
};
use crate::{
    server::accept::TIMEOUT_MAX,
    server::response_budget::ResponseBudget,
    server::{get_http, get_native, receive_update},
};

/// As long as the longest key that a group takes by default.
const KEY_BYTES_MAX: usize = 64 * 1024;

/// How long the body of a request may take to arrive. It is a key or a few.
const BODY_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How many bodies of more than 4 KiB are read at once. The rest of them wait, so that a thousand connections that
/// send long keys slowly hold some megabytes and not a hundred.
const LARGE_BODIES_MAX: usize = 32;

/// Readers that do not read cost less than 50 MB with it: a hundred who ask for one string of 4 MiB were seen to cost
/// 45 MiB, the allocator's share included. A longer value goes alone.
const HELD_BYTES_MAX: usize = 20 * 1024 * 1024;

/// How many keys of requests for many are being answered at once; a longer one counts as one for each 64 bytes and one
/// more. They are some 15 MB then. More of them are answered as overload.
const ASKED_MAX: usize = 16 * 1024;
const ASKED_KEY_BYTES: usize = 64;

/// As long as the longest value that a group takes by default.
const VALUE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// As for values on their way out: a longer one arrives alone.
const ARRIVING_BYTES_MAX: u32 = 20 * 1024 * 1024;

/// Much longer ones have no place in a frame.
const VALUE_BYTES_LIMIT: usize = u32::MAX as usize >> 1;

/// Answers peers, ours and Go's, from a node's groups.
///
/// What it is asked for is answered from what was loaded here, or is loaded here; it is never passed on.
#[derive(Clone)]
#[must_use]
pub struct PeerServer {
    groups: Groups,
    node_id: NodeId,
    base_path: String,
    key_bytes_max: usize,
    body_read_timeout: Duration,
    held_bytes_max: usize,
    value_bytes_max: usize,
    plain_gets: bool,
}

/// What every request needs.
pub(super) struct Desk {
    pub(super) groups: Groups,
    identity: OwnIdentity,
    shows_identity: bool,
    pub(super) base_path: String,
    /// How the escapes of a plain path are meant.
    pub(super) path_dialect: Dialect,
    pub(super) key_bytes_max: usize,
    pub(super) body_read_timeout: Duration,
    pub(super) budget: Arc<ResponseBudget>,
    /// Places for bodies that are not small while they arrive.
    large_bodies: Semaphore,
    /// Places for the keys of requests for many, while they are answered.
    asked: Arc<Semaphore>,
    pub(super) value_bytes_max: usize,
    /// Bytes of values that peers set, while they arrive.
    arriving: Semaphore,
}

impl PeerServer {
    /// A server for these groups, and for those that are registered later.
    pub fn new(groups: Groups) -> Self {
        PeerServer {
            groups,
            node_id: NodeId::random(),
            base_path: DEFAULT_BASE_PATH.to_owned(),
            key_bytes_max: KEY_BYTES_MAX,
            body_read_timeout: BODY_READ_TIMEOUT,
            held_bytes_max: HELD_BYTES_MAX,
            value_bytes_max: VALUE_BYTES_MAX,
            plain_gets: false,
        }
    }

    /// The id of this node, so that it notices when it is asked by itself:
    /// `PeerServer::new(groups).node_id(pool.node_id())`. Defaults to a random one, with which it cannot notice.
    pub fn node_id(mut self, node_id: NodeId) -> Self {
        self.node_id = node_id;
        self
    }

    /// Where golang/groupcache's GET is answered. The native exchange stays where it is, under `/_peercache/`.
    /// Defaults to `/_groupcache/`.
    ///
    /// # Errors
    /// A path that does not begin and end with a slash, or that has other than letters, digits and `-._~/` in it.
    pub fn base_path(mut self, base_path: impl Into<String>) -> Result<Self, BuildError> {
        self.base_path = base_path::check(base_path.into())?;
        Ok(self)
    }

    /// The longest key that a peer may ask for in the body of a request, in bytes. Defaults to 64 KiB.
    pub fn max_key_bytes(mut self, bytes: usize) -> Self {
        self.key_bytes_max = bytes;
        self
    }

    /// How long the body of a request may take to arrive. Defaults to 10 s.
    pub fn body_read_timeout(mut self, timeout: Duration) -> Self {
        self.body_read_timeout = timeout.min(TIMEOUT_MAX);
        self
    }

    /// How many bytes of values may be on their way to readers at once, not counting values of at most 16 KiB. Readers
    /// that do not read can make the node hold no more than this. Further values wait their turn, for 5 s, and are
    /// answered as overload then; one that is larger than all of it goes alone. Defaults to 20 MiB.
    pub fn max_held_bytes(mut self, bytes: usize) -> Self {
        self.held_bytes_max = bytes;
        self
    }

    /// The longest value that a peer may set, in bytes, at most 2 GiB. Values that are not small wait their turn to
    /// arrive, so that those who send slowly make the node hold no more than 20 MiB at once, or one longer value.
    /// Defaults to 32 MiB.
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.value_bytes_max = bytes.min(VALUE_BYTES_LIMIT);
        self
    }

    /// Whether only plain GETs are answered, as by a node that does not know the native exchange. Its peers take it for one.
    /// Defaults to false.
    pub fn plain_gets(mut self, plain_gets: bool) -> Self {
        self.plain_gets = plain_gets;
        self
    }

    /// The paths that peers ask for, to be served by a [`Server`](crate::Server) or merged into an application.
    /// Middleware is a tower layer on it.
    pub fn router(self) -> Router {
        let base_path = self.base_path.clone();
        let desk = Arc::new(Desk {
            groups: self.groups,
            identity: OwnIdentity::new(self.node_id),
            shows_identity: !self.plain_gets,
            base_path: self.base_path,
            // The path is golang's own, whatever this node asks its peers with.
            path_dialect: Dialect::Golang,
            key_bytes_max: self.key_bytes_max,
            body_read_timeout: self.body_read_timeout,
            budget: Arc::new(ResponseBudget::new(self.held_bytes_max)),
            large_bodies: Semaphore::new(LARGE_BODIES_MAX),
            asked: Arc::new(Semaphore::new(ASKED_MAX)),
            value_bytes_max: self.value_bytes_max,
            arriving: Semaphore::new(ARRIVING_BYTES_MAX as usize),
        });
        let natively = match self.plain_gets {
            false => Router::new().route(GET_PATH, any(native)).route(UPDATE_PATH, any(update)),
            true => Router::new(),
        };
        natively
            // A catch-all does not match nothing at all.
            .route(&base_path, any(plain))
            .route(&format!("{base_path}{{*rest}}"), any(plain))
            .with_state(desk)
    }
}

async fn plain(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let answer = match head.method {
        Method::GET | Method::HEAD => get_http::answer(&desk, &head).await,
        _ => wrong_method("GET, HEAD"),
    };
    desk.greet(answer)
}

async fn native(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let answer = match *request.method() {
        Method::POST => get_native::answer(&desk, request).await,
        _ => wrong_method("POST"),
    };
    desk.greet(answer)
}

async fn update(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let answer = match *request.method() {
        Method::POST => receive_update::answer(&desk, request).await,
        _ => wrong_method("POST"),
    };
    desk.greet(answer)
}

fn wrong_method(allowed: &'static str) -> Response {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// An answer in words, with the headers that Go's `http.Error` sets.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response {
    let mut answer = Response::new(Body::from(text.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

impl Desk {
    /// Whether the request comes from this very node. Its pool says so in the log when it gets the answer.
    pub(super) fn is_from_self(&self, headers: &HeaderMap) -> bool {
        Identity::read(headers).is_some_and(|identity| self.identity.is(identity))
    }

    /// Room for a body that is not small; held until the body is read.
    pub(super) async fn place_for_large_body(&self) -> SemaphorePermit<'_> {
        self.large_bodies.acquire().await.expect("the semaphore is never closed")
    }

    /// Room for so many bytes of a value; held until the change is made.
    pub(super) async fn room_for_value(&self, bytes: usize) -> SemaphorePermit<'_> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(ARRIVING_BYTES_MAX);
        self.arriving.acquire_many(bytes).await.expect("the semaphore is never closed")
    }

    /// Places for the keys of a request, given by their lengths, to be held until they are answered; `None` when too many are asked for.
    pub(super) fn places_for_keys(&self, lengths: impl Iterator<Item = usize>) -> Option<OwnedSemaphorePermit> {
        let places: usize = lengths.map(|length| 1 + length / ASKED_KEY_BYTES).sum();
        self.asked.clone().try_acquire_many_owned(u32::try_from(places).ok()?).ok()
    }

    fn greet(&self, mut answer: Response) -> Response {
        if self.shows_identity {
            let (name, value) = self.identity.header();
            answer.headers_mut().insert(name, value);
        }
        answer
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
