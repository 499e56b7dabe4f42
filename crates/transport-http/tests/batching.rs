//! Keys that are asked for one by one and sent together, over real sockets.

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use peercache_groupcache::{
    Bytes, Connect, Groups, HoldLimit, Key, Members, Peer, PeerError, PeerReply, PeerRequest, Reply, Served,
    ServedGroup, Terms,
};
use peercache_transport_http::{Dialect, HttpPool};
use support::{found, node, pool, read_request, scripted, soon, words_of};
use tokio::{
    io::AsyncWriteExt,
    sync::{Barrier, Semaphore, mpsc},
};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\npeercache: 1; node=00000000000000ff\r\ncontent-length: ";

/// Asks for these keys, each by itself; the answers come as they are given.
fn ask_each(
    peer: &Arc<dyn Peer>,
    requests: impl IntoIterator<Item = PeerRequest>,
) -> mpsc::UnboundedReceiver<(Key, Result<PeerReply, PeerError>)> {
    let (tx, rx) = mpsc::unbounded_channel();
    for request in requests {
        let (tx, key) = (tx.clone(), request.key.clone());
        peer.get(request, Reply::new(move |answer| drop(tx.send((key, answer)))));
    }
    rx
}

fn requests(group: &str, keys: impl IntoIterator<Item = usize>) -> impl Iterator<Item = PeerRequest> {
    keys.into_iter().map(move |n| PeerRequest::new(group, n.to_string()))
}

/// The number of keys in a request for values.
fn keys_of(body: &[u8]) -> u8 {
    let mut rest = body;
    let mut keys = 0;
    while let [kind, _, _, _, a, b, c, d, ..] = rest {
        keys += u8::from(*kind == 3);
        rest = &rest[8 + u32::from_be_bytes([*a, *b, *c, *d]) as usize..];
    }
    keys
}

/// A peer of ours that gives every key the value `v`, with a permit for each batch. It tells how
/// many keys came in each.
async fn one_batch_per_permit(permits: Arc<Semaphore>) -> (String, mpsc::UnboundedReceiver<u8>) {
    let (tx, rx) = mpsc::unbounded_channel();
    let url = scripted(move |mut stream| {
        let (tx, permits) = (tx.clone(), permits.clone());
        async move {
            while let Some((_, body)) = read_request(&mut stream).await {
                let keys = keys_of(&body);
                tx.send(keys).unwrap();
                permits.acquire().await.unwrap().forget();
                let frames = (0..keys).map(|index| [0x11, 0, 0, index, 0, 0, 0, 1, b'v']).collect::<Vec<_>>().concat();
                let length = format!("{}\r\n\r\n", frames.len());
                stream.write_all(&[HEAD, length.as_bytes(), &frames].concat()).await.unwrap();
            }
        }
    })
    .await;
    (url, rx)
}

#[tokio::test]
async fn keys_collect_while_a_batch_is_on_its_way_and_leave_together() {
    let permits = Arc::new(Semaphore::new(0));
    let (url, mut batches) = one_batch_per_permit(permits.clone()).await;
    let peer = pool(HttpPool::builder().peer_timeout(support::WATCHDOG))
        .connect(&peercache_groupcache::Member::from(&url))
        .unwrap();
    let mut answers = ask_each(&peer, requests("g", 0..100));
    assert_eq!(soon(batches.recv()).await, Some(1), "a lone key leaves at once");
    permits.add_permits(2);
    assert_eq!(soon(batches.recv()).await, Some(99), "the others leave together");
    while let Some((_, answer)) = soon(answers.recv()).await {
        assert_eq!(words_of(answer), "value b\"v\"");
    }
    assert!(batches.try_recv().is_err());
}

#[tokio::test]
async fn a_group_does_not_wait_for_another() {
    let permits = Arc::new(Semaphore::new(0));
    let (url, mut batches) = one_batch_per_permit(permits.clone()).await;
    let peer = pool(HttpPool::builder().peer_timeout(support::WATCHDOG))
        .connect(&peercache_groupcache::Member::from(&url))
        .unwrap();
    let _answers = [ask_each(&peer, requests("g", 0..3)), ask_each(&peer, requests("h", 0..3))];
    assert_eq!([soon(batches.recv()).await, soon(batches.recv()).await], [Some(1), Some(1)]);
}

#[tokio::test]
async fn keys_of_large_values_go_by_themselves() {
    const VALUE_BYTES: usize = 1 << 20;
    let groups = Groups::new(Members::alone());
    let sizes = Sizes::in_groups(&groups, VALUE_BYTES);
    let node = node(groups).await;
    let peer = pool(HttpPool::builder()).connect(&peercache_groupcache::Member::from(&node.url())).unwrap();
    // The first one shows the size of the values.
    for keys in [0..1, 1..9] {
        let mut answers = ask_each(&peer, requests("sizes", keys));
        while let Some((_, answer)) = soon(answers.recv()).await {
            assert_eq!(support::value_of(answer).len(), VALUE_BYTES);
        }
    }
    assert_eq!(*sizes.asked_together.lock().unwrap(), Vec::<usize>::new());
}

/// A group with values of one size, which counts the keys that it is asked for together.
struct Sizes {
    name: Arc<str>,
    value: Bytes,
    asked_together: Mutex<Vec<usize>>,
}

impl Sizes {
    fn in_groups(groups: &Groups, value_bytes: usize) -> Arc<Self> {
        let value = vec![b'x'; value_bytes].into();
        let sizes = Arc::new(Sizes { name: "sizes".into(), value, asked_together: Mutex::default() });
        groups.register(sizes.clone()).unwrap();
        sizes
    }
}

impl ServedGroup for Sizes {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn answer(self: Arc<Self>, _: &[u8], _: Terms) -> Served {
        found(self.value.clone())
    }

    fn answer_many(self: Arc<Self>, keys: Vec<Key>, terms: Terms, _: Arc<dyn HoldLimit>) -> Vec<Served> {
        self.asked_together.lock().unwrap().push(keys.len());
        keys.iter().map(|key| self.clone().answer(key.as_bytes(), terms)).collect()
    }
}

#[tokio::test]
async fn ninety_nine_keys_arrive_while_the_load_of_one_is_held() {
    let barrier = Arc::new(Barrier::new(2));
    let held = barrier.clone();
    let groups = support::groups();
    support::group(&groups, "held", move |key| {
        let value = Bytes::copy_from_slice(key);
        if key != b"17" {
            return found(value);
        }
        let held = held.clone();
        Served::Loading(Box::pin(async move {
            held.wait().await;
            Ok(PeerReply::new(value))
        }))
    });
    let node = node(groups).await;
    let peer = pool(HttpPool::builder()).connect(&peercache_groupcache::Member::from(&node.url())).unwrap();
    let mut answers = ask_each(&peer, requests("held", 0..100));
    for _ in 0..99 {
        let (key, answer) = soon(answers.recv()).await.unwrap();
        assert_ne!(key.as_bytes(), b"17");
        assert_eq!(support::value_of(answer), key.as_bytes());
    }
    barrier.wait().await;
    assert_eq!(soon(answers.recv()).await.unwrap().0.as_bytes(), b"17");
}

#[tokio::test]
async fn a_key_asked_for_outside_a_runtime_takes_no_other_keys_place() {
    let permits = Arc::new(Semaphore::new(0));
    let (url, mut batches) = one_batch_per_permit(permits.clone()).await;
    let peer = pool(HttpPool::builder().peer_timeout(support::WATCHDOG))
        .connect(&peercache_groupcache::Member::from(&url))
        .unwrap();
    let mut answers = ask_each(&peer, requests("g", 0..10));
    assert_eq!(soon(batches.recv()).await, Some(1));
    let elsewhere = peer.clone();
    let outside = std::thread::spawn(move || {
        let mut answers = ask_each(&elsewhere, requests("h", 0..2));
        while let Some((_, answer)) = answers.blocking_recv() {
            assert!(words_of(answer).ends_with("cannot be asked outside a tokio runtime"));
        }
    });
    outside.join().unwrap();
    permits.add_permits(2);
    assert_eq!(soon(batches.recv()).await, Some(9));
    while let Some((_, answer)) = soon(answers.recv()).await {
        assert_eq!(words_of(answer), "value b\"v\"");
    }
}

/// Each key by itself, and none of them on the stack of another.
#[test]
fn many_keys_fail_at_once_outside_a_runtime() {
    let peer = pool(HttpPool::builder().dialect(Dialect::Golang).max_connections(1))
        .connect(&peercache_groupcache::Member::from("http://127.0.0.1:1"))
        .unwrap();
    for _ in 0..2 {
        let mut answers = support::ask_many(&peer, "g", (0..30_000).map(|n| n.to_string()));
        let mut failed = 0;
        while let Some((_, answer)) = answers.blocking_recv() {
            assert!(words_of(answer).ends_with("cannot be asked outside a tokio runtime"));
            failed += 1;
        }
        assert_eq!(failed, 30_000);
    }
}

#[tokio::test]
async fn no_key_waits_for_the_load_of_another_at_a_go_peer() {
    let barrier = Arc::new(Barrier::new(2));
    let held = barrier.clone();
    let url = scripted(move |mut stream| {
        let barrier = held.clone();
        async move {
            while let Some((head, _)) = read_request(&mut stream).await {
                if head.starts_with("GET /_groupcache/g/0 ") {
                    barrier.wait().await;
                }
                let words =
                    "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 3\r\n\r\n\x0a\x01v";
                stream.write_all(words.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let builder = HttpPool::builder().dialect(Dialect::Golang).peer_timeout(support::WATCHDOG);
    let peer = pool(builder).connect(&peercache_groupcache::Member::from(&url)).unwrap();
    let mut answers = ask_each(&peer, requests("g", 0..100));
    for _ in 0..99 {
        let (key, answer) = soon(answers.recv()).await.unwrap();
        assert_ne!(key.as_bytes(), b"0");
        assert_eq!(words_of(answer), "value b\"v\"");
    }
    barrier.wait().await;
    assert_eq!(soon(answers.recv()).await.unwrap().0.as_bytes(), b"0");
}

/// The keys that a group was asked for, and on which terms.
type Noted = Arc<Mutex<Vec<(Vec<u8>, Terms)>>>;

#[tokio::test]
async fn each_key_keeps_its_own_terms() {
    let terms = Noted::default();
    let noted = terms.clone();
    let groups = support::groups();
    support::group_on_terms(&groups, "noted", move |key, terms| {
        noted.lock().unwrap().push((key.to_vec(), terms));
        found("v".into())
    });
    let node = node(groups).await;
    let peer = pool(HttpPool::builder()).connect(&peercache_groupcache::Member::from(&node.url())).unwrap();
    let mut hurried = PeerRequest::new("noted", "hurried");
    hurried.terms = Terms::new().timeout(Some(Duration::from_secs(1_000)));
    let mut fresh = PeerRequest::new("noted", "fresh");
    fresh.terms = Terms::new().fresh(true);
    // The first goes by itself, the others together.
    let asked = [PeerRequest::new("noted", "first"), hurried, fresh, PeerRequest::new("noted", "plain")];
    let mut answers = ask_each(&peer, asked);
    while let Some((_, answer)) = soon(answers.recv()).await {
        assert_eq!(words_of(answer), "value b\"v\"");
    }
    let mut terms = terms.lock().unwrap().clone();
    terms.sort_by(|one, other| one.0.cmp(&other.0));
    let asked_for: Vec<_> = terms.iter().map(|(key, terms)| (&key[..], terms.fresh, terms.timeout.is_some())).collect();
    let expected: [(&[u8], bool, bool); 4] =
        [(b"first", false, false), (b"fresh", true, false), (b"hurried", false, true), (b"plain", false, false)];
    assert_eq!(asked_for, expected);
    // Rounded down, by less than an eighth.
    let left = terms[2].1.timeout.unwrap().as_secs();
    assert!((875..=1_000).contains(&left), "{left} s");
}
