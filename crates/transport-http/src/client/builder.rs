//! The builder of a pool: its defaults, and the range of each setting.

use std::{borrow::Cow, sync::Arc, time::Duration};

use peercache_groupcache::{BuildError, Limits};

use crate::{
    client::config::PoolConfig,
    client::connection::Connector,
    client::connection_hyper::HyperConnector,
    client::dial::Dialer,
    client::network::SystemNetwork,
    client::open_files::OpenFiles,
    client::pool::HttpPool,
    dialect::Dialect,
    membership::Membership,
    wire::base_path::{self, DEFAULT_BASE_PATH},
};

/// A peer that says nothing for a second is sick: a heartbeat comes every third of that.
const PEER_TIMEOUT: Duration = Duration::from_secs(1);

/// 256 to one peer: it takes four busy nodes, all at their most, to fill a peer's 1,024.
const MAX_CONNECTIONS: usize = 256;

/// Thirty times the keys of one batch. They need some 10 MB of memory, and more of them would not
/// make a storm pass sooner.
const MAX_FETCHES: usize = 32 * 1024;

/// The shortest silence bound. The server's heartbeat comes every 10 ms at most.
const MIN_PEER_TIMEOUT: Duration = Duration::from_millis(30);

/// Sets up an [`HttpPool`].
#[derive(Debug)]
#[must_use]
pub struct HttpPoolBuilder {
    base_path: String,
    dialect: Dialect,
    client: Option<reqwest::Client>,
    connect_timeout: Option<Duration>,
    peer_timeout: Duration,
    max_connections: usize,
    max_fetches: usize,
    max_key_bytes: usize,
    membership: Option<Membership>,
}

impl HttpPool {
    /// A pool to be set up. `HttpPool::builder().build()` is one that asks natively.
    pub fn builder() -> HttpPoolBuilder {
        HttpPoolBuilder {
            base_path: DEFAULT_BASE_PATH.to_owned(),
            dialect: Dialect::default(),
            client: None,
            connect_timeout: None,
            peer_timeout: PEER_TIMEOUT,
            max_connections: MAX_CONNECTIONS,
            max_fetches: MAX_FETCHES,
            max_key_bytes: Limits::DEFAULT.max_key_bytes,
            membership: None,
        }
    }
}

impl HttpPoolBuilder {
    /// Sets the path under which peers answer golang/groupcache's GET. It is appended to a peer's
    /// name as it stands, so it begins and ends with a slash. Defaults to `/_groupcache/`.
    pub fn base_path(mut self, base_path: impl Into<String>) -> Self {
        self.base_path = base_path.into();
        self
    }

    /// Sets the protocol in which peers are asked. Defaults to [`Dialect::Native`].
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Sets the HTTP client, for TLS, a proxy or headers of your own. The
    /// [`connect_timeout`](Self::connect_timeout) is then the client's own.
    ///
    /// A default reqwest client follows redirects and takes proxies from the environment, and both
    /// lead a request away from the peer that it is meant for. Turn them off, and drop idle
    /// connections before our servers close them after 10 seconds:
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
    /// Defaults to a lean client of this crate's own, at about two thirds of the cost. It speaks
    /// TLS where the membership has certificates. This crate does not turn on reqwest's TLS: to
    /// reach `https://` members through a client of your own, depend on reqwest with the TLS of
    /// your choice.
    pub fn client(mut self, client: reqwest::Client) -> Self {
        self.client = Some(client);
        self
    }

    /// Sets the longest time to open a connection. Defaults to
    /// [`peer_timeout`](Self::peer_timeout).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// Sets the longest silence of a peer before it counts as failed, at least 30 ms. Defaults to 1
    /// s.
    ///
    /// A slow load is not silence: one of our nodes sends heartbeats while it loads. A Go peer
    /// sends none. Its answer may take as long as a load, and this bounds the connection and the
    /// gaps within the body.
    ///
    /// A whole fetch takes at most the group's `load_timeout` and this, counted from when it has a
    /// connection.
    pub fn peer_timeout(mut self, timeout: Duration) -> Self {
        self.peer_timeout = timeout;
        self
    }

    /// Sets how many batches of keys may be in flight to one peer, each on a connection of its own.
    /// Up to 32 of the connections are kept for 8 s afterwards. Defaults to 256.
    ///
    /// Keys that are asked for while another batch is on its way go together in the next one, so a
    /// few connections carry much. A key without a connection waits for one, for as long as a fetch
    /// may take, and is answered as overload then. If the peer is found silent or out of reach
    /// meanwhile, it fails at once. Updates have 16 connections of their own.
    ///
    /// A group takes at most three times as many as it leaves free: three quarters where it is
    /// alone, and equal shares where several want them. So there is always one for a group that
    /// comes later. The number holds for each tokio runtime that asks.
    pub fn max_connections(mut self, max_connections: usize) -> Self {
        self.max_connections = max_connections;
        self
    }

    /// Sets how many keys one peer may be asked for at once, those that wait included. One too many
    /// is answered as overload at once, and the group says what is done then. Groups share them as
    /// they share connections. Defaults to 32,768.
    pub fn max_fetches(mut self, max_fetches: usize) -> Self {
        self.max_fetches = max_fetches;
        self
    }

    /// Sets the longest key that peers are asked for, in bytes; a longer one is loaded here. Peers
    /// have the same bound, [`PeerServer::max_key_bytes`](crate::PeerServer::max_key_bytes).
    /// Defaults to [64 KiB](Limits::DEFAULT).
    pub fn max_key_bytes(mut self, bytes: usize) -> Self {
        self.max_key_bytes = bytes;
        self
    }

    /// Sets who this node is and whom it trusts. Defaults to a member without a name, of the
    /// cluster without a name, that asks members of this machine alone.
    pub fn membership(mut self, membership: Membership) -> Self {
        self.membership = Some(membership);
        self
    }

    /// Builds the pool. Nothing is sent and no task is started.
    ///
    /// # Errors
    /// A base path that cannot stand in a request, a bound outside its range, an HTTP client that
    /// cannot be set up.
    pub fn build(self) -> Result<HttpPool, BuildError> {
        self.check()?;
        let connect_timeout = self.connect_timeout.unwrap_or(self.peer_timeout);
        let membership = self.membership.unwrap_or_else(|| Membership::new(""));
        membership.check(self.dialect)?;
        let own_client = self.client.is_some();
        let open_files = Arc::<OpenFiles>::default();
        let connector: Box<dyn Connector> = match self.client {
            Some(client) => Box::new(client),
            None => Box::new(HyperConnector {
                connect_timeout,
                dialer: Arc::new(Dialer::new(Arc::new(SystemNetwork), open_files.clone())),
                #[cfg(feature = "tls")]
                tls: membership.tls_files().cloned(),
            }),
        };
        let config = PoolConfig {
            base_path: base_path::check(self.base_path)?,
            dialect: self.dialect,
            peer_timeout: self.peer_timeout,
            max_connections: self.max_connections,
            max_fetches: self.max_fetches,
            max_key_bytes: self.max_key_bytes,
            credentials: membership.credentials(),
            membership,
            own_client,
            connector,
            open_files,
        };
        Ok(HttpPool { config: Arc::new(config) })
    }

    fn check(&self) -> Result<(), BuildError> {
        let timeouts = MIN_PEER_TIMEOUT..=Duration::from_millis(u32::MAX.into());
        let settings = [
            ("peer_timeout", timeouts.contains(&self.peer_timeout), "from 30 ms to 49 days"),
            ("connect_timeout", self.connect_timeout != Some(Duration::ZERO), "above zero"),
            ("max_connections", self.max_connections > 0, "above zero"),
            ("max_fetches", self.max_fetches > 0, "above zero"),
            ("max_key_bytes", self.max_key_bytes <= 1 << 30, "at most 1 GiB"),
        ];
        match settings.into_iter().find(|(_, good, _)| !good) {
            Some((name, _, expected)) => Err(BuildError::Setting { name, expected: Cow::Borrowed(expected) }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(builder: HttpPoolBuilder) -> String {
        builder.build().expect_err("the setting is wrong").to_string()
    }

    #[test]
    fn wrong_settings_are_named() {
        assert_eq!(
            refused(HttpPool::builder().peer_timeout(Duration::ZERO)),
            "peer_timeout must be from 30 ms to 49 days"
        );
        assert_eq!(refused(HttpPool::builder().connect_timeout(Duration::ZERO)), "connect_timeout must be above zero");
        assert_eq!(refused(HttpPool::builder().max_connections(0)), "max_connections must be above zero");
        assert_eq!(refused(HttpPool::builder().max_fetches(0)), "max_fetches must be above zero");
        assert!(refused(HttpPool::builder().base_path("cache")).contains("\"cache\" is not such a path"));
    }
}
