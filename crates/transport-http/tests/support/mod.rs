//! Nodes on real sockets, peers that follow a script, and clients that speak raw bytes.
#![allow(dead_code, reason = "every test file uses a part of this")]

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use peercache_groupcache::{
    Bytes, Connect, Error, ErrorKind, Groups, Members, Peer, PeerError, PeerReply, PeerRequest, Reply, Served,
    ServedGroup,
};
use peercache_transport_http::{HttpPool, HttpPoolBuilder, NodeId, PeerServer, Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

/// Longer than anything takes: a test that gets here is stuck.
pub const WATCHDOG: Duration = Duration::from_secs(60);

pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WATCHDOG, future).await.expect("the test is stuck")
}

/// A group that answers with a closure.
pub struct FakeGroup<F> {
    name: Arc<str>,
    answer: F,
}

impl<F: Fn(&[u8]) -> Served + Send + Sync + 'static> ServedGroup for FakeGroup<F> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn answer(self: Arc<Self>, key: &[u8]) -> Served {
        (self.answer)(key)
    }
}

pub fn group(groups: &Groups, name: &str, answer: impl Fn(&[u8]) -> Served + Send + Sync + 'static) {
    groups.register(Arc::new(FakeGroup { name: name.into(), answer })).unwrap();
}

/// Groups of a node: `echo` has every key, as its own value; `loaded` too, after a load; `kinds` fails as the key says.
pub fn groups() -> Groups {
    let groups = Groups::new(Members::alone());
    group(&groups, "echo", |key| Served::Ready(Ok(Bytes::copy_from_slice(key))));
    group(&groups, "g/h", |key| Served::Ready(Ok(Bytes::copy_from_slice(key))));
    group(&groups, "loaded", |key| {
        let value = Bytes::copy_from_slice(key);
        Served::Loading(Box::pin(async move {
            tokio::task::yield_now().await;
            Ok(value)
        }))
    });
    group(&groups, "kinds", |key| Served::Ready(Err(error(key))));
    group(&groups, "large", |key| {
        let bytes: usize = std::str::from_utf8(key).unwrap().parse().unwrap();
        Served::Ready(Ok(vec![b'x'; bytes].into()))
    });
    groups
}

fn error(key: &[u8]) -> Error {
    match key {
        b"not-found" => Error::new(ErrorKind::NotFound),
        b"load-failed" => Error::with_source(ErrorKind::LoadFailed, "disk on fire"),
        b"load-timed-out" => Error::new(ErrorKind::LoadTimedOut),
        b"deadline" => Error::new(ErrorKind::DeadlineExceeded),
        b"overloaded" => Error::new(ErrorKind::Overloaded),
        b"value-too-large" => Error::new(ErrorKind::ValueTooLarge),
        b"key-too-long" => Error::new(ErrorKind::KeyTooLong),
        b"codec" => Error::new(ErrorKind::Codec),
        b"wordy" => Error::with_source(ErrorKind::LoadFailed, "w".repeat(5_000)),
        _ => panic!("no such kind"),
    }
}

/// A node's peer port. Dropping it shuts it down.
pub struct Node {
    pub address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Node {
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

pub async fn node(groups: Groups) -> Node {
    node_with_id(groups, NodeId::random()).await
}

pub async fn node_with_id(groups: Groups, node_id: NodeId) -> Node {
    serve(Server::new(PeerServer::new(groups).node_id(node_id).router())).await
}

pub async fn serve(server: Server) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(server.serve(listener, async move {
        let _ = stopped.await;
    }));
    Node { address, _stop: stop }
}

pub fn pool(builder: HttpPoolBuilder) -> HttpPool {
    builder.build().unwrap()
}

/// Asks a peer and waits for its answer.
pub async fn ask(peer: &Arc<dyn Peer>, request: PeerRequest) -> Result<PeerReply, PeerError> {
    let (tx, rx) = oneshot::channel();
    peer.get(request, Reply::new(move |answer| drop(tx.send(answer))));
    soon(rx).await.unwrap()
}

pub async fn ask_once(builder: HttpPoolBuilder, url: &str, group: &str, key: &[u8]) -> Result<PeerReply, PeerError> {
    ask(&pool(builder).connect(url).unwrap(), PeerRequest::new(group, key)).await
}

/// The answer in one line, for tables.
pub fn told(answer: Result<PeerReply, PeerError>) -> String {
    match answer {
        Ok(reply) => format!("value {:?}", reply.value),
        Err(PeerError::Answered(error)) => format!("answered {:?}", error.kind()),
        Err(error @ PeerError::Failed(_)) => format!("failed: {error}"),
        Err(PeerError::KeyNotCarried) => "key not carried".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

/// A peer that treats each connection as the script says.
pub async fn scripted<F: Future<Output = ()> + Send + 'static>(
    script: impl Fn(TcpStream) -> F + Clone + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(script(stream));
        }
    });
    url
}

/// A peer that reads a request, says this, and closes.
pub async fn parrot(words: impl Into<Vec<u8>>) -> String {
    let words: Arc<[u8]> = words.into().into();
    scripted(move |mut stream| {
        let words = words.clone();
        async move {
            read_request(&mut stream).await;
            let _ = stream.write_all(&words).await;
        }
    })
    .await
}

/// Head and body of the next request on a connection; `None` when there is none.
pub async fn read_request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .to_lowercase()
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

/// What a server answers to these bytes until it closes the connection. A reset counts as closing.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    read_to_close(&mut stream).await
}

pub async fn read_to_close(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A GET on a connection of its own.
pub async fn raw_get(address: SocketAddr, path: &str) -> String {
    raw_request(address, "GET", path).await
}

pub async fn raw_request(address: SocketAddr, method: &str, path: &str) -> String {
    raw(address, format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await
}

/// Status and body of an answer with a Content-Length.
pub fn status_and_body(answer: &str) -> (u16, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
}
