//! Checks of who is answered and who is believed: nodes with secrets, nodes of other clusters, and
//! strangers at members' addresses.

mod support;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    body::{Body, Bytes as Piece, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, Response, StatusCode, request::Parts},
};
use peercache::{
    Bytes, Group, HttpPool, Key, Member as Named, Missed, Node, NodeBuilder, Secrets, Server, UpdateError,
    loader_fn_with,
};
use support::{GROUP, Member, cluster, listeners, name_of, watched};
use tokio::net::TcpListener;

const ONE: &str = "the first secret, of more than 32 bytes";
const TWO: &str = "the second secret, of more than 32 bytes";
const KEYS: usize = 40;

/// Settings of a node.
type Set = fn(NodeBuilder) -> NodeBuilder;

/// A loader's calls. Its values say whose they are.
#[derive(Clone, Default)]
struct Loads {
    data: &'static str,
    calls: Arc<AtomicUsize>,
}

impl Loads {
    fn of(data: &'static str) -> Self {
        Loads { data, ..Loads::default() }
    }

    fn count(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    async fn load(self, key: Key) -> Result<Bytes, std::convert::Infallible> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Ok(format!("{} {key}", self.data).into())
    }
}

/// Starts a node of this name on `listener`, with the list `list` and what `set` says of it.
fn start(
    name: &str,
    listener: TcpListener,
    list: &[Named],
    set: impl FnOnce(NodeBuilder) -> NodeBuilder,
    loads: &Loads,
) -> Member {
    let builder = set(Node::builder(name).members(list.to_vec()));
    let loader = loader_fn_with(loads.clone(), |loads, key| async move { Ok(loads.load(key).await?) });
    Member::start_built(name.to_owned(), listener, builder, |group| group, loader)
}

/// Two nodes with the same list and settings of their own.
async fn pair(sets: [Set; 2], loads: [&Loads; 2]) -> [Member; 2] {
    let [one, two] = listeners::<2>().await;
    let names = [name_of(&one), name_of(&two)];
    let list = names.each_ref().map(Named::from);
    let a = start(&names[0], one, &list, sets[0], loads[0]);
    let b = start(&names[1], two, &list, sets[1], loads[1]);
    [a, b]
}

/// Keys that the member `owner` owns, as `member` sees it.
fn keys_of(owner: &str, member: &Member, count: usize) -> Vec<String> {
    let view = member.node.members().view();
    (0..).map(|n| format!("key-{n}")).filter(|key| view.owner_name(key) == owner).take(count).collect()
}

async fn value(group: &Group<Bytes>, key: &str) -> String {
    String::from_utf8(watched(group.get(key)).await.unwrap().into()).unwrap()
}

fn missed(told: Result<(), UpdateError>) -> Vec<String> {
    let missed = told.err().map(|error| error.missed().to_vec()).unwrap_or_default();
    missed.into_iter().map(|Missed { member, .. }| member).collect()
}

/// Both nodes answer all keys with what was loaded once, and updates of either reach the other.
async fn serve_each_other([a, b]: &[Member; 2], loads: &Loads) {
    let before = loads.count();
    for number in 0..KEYS {
        let key = format!("key-{number}");
        for node in [a, b] {
            assert_eq!(value(&node.group, &key).await, format!("ours {key}"));
        }
    }
    assert_eq!(loads.count() - before, KEYS, "one load for each key");
    assert_eq!(a.group.stats().peer_errors + b.group.stats().peer_errors, 0);
    for (from, owner) in [(a, b), (b, a), (a, a)] {
        let key = &keys_of(&owner.name, a, 1)[0];
        watched(from.group.set(key.as_str(), Bytes::from_static(b"new"))).await.unwrap();
        assert_eq!([value(&a.group, key).await, value(&b.group, key).await], ["new", "new"]);
        watched(from.group.remove(key.as_str())).await.unwrap();
        assert_eq!(value(&b.group, key).await, format!("ours {key}"));
    }
}

#[tokio::test]
async fn nodes_with_a_secret_serve_each_other() {
    let loads = Loads::of("ours");
    let nodes = pair([|node| node.secret(ONE), |node| node.secret(ONE)], [&loads; 2]).await;
    serve_each_other(&nodes, &loads).await;
}

#[tokio::test]
async fn nodes_of_one_cluster_serve_each_other() {
    let loads = Loads::of("ours");
    let set: Set = |node| node.cluster("orders, München");
    serve_each_other(&pair([set, set], [&loads; 2]).await, &loads).await;
}

#[tokio::test]
async fn while_a_secret_is_changed_nodes_serve_each_other() {
    let sets: [Set; 4] = [
        |node| node.secret(ONE),
        |node| node.secrets(Secrets::new([ONE, TWO]).unwrap()),
        |node| node.secrets(Secrets::new([TWO, ONE]).unwrap()),
        |node| node.secret(TWO),
    ];
    for step in sets.windows(2) {
        for (a, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let loads = Loads::of("ours");
            serve_each_other(&pair([step[a], step[b]], [&loads; 2]).await, &loads).await;
        }
    }
}

/// Nothing of the other is believed, told or learnt, though it has a member's address.
async fn are_strangers([a, b]: &[Member; 2], [of_a, of_b]: [&Loads; 2]) {
    for (asker, other, loads, data) in [(a, b, of_a, "ours"), (b, a, of_b, "theirs")] {
        let before = (loads.count(), other.group.stats());
        for key in keys_of(&other.name, asker, KEYS) {
            assert_eq!(value(&asker.group, &key).await, format!("{data} {key}"));
            assert_eq!(missed(watched(asker.group.remove(key.as_str())).await), [other.name.as_str()], "{key}");
        }
        assert_eq!(loads.count() - before.0, KEYS, "all are loaded here");
        // It is down after the first, and asked again only by probes and updates.
        let errors = asker.group.stats().peer_errors;
        assert!((1..=u64::try_from(KEYS).unwrap()).contains(&errors), "{errors} are not believed");
        let after = other.group.stats();
        assert_eq!((after.server_requests, after.loads), (before.1.server_requests, before.1.loads));
    }
}

#[tokio::test]
async fn with_another_secret_values_are_right_and_updates_name_the_member() {
    let loads = [&Loads::of("ours"), &Loads::of("theirs")];
    let nodes = pair([|node| node.secret(ONE), |node| node.secret(TWO)], loads).await;
    are_strangers(&nodes, loads).await;
    let nodes = pair([|node| node.secret(ONE), |node| node], loads).await;
    are_strangers(&nodes, loads).await;
}

#[tokio::test]
async fn another_cluster_at_a_members_address_is_not_believed() {
    let loads = [&Loads::of("ours"), &Loads::of("theirs")];
    let sets: [[Set; 2]; 3] = [
        [|node| node.cluster("orders"), |node| node.cluster("staging")],
        [|node| node.cluster("orders"), |node| node],
        [|node| node.cluster("orders").secret(ONE), |node| node.cluster("staging").secret(ONE)],
    ];
    for set in sets {
        are_strangers(&pair(set, loads).await, loads).await;
    }
}

#[tokio::test]
async fn another_member_at_a_members_address_is_not_believed() {
    let (ours, theirs) = (Loads::of("ours"), Loads::of("theirs"));
    let [one, two] = listeners::<2>().await;
    let (name, other) = (name_of(&one), name_of(&two));
    // The list says that `c` is where `b` is.
    let (b, c) = (Named::from("http://b.localhost:1"), Named::from("http://c.localhost:1").address(&other));
    let a = start(&name, one, &[name.as_str().into(), c.clone()], |node| node, &ours);
    let b = start(&b.name, two, std::slice::from_ref(&b), |node| node, &theirs);
    let asked = keys_of(&c.name, &a, KEYS);
    for key in &asked {
        assert_eq!(value(&a.group, key).await, format!("ours {key}"));
    }
    assert_eq!((ours.count(), theirs.count(), b.group.stats().loads), (KEYS, 0, 0));
    // By the right name it is.
    a.node.set_members([name.as_str().into(), b.node.members().view().members()[0].clone().address(&other)]).unwrap();
    for key in keys_of(&b.name, &a, 2 * KEYS).iter().filter(|key| !asked.contains(key)) {
        assert_eq!(value(&a.group, key).await, format!("theirs {key}"));
    }
}

/// A list that is beyond this machine is refused, unless something says who may speak.
#[tokio::test]
async fn a_list_beyond_this_machine_needs_to_know_who_may_speak() {
    let list = ["http://10.0.0.1:9090", "http://10.0.0.2:9090"];
    let node = || Node::builder(list[0]).members(list);
    let refused = node().build().unwrap_err().to_string();
    for way in ["`secret`", "`tls`", "`trust_network`"] {
        assert!(refused.contains(way), "{refused}");
    }
    node().secret(ONE).build().unwrap();
    node().trust_network().build().unwrap();
    // A node alone is asked by nobody, until it serves.
    let alone = Node::builder(list[0]).build().unwrap();
    assert!(alone.set_members(list).unwrap_err().to_string().contains("`trust_network`"));
    let beyond = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = watched(alone.serve(beyond)).await.unwrap_err();
    assert!(refused.to_string().contains("`trust_network`"), "{refused}");
}

#[test]
fn a_secret_that_cannot_be_used_is_refused() {
    assert!(Node::builder("http://a:1").secret("short").build().unwrap_err().to_string().contains("32 bytes"));
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_member_over_tls_needs_the_feature() {
    for list in [["https://127.0.0.1:1", "https://127.0.0.1:2"], ["https://10.0.0.1:1", "https://10.0.0.2:1"]] {
        let node = Node::builder(list[0]).members(list).secret(ONE);
        assert!(node.build().unwrap_err().to_string().contains("feature `tls`"));
    }
}

#[cfg(feature = "tls")]
#[test]
fn a_member_over_tls_needs_certificates() {
    for list in [["https://127.0.0.1:1", "https://127.0.0.1:2"], ["https://10.0.0.1:1", "https://10.0.0.2:1"]] {
        let node = Node::builder(list[0]).members(list).secret(ONE);
        assert!(node.build().unwrap_err().to_string().contains("certificates"));
    }
}

#[test]
fn a_go_dialect_with_a_secret_must_open_gets() {
    let node = |open| {
        let pool = HttpPool::builder().dialect(peercache::Dialect::Golang);
        Node::builder("http://127.0.0.1:1").transport(pool).secret(ONE).open_gets(open).build()
    };
    assert!(node(false).unwrap_err().to_string().contains("open_gets"));
    node(true).unwrap();
}

/// An answer of somebody who is no member, to a request of this head and body.
type Lie = fn(&Parts, &[u8]) -> Response<Body>;

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(body.into()).unwrap()
}

/// A value in a frame, for key 0.
fn frame(value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap().to_be_bytes();
    [&[0x11, 0, 0, 0][..], &length, value].concat()
}

const FRAMES: (&str, &str) = ("content-type", "application/x-peercache");
const MESSAGE: (&str, &str) = ("content-type", "application/x-protobuf");
const TEXT: (&str, &str) = ("content-type", "text/plain; charset=utf-8");

/// Lies that are to be seen through without a secret.
const LIES: [(&str, Lie); 18] = [
    ("a 404 of a file server", |_, _| answer(404, &[("content-type", "text/html")], "<h1>Error response</h1>")),
    ("a 404 as ours", |_, _| answer(404, &[TEXT, ("peercache-error", "not-found")], "not found\n")),
    ("a 404 as ours that may be kept", |_, _| answer(404, &[TEXT, ("peercache-life", "age=0")], "not found\n")),
    ("nothing", |_, _| answer(200, &[], "")),
    ("an empty message", |_, _| answer(200, &[MESSAGE], "")),
    ("a page", |_, _| answer(200, &[("content-type", "text/html")], "<h1>Welcome to nginx!</h1>")),
    ("a message", |_, _| answer(200, &[MESSAGE], "\x0a\x03lie")),
    ("garbage", |_, _| answer(200, &[FRAMES], "garbage")),
    ("frames", |_, _| answer(200, &[FRAMES], frame(b"lie"))),
    ("frames with an unreadable header", |_, _| answer(200, &[FRAMES, ("peercache", "1")], frame(b"lie"))),
    ("frames of another", |_, _| {
        answer(200, &[FRAMES, ("peercache", "1; node=00000000000000ff; name=http://c")], frame(b"lie"))
    }),
    ("an echo", |head, _| {
        let header = head.headers.get("peercache").map_or("", |header| header.to_str().unwrap());
        answer(200, &[FRAMES, ("peercache", header)], frame(b"lie"))
    }),
    ("a 500", |_, _| answer(500, &[TEXT, ("x-content-type-options", "nosniff")], "no\n")),
    ("a 502", |_, _| answer(502, &[("content-type", "text/html")], "<h1>Bad Gateway</h1>")),
    ("a 503", |_, _| answer(503, &[TEXT, ("retry-after", "1"), ("peercache-error", "overloaded")], "overloaded\n")),
    ("a 504", |_, _| answer(504, &[TEXT], "upstream request timeout")),
    ("a 401", |_, _| answer(401, &[("www-authenticate", "Basic realm=\"x\"")], "")),
    ("a redirect", |_, _| answer(302, &[("location", "/login")], "")),
];

/// A name that a liar says it has: the one that it was asked by.
fn claimed(head: &Parts) -> String {
    let header = head.headers.get("peercache").map_or("", |header| header.to_str().unwrap());
    header.split("; ").find_map(|part| part.strip_prefix("to=")).unwrap_or_default().to_owned()
}

/// Lies that only a secret sees through.
const LIES_ABOUT_THE_NAME: [(&str, Lie); 4] = [
    ("a name", |head, _| {
        let header = format!("1; node=00000000000000ff; name={}", claimed(head));
        answer(200, &[FRAMES, ("peercache", &header)], frame(b"lie"))
    }),
    ("a name and a nonce", |head, _| {
        let header = format!("1; node=00000000000000ff; name={}; nonce={}", claimed(head), "0".repeat(32));
        answer(200, &[FRAMES, ("peercache", &header)], frame(b"lie"))
    }),
    ("a name, a nonce and a proof", |head, _| {
        let (nonce, proof) = ("1".repeat(32), "2".repeat(32));
        let header = format!("1; node=00000000000000ff; name={}; nonce={nonce}; proof={proof}", claimed(head));
        answer(if header.is_empty() { 401 } else { 200 }, &[FRAMES, ("peercache", &header)], frame(b"lie"))
    }),
    ("a nonce, and whatever is asked with it", |head, _| {
        let header = format!("1; node=00000000000000ff; name={}; nonce={}", claimed(head), "1".repeat(32));
        let is_signed = head.headers.get("peercache").is_some_and(|header| header.to_str().unwrap().contains("mac="));
        answer(if is_signed { 200 } else { 401 }, &[FRAMES, ("peercache", &header)], frame(b"lie"))
    }),
];

async fn tell(State(lie): State<Lie>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    lie(&head, &body)
}

/// Serves what a stranger says, and returns its address.
async fn serve(app: Router) -> String {
    let [listener] = listeners::<1>().await;
    let name = name_of(&listener);
    tokio::spawn(Server::new(app).serve(listener, std::future::pending()));
    name
}

/// A node believes nothing that is said at `impostor`, which is a member's address.
async fn is_not_believed(what: &str, impostor: &str, set: Set) {
    let loads = Loads::of("ours");
    let [listener] = listeners::<1>().await;
    let name = name_of(&listener);
    let a = start(&name, listener, &[name.as_str().into(), impostor.into()], set, &loads);
    let keys = keys_of(impostor, &a, 2 * KEYS);
    let mut right = 0;
    for key in &keys {
        right += usize::from(watched(a.group.get(key)).await.is_ok_and(|value| value == format!("ours {key}")));
    }
    assert_eq!(right, 2 * KEYS, "{what}");
    assert!(10 * loads.count() <= 11 * keys.len(), "{what}: {} loads of {} keys", loads.count(), keys.len());
    assert_eq!(missed(watched(a.group.remove(keys[0].as_str())).await), [impostor], "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_at_a_members_address_is_not_believed() {
    let open: Set = |node| node;
    let secret: Set = |node| node.secret(ONE);
    for (what, lie) in LIES {
        let impostor = serve(Router::new().fallback(tell).with_state(lie)).await;
        is_not_believed(what, &impostor, open).await;
        is_not_believed(what, &impostor, secret).await;
    }
    for (what, lie) in LIES_ABOUT_THE_NAME {
        let impostor = serve(Router::new().fallback(tell).with_state(lie)).await;
        is_not_believed(what, &impostor, secret).await;
    }
}

/// A proxy that carries probes and some exchanges to a node, and repeats the last answer from then
/// on.
struct Replayer {
    node: String,
    client: reqwest::Client,
    left: AtomicUsize,
    last: Mutex<(StatusCode, HeaderMap, Piece)>,
}

async fn replay(State(replayer): State<Arc<Replayer>>, request: Request) -> Response<Body> {
    let taken = |left: usize| left.checked_sub(1);
    let is_probe = request.uri().path().ends_with("/health");
    if is_probe || replayer.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken).is_ok() {
        let (head, body) = request.into_parts();
        let url = format!("{}{}", replayer.node, head.uri);
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let carried = replayer.client.request(head.method, url).headers(head.headers).body(body).send().await.unwrap();
        let (status, headers) = (carried.status(), carried.headers().clone());
        *replayer.last.lock().unwrap() = (status, headers, carried.bytes().await.unwrap());
    }
    let (status, headers, body) = replayer.last.lock().unwrap().clone();
    let mut answer = answer(status.as_u16(), &[], body);
    for name in ["peercache", "content-type"] {
        if let Some(value) = headers.get(name) {
            answer.headers_mut().insert(HeaderName::from_static(name), value.clone());
        }
    }
    answer
}

#[tokio::test]
async fn an_answer_is_good_for_one_request() {
    let loads = Loads::of("ours");
    let [one, two] = listeners::<2>().await;
    let (name, node) = (name_of(&one), name_of(&two));
    let replayer = Replayer {
        node: node.clone(),
        client: reqwest::Client::builder().no_proxy().build().unwrap(),
        left: AtomicUsize::new(1),
        last: Mutex::default(),
    };
    let address = serve(Router::new().fallback(replay).with_state(Arc::new(replayer))).await;
    let list = [name.as_str().into(), Named::from(&node).address(address)];
    let a = start(&name, one, &list, |node| node.secret(ONE), &loads);
    let b = start(&node, two, &[name.as_str().into(), node.as_str().into()], |node| node.secret(ONE), &loads);
    // It has the nonce from here on.
    a.node.announce().await;
    for key in keys_of(&node, &a, KEYS) {
        assert_eq!(value(&a.group, &key).await, format!("ours {key}"));
    }
    assert_eq!(a.group.stats().peer_loads, 1, "the one that was carried");
    assert_eq!(b.group.stats().server_requests, 1);
}

/// The frames of a body: their kinds, indices and payloads.
fn frames(mut body: &[u8]) -> Vec<(u8, [u8; 2], &[u8])> {
    let mut frames = Vec::new();
    while let [kind, _, high, low, a, b, c, d, rest @ ..] = body {
        let (payload, rest) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        frames.push((*kind, [*high, *low], payload));
        body = rest;
    }
    frames
}

const BEFORE: &str = "1; node=00000000000000aa";

/// The answer of an earlier release, which says neither name nor cluster.
fn answer_of_before(head: &Parts, body: &[u8]) -> Response<Body> {
    assert_eq!(head.uri.path(), "/_peercache/v1/get");
    let keys = frames(body).into_iter().filter(|(kind, ..)| *kind == 0x03);
    let values = keys.flat_map(|(_, index, key)| {
        let mut value = frame(&[b"before ", key].concat());
        value[2..4].copy_from_slice(&index);
        value
    });
    answer(200, &[FRAMES, ("peercache", BEFORE)], values.collect::<Vec<u8>>())
}

/// The default cluster without a secret is upgraded node by node.
#[tokio::test]
async fn a_node_of_before_names_were_said_and_ours_serve_each_other() {
    let loads = Loads::of("ours");
    let [listener] = listeners::<1>().await;
    let name = name_of(&listener);
    let before = serve(Router::new().fallback(tell).with_state(answer_of_before as Lie)).await;
    let a = start(&name, listener, &[name.as_str().into(), before.as_str().into()], |node| node, &loads);
    for number in 0..KEYS {
        let key = format!("key-{number}");
        let data = if a.node.owner(&key) == before { "before" } else { "ours" };
        assert_eq!(value(&a.group, &key).await, format!("{data} {key}"));
    }
    assert_eq!(a.group.stats().peer_errors, 0);

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for key in keys_of(&name, &a, KEYS) {
        let ask = b"\x01\0\0\0\0\0\0\x09\0\0\x03\xe8\xff\xff\xff\xff\0";
        let group = [b"\x02\0\0\0\0\0\0\x0d\0\0\0\0\x02\0\0\0", GROUP.as_bytes()].concat();
        let length = [0, 0, 0, u8::try_from(key.len()).unwrap()];
        let body = [&ask[..], &group, &[3, 0, 0, 0], &length, key.as_bytes()].concat();
        let url = format!("{name}/_peercache/v1/get");
        let asked = client.post(&url).header("peercache", BEFORE).body(body).send();
        let answered = watched(asked).await.unwrap();
        assert_eq!(answered.status(), StatusCode::OK);
        assert!(answered.headers()["peercache"].to_str().unwrap().starts_with("1; node="));
        let body = answered.bytes().await.unwrap();
        let value = frames(&body).into_iter().find(|(kind, ..)| *kind == 0x11).map(|(.., value)| value.to_vec());
        assert_eq!(value.as_deref(), Some(format!("ours {key}").as_bytes()));
    }

    // It says too little for a cluster with a name, or a secret.
    for set in [|node: NodeBuilder| node.cluster("orders"), |node: NodeBuilder| node.secret(ONE)] {
        is_not_believed("a node of before", &before_for_gets_alone().await, set).await;
    }
}

/// A node of before that takes updates for what it does not know.
async fn before_for_gets_alone() -> String {
    let lie: Lie = |head, body| {
        if head.uri.path().ends_with("/get") { answer_of_before(head, body) } else { answer(404, &[], "") }
    };
    serve(Router::new().fallback(tell).with_state(lie)).await
}

/// A web page can make a browser send a POST, and no header of ours with it.
#[tokio::test]
async fn a_blind_post_does_nothing() {
    let origin = support::Origin::default();
    let [a, _] = cluster::<2>(&origin).await;
    watched(a.group.set("k", Bytes::from_static(b"kept"))).await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let group = [b"\x02\0\0\0\0\0\0\x0d\0\0\0\0\0\0\0\0", GROUP.as_bytes()].concat();
    let clear = [&b"\x04\0\0\0\0\0\0\x0e\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0"[..], &group].concat();
    let posted = client.post(format!("{}/_peercache/v1/update", a.name)).header("content-type", "text/plain");
    let answered = watched(posted.body(clear).send()).await.unwrap();
    assert_eq!(answered.status(), StatusCode::FORBIDDEN);
    assert_eq!(value(&a.group, "k").await, "kept");
}

/// Our members find each other by their answers in a Go dialect, and the secret stays in force.
#[tokio::test]
async fn in_a_go_dialect_nodes_with_a_secret_serve_each_other() {
    let set: Set = |node| {
        let pool = HttpPool::builder().dialect(peercache::Dialect::Golang);
        node.transport(pool).secret(ONE).open_gets(true)
    };
    let loads = Loads::of("ours");
    serve_each_other(&pair([set, set], [&loads; 2]).await, &loads).await;
}

/// Updates are counted, and the counts of a process hold for as long as it lives.
#[tokio::test]
async fn a_member_that_left_and_returned_is_told_of_updates() {
    let loads = Loads::of("ours");
    let [a, b] = pair([|node| node.secret(ONE), |node| node.secret(ONE)], [&loads; 2]).await;
    for _ in 0..3 {
        for _ in 0..3 {
            watched(a.group.remove("key")).await.unwrap();
        }
        a.node.set_members([&a.name]).unwrap();
        a.node.set_members([&a.name, &b.name]).unwrap();
    }
}
