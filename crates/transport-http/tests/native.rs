//! Two of our own nodes, over real sockets.

mod support;

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use peercache_groupcache::{Connect, Error, ErrorKind, PeerError, PeerReply, PeerRequest, Served, Terms};
use peercache_transport_http::{Dialect, HttpPool, Membership, Server};
use support::{ask, ask_once, group, groups, node, node_of, pool, value_of, words_of};

/// Keys that a URL bends.
fn hard_keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let words: [&[u8]; 10] = [b"", b".", b"..", b"/", b"//", b"%2F", b"+", b"a b", b"a+b", b"../../etc"];
    keys.extend(words.map(<[u8]>::to_vec));
    keys.push((0..=255).collect());
    keys.push(vec![0xff; 64 * 1024]);
    keys
}

#[tokio::test]
async fn every_key_comes_back_natively() {
    let peer =
        pool(HttpPool::builder()).connect(&peercache_groupcache::Member::from(&node(groups()).await.keep())).unwrap();
    for group in ["echo", "loaded"] {
        for key in hard_keys() {
            let reply = ask(&peer, PeerRequest::new(group, key.clone())).await;
            assert_eq!(value_of(reply), key, "{group}");
        }
    }
}

#[tokio::test]
async fn every_key_that_a_path_carries_comes_back_by_get() {
    let node = node(groups()).await;
    for key in hard_keys() {
        // A new pool each time: one that knows the peer asks it natively.
        let reply = ask_once(HttpPool::builder().dialect(Dialect::Golang), &node.url(), "echo", &key).await;
        match key.as_slice() {
            b"." | b".." => assert!(matches!(reply, Err(PeerError::NotCarried))),
            long if long.len() == 64 * 1024 => {
                assert!(matches!(reply, Err(PeerError::NotCarried)));
            }
            _ => assert_eq!(value_of(reply), key),
        }
    }
}

#[tokio::test]
async fn every_kind_of_error_arrives_as_itself() {
    let node = node(groups()).await;
    for dialect in [Dialect::Native, Dialect::Golang] {
        for (key, kind) in [
            ("not-found", ErrorKind::NotFound),
            ("load-failed", ErrorKind::LoadFailed),
            ("load-timed-out", ErrorKind::LoadTimedOut),
            ("deadline", ErrorKind::LoadTimedOut),
            ("overloaded", ErrorKind::Overloaded),
            ("value-too-large", ErrorKind::ValueTooLarge),
            ("key-too-long", ErrorKind::KeyTooLong),
            ("codec", ErrorKind::Codec),
        ] {
            let answer = ask_once(HttpPool::builder().dialect(dialect), &node.url(), "kinds", key.as_bytes()).await;
            assert_eq!(words_of(answer), format!("answered {kind:?}"), "{dialect:?} {key}");
        }
    }
}

#[tokio::test]
async fn a_deadline_that_was_sent_comes_back_as_one() {
    let peer =
        pool(HttpPool::builder()).connect(&peercache_groupcache::Member::from(&node(groups()).await.keep())).unwrap();
    let mut request = PeerRequest::new("kinds", "deadline");
    request.terms = Terms::new().timeout(Some(Duration::ZERO));
    assert_eq!(words_of(ask(&peer, request).await), "answered DeadlineExceeded");
}

#[tokio::test]
async fn the_loaders_error_arrives_with_its_text() {
    let node = node(groups()).await;
    for dialect in [Dialect::Native, Dialect::Golang] {
        let answer = ask_once(HttpPool::builder().dialect(dialect), &node.url(), "kinds", b"load-failed").await;
        let Err(PeerError::Answered(error)) = answer else { panic!("{answer:?}") };
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "disk on fire");
    }
}

#[tokio::test]
async fn an_unknown_group_is_a_failed_peer() {
    let node = node(groups()).await;
    for dialect in [Dialect::Native, Dialect::Golang] {
        let answer = ask_once(HttpPool::builder().dialect(dialect), &node.url(), "nope", b"k").await;
        assert_eq!(words_of(answer), format!("failed: peer {} has no such group: nope", node.url()));
    }
}

/// A load that ends after it was polled this often. Nothing wakes it, so each poll is a heartbeat.
fn load_of_heartbeats(count: usize) -> Served {
    let mut polls = 0;
    Served::Loading(Box::pin(poll_fn(move |_| {
        polls += 1;
        if polls > count { Poll::Ready(Ok(PeerReply::new("at last".into()))) } else { Poll::Pending }
    })))
}

#[tokio::test]
async fn a_load_longer_than_the_silence_bound_is_waited_for() {
    let groups = groups();
    group(&groups, "slow", |_| load_of_heartbeats(12));
    let node = node(groups).await;
    // Twelve heartbeats are four times the silence bound.
    let peer = pool(HttpPool::builder().peer_timeout(Duration::from_millis(300)))
        .connect(&peercache_groupcache::Member::from(&node.url()))
        .unwrap();
    assert_eq!(words_of(ask(&peer, PeerRequest::new("slow", "k")).await), "value b\"at last\"");
}

#[tokio::test]
async fn a_load_that_never_ends_is_given_up() {
    let groups = groups();
    group(&groups, "stuck", |_| Served::Loading(Box::pin(std::future::pending())));
    let node = node(groups).await;
    let peer = pool(HttpPool::builder().peer_timeout(Duration::from_millis(100)))
        .connect(&peercache_groupcache::Member::from(&node.url()))
        .unwrap();
    let mut request = PeerRequest::new("stuck", "k");
    request.load_timeout = Duration::from_millis(300);
    assert!(words_of(ask(&peer, request).await).ends_with("did not answer within 400ms"));
}

#[tokio::test]
async fn large_values_arrive_and_larger_ones_are_refused() {
    let node = node(groups()).await;
    for (dialect, refusal) in [
        (Dialect::Native, "answered ValueTooLarge".to_owned()),
        (Dialect::Golang, format!("failed: peer {} sent more than 1000000 bytes", node.url())),
    ] {
        for (bytes, refusal) in [(100, None), (10_000, None), (1_000_000, None), (1_000_001, Some(&refusal))] {
            let peer = pool(HttpPool::builder().dialect(dialect))
                .connect(&peercache_groupcache::Member::from(&node.url()))
                .unwrap();
            let mut request = PeerRequest::new("large", bytes.to_string());
            request.max_value_bytes = 1_000_000;
            match (ask(&peer, request).await, refusal) {
                (Ok(reply), None) => assert_eq!(value_of(Ok(reply)).len(), bytes),
                (answer, refusal) => assert_eq!(Some(&words_of(answer)), refusal, "{dialect:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_node_that_asks_itself_gets_an_error() {
    let itself = Membership::new("http://127.0.0.1:1");
    let loads = Arc::new(AtomicUsize::new(0));
    let groups = groups();
    let counted = loads.clone();
    group(&groups, "counted", move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Served::Ready(Err(Error::new(ErrorKind::NotFound)))
    });
    let node = node_of(groups, |_| itself.clone()).await;
    for dialect in [Dialect::Native, Dialect::Golang] {
        let answer =
            ask_once(HttpPool::builder().dialect(dialect).membership(itself.clone()), &node.url(), "counted", b"k")
                .await;
        assert!(words_of(answer).contains("is this node itself"), "{dialect:?}");
    }
    assert_eq!(loads.load(Ordering::Relaxed), 0, "the node loaded for itself");
}

/// The log, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_node_that_asks_itself_logs_it_once() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let itself = Membership::new("http://127.0.0.1:1");
    let node = node_of(groups(), |_| itself.clone()).await;
    let peer = pool(HttpPool::builder().membership(itself.clone()))
        .connect(&peercache_groupcache::Member::from(&node.url()))
        .unwrap();
    for _ in 0..3 {
        let _ = ask(&peer, PeerRequest::new("echo", "k")).await;
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("this peer is this node itself") && log.contains(&node.url()), "{log}");
}

#[tokio::test]
async fn a_golang_pool_asks_one_of_ours_natively_once_it_knows() {
    let peer = pool(HttpPool::builder().dialect(Dialect::Golang))
        .connect(&peercache_groupcache::Member::from(&node(groups()).await.keep()))
        .unwrap();
    assert_eq!(words_of(ask(&peer, PeerRequest::new("echo", "..")).await), "key not carried");
    assert_eq!(words_of(ask(&peer, PeerRequest::new("echo", "k")).await), "value b\"k\"");
    assert_eq!(words_of(ask(&peer, PeerRequest::new("echo", "..")).await), "value b\"..\"");
}

#[tokio::test]
async fn more_fetches_than_allowed_are_overload() {
    let groups = groups();
    group(&groups, "stuck", |_| Served::Loading(Box::pin(std::future::pending())));
    let node = node(groups).await;
    let peer =
        pool(HttpPool::builder().max_fetches(2)).connect(&peercache_groupcache::Member::from(&node.url())).unwrap();
    for _ in 0..2 {
        peer.get(PeerRequest::new("stuck", "k"), peercache_groupcache::Reply::new(drop));
    }
    assert_eq!(words_of(ask(&peer, PeerRequest::new("echo", "k")).await), "answered Overloaded");
}

#[tokio::test]
async fn three_hundred_at_once_are_all_answered() {
    let peer = pool(HttpPool::builder().max_connections(10))
        .connect(&peercache_groupcache::Member::from(&node(groups()).await.keep()))
        .unwrap();
    let asked: Vec<_> = (0..300)
        .map(|n| {
            let peer = peer.clone();
            tokio::spawn(async move { value_of(ask(&peer, PeerRequest::new("loaded", n.to_string())).await) })
        })
        .collect();
    for (n, answer) in asked.into_iter().enumerate() {
        assert_eq!(answer.await.unwrap(), n.to_string());
    }
}

/// A request that leaves the load this many milliseconds.
fn within(group: &str, load_ms: u64) -> PeerRequest {
    let mut request = PeerRequest::new(group, "k");
    request.load_timeout = Duration::from_millis(load_ms);
    request
}

#[tokio::test]
async fn waiting_for_a_connection_is_not_the_peers_fault() {
    let groups = groups();
    group(&groups, "stuck", |_| Served::Loading(Box::pin(std::future::pending())));
    let builder = HttpPool::builder().max_connections(1).peer_timeout(Duration::from_millis(300));
    let peer = pool(builder).connect(&peercache_groupcache::Member::from(&node(groups).await.keep())).unwrap();
    // The first is loading for as long as the second waits at most, and longer.
    let (long, short) = tokio::join!(ask(&peer, within("stuck", 600)), ask(&peer, within("stuck", 0)));
    let long = words_of(long);
    assert!(long.ends_with("did not answer within 900ms"), "{long}");
    assert_eq!(words_of(short), "answered Overloaded");
}

#[tokio::test]
async fn a_fetch_that_waited_for_a_connection_has_its_whole_time() {
    let groups = groups();
    group(&groups, "stuck", |_| Served::Loading(Box::pin(std::future::pending())));
    group(&groups, "slow", |_| load_of_heartbeats(40));
    let builder = HttpPool::builder().max_connections(1).peer_timeout(Duration::from_millis(300));
    let peer = pool(builder).connect(&peercache_groupcache::Member::from(&node(groups).await.keep())).unwrap();
    // The slow one takes over 1.2 s of its 2.8 s, after the stuck one held the only connection for
    // 1.8 s.
    let (_, slow) = tokio::join!(ask(&peer, within("stuck", 1_500)), ask(&peer, within("slow", 2_500)));
    assert_eq!(words_of(slow), "value b\"at last\"");
}

#[test]
fn outside_a_runtime_a_fetch_fails() {
    let peer = pool(HttpPool::builder()).connect(&peercache_groupcache::Member::from("http://127.0.0.1:1")).unwrap();
    let (tx, rx) = std::sync::mpsc::channel();
    peer.get(PeerRequest::new("g", "k"), peercache_groupcache::Reply::new(move |answer| tx.send(answer).unwrap()));
    assert!(words_of(rx.recv().unwrap()).contains("outside a tokio runtime"));
}

#[tokio::test]
async fn a_router_in_an_app_of_ones_own_answers_too() {
    let node = support::serve_peers(groups(), |server| {
        let app = axum::Router::new().route("/", axum::routing::get(|| async { "home" }));
        Server::new(app.merge(server.base_path("/caches/").unwrap().router()))
    });
    let node = node.await;
    let builder = || HttpPool::builder().base_path("/caches/");
    assert_eq!(words_of(ask_once(builder(), &node.url(), "echo", b"k").await), "value b\"k\"");
    assert_eq!(words_of(ask_once(builder().dialect(Dialect::Golang), &node.url(), "echo", b"k").await), "value b\"k\"");
}

trait Keep {
    /// The node's URL; the node goes on for as long as the test does.
    fn keep(self) -> String;
}

impl Keep for support::Node {
    fn keep(self) -> String {
        let url = self.url();
        Box::leak(Box::new(self));
        url
    }
}
