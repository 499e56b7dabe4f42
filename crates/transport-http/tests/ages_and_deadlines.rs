//! Ages of answers and deadlines of callers, from one node to another over real sockets.

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use peercache_groupcache::{Connect, Groups, PeerReply, PeerRequest, Reply, Served, Terms};
use peercache_transport_http::{Dialect, HttpPool};
use support::{
    ask, ask_many, ask_once, found, group, group_on_terms, groups, node, pool, read_request, scripted, soon, words_of,
};
use tokio::{io::AsyncWriteExt, sync::Notify};

const HOUR: Duration = Duration::from_secs(3_600);
const DIALECTS: [Dialect; 2] = [Dialect::Native, Dialect::Golang];

/// A group with this one answer.
fn answers(groups: &Groups, reply: PeerReply) {
    group(groups, "g", move |_| Served::Ready(Ok(reply.clone())));
}

/// The reply as it arrives from a node that answers with this one.
async fn arrived(dialect: Dialect, reply: PeerReply) -> PeerReply {
    let groups = groups();
    answers(&groups, reply);
    let node = node(groups).await;
    ask_once(HttpPool::builder().dialect(dialect), &node.url(), "g", b"k").await.unwrap()
}

#[tokio::test]
async fn the_facts_arrive_on_first_contact_in_either_dialect() {
    for dialect in DIALECTS {
        for value in [Some("v".into()), Some("x".repeat(100_000).into()), None] {
            let mut sent = PeerReply::not_found();
            (sent.value, sent.meta.remaining, sent.meta.age, sent.meta.stale, sent.meta.ring) =
                (value, Some(HOUR), 2 * HOUR, true, Some(u64::MAX));
            let reply = arrived(dialect, sent.clone()).await;
            let (remaining, age) = (reply.meta.remaining.unwrap(), reply.meta.age);
            assert!(remaining <= HOUR && remaining > HOUR - support::WATCHDOG, "{dialect:?} {remaining:?}");
            assert!(age >= 2 * HOUR && age < 2 * HOUR + support::WATCHDOG, "{dialect:?} {age:?}");
            assert_eq!(
                (reply.value, reply.meta.stale, reply.meta.ring),
                (sent.value, true, Some(u64::MAX)),
                "{dialect:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_value_that_does_not_expire_arrives_as_one() {
    for dialect in DIALECTS {
        for ring in [None, Some(0)] {
            let mut sent = PeerReply::new("v".into());
            sent.meta.ring = ring;
            let reply = arrived(dialect, sent).await;
            assert_eq!((reply.meta.remaining, reply.meta.stale, reply.meta.ring), (None, false, ring), "{dialect:?}");
        }
    }
}

#[tokio::test]
async fn the_rate_of_a_key_arrives() {
    for dialect in DIALECTS {
        for rate in [None, Some(0.0), Some(1.5), Some(1e-9), Some(f64::MAX)] {
            let mut sent = PeerReply::new("v".into());
            sent.meta.minute_qps = rate;
            assert_eq!(arrived(dialect, sent).await.meta.minute_qps, rate, "{dialect:?}");
        }
    }
}

#[tokio::test]
async fn a_not_found_that_may_be_cached_is_not_one_that_may_not() {
    for dialect in DIALECTS {
        assert_eq!(words_of(Ok(arrived(dialect, PeerReply::not_found()).await)), "not found for a while");
        let node = node(groups()).await;
        let answer = ask_once(HttpPool::builder().dialect(dialect), &node.url(), "kinds", b"not-found").await;
        assert_eq!(words_of(answer), "answered NotFound");
    }
}

#[tokio::test]
async fn a_plain_answer_says_how_long_it_holds() {
    let groups = groups();
    let mut reply = PeerReply::new("v".into());
    (reply.meta.remaining, reply.meta.age) = (Some(Duration::from_millis(1_500)), Duration::from_millis(20));
    (reply.meta.stale, reply.meta.ring) = (true, Some(0xab));
    answers(&groups, reply);
    let node = node(groups).await;
    let answer = support::raw_get(node.address, "/_groupcache/g/k").await;
    let header = "\r\npeercache-life: age=20; remaining=1500; stale; ring=00000000000000ab\r\n";
    assert!(answer.contains(header), "{answer}");
    assert!(!support::raw_get(node.address, "/_groupcache/echo/k").await.contains("peercache-life"));
}

#[tokio::test]
async fn the_facts_of_a_foreign_server_are_not_believed() {
    let words = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\npeercache-life: stale\r\n\
        content-length: 3\r\n\r\n\n\x01v";
    let url = support::fixed_answer(words).await;
    let reply = ask_once(HttpPool::builder().dialect(Dialect::Golang), &url, "g", b"k").await.unwrap();
    assert!(!reply.meta.stale);
}

/// The outcome when a peer of ours answers with these frames.
async fn framed(frames: &[u8]) -> String {
    let head =
        format!("HTTP/1.1 200 OK\r\npeercache: 1; node=00000000000000ff\r\ncontent-length: {}\r\n\r\n", frames.len());
    let url = support::fixed_answer([head.as_bytes(), frames].concat()).await;
    let answer = ask_once(HttpPool::builder(), &url, "g", b"k").await;
    match answer {
        Ok(reply) if reply.meta.remaining.is_some() => "value that expires".to_owned(),
        answer => words_of(answer).replace(&format!("peer {url} "), ""),
    }
}

#[tokio::test]
async fn hostile_facts_do_no_harm() {
    const VALUE: &[u8] = b"\x11\0\0\0\0\0\0\x01v";
    let life = |index: u8, fields: &[u8]| [&[0x81, 0, 0, index, 0, 0, 0, fields.len() as u8], fields].concat();
    for (life, outcome) in [
        (life(0, &[0xff; 17]), "value b\"v\""),
        (life(0, &[0xfe; 17]), "value that expires"),
        (life(0, &[0; 64]), "value that expires"),
        // It is of another key.
        (life(1, &[0; 17]), "value b\"v\""),
        (life(0, &[0; 16]), "failed: sent what is not an answer: a frame too short for its kind 0x81"),
        (life(0, &[0; 65]), "failed: sent what is not an answer: a frame of 65 bytes, 64 are allowed"),
    ] {
        assert_eq!(framed(&[&life[..], VALUE].concat()).await, outcome, "{life:?}");
    }
}

#[tokio::test]
async fn an_answer_grows_older_on_its_way() {
    let url = scripted(|mut stream| async move {
        read_request(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\npeercache: 1; node=00000000000000ff\r\ncontent-length: 34\r\n\r\n";
        let life = b"\x81\0\0\0\0\0\0\x11\0\0\0\0\x32\0\0\0\0\0\0\0\0\0\0\0\0";
        stream.write_all(&[&head[..], life].concat()).await.unwrap();
        let mut tick = tokio::time::interval(Duration::from_millis(60));
        tick.tick().await;
        tick.tick().await;
        stream.write_all(b"\x11\0\0\0\0\0\0\x01v").await.unwrap();
    })
    .await;
    // It was to hold for 50 ms, and 60 have passed.
    let reply = ask_once(HttpPool::builder(), &url, "g", b"k").await.unwrap();
    assert_eq!(reply.meta.remaining, Some(Duration::ZERO));
    assert!(reply.meta.age >= Duration::from_millis(60));
}

/// A group that keeps the terms of its requests.
fn keeps_terms(groups: &Groups) -> Arc<Mutex<Vec<Terms>>> {
    let terms = Arc::new(Mutex::new(Vec::new()));
    let kept = terms.clone();
    group_on_terms(groups, "g", move |_, terms| {
        kept.lock().unwrap().push(terms);
        found("v".into())
    });
    terms
}

fn request(group: &str, terms: Terms) -> PeerRequest {
    let mut request = PeerRequest::new(group, "k");
    request.terms = terms;
    request
}

#[tokio::test]
async fn the_terms_arrive_at_the_owner() {
    let groups = groups();
    let kept = keeps_terms(&groups);
    let node = node(groups).await;
    let peer = pool(HttpPool::builder()).connect(&peercache_groupcache::Member::from(&node.url())).unwrap();
    for (timeout, fresh) in [(None, true), (Some(HOUR), false), (Some(Duration::ZERO), true)] {
        ask(&peer, request("g", Terms::new().timeout(timeout).fresh(fresh))).await.unwrap();
        let arrived = kept.lock().unwrap().pop().unwrap();
        assert_eq!(arrived.fresh, fresh);
        let lost = timeout.map(|timeout| timeout - arrived.timeout.unwrap());
        assert!(arrived.timeout.is_some() == timeout.is_some() && lost < Some(support::WATCHDOG), "{arrived:?}");
    }
    // Keys of one batch are on the same terms; others go by themselves.
    let mut requests = vec![request("g", Terms::new()); 2];
    requests.push(request("g", Terms::new().fresh(true)));
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
    let reply = |request| {
        let tx = tx.clone();
        (request, Reply::new(move |answer| drop(tx.send(answer))))
    };
    peer.get_many(requests.into_iter().map(reply).collect());
    for _ in 0..3 {
        soon(rx.recv()).await.unwrap().unwrap();
    }
    let mut fresh: Vec<bool> = kept.lock().unwrap().iter().map(|terms| terms.fresh).collect();
    fresh.sort();
    assert_eq!(fresh, [false, false, true]);
}

#[tokio::test]
async fn time_spent_waiting_here_is_taken_off_the_deadline() {
    let groups = groups();
    let kept = keeps_terms(&groups);
    let (begun, asked) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (says, waits) = (begun.clone(), asked.clone());
    group(&groups, "slow", move |_| {
        says.notify_one();
        let waits = waits.clone();
        Served::Loading(Box::pin(async move {
            waits.notified().await;
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            tick.tick().await;
            tick.tick().await;
            Ok(PeerReply::new("late".into()))
        }))
    });
    let node = node(groups).await;
    let peer =
        pool(HttpPool::builder().max_connections(1)).connect(&peercache_groupcache::Member::from(&node.url())).unwrap();
    let mut answers = ask_many(&peer, "slow", ["k"]);
    soon(begun.notified()).await;
    let (tx, rx) = tokio::sync::oneshot::channel();
    let hurried = request("g", Terms::new().timeout(Some(Duration::from_millis(10))));
    peer.get(hurried, Reply::new(move |answer| drop(tx.send(answer))));
    // The only connection is taken for longer than its callers wait.
    asked.notify_one();
    soon(rx).await.unwrap().unwrap();
    assert_eq!(kept.lock().unwrap()[0].timeout, Some(Duration::ZERO));
    assert_eq!(words_of(soon(answers.recv()).await.unwrap().1), "value b\"late\"");
}

#[tokio::test]
async fn each_of_many_answers_has_its_own_facts() {
    let groups = groups();
    group(&groups, "lives", |key| {
        let mut reply = PeerReply::new("v".into());
        reply.meta.ring = Some(std::str::from_utf8(key).unwrap().parse().unwrap());
        match reply.meta.ring {
            Some(0) => found("v".into()),
            _ => Served::Ready(Ok(reply)),
        }
    });
    let node = node(groups).await;
    let peer = pool(HttpPool::builder()).connect(&peercache_groupcache::Member::from(&node.url())).unwrap();
    let mut answers = ask_many(&peer, "lives", (0..50).map(|n| n.to_string()));
    while let Some((nth, answer)) = soon(answers.recv()).await {
        assert_eq!(answer.unwrap().meta.ring, Some(nth as u64).filter(|ring| *ring != 0));
    }
}
