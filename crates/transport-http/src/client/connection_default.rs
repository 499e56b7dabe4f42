//! The connector of a pool that was given no HTTP client.

use std::{sync::Arc, time::Duration};

use peercache_groupcache::BuildError;

use crate::client::{
    connection::{Connection, Connector, IDLE_TIMEOUT, MAX_IDLE, chained},
    connection_hyper::HyperConnector,
};

/// Connects with our own client where no TLS is needed, since it costs a third less than reqwest
/// does (`benches/get_peer.rs`), and with reqwest to `https://` peers: it has TLS if the
/// application turned that on.
pub(super) struct DefaultConnector {
    http: HyperConnector,
    https: reqwest::Client,
}

impl DefaultConnector {
    pub(super) fn new(connect_timeout: Duration) -> Result<Self, BuildError> {
        Ok(DefaultConnector { http: HyperConnector { connect_timeout }, https: reqwest_client(connect_timeout)? })
    }
}

impl Connector for DefaultConnector {
    fn connection(&self, name: &Arc<str>) -> Box<dyn Connection> {
        if name.starts_with("https://") { self.https.connection(name) } else { self.http.connection(name) }
    }
}

fn reqwest_client(connect_timeout: Duration) -> Result<reqwest::Client, BuildError> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .http1_only()
        .tcp_nodelay(true)
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE)
        .build()
        .map_err(|error| BuildError::Transport(format!("the HTTP client cannot be set up: {}", chained(&error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_may_take_for_ever() {
        let client = reqwest_client(Duration::MAX).unwrap();
        let answer = client.get("http://127.0.0.1:1/").send().await;
        assert!(answer.unwrap_err().is_connect());
    }
}
