use std::{borrow::Cow, sync::Arc, time::Duration};

use peercache_groupcache::BuildError;

use crate::{
    client::connection::{Line, Lines, chained},
    client::connection_hyper::HyperLines,
    client::pool::Site,
    client::queue::IDLE_MAX,
    client::worker::IDLE_TIMEOUT,
};
use crate::{
    client::pool::HttpPool,
    dialect::Dialect,
    node_id::NodeId,
    wire::base_path::{self, DEFAULT_BASE_PATH},
    wire::identity_header::Greeting,
};

/// A peer that says nothing for a second is sick: a heartbeat comes every third of that.
const PEER_TIMEOUT: Duration = Duration::from_secs(1);

/// 256 to one peer: it takes four asking nodes, all at their most, to fill a peer's 1,024.
const CONNECTIONS_MAX: usize = 256;

/// Thirty calls for as many keys as go into one exchange. They take some 10 MB of memory, and more of them would not make
/// the storm pass sooner.
const FETCHES_MAX: usize = 32 * 1024;

/// As long as the longest key that a group takes by default.
const KEY_BYTES_MAX: usize = 64 * 1024;

/// The shortest silence bound. The server's heartbeat comes every 10 ms at most.
const PEER_TIMEOUT_MIN: Duration = Duration::from_millis(30);

/// Sets up an [`HttpPool`].
#[derive(Debug)]
#[must_use]
pub struct HttpPoolBuilder {
    base_path: String,
    dialect: Dialect,
    plain_gets: bool,
    client: Option<reqwest::Client>,
    connect_timeout: Option<Duration>,
    peer_timeout: Duration,
    connections_max: usize,
    fetches_max: usize,
    key_bytes_max: usize,
    node_id: NodeId,
}

impl HttpPoolBuilder {
    pub(super) fn new() -> Self {
        HttpPoolBuilder {
            base_path: DEFAULT_BASE_PATH.to_owned(),
            dialect: Dialect::default(),
            plain_gets: false,
            client: None,
            connect_timeout: None,
            peer_timeout: PEER_TIMEOUT,
            connections_max: CONNECTIONS_MAX,
            fetches_max: FETCHES_MAX,
            key_bytes_max: KEY_BYTES_MAX,
            node_id: NodeId::random(),
        }
    }

    /// Where peers answer golang/groupcache's GET. It is appended to a peer's name as it stands, so it begins and
    /// ends with a slash. Defaults to `/_groupcache/`.
    pub fn base_path(mut self, base_path: impl Into<String>) -> Self {
        self.base_path = base_path.into();
        self
    }

    /// How peers are asked. Defaults to [`Dialect::Native`].
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Whether peers are asked with plain GETs and nothing else, as by a node that does not know the native exchange: to be
    /// turned off node by node, in any order. Changes are told to nobody then, and reported so. Defaults to false.
    pub fn plain_gets(mut self, plain_gets: bool) -> Self {
        self.plain_gets = plain_gets;
        self
    }

    /// The HTTP client to ask with, for TLS, a proxy or headers of your own;
    /// [`connect_timeout`](Self::connect_timeout) is its own affair then.
    ///
    /// A default reqwest client follows redirects and takes proxies from the environment, and both lead a request
    /// away from the peer that it is meant for. Turn them off, and drop idle connections before our servers close
    /// them after 10 seconds:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use peercache_transport_http::HttpPool;
    ///
    /// let client = reqwest::Client::builder()
    ///     .no_proxy()
    ///     .redirect(reqwest::redirect::Policy::none())
    ///     .pool_idle_timeout(Duration::from_secs(8))
    ///     .build()?;
    /// let pool = HttpPool::builder().client(client).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Defaults to a lean client of this crate's own for `http://` peers, at about two thirds of the cost, and to a reqwest
    /// client without redirects, proxy or decompression for `https://` ones. This crate does not turn on reqwest's TLS: to
    /// reach `https://` peers, depend on reqwest with the TLS of your choice.
    pub fn client(mut self, client: reqwest::Client) -> Self {
        self.client = Some(client);
        self
    }

    /// The longest time to open a connection. Defaults to [`peer_timeout`](Self::peer_timeout).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// The longest silence of a peer before it counts as failed, at least 30 ms. A slow load is not silence, for one
    /// of our nodes says every now and then that it is at work. From a Go peer no such word comes: its answer may
    /// take as long as a load, and this bounds the connection and the gaps within the body. Defaults to 1 s.
    ///
    /// A whole fetch takes at most the group's `load_timeout` and this, counted from when it has a connection.
    pub fn peer_timeout(mut self, timeout: Duration) -> Self {
        self.peer_timeout = timeout;
        self
    }

    /// How many exchanges with one peer are under way at once, each on a connection of its own, of which up to 32 are kept
    /// for 8 s afterwards. Keys that are asked for while another exchange is on its way go together in the next one, so a
    /// few connections carry much; what has no connection waits for one, for as long as a fetch takes at most, and is
    /// answered as overload then. If the peer is found silent or out of reach meanwhile, it fails at once. Changes have 16
    /// connections of their own beside them. Defaults to 256.
    pub fn max_connections(mut self, connections_max: usize) -> Self {
        self.connections_max = connections_max;
        self
    }

    /// How many keys one peer may be asked for at once, those that wait included. What is too many is answered as overload
    /// at once, which a group's statistics count as an answer of the owner. Defaults to 32,768.
    pub fn max_fetches(mut self, fetches_max: usize) -> Self {
        self.fetches_max = fetches_max;
        self
    }

    /// The longest key that peers are asked for, in bytes; a longer one is loaded here. Peers have the same bound,
    /// [`PeerServer::key_bytes_max`](crate::PeerServer::max_key_bytes). Defaults to 64 KiB.
    pub fn max_key_bytes(mut self, bytes: usize) -> Self {
        self.key_bytes_max = bytes;
        self
    }

    /// This node's id, when the server is built before the pool. Defaults to a random one.
    pub fn node_id(mut self, node_id: NodeId) -> Self {
        self.node_id = node_id;
        self
    }

    /// Builds the pool. Nothing is sent and no task is started.
    ///
    /// # Errors
    /// A base path that cannot stand in a request, a bound outside its range, an HTTP client that cannot be set up.
    pub fn build(self) -> Result<HttpPool, BuildError> {
        self.check()?;
        let connect_timeout = self.connect_timeout.unwrap_or(self.peer_timeout);
        let lines: Box<dyn Lines> = match self.client {
            Some(client) => Box::new(client),
            None => Box::new(OwnLines { http: HyperLines { connect_timeout }, https: own_client(connect_timeout)? }),
        };
        let greeting = Greeting::new(self.node_id);
        Ok(HttpPool::new(Arc::new(Site {
            base_path: base_path::check(self.base_path)?,
            dialect: self.dialect,
            plain_gets: self.plain_gets,
            peer_timeout: self.peer_timeout,
            connections_max: self.connections_max,
            fetches_max: self.fetches_max,
            key_bytes_max: self.key_bytes_max,
            node_id: self.node_id,
            greeting: greeting.to_header(),
            lines,
        })))
    }

    fn check(&self) -> Result<(), BuildError> {
        let timeouts = PEER_TIMEOUT_MIN..=Duration::from_millis(u32::MAX.into());
        let settings = [
            ("peer_timeout", timeouts.contains(&self.peer_timeout), "from 30 ms to 49 days"),
            ("connect_timeout", self.connect_timeout != Some(Duration::ZERO), "above zero"),
            ("connections_max", self.connections_max > 0, "above zero"),
            ("fetches_max", self.fetches_max > 0, "above zero"),
            ("key_bytes_max", self.key_bytes_max <= 1 << 30, "at most 1 GiB"),
        ];
        match settings.into_iter().find(|(_, good, _)| !good) {
            Some((name, _, expected)) => Err(BuildError::Setting { name, expected: Cow::Borrowed(expected) }),
            None => Ok(()),
        }
    }
}

/// Where nobody brought a client: our own for what needs no TLS, since it costs a third less than reqwest does
/// (`benches/get_peer.rs`), and reqwest for `https://`, which it has if the application turned it on.
struct OwnLines {
    http: HyperLines,
    https: reqwest::Client,
}

impl Lines for OwnLines {
    fn line(&self, name: &Arc<str>) -> Box<dyn Line> {
        match name.starts_with("https://") {
            true => self.https.line(name),
            false => self.http.line(name),
        }
    }
}

fn own_client(connect_timeout: Duration) -> Result<reqwest::Client, BuildError> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .http1_only()
        .tcp_nodelay(true)
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_MAX)
        .build()
        .map_err(|error| BuildError::Transport(format!("the HTTP client cannot be set up: {}", chained(&error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(builder: HttpPoolBuilder) -> String {
        builder.build().expect_err("the setting is wrong").to_string()
    }

    #[tokio::test]
    async fn a_connection_may_take_for_ever() {
        let client = own_client(Duration::MAX).unwrap();
        let answer = client.get("http://127.0.0.1:1/").send().await;
        assert!(answer.unwrap_err().is_connect());
    }

    #[test]
    fn wrong_settings_are_named() {
        assert_eq!(
            refused(HttpPool::builder().peer_timeout(Duration::ZERO)),
            "peer_timeout must be from 30 ms to 49 days"
        );
        assert_eq!(refused(HttpPool::builder().connect_timeout(Duration::ZERO)), "connect_timeout must be above zero");
        assert_eq!(refused(HttpPool::builder().max_connections(0)), "connections_max must be above zero");
        assert_eq!(refused(HttpPool::builder().max_fetches(0)), "fetches_max must be above zero");
        assert!(refused(HttpPool::builder().base_path("cache")).contains("\"cache\" is not such a path"));
    }
}
