//! Probes: what is sent, who answers, and what counts as a sign of life.

mod support;

use std::{sync::Arc, time::Duration};

use peercache_groupcache::{Connect, Member, Peer, PeerError, Reply};
use peercache_transport_http::{Dialect, HttpPool, Membership};
use support::{fixed_answer, groups, node_of, raw, read_request, scripted, soon, status_and_body};
use tokio::{
    io::AsyncWriteExt,
    net::TcpListener,
    sync::{mpsc, oneshot},
};

const NODE: &str = "node=00000000000000ff";

/// The member `b` of the cluster `orders`, at this address.
fn member_at(dialect: Dialect, url: &str) -> Arc<dyn Peer> {
    let membership = Membership::new("a").cluster("orders");
    HttpPool::builder()
        .dialect(dialect)
        .membership(membership)
        .build()
        .unwrap()
        .connect(&Member::new("b").address(url))
        .unwrap()
}

async fn probe_within(peer: &Arc<dyn Peer>, timeout: Duration) -> Result<(), PeerError> {
    let (sender, receiver) = oneshot::channel();
    peer.probe(timeout, Reply::new(move |answer| drop(sender.send(answer))));
    soon(receiver).await.unwrap()
}

async fn probe(dialect: Dialect, url: &str) -> Result<(), PeerError> {
    probe_within(&member_at(dialect, url), support::WATCHDOG).await
}

#[tokio::test]
async fn a_probe_is_an_empty_request_to_a_path_of_its_own() {
    let (sender, mut seen) = mpsc::channel(1);
    let url = scripted(move |mut stream| {
        let sender = sender.clone();
        async move {
            sender.send(read_request(&mut stream).await.unwrap()).await.unwrap();
            let answer =
                format!("HTTP/1.1 200 OK\r\npeercache: 1; {NODE}; cluster=orders; name=b\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    probe(Dialect::Native, &url).await.unwrap();
    let (head, body) = seen.recv().await.unwrap();
    assert!(head.starts_with("POST /_peercache/v1/health HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("; cluster=orders; name=a; to=b\r\n") && body.is_empty(), "{head}");
}

#[tokio::test]
async fn whatever_a_member_answers_is_a_sign_of_life() {
    for status in ["200 OK", "404 X", "503 X"] {
        let identity = format!("peercache: 1; {NODE}; cluster=orders; name=b");
        let url = fixed_answer(format!("HTTP/1.1 {status}\r\n{identity}\r\ncontent-length: 0\r\n\r\n")).await;
        probe(Dialect::Native, &url).await.unwrap();
    }
}

#[tokio::test]
async fn a_stranger_and_a_closed_port_are_not_there() {
    let stranger = fixed_answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let other = format!("HTTP/1.1 200 OK\r\npeercache: 1; {NODE}; cluster=orders; name=c\r\ncontent-length: 0\r\n\r\n");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for url in [stranger, fixed_answer(other).await, closed] {
        let outcome = probe(Dialect::Native, &url).await;
        assert!(matches!(outcome, Err(PeerError::Unreachable(_))), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_member_that_says_nothing_is_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let outcome = probe_within(&member_at(Dialect::Native, &url), Duration::from_millis(50)).await;
    assert!(matches!(outcome, Err(PeerError::Silent(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_go_peer_is_asked_for_no_key() {
    let refusal = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
                   x-content-type-options: nosniff\r\ncontent-length: 12\r\n\r\nbad request\n";
    probe(Dialect::Golang, &fixed_answer(refusal).await).await.unwrap();
}

#[tokio::test]
async fn a_node_answers_probes_of_members_alone() {
    let node = node_of(groups(), |membership| membership.cluster("orders")).await;
    let asked = async |method: &str, identity: &str| {
        let to = node.url();
        let head = format!(
            "{method} /_peercache/v1/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             {}content-length: 0\r\n\r\n",
            identity.replace("TO", &to)
        );
        let answer = raw(node.address, head.as_bytes()).await;
        let (status, body) = status_and_body(&answer);
        (status, body.to_owned())
    };
    let member = format!("peercache: 1; {NODE}; cluster=orders; name=x; to=TO\r\n");
    assert_eq!(asked("POST", &member).await, (200, "up\n".to_owned()));
    assert_eq!(asked("GET", &member).await.0, 405);
    assert_eq!(asked("POST", "").await.0, 403);
    let other = member.replace("orders", "users");
    assert_eq!(asked("POST", &other).await.0, 412);
}
