//! Readers that ask for large values and do not read them.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use peercache_groupcache::{Bytes, Connect, Groups, Members, PeerRequest};
use peercache_transport_http::{Dialect, HttpPool, PeerServer, Server};
use support::{Node, ask, found, group, pool, raw_get, serve_peers, soon, value_of};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const VALUE_BYTES: usize = 8 << 20;

const HTTP_GET: &[u8] = b"GET /_groupcache/large/k HTTP/1.1\r\nhost: x\r\n\r\n";
const NATIVE_GET: &[u8] =
    b"POST /_peercache/v1/get HTTP/1.1\r\nhost: x\r\npeercache: 1; node=00000000000000ff\r\ncontent-length: 42\r\n\r\n\
    \x01\0\0\0\0\0\0\x04\0\0\x03\xe8\x02\0\0\0\0\0\0\x0d\0\0\0\0\x02\0\0\0large\x03\0\0\0\0\0\0\x01k";

/// Values that are alive, and the most that ever were.
#[derive(Default)]
struct Count {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A value that is counted, made again for each answer as an encoded one is.
struct Counted(Vec<u8>, Arc<Count>);

impl Counted {
    fn new(count: Arc<Count>) -> Self {
        let now = count.now.fetch_add(1, Ordering::SeqCst) + 1;
        count.most.fetch_max(now, Ordering::SeqCst);
        Counted(vec![b'x'; VALUE_BYTES], count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A node with budget for two values.
async fn node(write_timeout: Duration) -> (Node, Arc<Count>) {
    let groups = Groups::new(Members::alone());
    let count = Arc::new(Count::default());
    let counted = count.clone();
    group(&groups, "large", move |_| found(Bytes::from_owner(Counted::new(counted.clone()))));
    let node = serve_peers(groups, |server| {
        Server::new(server.max_held_bytes(2 * VALUE_BYTES).router()).write_timeout(write_timeout)
    });
    (node.await, count)
}

#[tokio::test]
async fn readers_that_do_not_read_make_a_node_hold_little() {
    for request in [HTTP_GET, NATIVE_GET] {
        let (node, count) = node(Duration::from_millis(100)).await;
        let mut lazy = Vec::new();
        for _ in 0..10 {
            let mut stream = TcpStream::connect(node.address).await.unwrap();
            stream.write_all(request).await.unwrap();
            lazy.push(stream);
        }
        // A client that reads has its turn when those before it have lost theirs.
        assert_eq!(raw_get(node.address, "/_groupcache/large/k").await.lines().next(), Some("HTTP/1.1 200 OK"));
        // One more is made and thrown away when there is no budget for it.
        let most = count.most.load(Ordering::SeqCst);
        assert!((2..=3).contains(&most), "{most} values at once");
    }
}

#[tokio::test]
async fn large_values_are_answered_one_after_another() {
    for dialect in [Dialect::Native, Dialect::Golang] {
        let (node, count) = node(Duration::from_secs(10)).await;
        let peer = pool(HttpPool::builder().dialect(dialect))
            .connect(&peercache_groupcache::Member::from(&node.url()))
            .unwrap();
        let asked: Vec<_> = (0..12).map(|_| peer.clone()).collect();
        let asked =
            asked.into_iter().map(|peer| tokio::spawn(async move { ask(&peer, PeerRequest::new("large", "k")).await }));
        for answer in asked.collect::<Vec<_>>() {
            assert_eq!(value_of(soon(answer).await.unwrap()).len(), VALUE_BYTES);
        }
        // How many meet is for the scheduler to say; readers that do not read show that two may.
        let most = count.most.load(Ordering::SeqCst);
        assert!((1..=3).contains(&most), "{most} values at once");
    }
}

/// Asks for the large value on a connection of its own, and reads nothing.
async fn ask_lazily(node: &Node) -> TcpStream {
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    stream.write_all(b"GET /_groupcache/large/k HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    stream
}

/// Readers hold the whole budget and read nothing; another one does not wait for their timeout.
#[tokio::test]
async fn a_reader_that_does_not_read_is_cut_off_for_another() {
    let (node, _) = node(Duration::from_secs(3_600)).await;
    let lazy = [ask_lazily(&node).await, ask_lazily(&node).await];
    for stream in &lazy {
        soon(stream.readable()).await.unwrap();
    }
    let answer = soon(raw_get(node.address, "/_groupcache/large/k")).await;
    assert_eq!(answer.lines().next(), Some("HTTP/1.1 200 OK"));
    assert!(answer.len() > VALUE_BYTES);
    let mut cut = 0;
    for mut stream in lazy {
        let mut answer = Vec::new();
        let ended = soon(stream.read_to_end(&mut answer)).await;
        cut += usize::from(ended.is_err() || answer.len() < VALUE_BYTES);
    }
    assert_eq!(cut, 1, "one was enough");
}

/// Nobody is hurried as long as there is room: this one reads nothing for three timeouts.
#[tokio::test]
async fn a_reader_that_pauses_is_waited_for_while_there_is_room() {
    let (node, _) = node(Duration::from_millis(100)).await;
    let mut stream = ask_lazily(&node).await;
    tokio::time::timeout(Duration::from_millis(300), std::future::pending::<()>()).await.unwrap_err();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.len() > VALUE_BYTES);
}

#[tokio::test]
async fn where_all_connections_are_taken_the_slowest_reader_makes_room() {
    let groups = Groups::new(Members::alone());
    group(&groups, "large", |_| found(vec![b'x'; VALUE_BYTES].into()));
    let server =
        |server: PeerServer| Server::new(server.router()).max_connections(2).write_timeout(Duration::from_millis(100));
    let node = serve_peers(groups, server).await;
    let lazy = [ask_lazily(&node).await, ask_lazily(&node).await];
    for stream in &lazy {
        soon(stream.readable()).await.unwrap();
    }
    let answer = soon(raw_get(node.address, "/_groupcache/large/k")).await;
    assert!(answer.len() > VALUE_BYTES, "{}", answer.len());
    drop(lazy);
}
