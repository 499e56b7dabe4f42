//! Nodes on real sockets, peers that follow a script, and clients that speak raw bytes.
#![allow(dead_code, reason = "every test file uses a part of this")]

pub mod signing;

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use peercache_groupcache::{
    Ack, Bytes, Connect, Error, ErrorKind, Groups, Key, Members, Peer, PeerError, PeerReply, PeerRequest, PeerUpdate,
    Reply, Served, ServedGroup, Stamp, Terms,
};
use peercache_transport_http::{HttpPool, HttpPoolBuilder, Membership, PeerServer, Server};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};

/// A time longer than any test: one that gets here is stuck.
pub const WATCHDOG: Duration = Duration::from_secs(60);

pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WATCHDOG, future).await.expect("the test is stuck")
}

/// A group that answers with a closure.
pub struct FakeGroup<F> {
    name: Arc<str>,
    answer: F,
}

impl<F: Fn(&[u8], Terms) -> Served + Send + Sync + 'static> ServedGroup for FakeGroup<F> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn answer(self: Arc<Self>, key: &[u8], terms: Terms) -> Served {
        (self.answer)(key, terms)
    }
}

pub fn group(groups: &Groups, name: &str, answer: impl Fn(&[u8]) -> Served + Send + Sync + 'static) {
    group_on_terms(groups, name, move |key, _| answer(key));
}

pub fn group_on_terms(groups: &Groups, name: &str, answer: impl Fn(&[u8], Terms) -> Served + Send + Sync + 'static) {
    groups.register(Arc::new(FakeGroup { name: name.into(), answer })).unwrap();
}

/// A group that keeps the updates that it receives, and answers them with a closure, which is given
/// their count.
pub struct UpdatedGroup<F> {
    name: Arc<str>,
    received: Received,
    answer: F,
}

pub type Received = Arc<Mutex<Vec<PeerUpdate>>>;

impl<F: Fn(usize) -> Result<Ack, Error> + Send + Sync + 'static> ServedGroup for UpdatedGroup<F> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn answer(self: Arc<Self>, _: &[u8], _: Terms) -> Served {
        Served::Ready(Err(Error::new(ErrorKind::NotFound)))
    }

    fn update(self: Arc<Self>, update: PeerUpdate) -> Result<Ack, Error> {
        let mut received = self.received.lock().unwrap();
        received.push(update);
        (self.answer)(received.len())
    }
}

pub fn updated_group(
    groups: &Groups,
    name: &str,
    answer: impl Fn(usize) -> Result<Ack, Error> + Send + Sync + 'static,
) -> Received {
    let received = Received::default();
    groups.register(Arc::new(UpdatedGroup { name: name.into(), received: received.clone(), answer })).unwrap();
    received
}

/// The acknowledgement of a member with ring 7 at this time.
pub fn ack(ms: u64) -> Ack {
    Ack::new(7, Stamp { incarnation: 5, count: ms })
}

/// Groups of a node: `echo` has every key, as its own value; `loaded` too, after a load; `kinds`
/// fails as the key says.
pub fn groups() -> Groups {
    let groups = Groups::new(Members::alone());
    group(&groups, "echo", |key| found(Bytes::copy_from_slice(key)));
    group(&groups, "g/h", |key| found(Bytes::copy_from_slice(key)));
    group(&groups, "loaded", |key| {
        let value = Bytes::copy_from_slice(key);
        Served::Loading(Box::pin(async move {
            tokio::task::yield_now().await;
            Ok(PeerReply::new(value))
        }))
    });
    group(&groups, "kinds", |key| Served::Ready(Err(error(key))));
    group(&groups, "large", |key| {
        let bytes: usize = std::str::from_utf8(key).unwrap().parse().unwrap();
        found(vec![b'x'; bytes].into())
    });
    groups
}

/// A value that is known at once.
pub fn found(value: Bytes) -> Served {
    Served::Ready(Ok(PeerReply::new(value)))
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
    node_of(groups, |membership| membership).await
}

/// A node whose membership, by the name that is its URL, is set by a closure.
pub async fn node_of(groups: Groups, set: impl FnOnce(Membership) -> Membership) -> Node {
    serve_named(|name| Server::new(PeerServer::new(groups).membership(set(Membership::new(name))).router())).await
}

/// A node whose server for peers, which has its URL for a name, is served by what a closure makes.
pub async fn serve_peers(groups: Groups, server: impl FnOnce(PeerServer) -> Server) -> Node {
    serve_named(|name| server(PeerServer::new(groups).membership(Membership::new(name)))).await
}

pub async fn serve(server: Server) -> Node {
    serve_named(|_| server).await
}

/// Serves with what a closure makes of the node's URL.
pub async fn serve_named(server: impl FnOnce(&str) -> Server) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = server(&format!("http://{address}"));
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

/// Asks a peer for many keys of a group; the answers come as they are given, with the position of
/// their key.
pub fn ask_many(
    peer: &Arc<dyn Peer>,
    group: &str,
    keys: impl IntoIterator<Item = impl Into<Key>>,
) -> mpsc::UnboundedReceiver<(usize, Result<PeerReply, PeerError>)> {
    let (tx, rx) = mpsc::unbounded_channel();
    let request = |(nth, key): (usize, _)| {
        let tx = tx.clone();
        (PeerRequest::new(group, key), Reply::new(move |answer| drop(tx.send((nth, answer)))))
    };
    peer.get_many(keys.into_iter().map(Into::<Key>::into).enumerate().map(request).collect());
    rx
}

/// All answers of [`ask_many`] in words, in the order of their keys.
pub async fn words_of_all(mut answers: mpsc::UnboundedReceiver<(usize, Result<PeerReply, PeerError>)>) -> Vec<String> {
    let mut all = Vec::new();
    while let Some((nth, answer)) = soon(answers.recv()).await {
        all.push((nth, words_of(answer)));
    }
    all.sort();
    all.into_iter().map(|(_, words)| words).collect()
}

/// Sends a peer an update and waits for its acknowledgement.
pub async fn send_update(peer: &Arc<dyn Peer>, update: PeerUpdate, timeout: Duration) -> Result<Ack, PeerError> {
    let (tx, rx) = oneshot::channel();
    peer.update(update, timeout, Reply::new(move |answer| drop(tx.send(answer))));
    soon(rx).await.unwrap()
}

pub async fn ask_once(builder: HttpPoolBuilder, url: &str, group: &str, key: &[u8]) -> Result<PeerReply, PeerError> {
    ask(&pool(builder).connect(&peercache_groupcache::Member::from(url)).unwrap(), PeerRequest::new(group, key)).await
}

/// The value that came; no value is a failed test.
pub fn value_of(answer: Result<PeerReply, PeerError>) -> Bytes {
    answer.unwrap().value.expect("there is a value")
}

/// The answer in one line, for tables.
pub fn words_of(answer: Result<PeerReply, PeerError>) -> String {
    match answer {
        Ok(PeerReply { value: Some(value), .. }) => format!("value {value:?}"),
        Ok(_) => "not found for a while".to_owned(),
        Err(PeerError::Answered(error)) => format!("answered {:?}", error.kind()),
        Err(error @ (PeerError::Failed(_) | PeerError::Unreachable(_) | PeerError::Silent(_))) => {
            format!("failed: {error}")
        }
        Err(PeerError::NotCarried) => "key not carried".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

/// A peer that serves each connection by a script.
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

/// A peer that reads a request, answers with these bytes, and closes.
pub async fn fixed_answer(words: impl Into<Vec<u8>>) -> String {
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

/// Reads the head and the body of the next request on a connection; `None` when there is none.
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

/// Sends these bytes to a server, and returns its answer up to the end of the connection. A reset
/// counts as the end.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    read_to_close(&mut stream).await
}

pub async fn read_to_close(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends a GET on a connection of its own.
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
