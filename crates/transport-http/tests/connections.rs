//! Connections: when they are opened and kept.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use peercache_groupcache::{Connect, Members, PeerRequest, Reply, Served};
use peercache_transport_http::HttpPool;
use support::{ask, pool, read_request, scripted, soon, words_of};
use tokio::{io::AsyncWriteExt, sync::mpsc};

const V: &[u8] =
    b"HTTP/1.1 200 OK\r\npeercache: 1; node=00000000000000ff\r\ncontent-length: 9\r\n\r\n\x11\0\0\0\0\0\0\x01v";

/// A peer that gives every lone key the value `v`, and tells of its connections and requests.
async fn reporting_peer() -> (String, mpsc::UnboundedReceiver<&'static str>) {
    let (tx, rx) = mpsc::unbounded_channel();
    let url = scripted(move |mut stream| {
        let tx = tx.clone();
        async move {
            let _ = tx.send("connected");
            while read_request(&mut stream).await.is_some() {
                let _ = tx.send("asked");
                stream.write_all(V).await.unwrap();
            }
            let _ = tx.send("closed");
        }
    })
    .await;
    (url, rx)
}

#[tokio::test]
async fn a_new_member_is_connected_to_before_it_is_asked() {
    let (url, mut said) = reporting_peer().await;
    let members = Members::builder("http://127.0.0.1:1", pool(HttpPool::builder())).build().unwrap();
    members.set(["http://127.0.0.1:1", &url]).unwrap();
    assert_eq!(soon(said.recv()).await, Some("connected"));
    // A second call opens no second connection.
    members.set(["http://127.0.0.1:1", &url]).unwrap();
    tokio::task::yield_now().await;
    // A member that leaves the list takes its connection with it.
    members.set(["http://127.0.0.1:1"]).unwrap();
    assert_eq!(soon(said.recv()).await, Some("closed"));
}

#[tokio::test]
async fn requests_one_after_another_share_a_connection() {
    let (url, mut said) = reporting_peer().await;
    let peer = pool(HttpPool::builder()).connect(&peercache_groupcache::Member::from(&url)).unwrap();
    for _ in 0..3 {
        assert_eq!(words_of(ask(&peer, PeerRequest::new("g", "k")).await), "value b\"v\"");
    }
    drop(peer);
    let mut all = Vec::new();
    while all.last() != Some(&"closed") {
        all.push(soon(said.recv()).await.unwrap());
    }
    assert_eq!(all, ["connected", "asked", "asked", "asked", "closed"]);
}

#[tokio::test]
async fn a_client_of_ones_own_is_used() {
    let headers = [(http::HeaderName::from_static("x-mine"), http::HeaderValue::from_static("yes"))];
    let client = reqwest::Client::builder().no_proxy().default_headers(headers.into_iter().collect()).build().unwrap();
    let mine = Arc::new(AtomicUsize::new(0));
    let counted = mine.clone();
    let url = scripted(move |mut stream| {
        let mine = counted.clone();
        async move {
            while let Some((head, _)) = read_request(&mut stream).await {
                mine.fetch_add(usize::from(head.contains("x-mine: yes")), Ordering::Relaxed);
                stream.write_all(V).await.unwrap();
            }
        }
    })
    .await;
    let peer = pool(HttpPool::builder().client(client))
        .connect(&peercache_groupcache::Member::from(&format!("{url}/behind")))
        .unwrap();
    for _ in 0..2 {
        assert_eq!(words_of(ask(&peer, PeerRequest::new("g", "k")).await), "value b\"v\"");
    }
    assert_eq!(mine.load(Ordering::Relaxed), 2);
}

/// The end of a runtime ends its workers, busy and idle ones. The next request gets others.
#[test]
fn a_peer_outlives_a_runtime_that_asked_it() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (home, first, second) = (runtime(), runtime(), runtime());
    let groups = support::groups();
    support::group(&groups, "stuck", |_| Served::Loading(Box::pin(std::future::pending())));
    let node = home.block_on(support::node(groups));
    let peer = pool(HttpPool::builder()).connect(&peercache_groupcache::Member::from(&node.url())).unwrap();
    let echo = || async { words_of(ask(&peer, PeerRequest::new("echo", "k")).await) };
    let (tx, stuck) = tokio::sync::oneshot::channel();
    first.block_on(async {
        assert_eq!(echo().await, "value b\"k\"");
        peer.get(PeerRequest::new("stuck", "k"), Reply::new(move |answer| drop(tx.send(answer))));
        assert_eq!(echo().await, "value b\"k\"");
    });
    drop(first);
    assert!(words_of(second.block_on(async { soon(stuck).await.unwrap() })).starts_with("failed: "));
    assert_eq!(second.block_on(echo()), "value b\"k\"");
}
