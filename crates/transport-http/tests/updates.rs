//! Updates from one node to another, over real sockets.

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use peercache_groupcache::{
    Ack, Change, Connect, Error, ErrorKind, Groups, Key, Members, Peer, PeerError, PeerRequest, PeerUpdate, Reply,
    Served, SetValue, Stamp,
};
use peercache_transport_http::{Dialect, HttpPool, HttpPoolBuilder, Membership, Server};
use support::{
    Received, WATCHDOG, ack, group, groups, node, node_of, pool, raw, read_request, read_to_close, scripted,
    send_update, soon, status_and_body, updated_group,
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

const OURS: &str = "peercache: 1; node=00000000000000ff\r\n";

const ACK: &[u8] =
    b"HTTP/1.1 200 OK\r\npeercache: 1; node=00000000000000ff\r\ncontent-length: 32\r\n\r\n\x13\0\0\0\0\0\0\x18\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// The answer of a node of ours to a probe.
const REFUSAL: &[u8] =
    b"HTTP/1.1 400 X\r\npeercache: 1; node=00000000000000ff\r\ncontent-length: 12\r\n\r\nbad request\n";

/// A silence that a test waits out.
const SHORT: Duration = Duration::from_millis(150);

fn remove(keys: impl IntoIterator<Item = impl Into<Key>>) -> PeerUpdate {
    PeerUpdate::new("g", 7, Change::Remove(keys.into_iter().map(Into::into).collect()))
}

fn set(value: impl Into<Vec<u8>>) -> PeerUpdate {
    let stamp = Stamp { incarnation: 5, count: 6 };
    let ttl = Some(Duration::from_millis(1_500));
    let value = SetValue::new("k".into(), value.into().into(), ttl, stamp, Duration::from_millis(250));
    PeerUpdate::new("g", 7, Change::Set(value))
}

/// The outcome of an update in one line, without the peer's name.
async fn outcome(peer: &Arc<dyn Peer>, update: PeerUpdate) -> String {
    words(send_update(peer, update, WATCHDOG).await)
}

fn words(answer: Result<Ack, PeerError>) -> String {
    match answer {
        Ok(ack) => format!("ring {} at {}", ack.ring, ack.stamp.count),
        Err(PeerError::Answered(error)) => format!("answered {:?}", error.kind()),
        Err(PeerError::NotCarried) => "not carried".to_owned(),
        Err(error) => error.to_string().split_once(' ').unwrap().1.split_once(' ').unwrap().1.to_owned(),
    }
}

/// A node with the group `g`, which acknowledges with its count of updates.
async fn updated_node() -> (support::Node, Received) {
    let groups = groups();
    let received = updated_group(&groups, "g", |count| Ok(ack(count as u64)));
    (node(groups).await, received)
}

fn peer_at(builder: HttpPoolBuilder, url: &str) -> Arc<dyn Peer> {
    pool(builder).connect(&peercache_groupcache::Member::from(url)).unwrap()
}

fn golang() -> HttpPoolBuilder {
    HttpPool::builder().dialect(Dialect::Golang)
}

#[tokio::test]
async fn every_update_arrives_as_it_was_sent() {
    let (node, received) = updated_node().await;
    let peer = peer_at(HttpPool::builder(), &node.url());
    let hard_keys: Vec<Vec<u8>> = vec![vec![], b".".to_vec(), b"a b/%2F".to_vec(), vec![0xff; 64 * 1024]];
    let updates = [
        remove(["k"]),
        remove(hard_keys).missed(vec!["http://10.0.0.2:9090".to_owned(), "http://10.0.0.3:9090".to_owned()]),
        PeerUpdate::new("g", u64::MAX, Change::Clear).missed(vec!["http://10.0.0.2:9090".to_owned()]),
        set("v"),
        set(""),
        set(vec![7; 1 << 20]),
    ];
    for update in &updates {
        send_update(&peer, update.clone(), WATCHDOG).await.unwrap();
    }
    let mut received = received.lock().unwrap().clone();
    // The long key goes alone.
    let (Change::Remove(long), update) = (received.remove(2).change, &mut received[1]) else { panic!("not a removal") };
    let Change::Remove(keys) = &mut update.change else { panic!("not a removal") };
    keys.extend(long);
    assert_eq!(received, updates);
}

#[tokio::test]
async fn the_acknowledgement_is_that_of_the_member() {
    let groups = groups();
    let made = Ack::new(u64::MAX, Stamp { incarnation: 1 << 63, count: u64::MAX });
    updated_group(&groups, "g", move |_| Ok(made));
    let node = node(groups).await;
    assert_eq!(send_update(&peer_at(HttpPool::builder(), &node.url()), remove(["k"]), WATCHDOG).await.unwrap(), made);
}

#[tokio::test]
async fn ten_thousand_keys_are_sent_in_parts_and_acknowledged_as_one() {
    let (node, received) = updated_node().await;
    let peer = peer_at(HttpPool::builder(), &node.url());
    let keys: Vec<Key> = (0..10_000).map(|n| n.to_string().into()).collect();
    assert_eq!(outcome(&peer, remove(keys.clone())).await, "ring 7 at 10");
    let mut received_keys = Vec::new();
    for update in received.lock().unwrap().iter() {
        let Change::Remove(keys) = &update.change else { panic!("not a removal") };
        received_keys.extend(keys.clone());
    }
    assert_eq!(received_keys, keys);
}

#[tokio::test]
async fn a_different_ring_at_any_part_is_reported() {
    for differs in 1..=3 {
        let groups = groups();
        updated_group(&groups, "g", move |count| {
            let ring = if count == differs { 9 } else { 7 };
            Ok(Ack::new(ring, Stamp { incarnation: 5, count: count as u64 }))
        });
        let node = node(groups).await;
        let keys = (0..3_000).map(|n| n.to_string());
        assert_eq!(outcome(&peer_at(HttpPool::builder(), &node.url()), remove(keys)).await, "ring 9 at 3");
    }
}

#[tokio::test]
async fn a_part_that_fails_fails_the_update() {
    let groups = groups();
    updated_group(&groups, "g", |count| match count {
        2 => Err(Error::new(ErrorKind::Overloaded)),
        _ => Ok(ack(1)),
    });
    let node = node(groups).await;
    let keys = (0..3_000).map(|n| n.to_string());
    assert_eq!(outcome(&peer_at(HttpPool::builder(), &node.url()), remove(keys)).await, "answered Overloaded");
}

#[tokio::test]
async fn an_unknown_group_is_a_failed_peer() {
    let node = node(groups()).await;
    let peer = peer_at(HttpPool::builder(), &node.url());
    assert_eq!(outcome(&peer, remove(["k"])).await, "has no such group: g");
}

#[tokio::test]
async fn a_group_that_takes_no_updates_answers_so() {
    let node = node(groups()).await;
    let update = PeerUpdate::new("echo", 7, Change::Clear);
    assert_eq!(outcome(&peer_at(HttpPool::builder(), &node.url()), update).await, "answered LoadFailed");
}

#[tokio::test]
async fn a_node_that_sends_itself_an_update_gets_an_error() {
    let itself = Membership::new("http://127.0.0.1:1");
    let groups = groups();
    let received = updated_group(&groups, "g", |_| Ok(ack(1)));
    let node = node_of(groups, |_| itself.clone()).await;
    let peer = peer_at(HttpPool::builder().membership(itself.clone()), &node.url());
    assert!(outcome(&peer, remove(["k"])).await.starts_with("is this node itself"));
    assert!(received.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_golang_pool_updates_one_of_ours() {
    let (node, received) = updated_node().await;
    let peer = peer_at(golang(), &node.url());
    assert_eq!(outcome(&peer, remove(["k"])).await, "ring 7 at 1");
    assert_eq!(outcome(&peer, remove(["k"])).await, "ring 7 at 2");
    assert_eq!(received.lock().unwrap().len(), 2);
}

/// The answers of Go's server to a path without a key and to a key.
const GO_REFUSAL: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    x-content-type-options: nosniff\r\ncontent-length: 12\r\n\r\nbad request\n";
const GO_VALUE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 3\r\n\r\n\x0a\x01v";

/// A server that answers everything with these words, with the request lines of all that it was
/// sent.
async fn that_says(words: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = heads.clone();
    let url = scripted(move |mut stream| {
        let heads = kept.clone();
        async move {
            while let Some((head, _)) = read_request(&mut stream).await {
                heads.lock().unwrap().push(head.lines().next().unwrap().to_owned());
                stream.write_all(words.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    (url, heads)
}

#[tokio::test]
async fn one_of_ours_from_before_there_were_updates_is_sent_none() {
    let (url, _) =
        that_says("HTTP/1.1 404 X\r\npeercache: 1; node=00000000000000ff\r\ncontent-length: 0\r\n\r\n").await;
    let peer = peer_at(HttpPool::builder(), &url);
    for update in [remove(["k"]), PeerUpdate::new("g", 7, Change::Clear), set("v")] {
        assert_eq!(outcome(&peer, update).await, "not carried");
    }
}

#[tokio::test]
async fn a_golang_pool_sends_a_go_peer_nothing_that_it_could_misread() {
    let (url, heads) = that_says(GO_REFUSAL).await;
    assert_eq!(outcome(&peer_at(golang(), &url), remove(["k"])).await, "not carried");
    assert_eq!(*heads.lock().unwrap(), ["GET /_groupcache/ HTTP/1.1"]);
}

#[tokio::test]
async fn an_update_whose_names_do_not_fit_is_not_sent() {
    let (node, received) = updated_node().await;
    let update = remove(["k"]).missed(vec!["n".repeat(2_000)]);
    assert_eq!(outcome(&peer_at(HttpPool::builder(), &node.url()), update).await, "not carried");
    assert!(received.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_peer_that_is_silent_has_failed_in_time() {
    let head = format!("HTTP/1.1 200 OK\r\n{OURS}transfer-encoding: chunked\r\n\r\n");
    for says in [String::new(), head] {
        let url = scripted(move |mut stream| {
            let says = says.clone();
            async move {
                read_request(&mut stream).await;
                let _ = stream.write_all(says.as_bytes()).await;
                let _ = read_request(&mut stream).await;
            }
        })
        .await;
        let peer = peer_at(HttpPool::builder(), &url);
        let outcome = words(send_update(&peer, remove(["k"]), SHORT).await);
        assert!(outcome == "did not answer within 150ms" || outcome == "was silent for 150ms", "{outcome}");
    }
}

#[tokio::test]
async fn an_absent_peer_has_failed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for builder in [HttpPool::builder(), golang()] {
        let outcome = outcome(&peer_at(builder, &url), remove(["k"])).await;
        assert!(outcome.starts_with("cannot be reached: "), "{outcome}");
    }
}

#[tokio::test]
async fn garbage_is_no_acknowledgement() {
    for (frames, failure) in [
        (&b""[..], "no acknowledgement before the end"),
        (b"\x13\0\0\0\0\0\0\x18", "no acknowledgement before the end"),
        (b"\x13\0\0\0\0\0\0\x01\0", "a frame too short for its kind 0x13"),
        (b"\x11\0\0\0\0\0\0\x00", "a frame that acknowledges nothing"),
        (b"\x12\0\0\0\0\0\0\x01\x3f", "an error of the unknown code 63"),
        (b"<html>hello</html>", "a frame of the unknown kind 0x3c"),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\n{OURS}content-length: {}\r\n\r\n", frames.len());
        let url = support::fixed_answer([head.as_bytes(), frames].concat()).await;
        let outcome = outcome(&peer_at(HttpPool::builder(), &url), remove(["k"])).await;
        assert_eq!(outcome, format!("sent what is not an answer: {failure}"));
    }
}

#[tokio::test]
async fn a_stale_connection_is_replaced() {
    let connections = Arc::new(AtomicUsize::new(0));
    let url = scripted(move |mut stream| {
        let closes = connections.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            let mut answered = false;
            while read_request(&mut stream).await.is_some() && !(answered && closes) {
                let head = format!("HTTP/1.1 200 OK\r\n{OURS}content-length: 32\r\n\r\n\x13\0\0\0\0\0\0\x18");
                stream.write_all(&[head.as_bytes(), &[0; 24]].concat()).await.unwrap();
                answered = true;
            }
        }
    })
    .await;
    let peer = peer_at(HttpPool::builder(), &url);
    for _ in 0..3 {
        assert_eq!(outcome(&peer, remove(["k"])).await, "ring 0 at 0");
    }
}

/// A member that answers its first GET without an identity header, and later ones with it. Its
/// first connection closes instead of carrying a second request. It counts its connections.
async fn foreign_at_first() -> (String, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let url = scripted(move |mut stream| {
        let first = counted.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            while let Some((head, _)) = read_request(&mut stream).await {
                if first {
                    stream.write_all(GO_VALUE).await.unwrap();
                    read_request(&mut stream).await;
                    return;
                }
                stream.write_all(if head.starts_with("GET ") { REFUSAL } else { ACK }).await.unwrap();
            }
        }
    })
    .await;
    (url, connections)
}

#[tokio::test]
async fn a_stale_connection_is_replaced_before_a_member_is_known() {
    let (url, connections) = foreign_at_first().await;
    let peer = peer_at(golang(), &url);
    support::ask(&peer, PeerRequest::new("g", "k")).await.unwrap();
    assert_eq!(outcome(&peer, remove(["k"])).await, "ring 0 at 0");
    assert_eq!(connections.load(Ordering::Relaxed), 2, "the answer that tells who it is leaves its connection of use");
}

#[tokio::test]
async fn a_peer_that_does_not_answer_a_probe_has_failed_in_time() {
    let url = scripted(|mut stream| async move { while read_request(&mut stream).await.is_some() {} }).await;
    assert_eq!(outcome(&peer_at(golang().peer_timeout(SHORT), &url), remove(["k"])).await, "was silent for 150ms");
}

#[tokio::test]
async fn updates_do_not_wait_for_fetches() {
    let groups = groups();
    group(&groups, "stuck", |_| Served::Loading(Box::pin(std::future::pending())));
    updated_group(&groups, "g", |_| Ok(ack(1)));
    let node = node(groups).await;
    let peer = peer_at(HttpPool::builder().max_connections(1).max_fetches(1), &node.url());
    peer.get(PeerRequest::new("stuck", "k"), Reply::new(drop));
    assert_eq!(outcome(&peer, remove(["k"])).await, "ring 7 at 1");
}

#[test]
fn outside_a_runtime_an_update_fails() {
    let peer = peer_at(HttpPool::builder(), "http://127.0.0.1:1");
    let (tx, rx) = std::sync::mpsc::channel();
    peer.update(remove(["k"]), WATCHDOG, Reply::new(move |answer| tx.send(answer).unwrap()));
    assert_eq!(words(rx.recv().unwrap()), "cannot be asked outside a tokio runtime");
}

/// A node that takes values of at most this many bytes.
async fn node_for_values(max_value_bytes: usize, body_read_timeout: Duration) -> (support::Node, Received) {
    let groups = Groups::new(Members::alone());
    let received = updated_group(&groups, "g", |count| Ok(ack(count as u64)));
    let node = support::serve_peers(groups, |server| {
        Server::new(server.max_value_bytes(max_value_bytes).body_read_timeout(body_read_timeout).router())
    });
    (node.await, received)
}

#[tokio::test]
async fn a_value_that_is_too_long_is_refused() {
    // More than may come beside the value.
    let (node, received) = node_for_values(1_000_000, WATCHDOG).await;
    let peer = peer_at(HttpPool::builder(), &node.url());
    assert_eq!(outcome(&peer, set(vec![0; 1_000_000])).await, "ring 7 at 1");
    assert_eq!(outcome(&peer, set(vec![0; 1_400_000])).await, "answered ValueTooLarge");
    assert_eq!(outcome(&peer, set(vec![0; 1_000_001])).await, "answered ValueTooLarge");
    assert_eq!(received.lock().unwrap().len(), 1);
}

fn post(content_length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /_peercache/v1/update HTTP/1.1\r\nhost: x\r\npeercache: 1; node=00000000000000ff\r\nconnection: close\r\n\
         content-length: {content_length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// The body that removes keys, of which there are so many and all are empty.
fn removal(keys: u16) -> Vec<u8> {
    let mut body =
        b"\x04\0\0\0\0\0\0\x0e\x01\0\0\0\0\0\0\0\x07\0\0\0\0\0\x02\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\0g".to_vec();
    (0..keys).for_each(|index| body.extend([3, 0, (index >> 8) as u8, index as u8, 0, 0, 0, 0]));
    body
}

fn clearing(missed: &[&str]) -> Vec<u8> {
    let mut body =
        b"\x04\0\0\0\0\0\0\x0e\x02\0\0\0\0\0\0\0\x07\0\0\0\0\0\x02\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\0g".to_vec();
    for name in missed {
        body.extend([5, 0, 0, 0, 0, 0, (name.len() >> 8) as u8, name.len() as u8]);
        body.extend(name.as_bytes());
    }
    body
}

#[tokio::test]
async fn hostile_updates_change_nothing() {
    let (node, received) = node_for_values(1 << 20, WATCHDOG).await;
    let long_name = "n".repeat(1_025);
    let whole = |body: Vec<u8>| post(body.len(), &body);
    let chunked = [
        b"POST /_peercache/v1/update HTTP/1.1\r\nhost: x\r\npeercache: 1; node=00000000000000ff\r\n\
          transfer-encoding: chunked\r\n\r\n400000\r\n"
            .to_vec(),
        vec![0; 0x40_0000],
    ];
    for (what, request, status) in [
        ("nothing", whole(vec![]), 400),
        ("garbage", whole(b"garbage!".to_vec()), 400),
        ("zeros", whole(vec![0; 1_000_000]), 400),
        ("too many keys", whole(removal(1_025)), 400),
        ("a key cut short", whole(removal(2)[..53].to_vec()), 400),
        ("a long name", whole(clearing(&[&long_name])), 400),
        ("too many names", whole(clearing(&[""; 1_001])), 400),
        ("two changes", whole([clearing(&[]), clearing(&[])].concat()), 400),
        ("a claim", post(100 << 20, b""), 413),
        ("a claim without end", post(usize::MAX >> 1, b""), 413),
        ("a stream", chunked.concat(), 413),
    ] {
        assert_eq!(status_and_body(&raw(node.address, &request).await).0, status, "{what}");
    }
    assert!(received.lock().unwrap().is_empty());
    for good in [removal(1_024), removal(0), clearing(&[&long_name[1..]]), clearing(&[""; 1_000])] {
        assert_eq!(status_and_body(&raw(node.address, &whole(good)).await).0, 200);
    }
}

#[tokio::test]
async fn an_update_that_does_not_arrive_is_given_up() {
    let (node, received) = node_for_values(1 << 20, SHORT).await;
    for content_length in [removal(2).len(), 1 << 20] {
        let answer = raw(node.address, &post(content_length, &removal(1))).await;
        assert_eq!(status_and_body(&answer).0, 408);
    }
    assert!(received.lock().unwrap().is_empty());
}

#[tokio::test]
async fn other_methods_are_refused() {
    let (node, _) = updated_node().await;
    let request = b"GET /_peercache/v1/update HTTP/1.1\r\nhost: x\r\npeercache: 1; node=00000000000000ff\r\n\
        connection: close\r\n\r\n";
    let answer = raw(node.address, request).await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("\r\nallow: POST\r\n"), "{answer}");
    assert!(answer.contains("\r\npeercache: 1; node="), "{answer}");
}

/// The body of a set of a value of this many bytes.
fn setting(value_bytes: u32) -> Vec<u8> {
    let mut body = b"\x04\0\0\0\0\0\0\x0e\x03\0\0\0\0\0\0\0\x07\0\0\0\0\0\x02\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\0g\
        \x06\0\0\0\0\0\0\x18\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06\0\0\0\xfa\xff\xff\xff\xff\
        \x03\0\0\0\0\0\0\x01k\x11\0\0\0"
        .to_vec();
    body.extend(value_bytes.to_be_bytes());
    body.resize(body.len() + value_bytes as usize, 7);
    body
}

#[tokio::test]
async fn a_large_value_that_stands_still_is_cut_off_for_another_and_small_updates_go_on() {
    let (node, _) = node_for_values(32 << 20, WATCHDOG).await;
    let large = setting(12 << 20);
    let mut slow = TcpStream::connect(node.address).await.unwrap();
    let (_, most) = large.split_last().unwrap();
    slow.write_all(&post(large.len(), most)).await.unwrap();
    let peer = peer_at(HttpPool::builder(), &node.url());
    assert_eq!(outcome(&peer, set(vec![7; 5 << 20])).await, "ring 7 at 1");
    assert_eq!(outcome(&peer, remove(["k"])).await, "ring 7 at 2");
    // Both do not fit. The other one is refused only as long as it is the slower of the two.
    let sent = async {
        loop {
            let outcome = outcome(&peer, set(vec![7; 12 << 20])).await;
            if outcome.starts_with("ring 7") {
                break outcome;
            }
            assert_eq!(outcome, "answered 503 Service Unavailable");
        }
    };
    assert_eq!(soon(sent).await, "ring 7 at 3");
    assert_eq!(status_and_body(&read_to_close(&mut slow).await).0, 503);
}
