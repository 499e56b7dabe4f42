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
use peercache_transport_http::{Dialect, HttpPool, Server};
use support::{Node, ask, found, group, pool, raw_get, serve_peers, soon, value_of};
use tokio::{io::AsyncWriteExt, net::TcpStream};

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
