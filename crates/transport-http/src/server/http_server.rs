//! The server that any router may have.

use std::{future::Future, io, time::Duration};

use crate::server::{
    acceptor::Acceptor,
    listener::Listener,
    settings::{MAX_TIMEOUT, ServerSettings},
};
use axum::Router;

/// The smallest limit on heads, in bytes: hyper takes none below it.
const MIN_HEAD_BYTES: usize = 8 * 1024;

/// Serves a router over HTTP/1.1 to any client, and lets none of them take more than a share.
///
/// Every wait has a bound: for a connection, for a head, for a body, for a client that does not
/// read, for the end. When all connections are taken and one more comes, the one that has waited
/// longest for a request is closed for it; where all are being answered, the reader that has been
/// too slow for longest is. So neither silence nor idleness nor slowness locks others out. While
/// all keep pace, the new one waits. At the system's limit of open files idle connections give
/// theirs away in the same way.
#[derive(Clone, Debug)]
#[must_use]
pub struct Server {
    router: Router,
    settings: ServerSettings,
}

impl Server {
    /// A server of `router` with the default limits.
    pub fn new(router: Router) -> Self {
        Server { router, settings: ServerSettings::default() }
    }

    /// Sets how many connections are served at once, at least 1. When another one comes, the one
    /// that has waited longest for a request is closed; while there is none, further connections
    /// wait. Defaults to 1,024.
    pub fn max_connections(mut self, max_connections: usize) -> Self {
        self.settings.max_connections = max_connections.max(1);
        self
    }

    /// Sets the time in which the head of a request must be complete, however slowly it comes,
    /// counted from its first byte. The first byte of a new connection has as long, and so has the
    /// handshake of TLS before it. Defaults to 10 s.
    pub fn header_read_timeout(mut self, timeout: Duration) -> Self {
        self.settings.header_read_timeout = timeout.min(MAX_TIMEOUT);
        self
    }

    /// Sets the time for which a connection may be idle between two requests; then it is closed.
    /// Defaults to the time of a head, [`header_read_timeout`](Self::header_read_timeout).
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.idle_timeout = Some(timeout.min(MAX_TIMEOUT));
        self
    }

    /// Sets the longest head of a request, in bytes, from the request line to the empty line, at
    /// least 8 KiB. A longer one is answered with 431. Defaults to 16 KiB.
    pub fn max_head_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_head_bytes = bytes.max(MIN_HEAD_BYTES);
        self
    }

    /// Sets the time in which the body of a request has to arrive, counted from its first wait; the
    /// handler that reads it gets an error then. The router bounds the body's length. Defaults to
    /// 30 s.
    pub fn body_read_timeout(mut self, timeout: Duration) -> Self {
        self.settings.body_read_timeout = timeout.min(MAX_TIMEOUT);
        self
    }

    /// Sets the time after which a client falls behind that leaves an answer unread, or reads it at
    /// less than 128 KiB a second. One that is behind is served all the same, until another one
    /// needs its connection; then the one that has been behind for longest is cut off, of the
    /// address with the most connections. A client that reads nothing at all for six times as long
    /// is cut off in any case. Defaults to 10 s.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.settings.write_timeout = timeout.min(MAX_TIMEOUT);
        self
    }

    /// Sets the time in which requests that are in flight at the shutdown have to finish; then
    /// their connections are cut. Defaults to 25 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = timeout.min(MAX_TIMEOUT);
        self
    }

    /// Serves the connections of `listener`, a `TcpListener`, a `UnixListener` or a
    /// [`Listener`] that speaks TLS, until `shutdown` resolves, then finishes the requests
    /// in flight and closes idle connections. Dropping the future cuts all connections.
    ///
    /// # Errors
    /// A listener without an address. A connection that cannot be accepted is logged and tried
    /// again.
    pub async fn serve(
        self,
        listener: impl Into<Listener> + Send,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let listener = listener.into();
        let address = listener.address()?;
        let mut acceptor = Acceptor::new(self.router, self.settings);
        acceptor.accept_until(&listener, shutdown).await;
        acceptor.accept_queued(listener);
        acceptor.drain(&address).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_contracts() {
        let settings = Server::new(Router::new()).settings;
        let timeouts =
            [settings.header_read_timeout, settings.body_read_timeout, settings.write_timeout, settings.drain_timeout];
        assert_eq!(timeouts.map(|timeout| timeout.as_secs()), [10, 30, 10, 25]);
        assert_eq!((settings.max_connections, settings.max_head_bytes), (1_024, 16 * 1024));
    }

    /// The heads of the answers to two requests on one connection over TLS.
    #[cfg(feature = "tls")]
    async fn two_answers(name: &str, tls_lifetime: Duration) -> [String; 2] {
        use tokio::{
            io::{AsyncReadExt, AsyncWriteExt},
            net::{TcpListener, TcpStream},
        };

        let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let file = |kind: &str, text: String| {
            let path = std::env::temp_dir().join(format!("peercache-{}-{name}-{kind}", std::process::id()));
            std::fs::write(&path, text).unwrap();
            path
        };
        let (certificate, key) =
            (file("cert.pem", certified.cert.pem()), file("key.pem", certified.signing_key.serialize_pem()));
        let tls = crate::Tls::from_files(&certificate, &key, &certificate).unwrap();
        for path in [certificate, key] {
            std::fs::remove_file(path).unwrap();
        }
        let client = tls.current().await.client.clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", axum::routing::get(|| async { "hello" }));
        let mut server = Server::new(router);
        server.settings.tls_lifetime = tls_lifetime;
        let serving = tokio::spawn(server.serve(Listener::tls(listener, tls), std::future::pending()));
        let stream = TcpStream::connect(address).await.unwrap();
        let host = crate::tls::server_name(&crate::address::Host::Ip(address.ip())).unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(client).connect(host, stream).await.unwrap();
        let mut answers = [String::new(), String::new()];
        for answer in &mut answers {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
            while !answer.ends_with("hello") {
                let Ok(byte) = stream.read_u8().await else { break };
                answer.push(byte.into());
            }
        }
        serving.abort();
        answers
    }

    #[cfg(feature = "tls")]
    #[tokio::test]
    async fn a_connection_over_tls_ends_after_a_while() {
        let [first, second] = two_answers("young", ServerSettings::default().tls_lifetime).await;
        assert!(!first.contains("connection: close") && second.ends_with("hello"), "{first} {second}");
        let [first, second] = two_answers("old", Duration::ZERO).await;
        assert!(first.contains("\r\nconnection: close\r\n") && second.is_empty(), "{first} {second}");
    }
}
