//! Connections of our own, over TLS to `https://` members, driven by the task that waits for the
//! answer.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Uri, header, uri::InvalidUri};
use http_body::Body;
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use peercache_groupcache::BoxError;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    address::MemberAddress,
    client::connection::{Connection, Connector, Step, chained, was_closed},
    client::dial::{Dialer, NamedRoute},
    client::failure::Failure,
    client::stream::Stream,
};

/// The longest head of an answer, in bytes: a hostile peer gets no more of our memory than that and
/// one read. Bodies are taken away piece by piece.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The longest life of a connection: after that a new one is opened, with the certificates of then.
const MAX_LIFE: Duration = Duration::from_secs(60 * 60);

/// Connects with HTTP/1.1 over TCP and TLS, without proxies, redirects or cookies.
#[derive(Clone)]
pub(super) struct HyperConnector {
    pub(super) connect_timeout: Duration,
    pub(super) dialer: Arc<Dialer>,
    /// The certificates for `https://` members.
    #[cfg(feature = "tls")]
    pub(super) tls: Option<crate::tls::Tls>,
}

impl Connector for HyperConnector {
    fn connection(&self, address: &Arc<str>) -> Box<dyn Connection> {
        let (connector, address) = (self.clone(), address.clone());
        Box::new(HyperConnection { connector, address, open: None, was_reused: false })
    }
}

impl HyperConnector {
    async fn connect(&self, address: &str) -> Result<Open, Failure> {
        let opened = timeout(self.connect_timeout, self.open(address)).await;
        opened.unwrap_or_else(|_| Err(Failure::ConnectTooLong))
    }

    async fn open(&self, address: &str) -> Result<Open, Failure> {
        let uri: Uri = address.parse().map_err(|error: InvalidUri| Failure::Send(error.into()))?;
        let authority = uri.authority().ok_or_else(|| Failure::Send("it has no host".into()))?;
        let member = MemberAddress::read(address).map_err(|why| Failure::Send(why.into()))?;
        let (stream, route) = self.dialer.dial(&member).await?;
        // Without it a request waits for the other side's acknowledgement. It fails on dead
        // connections only.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::Builder::new()
            .max_header_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(self.protect(stream, &member).await?))
            .await
            .map_err(|error| failure(&error))?;
        let prefix = uri.path().trim_end_matches('/').to_owned();
        let host = HeaderValue::try_from(authority.as_str()).map_err(|error| Failure::Send(error.into()))?;
        let expires = Instant::now() + MAX_LIFE;
        Ok(Open { sender, connection, route, host, prefix, body: None, has_ended: false, expires })
    }

    /// The stream, over TLS if the member is `https://`.
    async fn protect(&self, stream: TcpStream, member: &MemberAddress) -> Result<Stream, Failure> {
        if !member.is_https() {
            return Ok(Stream::Plain(stream));
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let name = crate::tls::server_name(member.host()).map_err(Failure::Send)?;
            let connector = tokio_rustls::TlsConnector::from(tls.current().await.client.clone());
            let stream = connector.connect(name, stream).await;
            let stream = stream.map_err(|error| Failure::Connect(format!("no TLS with it: {error}").into()))?;
            return Ok(Stream::Tls(Box::new(stream)));
        }
        Err(Failure::Send("it is reached over TLS, and this node has no certificates".into()))
    }
}

struct HyperConnection {
    connector: HyperConnector,
    /// The URL before the path of every request.
    address: Arc<str>,
    open: Option<Open>,
    /// Whether the last request found the connection open.
    was_reused: bool,
}

/// An open connection. No task of its own drives it: polling either of its two ends does, so that a
/// request costs no change of tasks.
struct Open {
    sender: SendRequest<Full<Bytes>>,
    connection: http1::Connection<TokioIo<Stream>, Full<Bytes>>,
    /// The way to it, if the member has a name: it may move.
    route: Option<NamedRoute>,
    host: HeaderValue,
    /// The text before the path of every request.
    prefix: String,
    body: Option<Incoming>,
    has_ended: bool,
    expires: Instant,
}

impl HyperConnection {
    async fn connected(&mut self) -> Result<&mut Open, Failure> {
        let mut open = self.open.take();
        if let Some(open) = &mut open {
            // The other side may have closed it meanwhile.
            poll_fn(|cx| {
                open.drive(cx);
                Poll::Ready(())
            })
            .await;
        }
        let reused = open.take_if(|open| open.is_usable(&self.connector.dialer));
        self.was_reused = reused.is_some();
        if let Some(open) = reused {
            return Ok(self.open.insert(open));
        }
        Ok(self.open.insert(self.connector.connect(&self.address).await?))
    }
}

impl Connection for HyperConnection {
    fn connect_ahead(&mut self) -> Step<'_, ()> {
        Box::pin(async { self.connected().await.map(drop) })
    }

    fn send(&mut self, request: http::Request<Bytes>) -> Step<'_, http::response::Parts> {
        Box::pin(async move { self.connected().await?.send(request).await })
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        match &mut self.open {
            None => Poll::Ready(None),
            Some(open) => open.poll_piece(cx),
        }
    }

    fn remaining_bytes(&self) -> Option<u64> {
        self.open.as_ref()?.body.as_ref()?.size_hint().exact()
    }

    fn was_reused(&self) -> bool {
        self.was_reused
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.open {
            None => Poll::Pending,
            Some(open) => {
                open.drive(cx);
                if open.has_ended { Poll::Ready(()) } else { Poll::Pending }
            }
        }
    }
}

impl Open {
    /// Whether it can carry one more request.
    fn is_usable(&mut self, dialer: &Dialer) -> bool {
        let now = Instant::now();
        let is_read = self.body.as_ref().is_none_or(Body::is_end_stream);
        let is_open = is_read && !self.has_ended && self.sender.is_ready() && now < self.expires;
        is_open && !self.route.as_mut().is_some_and(|route| dialer.has_left(route, now))
    }

    async fn send(&mut self, mut request: http::Request<Bytes>) -> Result<http::response::Parts, Failure> {
        self.body = None;
        if !self.prefix.is_empty() {
            let uri = format!("{}{}", self.prefix, request.uri());
            *request.uri_mut() = Uri::try_from(uri).map_err(|error| Failure::Send(error.into()))?;
        }
        request.headers_mut().insert(header::HOST, self.host.clone());
        let mut answer = pin!(self.sender.send_request(request.map(Full::new)));
        let connection = &mut self.connection;
        let has_ended = &mut self.has_ended;
        let answer = poll_fn(|cx| {
            // First the connection, which brings what the answer waits for.
            drive(connection, has_ended, cx);
            match answer.as_mut().poll(cx) {
                // It ended without having taken the request, which gets no answer any more.
                Poll::Pending if *has_ended => Poll::Ready(Err(Failure::Closed("it had ended before".into()))),
                answer => answer.map_err(|error| failure(&error)),
            }
        });
        let (head, body) = answer.await?.into_parts();
        self.body = Some(body);
        Ok(head)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        loop {
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            let mut frame = Pin::new(&mut *body).poll_frame(cx);
            if frame.is_pending() {
                drive(&mut self.connection, &mut self.has_ended, cx);
                frame = Pin::new(body).poll_frame(cx);
            }
            match ready!(frame) {
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        return Poll::Ready(Some(Ok(piece)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(chained(&error)))),
                None => {
                    self.body = None;
                    // This gets it ready for the next request.
                    drive(&mut self.connection, &mut self.has_ended, cx);
                }
            }
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.connection, &mut self.has_ended, cx);
    }
}

/// Lets the connection do its work. Its errors reach the task that waits for the answer.
fn drive(connection: &mut http1::Connection<TokioIo<Stream>, Full<Bytes>>, has_ended: &mut bool, cx: &mut Context<'_>) {
    if !*has_ended {
        *has_ended = Pin::new(connection).poll(cx).is_ready();
    }
}

fn failure(error: &hyper::Error) -> Failure {
    if was_closed(error) { Failure::Closed(chained(error)) } else { Failure::Send(chained(error)) }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        task::yield_now,
    };

    use super::*;
    use crate::client::network::SystemNetwork;

    fn dialer() -> Arc<Dialer> {
        Arc::new(Dialer::new(Arc::new(SystemNetwork), Arc::default()))
    }

    async fn listener_and_connection() -> (TcpListener, Box<dyn Connection>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = format!("http://{}", listener.local_addr().unwrap()).into();
        let connector = HyperConnector {
            connect_timeout: Duration::from_secs(60),
            dialer: dialer(),
            #[cfg(feature = "tls")]
            tls: None,
        };
        (listener, connector.connection(&name))
    }

    /// Answers a request on a new connection.
    async fn answer_one(listener: &TcpListener) -> Result<TcpStream, Failure> {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_ne!(stream.read(&mut [0; 1_000]).await.unwrap(), 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        Ok(stream)
    }

    fn get() -> http::Request<Bytes> {
        http::Request::new(Bytes::new())
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_meanwhile_is_not_used() {
        let (listener, mut connection) = listener_and_connection().await;
        for _ in 0..2 {
            let (_, stream) = tokio::try_join!(connection.send(get()), answer_one(&listener)).unwrap();
            assert!(!connection.was_reused());
            assert!(poll_fn(|cx| connection.poll_piece(cx)).await.is_none());
            drop(stream);
            // The runtime learns that it was closed; the connection does not.
            for _ in 0..1_000 {
                yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_opened_ahead_counts_as_reused() {
        let (listener, mut connection) = listener_and_connection().await;
        connection.connect_ahead().await.unwrap();
        assert!(!connection.was_reused());
        tokio::try_join!(connection.send(get()), answer_one(&listener)).unwrap();
        assert!(connection.was_reused());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_lives_an_hour() {
        let (listener, mut connection) = listener_and_connection().await;
        let (_, _first) = tokio::try_join!(connection.send(get()), answer_one(&listener)).unwrap();
        assert!(poll_fn(|cx| connection.poll_piece(cx)).await.is_none());
        tokio::time::advance(MAX_LIFE).await;
        tokio::try_join!(connection.send(get()), answer_one(&listener)).unwrap();
        assert!(!connection.was_reused());
    }
}

#[cfg(all(test, feature = "tls"))]
mod tls_tests {
    use std::{fs, path::PathBuf};

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::{client::network::SystemNetwork, tls::Tls};

    /// An authority, and the directory of what it signed.
    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        directory: PathBuf,
    }

    impl Authority {
        fn new(name: &str) -> Self {
            let directory = std::env::temp_dir().join(format!("peercache-tls-{name}-{}", std::process::id()));
            fs::create_dir_all(&directory).unwrap();
            let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            fs::write(directory.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
            Authority { issuer: Issuer::new(params, key), directory }
        }

        /// Signs the certificate of a member, in place of the one before.
        fn sign(&self, member: &str, host: &str, is_over: bool) {
            let mut params = CertificateParams::new([host.to_owned()]).unwrap();
            if is_over {
                params.not_after = rcgen::date_time_ymd(2020, 1, 1);
            }
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            fs::write(self.directory.join(format!("{member}-key.pem")), key.serialize_pem()).unwrap();
            fs::write(self.directory.join(format!("{member}.pem")), certificate.pem()).unwrap();
        }

        fn tls(&self, member: &str, host: &str, is_over: bool) -> Tls {
            self.sign(member, host, is_over);
            let path = |name| self.directory.join(name);
            Tls::from_files(path(format!("{member}.pem")), path(format!("{member}-key.pem")), path("ca.pem".to_owned()))
                .unwrap()
        }
    }

    impl Drop for Authority {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }

    /// A server that answers each connection's first request, and tells who was on the other side:
    /// the certificate.
    async fn server(tls: Tls) -> (String, tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (tx, rx) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(tls.current().await.server.clone());
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let certificates = stream.get_ref().1.peer_certificates().unwrap();
                let _ = tx.send(certificates[0].as_ref().to_vec());
                let _ = stream.read(&mut [0; 1_000]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                let _ = stream.shutdown().await;
            }
        });
        (url, rx)
    }

    async fn ask(tls: Option<Tls>, url: &str) -> Result<http::StatusCode, Failure> {
        let dialer = Arc::new(Dialer::new(Arc::new(SystemNetwork), Arc::default()));
        let connector = HyperConnector { connect_timeout: Duration::from_secs(60), dialer, tls };
        let mut connection = connector.connection(&url.into());
        connection.send(http::Request::new(Bytes::new())).await.map(|head| head.status)
    }

    #[tokio::test]
    async fn members_of_one_authority_reach_each_other() {
        let authority = Authority::new("one");
        let (url, mut seen) = server(authority.tls("theirs", "127.0.0.1", false)).await;
        let ours = authority.tls("ours", "127.0.0.1", false);
        assert_eq!(ask(Some(ours.clone()), &url).await.unwrap(), 200);
        let before = seen.recv().await.unwrap();
        // A new certificate is shown by the next connection.
        authority.sign("ours", "127.0.0.1", false);
        ours.reload();
        assert_eq!(ask(Some(ours), &url).await.unwrap(), 200);
        assert_ne!(seen.recv().await.unwrap(), before);
    }

    #[tokio::test]
    async fn a_certificate_that_does_not_fit_is_refused() {
        let (authority, other) = (Authority::new("this"), Authority::new("other"));
        let ours = authority.tls("ours", "127.0.0.1", false);
        for (theirs, why) in [
            (authority.tls("elsewhere", "127.0.0.2", false), "not valid for name"),
            (authority.tls("named", "localhost", false), "not valid for name"),
            (other.tls("foreign", "127.0.0.1", false), "UnknownIssuer"),
            (authority.tls("over", "127.0.0.1", true), "expired"),
        ] {
            let (url, mut seen) = server(theirs).await;
            let error = ask(Some(ours.clone()), &url).await.unwrap_err();
            assert!(matches!(error, Failure::Connect(_)) && error.to_string().contains(why), "{error}");
            assert!(seen.try_recv().is_err());
        }
    }

    #[tokio::test]
    async fn without_certificates_nothing_is_sent_in_the_clear() {
        let authority = Authority::new("none");
        let (url, _seen) = server(authority.tls("theirs", "127.0.0.1", false)).await;
        let error = ask(None, &url).await.unwrap_err().to_string();
        assert!(error.contains("no certificates"), "{error}");
    }
}
