//! The gate over raw sockets: strangers, members of other clusters, and those who sign.

mod support;

use std::time::Duration;

use axum::{extract::Request, middleware::map_request};
use peercache_groupcache::{Bytes, Groups, Members};
use peercache_transport_http::{Dialect, HttpPool, Membership, PeerServer, Secrets, Server};
use support::{
    Node, Received, ack, found, group, groups, node_of, raw, read_to_close, serve_named, signing::Asker, soon,
    status_and_body, updated_group,
};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

const ONE: &str = "the first secret, of more than 32 bytes";
const TWO: &str = "the second secret, of more than 32 bytes";

const GET: &str = "/_peercache/v1/get";
const UPDATE: &str = "/_peercache/v1/update";

/// A get of the empty key from the group `echo`, and its answer.
const ECHO: &[u8] = b"\x01\0\0\0\0\0\0\x04\0\0\x03\xe8\x02\0\0\0\0\0\0\x0c\0\0\0\0\x02\0\0\0echo\x03\0\0\0\0\0\0\0";
const ECHOED: &str = "\x11\0\0\0\0\0\0\0";

/// A clear of the group `g`.
const CLEAR: &[u8] = b"\x04\0\0\0\0\0\0\x0e\x02\0\0\0\0\0\0\0\x07\0\0\0\0\0\x02\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\0g";

fn secrets(secrets: &[&str]) -> Secrets {
    Secrets::new(secrets).unwrap()
}

/// A node of the cluster `orders`, whose group `g` keeps the updates that it is sent.
async fn node_with(set: impl FnOnce(Membership) -> Membership) -> (Node, Received) {
    let groups = groups();
    let received = updated_group(&groups, "g", |nth| Ok(ack(nth as u64)));
    (node_of(groups, |membership| set(membership.cluster("orders"))).await, received)
}

/// A member of the cluster `orders` that means to reach `node`, and signs with this secret.
fn asker(node: &Node, secret: Option<&str>) -> Asker {
    Asker::new("orders", &node.url(), secret)
}

/// A request on a connection of its own, with this header.
fn request(method: &str, path: &str, header: &str, body: &[u8]) -> Vec<u8> {
    let header = if header.is_empty() { String::new() } else { format!("peercache: {header}\r\n") };
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}content-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

async fn ask(node: &Node, method: &str, path: &str, header: &str, body: &[u8]) -> String {
    raw(node.address, &request(method, path, header, body)).await
}

fn status(answer: &str) -> u16 {
    status_and_body(answer).0
}

/// Asks as a member does that has no nonce yet, and once more with the one that it is given.
async fn ask_signed(node: &Node, asker: &mut Asker, path: &str, count: u64, body: &[u8]) -> String {
    if asker.nonce.is_none() {
        let answer = ask(node, "POST", path, &asker.header("POST", path, 0, b""), b"").await;
        assert_eq!(status(&answer), 401, "{answer}");
        asker.learn(&answer);
    }
    ask(node, "POST", path, &asker.header("POST", path, count, body), body).await
}

#[tokio::test]
async fn a_blind_post_does_nothing_and_is_refused_before_its_body_is_read() {
    let (node, received) = node_with(|membership| membership).await;
    for path in [GET, UPDATE, "/_peercache/v1/", "/_peercache/v2/get", "/_peercache/"] {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\norigin: http://evil\r\ncontent-type: text/plain\r\n\
             content-length: 1000000000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // Nothing more is sent: the answer waits for no body.
        let mut start = [0; 12];
        soon(stream.read_exact(&mut start)).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 403", "{path}");
        let answer = ask(&node, "POST", path, "", CLEAR).await;
        assert_eq!(status(&answer), 403, "{path}");
        let header = format!("cluster=orders; name={}\r\n", node.url());
        assert!(answer.contains("\r\npeercache: 1; node=") && answer.contains(&header), "{answer}");
    }
    assert!(received.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_stranger_does_not_learn_which_paths_and_methods_there_are() {
    let (node, _) = node_with(|membership| membership).await;
    let member = asker(&node, None);
    for (method, path, to_a_member) in [
        ("GET", GET, 405),
        ("PUT", UPDATE, 405),
        ("OPTIONS", GET, 405),
        ("POST", "/_peercache/v2/get", 404),
        ("GET", "/_peercache/", 404),
    ] {
        assert_eq!(status(&ask(&node, method, path, "", b"").await), 403, "{method} {path}");
        let answer = ask(&node, method, path, &member.header(method, path, 0, b""), b"").await;
        assert_eq!(status(&answer), to_a_member, "{method} {path}");
    }
}

#[tokio::test]
async fn without_a_secret_the_header_says_who_is_meant() {
    let (node, received) = node_with(|membership| membership).await;
    let member = asker(&node, None);
    let answer = ask(&node, "POST", GET, &member.header("POST", GET, 0, ECHO), ECHO).await;
    assert_eq!(status_and_body(&answer), (200, ECHOED));
    for (asker, refusal) in [
        (Asker { cluster: "other".into(), ..member.clone() }, 412),
        (Asker { cluster: String::new(), ..member.clone() }, 412),
        (Asker { to: "http://127.0.0.1:1".into(), ..member.clone() }, 421),
        (Asker { to: String::new(), ..member.clone() }, 403),
    ] {
        let header = asker.header("POST", UPDATE, 0, CLEAR);
        let answer = ask(&node, "POST", UPDATE, &header, CLEAR).await;
        assert_eq!(status(&answer), refusal, "{header}");
        assert!(answer.contains(&format!("; name={}\r\n", node.url())), "{answer}");
        // The same on golang's path, where a stranger is answered.
        let answer = ask(&node, "GET", "/_groupcache/echo/k", &header, b"").await;
        assert_eq!(status(&answer), if refusal == 403 { 200 } else { refusal }, "{header}");
    }
    assert!(received.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_node_does_not_answer_itself() {
    let (node, received) = node_with(|membership| membership).await;
    let answer = ask(&node, "POST", GET, "", b"").await;
    let id = answer.split("node=").nth(1).unwrap()[..16].to_owned();
    for path in [GET, UPDATE] {
        let header = Asker { node: id.clone(), ..asker(&node, None) }.header("POST", path, 0, CLEAR);
        assert_eq!(status(&ask(&node, "POST", path, &header, CLEAR).await), 421);
    }
    assert!(received.lock().unwrap().is_empty());
}

#[tokio::test]
async fn with_a_secret_nothing_is_done_for_one_who_does_not_know_it() {
    let (node, received) = node_with(|membership| membership.secrets(secrets(&[ONE]))).await;
    let unsigned = asker(&node, None);
    let answer = ask(&node, "POST", UPDATE, &unsigned.header("POST", UPDATE, 1, CLEAR), CLEAR).await;
    assert_eq!(status(&answer), 401);
    assert!(answer.contains("; nonce=") && answer.contains("\r\nwww-authenticate: peercache\r\n"), "{answer}");
    assert!(!answer.contains("proof="), "{answer}");
    // The unknown group is not found out, for the body is not read.
    let answer = ask(&node, "POST", GET, &unsigned.header("POST", GET, 1, b"garbage"), b"garbage").await;
    assert_eq!(status(&answer), 401);
    let mut other = asker(&node, Some(TWO));
    let answer = ask_signed(&node, &mut other, UPDATE, 1, CLEAR).await;
    assert_eq!(status(&answer), 403);
    assert!(!answer.contains("proof="), "{answer}");
    let before = ask(&node, "POST", UPDATE, "1; node=00000000000000ff", CLEAR).await;
    assert_eq!(status(&before), 412, "a member of before is of no cluster");
    assert!(received.lock().unwrap().is_empty());
}

#[tokio::test]
async fn with_a_secret_members_are_answered_with_a_proof() {
    let (node, received) = node_with(|membership| membership.secrets(secrets(&[TWO, ONE]))).await;
    for (count, secret) in [(1, ONE), (2, TWO)] {
        let mut member = asker(&node, Some(secret));
        let answer = ask_signed(&node, &mut member, UPDATE, count, CLEAR).await;
        assert_eq!(status(&answer), 200);
        assert!(member.is_proved(&answer, "POST", UPDATE, count, CLEAR), "{answer}");
        let answer = ask_signed(&node, &mut member, GET, 0, ECHO).await;
        assert_eq!(status_and_body(&answer), (200, ECHOED));
        assert!(member.is_proved(&answer, "POST", GET, 0, ECHO), "{answer}");
        // A proof is good for one status.
        assert!(!member.is_proved(&answer.replace("200 OK", "404 OK"), "POST", GET, 0, ECHO), "{answer}");
        let answer = ask_signed(&node, &mut member, GET, 0, b"garbage").await;
        assert_eq!(status(&answer), 400);
        assert!(member.is_proved(&answer, "POST", GET, 0, b"garbage"), "{answer}");
    }
    assert_eq!(received.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn each_field_of_a_captured_request_matters() {
    let (node, received) = node_with(|membership| membership.secrets(secrets(&[ONE]))).await;
    let mut member = asker(&node, Some(ONE));
    assert_eq!(status(&ask_signed(&node, &mut member, UPDATE, 1, CLEAR).await), 200);
    let captured = member.header("POST", UPDATE, 2, CLEAR);
    let fields: Vec<&str> = captured.split("; ").collect();
    for at in 0..fields.len() {
        for changed in changes(fields[at]) {
            let mut others = fields.clone();
            others[at] = &changed;
            let answer = ask(&node, "POST", UPDATE, &others.join("; "), CLEAR).await;
            assert!([401, 403, 412, 421].contains(&status(&answer)), "{changed}: {answer}");
        }
        let mut others = fields.clone();
        others.remove(at);
        let answer = ask(&node, "POST", UPDATE, &others.join("; "), CLEAR).await;
        assert!([401, 403, 412, 421].contains(&status(&answer)), "without {}: {answer}", fields[at]);
    }
    let mut other_body = CLEAR.to_vec();
    *other_body.last_mut().unwrap() ^= 1;
    for (count, method, path, body) in [
        (3, "POST", UPDATE, &other_body[..]),
        (4, "POST", UPDATE, &CLEAR[..1]),
        (5, "POST", UPDATE, b""),
        (6, "POST", GET, CLEAR),
        (7, "PUT", UPDATE, CLEAR),
    ] {
        let header = member.header("POST", UPDATE, count, CLEAR);
        assert_eq!(status(&ask(&node, method, path, &header, body).await), 403, "{method} {path} {body:?}");
    }
    assert_eq!(received.lock().unwrap().len(), 1);
    assert_eq!(status(&ask(&node, "POST", UPDATE, &captured, CLEAR).await), 200, "as it was captured, it is good");
}

/// Other values of a field, each of the same length.
fn changes(field: &str) -> Vec<String> {
    let from = field.find('=').map_or(0, |at| at + 1);
    let change = |at: usize| {
        let mut bytes = field.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'2' { b'3' } else { b'2' };
        String::from_utf8(bytes).unwrap()
    };
    (from..field.len()).map(change).collect()
}

#[tokio::test]
async fn an_update_is_made_once_and_a_get_as_often_as_it_is_asked_for() {
    let (node, received) = node_with(|membership| membership.secrets(secrets(&[ONE]))).await;
    let mut member = asker(&node, Some(ONE));
    assert_eq!(status(&ask_signed(&node, &mut member, UPDATE, 7, CLEAR).await), 200);
    for _ in 0..2 {
        let answer = ask_signed(&node, &mut member, UPDATE, 7, CLEAR).await;
        assert_eq!(status(&answer), 403, "{answer}");
        assert_eq!(status(&ask_signed(&node, &mut member, GET, 0, ECHO).await), 200);
    }
    assert_eq!(received.lock().unwrap().len(), 1);
    // The nonce of another process, as before a restart: not the last one's.
    member.nonce = Some("0".repeat(32));
    let answer = ask_signed(&node, &mut member, UPDATE, 8, CLEAR).await;
    assert_eq!(status(&answer), 401, "{answer}");
    assert_eq!(received.lock().unwrap().len(), 1);
}

/// Somebody on the way can copy a head and send it on with another body, or none.
#[tokio::test]
async fn a_copied_head_does_not_take_the_place_of_its_update() {
    let (node, received) = node_with(|membership| membership.secrets(secrets(&[ONE]))).await;
    let mut member = asker(&node, Some(ONE));
    assert_eq!(status(&ask_signed(&node, &mut member, UPDATE, 1, CLEAR).await), 200);
    let header = member.header("POST", UPDATE, 2, CLEAR);
    let mut other = CLEAR.to_vec();
    *other.last_mut().unwrap() = b'h';
    for copy in [&other[..], b""] {
        assert_eq!(status(&ask(&node, "POST", UPDATE, &header, copy).await), 403);
    }
    assert_eq!(status(&ask(&node, "POST", UPDATE, &header, CLEAR).await), 200);
    assert_eq!(status(&ask(&node, "POST", UPDATE, &header, CLEAR).await), 403, "it was made");
    assert_eq!(received.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_body_in_pieces_is_the_one_that_was_signed_or_nothing() {
    let (node, received) = node_with(|membership| membership.secrets(secrets(&[ONE]))).await;
    let mut member = asker(&node, Some(ONE));
    assert_eq!(status(&ask_signed(&node, &mut member, GET, 0, ECHO).await), 200);
    let (start, end) = CLEAR.split_at(9);
    for (count, last, expected) in [(1, end, 200), (2, b"?", 403)] {
        let header = member.header("POST", UPDATE, count, CLEAR);
        let head = format!("POST {UPDATE} HTTP/1.1\r\nhost: x\r\nconnection: close\r\npeercache: {header}\r\n");
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n9\r\n").as_bytes()).await.unwrap();
        stream.write_all(start).await.unwrap();
        assert!(received.lock().unwrap().len() < 2);
        stream.write_all(format!("\r\n{:x}\r\n", last.len()).as_bytes()).await.unwrap();
        stream.write_all(&[last, b"\r\n0\r\n\r\n"].concat()).await.unwrap();
        assert_eq!(status(&read_to_close(&mut stream).await), expected);
    }
    assert_eq!(received.lock().unwrap().len(), 1);
}

/// The statuses of a GET of golang's for a stranger, a member that does not sign, one that does,
/// and one that signs with another secret.
async fn answers_to_gets(node: &Node) -> [u16; 4] {
    const PATH: &str = "/_groupcache/echo/k";
    let get = async |header: &str| status(&ask(node, "GET", PATH, header, b"").await);
    let answer = ask(node, "POST", GET, &asker(node, None).header("POST", GET, 0, b""), b"").await;
    let signed = |secret| {
        let mut member = asker(node, Some(secret));
        if answer.contains("; nonce=") {
            member.learn(&answer);
        }
        member.header("GET", PATH, 0, b"")
    };
    let unsigned = asker(node, None).header("GET", PATH, 0, b"");
    [get("").await, get(&unsigned).await, get(&signed(ONE)).await, get(&signed(TWO)).await]
}

#[tokio::test]
async fn who_is_answered_a_get_of_golangs() {
    let one = |membership: Membership| membership.secrets(secrets(&[ONE]));
    let (node, _) = node_with(|membership| membership).await;
    assert_eq!(answers_to_gets(&node).await, [200; 4], "all is on this machine");
    let (node, _) = node_with(one).await;
    assert_eq!(answers_to_gets(&node).await, [403, 401, 200, 403], "a secret");
    let (node, _) = node_with(|membership| one(membership).trust_network(true)).await;
    assert_eq!(answers_to_gets(&node).await, [403, 401, 200, 403], "a secret and a network that is trusted");
    let (node, _) = node_with(|membership| one(membership).open_gets(true)).await;
    assert_eq!(answers_to_gets(&node).await, [200, 200, 200, 403], "open to everybody");
}

/// A node without a secret, of a list in which a member is at `address`; `unknown` hides the
/// listener from it, as any other server does.
async fn node_beside(address: &str, unknown: bool, set: impl FnOnce(PeerServer, Membership) -> PeerServer) -> Node {
    serve_named(|name| {
        let pool = HttpPool::builder().membership(Membership::new(name).trust_network(true)).build().unwrap();
        let members = Members::builder(name, pool).members([name, address]).build().unwrap();
        let groups = Groups::new(members);
        group(&groups, "echo", |key| found(Bytes::copy_from_slice(key)));
        let router = set(PeerServer::new(groups), Membership::new(name).cluster("orders")).router();
        Server::new(if unknown { router.layer(map_request(forget_the_connection)) } else { router })
    })
    .await
}

async fn forget_the_connection(mut request: Request) -> Request {
    request.extensions_mut().clear();
    request
}

#[tokio::test]
async fn where_neither_is_set_gets_of_golangs_are_answered_on_this_machine() {
    const HERE: &str = "http://localhost:9";
    const BEYOND: &str = "http://192.0.2.1:9";
    type Set = fn(PeerServer, Membership) -> PeerServer;
    let closed: Set = PeerServer::membership;
    let trusted: Set = |server, membership| server.membership(membership.trust_network(true));
    let golang: Set = |server, membership| server.membership(membership).dialect(Dialect::Golang);
    let opened: Set = |server, membership| server.membership(membership.open_gets(true));
    for (address, unknown, set, expected) in [
        (HERE, false, closed, 200),
        (HERE, true, closed, 403),
        (BEYOND, false, closed, 403),
        (BEYOND, true, closed, 403),
        (BEYOND, true, trusted, 200),
        (BEYOND, true, golang, 200),
        // It opens what a secret or TLS closes, and there is none.
        (BEYOND, true, opened, 403),
    ] {
        let node = node_beside(address, unknown, set).await;
        assert_eq!(answers_to_gets(&node).await, [expected; 4], "{address} {unknown}");
        let answer = ask(&node, "PUT", "/_groupcache/echo/k", "", b"").await;
        assert_eq!(status(&answer), if expected == 200 { 405 } else { 403 });
    }
}

/// A page of the web whose name was made to resolve to this machine may send any header.
#[tokio::test]
async fn where_only_this_machine_may_ask_it_asks_by_no_name_of_the_web() {
    const PATH: &str = "/_groupcache/echo/k";
    let (open, received) = node_with(|membership| membership).await;
    let (secret, _) = node_with(|membership| membership.secrets(secrets(&[ONE])).open_gets(true)).await;
    let (trusted, _) = node_with(|membership| membership.trust_network(true)).await;
    for (node, host, expected) in [
        (&open, "localhost:9090", 200),
        (&open, "127.0.0.1", 200),
        (&open, "[::1]:80", 200),
        (&open, "evil.example:9090", 403),
        (&open, "127.0.0.1.evil.example", 403),
        (&open, "a b", 403),
        (&secret, "role.example", 200),
        (&trusted, "role.example", 200),
    ] {
        let to_host = async |request: Vec<u8>| {
            let text = String::from_utf8(request).unwrap().replacen("host: x", &format!("host: {host}"), 1);
            raw(node.address, text.as_bytes()).await
        };
        assert_eq!(status(&to_host(request("GET", PATH, "", b"")).await), expected, "{host}");
        if host == "evil.example:9090" {
            let header = asker(node, None).header("POST", UPDATE, 0, b"");
            assert_eq!(status(&to_host(request("POST", UPDATE, &header, b"")).await), 403);
        }
    }
    let absolute = request("GET", &format!("http://evil.example{PATH}"), "", b"");
    assert_eq!(status(&raw(open.address, &absolute).await), 403);
    assert!(received.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_query_is_covered_by_no_signature_and_is_refused() {
    let (node, received) = node_with(|membership| membership.secrets(secrets(&[ONE]))).await;
    let mut member = asker(&node, Some(ONE));
    assert_eq!(status(&ask_signed(&node, &mut member, GET, 0, ECHO).await), 200);
    for path in [GET, UPDATE] {
        let header = member.header("POST", path, 1, ECHO);
        assert_eq!(status(&ask(&node, "POST", &format!("{path}?key=other"), &header, ECHO).await), 400, "{path}");
    }
    assert!(received.lock().unwrap().is_empty());
}

#[tokio::test]
async fn refusals_are_counted_by_reason() {
    let mut membership = None;
    let (node, _) = node_with(|of_node| membership.insert(of_node.secrets(secrets(&[ONE]))).clone()).await;
    let membership = membership.unwrap();
    let mut member = asker(&node, Some(ONE));
    assert_eq!(status(&ask_signed(&node, &mut member, UPDATE, 1, CLEAR).await), 200);
    let header = member.header("POST", UPDATE, 1, CLEAR);
    for _ in 0..2 {
        assert_eq!(status(&ask(&node, "POST", UPDATE, &header, CLEAR).await), 403, "it is repeated");
    }
    ask(&node, "POST", GET, "", ECHO).await;
    ask(&node, "GET", "/_groupcache/echo/k", "", b"").await;
    let header = Asker { cluster: "other".into(), ..member.clone() }.header("POST", GET, 0, ECHO);
    ask(&node, "POST", GET, &header, ECHO).await;
    let stats = membership.trust_stats();
    let expected = [("unsigned", 1), ("repeated", 2), ("strangers", 1), ("closed_gets", 1), ("other_clusters", 1)];
    let found = [stats.unsigned, stats.repeated, stats.strangers, stats.closed_gets, stats.other_clusters];
    assert_eq!(found, expected.map(|(_, number)| number), "{expected:?}");
    assert_eq!((stats.bad_signatures, stats.impostors), (0, 0));
}

#[tokio::test]
async fn a_signed_get_of_golangs_has_no_body() {
    let (node, _) = node_with(|membership| membership.secrets(secrets(&[ONE]))).await;
    let mut member = asker(&node, Some(ONE));
    assert_eq!(status(&ask_signed(&node, &mut member, GET, 0, ECHO).await), 200);
    let path = "/_groupcache/echo/k";
    let header = member.header("GET", path, 0, b"");
    let answer = ask(&node, "GET", path, &header, b"").await;
    assert_eq!(status_and_body(&answer), (200, "\n\x01k"));
    assert!(member.is_proved(&answer, "GET", path, 0, b""), "{answer}");
    // The signature of one key is good for no other, and neither is that of a body.
    assert_eq!(status(&ask(&node, "GET", "/_groupcache/echo/l", &header, b"").await), 403);
    let header = member.header("GET", path, 0, b"body");
    assert_eq!(status(&ask(&node, "GET", path, &header, b"body").await), 403);
}

#[tokio::test]
async fn a_listener_beyond_this_machine_needs_a_secret_or_a_trusted_network() {
    let server = || PeerServer::new(groups());
    let of = |membership: fn(Membership) -> Membership| server().membership(membership(Membership::new("n")));
    let golang = |server: PeerServer| server.dialect(Dialect::Golang);
    for (server, is_taken) in [
        (server(), false),
        (golang(server()), false),
        (of(|membership| membership.secrets(secrets(&[ONE]))), true),
        (of(|membership| membership.trust_network(true)), true),
        (golang(of(|membership| membership.secrets(secrets(&[ONE])).open_gets(true))), false),
        (golang(of(|membership| membership.trust_network(true))), true),
    ] {
        for here in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            server.check_listener(here.parse().unwrap()).unwrap();
        }
        for beyond in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
            let checked = server.check_listener(beyond.parse().unwrap());
            assert_eq!(checked.is_ok(), is_taken, "{beyond} {server:?}");
            if let Err(error) = checked {
                let sentence = error.to_string();
                for word in [beyond, "--secret-file", "--tls-cert", "--trust-network"] {
                    assert!(sentence.contains(word), "{sentence}");
                }
            }
        }
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let kind = server.listener(listener).map(drop).map_err(|error| error.kind());
        assert_eq!(kind, if is_taken { Ok(()) } else { Err(std::io::ErrorKind::PermissionDenied) });
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_is_served_with_the_same_limits() {
    let path = std::env::temp_dir().join(format!("peercache-gate-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let router = PeerServer::new(groups()).membership(Membership::new("n")).router();
    let server = Server::new(router).header_read_timeout(Duration::from_millis(200)).max_connections(1);
    let served = tokio::spawn(server.serve(listener, async move { drop(stopped.await) }));
    // An idle connection is closed for the next.
    let mut idle = UnixStream::connect(&path).await.unwrap();
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(&request("GET", "/_groupcache/echo/k", "", b"")).await.unwrap();
    assert_eq!(status_and_body(&read_to_close(&mut stream).await), (200, "\n\x01k"));
    assert_eq!(read_to_close(&mut idle).await, "");
    let mut silent = UnixStream::connect(&path).await.unwrap();
    assert_eq!(read_to_close(&mut silent).await, "");
    // A connection that waits at the shutdown is served, and no later one.
    let mut last = UnixStream::connect(&path).await.unwrap();
    last.write_all(&request("GET", "/_groupcache/echo/k", "", b"")).await.unwrap();
    stop.send(()).unwrap();
    assert_eq!(status_and_body(&read_to_close(&mut last).await), (200, "\n\x01k"));
    soon(served).await.unwrap().unwrap();
    UnixStream::connect(&path).await.unwrap_err();
    std::fs::remove_file(&path).unwrap();
}
