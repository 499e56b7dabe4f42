//! Many keys in one call, over real sockets.

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use peercache_groupcache::{
    Bytes, Connect, Error, ErrorKind, Groups, HoldLimit, Key, Members, Peer, PeerReply, Served, ServedGroup, Terms,
};
use peercache_transport_http::{Dialect, HttpPool, Server};
use support::{
    ask_many, found, group, groups, node, pool, raw_get, read_request, scripted, serve_peers, soon, words_of,
    words_of_all,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, Semaphore},
};

const OURS: &str = "HTTP/1.1 200 OK\r\npeercache: 1; node=00000000000000ff\r\ncontent-length: ";

/// A group that counts the keys that it is asked for together, and answers each as its own value;
/// `slow` waits.
struct Counting {
    name: Arc<str>,
    asked: Mutex<Vec<usize>>,
    go_on: Semaphore,
}

impl Counting {
    fn in_groups(groups: &Groups) -> Arc<Self> {
        let counting = Counting { name: "counting".into(), asked: Mutex::default(), go_on: Semaphore::new(0) };
        let counting = Arc::new(counting);
        groups.register(counting.clone()).unwrap();
        counting
    }
}

impl ServedGroup for Counting {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn answer(self: Arc<Self>, key: &[u8], _: Terms) -> Served {
        let value = Bytes::copy_from_slice(key);
        if key != b"slow" {
            return found(value);
        }
        Served::Loading(Box::pin(async move {
            let _turn = self.go_on.acquire().await;
            Ok(PeerReply::new(value))
        }))
    }

    fn answer_many(self: Arc<Self>, keys: Vec<Key>, terms: Terms, _: Arc<dyn HoldLimit>) -> Vec<Served> {
        self.asked.lock().unwrap().push(keys.len());
        keys.iter().map(|key| self.clone().answer(key.as_bytes(), terms)).collect()
    }
}

async fn native_peer(groups: Groups) -> (Arc<dyn Peer>, support::Node) {
    let node = node(groups).await;
    (pool(HttpPool::builder()).connect(&peercache_groupcache::Member::from(&node.url())).unwrap(), node)
}

#[tokio::test]
async fn a_slow_key_holds_back_no_other() {
    let groups = groups();
    let counting = Counting::in_groups(&groups);
    let (peer, _node) = native_peer(groups).await;
    let keys = (0..100).map(|n| if n == 17 { "slow".to_owned() } else { n.to_string() });
    let mut answers = ask_many(&peer, "counting", keys);
    let mut first = Vec::new();
    for _ in 0..99 {
        let (nth, answer) = soon(answers.recv()).await.unwrap();
        assert_eq!(words_of(answer), format!("value b\"{nth}\""));
        first.push(nth);
    }
    assert!(!first.contains(&17));
    counting.go_on.add_permits(1);
    let (nth, answer) = soon(answers.recv()).await.unwrap();
    assert_eq!((nth, words_of(answer)), (17, "value b\"slow\"".to_owned()));
    assert_eq!(*counting.asked.lock().unwrap(), [100]);
}

#[tokio::test]
async fn each_key_has_its_own_answer() {
    let groups = groups();
    group(&groups, "mixed", |key| match key {
        b"value" => found("v".into()),
        b"empty" => found(Bytes::new()),
        b"large" => found(vec![b'x'; 100_000].into()),
        b"absent" => Served::Ready(Ok(PeerReply::not_found())),
        b"loaded" => Served::Loading(Box::pin(async { Ok(PeerReply::new("late".into())) })),
        _ => Served::Ready(Err(Error::new(ErrorKind::LoadFailed))),
    });
    let (peer, _node) = native_peer(groups).await;
    let keys = ["value", "empty", "large", "absent", "loaded", "broken", "value"];
    let mut words = words_of_all(ask_many(&peer, "mixed", keys)).await;
    assert_eq!(words.remove(2).len(), "value b\"\"".len() + 100_000);
    assert_eq!(
        words,
        [
            "value b\"v\"",
            "value b\"\"",
            "not found for a while",
            "value b\"late\"",
            "answered LoadFailed",
            "value b\"v\""
        ]
    );
}

#[tokio::test]
async fn more_keys_than_a_batch_takes_are_asked_for_in_several() {
    let groups = groups();
    let counting = Counting::in_groups(&groups);
    let (peer, _node) = native_peer(groups).await;
    let words = words_of_all(ask_many(&peer, "counting", (0..2_500).map(|n| n.to_string()))).await;
    let expected: Vec<String> = (0..2_500).map(|n| format!("value b\"{n}\"")).collect();
    assert_eq!(words, expected);
    let mut asked = counting.asked.lock().unwrap().clone();
    asked.sort();
    assert_eq!(asked, [452, 1_024, 1_024]);
}

#[tokio::test]
async fn many_values_that_are_not_small_arrive_whole() {
    let (peer, _node) = native_peer(groups()).await;
    let sizes: Vec<usize> = (0..200).map(|n| n * 1_000).collect();
    let mut answers = ask_many(&peer, "large", sizes.iter().map(usize::to_string));
    let mut lengths = vec![0; sizes.len()];
    while let Some((nth, answer)) = soon(answers.recv()).await {
        lengths[nth] = support::value_of(answer).len();
    }
    assert_eq!(lengths, sizes);
}

#[tokio::test]
async fn keys_that_are_too_long_are_not_carried_and_spoil_nothing() {
    let node = node(groups()).await;
    let peer =
        pool(HttpPool::builder().max_key_bytes(10)).connect(&peercache_groupcache::Member::from(&node.url())).unwrap();
    let words = words_of_all(ask_many(&peer, "echo", ["short", "much too long", "again"])).await;
    assert_eq!(words, ["value b\"short\"", "key not carried", "value b\"again\""]);
}

#[tokio::test]
async fn heartbeats_go_on_until_the_last_answer() {
    const WORKING: &[u8] = b"\x80\0\0\0\0\0\0\0";
    let groups = groups();
    let counting = Counting::in_groups(&groups);
    let node = node(groups).await;
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    // With a silence bound of 30 ms, for `slow` and `k`.
    let body = b"\x01\0\0\0\0\0\0\x04\0\0\0\x1e\x02\0\0\0\0\0\0\x10\0\0\0\0\x02\0\0\0counting\
        \x03\0\0\0\0\0\0\x04slow\x03\0\0\x01\0\0\0\x01k";
    let head = format!(
        "POST /_peercache/v1/get HTTP/1.1\r\nhost: x\r\npeercache: 1; node=00000000000000ff\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    read_until(&mut stream, b"\x11\0\0\x01\0\0\0\x01k").await;
    for _ in 0..5 {
        read_until(&mut stream, WORKING).await;
    }
    counting.go_on.add_permits(1);
    read_until(&mut stream, b"\x11\0\0\0\0\0\0\x04slow").await;
}

async fn read_until(stream: &mut TcpStream, words: &[u8]) {
    let mut read = Vec::new();
    while !read.ends_with(words) {
        read.push(soon(stream.read_u8()).await.unwrap());
    }
}

#[tokio::test]
async fn an_unknown_group_fails_all() {
    let (peer, node) = native_peer(groups()).await;
    let words = words_of_all(ask_many(&peer, "nope", ["a", "b"])).await;
    assert_eq!(words, vec![format!("failed: peer {} has no such group: nope", node.url()); 2]);
}

/// The outcome of three keys when a peer of ours answers them with these frames and closes.
async fn answered(frames: &[u8]) -> Vec<String> {
    let answer = [format!("{OURS}{}\r\n\r\n", frames.len()).as_bytes(), frames].concat();
    let url = support::fixed_answer(answer).await;
    let peer = pool(HttpPool::builder().peer_timeout(Duration::from_millis(150)))
        .connect(&peercache_groupcache::Member::from(&url))
        .unwrap();
    let words = words_of_all(ask_many(&peer, "g", ["a", "b", "c"])).await;
    words.into_iter().map(|words| words.replace(&format!("peer {url} "), "")).collect()
}

#[tokio::test]
async fn keys_that_were_answered_before_a_peer_failed_stay_answered() {
    const B: &[u8] = b"\x11\0\0\x01\0\0\0\x01v";
    const UNASKED: &str = "failed: sent what is not an answer: a frame that answers nothing that was asked";
    for (after, failure) in [
        (&b""[..], "failed: sent what is not an answer: no answer before the end"),
        (b"\x11\0\0\0\0\0\0\x02v", "failed: sent what is not an answer: a frame that is cut short"),
        (b"\x11\0\0\x03\0\0\0\x01v", UNASKED),
        (b"\x11\xff\xff\xff\0\0\0\0", UNASKED),
        (B, UNASKED),
        (b"\x7f\0\0\0\0\0\0\0", "failed: sent what is not an answer: a frame of the unknown kind 0x7f"),
        (b"\x12\0\0\0\0\0\0\x01\x40", "failed: has no such group: "),
    ] {
        assert_eq!(answered(&[B, after].concat()).await, [failure, "value b\"v\"", failure], "{after:?}");
    }
}

#[tokio::test]
async fn an_error_of_a_later_version_concerns_its_key_alone() {
    let frames = b"\x12\0\0\x01\0\0\0\x01\x3f\x11\0\0\x02\0\0\0\x01v\x11\0\0\0\0\0\0\x01v";
    let unknown = "failed: sent what is not an answer: an error of the unknown code 63";
    assert_eq!(answered(frames).await, ["value b\"v\"", unknown, "value b\"v\""]);
}

/// One of ours from when there was one key to a request: it answers several with 400.
#[tokio::test]
async fn a_peer_that_takes_one_key_at_a_time_is_asked_key_by_key() {
    let refused = Arc::new(AtomicUsize::new(0));
    let counted = refused.clone();
    let url = scripted(move |mut stream| {
        let refused = counted.clone();
        async move {
            while let Some((_, body)) = read_request(&mut stream).await {
                let words = if body.windows(9).filter(|frame| frame.starts_with(b"\x03\0")).count() == 1 {
                    format!("{OURS}9\r\n\r\n\x11\0\0\0\0\0\0\x01v")
                } else {
                    refused.fetch_add(1, Ordering::Relaxed);
                    "HTTP/1.1 400 X\r\npeercache: 1; node=00000000000000ff\r\ncontent-length: 0\r\n\r\n".to_owned()
                };
                stream.write_all(words.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let peer = pool(HttpPool::builder()).connect(&peercache_groupcache::Member::from(&url)).unwrap();
    for _ in 0..2 {
        assert_eq!(words_of_all(ask_many(&peer, "g", ["a", "b", "c"])).await, ["value b\"v\""; 3]);
    }
    assert_eq!(refused.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_golang_pool_asks_one_of_ours_together_once_it_knows() {
    let groups = groups();
    let counting = Counting::in_groups(&groups);
    let node = node(groups).await;
    let peer = pool(HttpPool::builder().dialect(Dialect::Golang))
        .connect(&peercache_groupcache::Member::from(&node.url()))
        .unwrap();
    for asked in [&[][..], &[2]] {
        let words = words_of_all(ask_many(&peer, "counting", ["a", "b"])).await;
        assert_eq!(words, ["value b\"a\"", "value b\"b\""]);
        assert_eq!(*counting.asked.lock().unwrap(), asked);
    }
}

#[tokio::test]
async fn an_absent_peer_fails_all() {
    let url = support::fixed_answer("").await;
    let peer = pool(HttpPool::builder()).connect(&peercache_groupcache::Member::from(&url)).unwrap();
    let words = words_of_all(ask_many(&peer, "g", ["a", "b"])).await;
    assert!(words.len() == 2 && words.iter().all(|words| words.contains(" closed the connection")), "{words:?}");
}

#[tokio::test]
async fn a_body_that_is_no_request_for_many_keys_is_refused() {
    let node = node(groups()).await;
    let post = |keys: Vec<u16>| async move {
        let mut body = b"\x01\0\0\0\0\0\0\x04\0\0\x03\xe8\x02\0\0\0\0\0\0\x0c\0\0\0\0\x02\0\0\0echo".to_vec();
        for index in keys {
            body.extend([3, 0, (index >> 8) as u8, index as u8, 0, 0, 0, 0]);
        }
        let head = format!(
            "POST /_peercache/v1/get HTTP/1.1\r\nhost: x\r\npeercache: 1; node=00000000000000ff\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        support::raw(node.address, &[head.as_bytes(), &body].concat()).await[..12].to_owned()
    };
    for keys in [vec![], vec![1], vec![0, 0], vec![0, 2], (0..1_025).collect()] {
        assert_eq!(post(keys).await, "HTTP/1.1 400");
    }
    assert_eq!(post((0..1_024).collect()).await, "HTTP/1.1 200");
}

#[tokio::test]
async fn more_keys_in_flight_than_a_node_takes_are_overload() {
    let groups = groups();
    group(&groups, "stuck", |_| Served::Loading(Box::pin(std::future::pending())));
    let (peer, _node) = native_peer(groups).await;
    let mut answers = ask_many(&peer, "stuck", (0..17 * 1_024).map(|n| n.to_string()));
    for _ in 0..1_024 {
        assert_eq!(words_of(soon(answers.recv()).await.unwrap().1), "answered Overloaded");
    }
    // Keys that are asked for beside them are answered at once.
    assert_eq!(words_of_all(ask_many(&peer, "echo", ["k"])).await, ["value b\"k\""]);
}

#[tokio::test]
async fn a_value_without_budget_holds_back_no_small_one() {
    const LARGE: usize = 8 << 20;
    let groups = Groups::new(Members::alone());
    group(&groups, "g", |key| match key {
        b"large" => found(vec![b'x'; LARGE].into()),
        _ => found("v".into()),
    });
    let node = serve_peers(groups, |server| {
        Server::new(server.max_held_bytes(LARGE).router()).write_timeout(support::WATCHDOG)
    });
    let node = node.await;
    let mut lazy = TcpStream::connect(node.address).await.unwrap();
    lazy.write_all(b"GET /_groupcache/g/large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    // Its answer has begun, so it has the budget.
    soon(lazy.readable()).await.unwrap();
    let peer = pool(HttpPool::builder()).connect(&peercache_groupcache::Member::from(&node.url())).unwrap();
    let mut answers = ask_many(&peer, "g", ["large", "a", "b"]);
    let first = [soon(answers.recv()).await.unwrap().0, soon(answers.recv()).await.unwrap().0];
    assert_eq!(first, [1, 2]);
    drop(lazy);
    assert_eq!(support::value_of(soon(answers.recv()).await.unwrap().1).len(), LARGE);
}

/// Values that are alive, and the most that ever were.
#[derive(Default)]
struct Count {
    now: AtomicUsize,
    most: AtomicUsize,
}

struct Counted(Vec<u8>, Arc<Count>);

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

#[tokio::test]
async fn readers_that_do_not_read_make_a_node_hold_little() {
    const VALUE_BYTES: usize = 8 << 20;
    let groups = Groups::new(Members::alone());
    let (count, loaded) = (Arc::new(Count::default()), Arc::new(Notify::new()));
    let (counted, says) = (count.clone(), loaded.clone());
    group(&groups, "g", move |_| {
        let (count, says) = (counted.clone(), says.clone());
        Served::Loading(Box::pin(async move {
            let now = count.now.fetch_add(1, Ordering::SeqCst) + 1;
            count.most.fetch_max(now, Ordering::SeqCst);
            says.notify_one();
            Ok(PeerReply::new(Bytes::from_owner(Counted(vec![b'x'; VALUE_BYTES], count))))
        }))
    });
    let node = serve_peers(groups, |server| {
        Server::new(server.max_held_bytes(2 * VALUE_BYTES).router()).write_timeout(Duration::from_millis(100))
    });
    let node = node.await;
    let mut request = b"POST /_peercache/v1/get HTTP/1.1\r\nhost: x\r\npeercache: 1; node=00000000000000ff\r\n\
        content-length: 109\r\n\r\n\
        \x01\0\0\0\0\0\0\x04\0\0\x03\xe8\x02\0\0\0\0\0\0\x09\0\0\0\0\x02\0\0\0g"
        .to_vec();
    (0..10).for_each(|index| request.extend([3, 0, 0, index, 0, 0, 0, 0]));
    let mut lazy = Vec::new();
    for _ in 0..5 {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream.write_all(&request).await.unwrap();
        lazy.push(stream);
    }
    soon(loaded.notified()).await;
    // A client that reads has its turn when those before it have lost theirs.
    assert_eq!(raw_get(node.address, "/_groupcache/g/k").await.lines().next(), Some("HTTP/1.1 200 OK"));
    // One more is made and thrown away when there is no budget for it.
    let most = count.most.load(Ordering::SeqCst);
    assert!((2..=3).contains(&most), "{most} values at once");
}

#[tokio::test]
async fn of_more_keys_than_may_be_asked_for_at_once_the_first_are() {
    let node = node(groups()).await;
    let peer =
        pool(HttpPool::builder().max_fetches(10)).connect(&peercache_groupcache::Member::from(&node.url())).unwrap();
    for _ in 0..2 {
        let answers = words_of_all(ask_many(&peer, "echo", (0..30).map(|n| n.to_string()))).await;
        // A group alone has three quarters of the ten, and no less than the next whole number.
        let (fit, excess) = answers.split_at(8);
        assert_eq!(fit, (0..8).map(|n| format!("value b\"{n}\"")).collect::<Vec<_>>());
        assert!(excess.len() == 22 && excess.iter().all(|answer| answer == "answered Overloaded"), "{excess:?}");
    }
}
