//! Our server as a Go peer sees it.

mod support;

use std::{net::SocketAddr, sync::Arc};

use peercache_groupcache::{PeerReply, Served};
use support::{group, groups, node, raw, raw_get, raw_request, read_to_close, soon, status_and_body};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Notify};

async fn answer(path: &str) -> String {
    raw_get(node(groups()).await.address, path).await
}

async fn words_of(path: &str) -> (u16, String) {
    let answer = answer(path).await;
    let (status, body) = status_and_body(&answer);
    (status, body.to_owned())
}

#[tokio::test]
async fn a_value_is_gos_message() {
    let answer = answer("/_groupcache/echo/v").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\ncontent-type: application/x-protobuf\r\n"), "{answer}");
    assert!(answer.contains("\r\ncontent-length: 3\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n\x0a\x01v"), "{answer}");
}

#[tokio::test]
async fn an_empty_value_is_present() {
    assert_eq!(words_of("/_groupcache/echo/").await, (200, "\x0a\x00".to_owned()));
}

#[tokio::test]
async fn a_load_is_answered_with_its_length_too() {
    let answer = answer("/_groupcache/loaded/v").await;
    assert!(answer.contains("\r\ncontent-length: 3\r\n") && answer.ends_with("\x0a\x01v"), "{answer}");
}

#[tokio::test]
async fn a_large_value_arrives_whole() {
    let answer = answer("/_groupcache/large/100000").await;
    assert!(answer.contains("\r\ncontent-length: 100004\r\n") && answer.ends_with(&"x".repeat(100_000)));
}

#[tokio::test]
async fn paths_are_cut_before_they_are_decoded() {
    for (path, value) in [
        ("/_groupcache/echo/a%20b", "a b"),
        ("/_groupcache/echo/a+b", "a b"),
        ("/_groupcache/echo/a%2Bb", "a+b"),
        ("/_groupcache/echo//", "/"),
        ("/_groupcache/echo//a//b/", "/a//b/"),
        ("/_groupcache/echo/%2F", "/"),
        ("/_groupcache/echo/%252F", "%2F"),
        ("/_groupcache/echo/a/../b", "a/../b"),
        ("/_groupcache/echo/..", ".."),
        ("/_groupcache/echo/%2e", "."),
        ("/_groupcache/echo/%E5%BC%A0", "张"),
        ("/_groupcache/echo/k?x=1", "k"),
        ("/_groupcache/g%2Fh/k", "k"),
    ] {
        let (status, body) = words_of(path).await;
        assert_eq!((status, &body[2..]), (200, value), "{path}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_a_key() {
    let answer = answer("/_groupcache/echo/%FF%FE").await;
    assert!(answer.ends_with("\x0a\x02\u{fffd}\u{fffd}"), "{answer}");
}

#[tokio::test]
async fn a_path_that_is_no_request_is_refused() {
    for path in
        ["/_groupcache/", "/_groupcache/echo", "/_groupcache/echo/%", "/_groupcache/echo/%zz", "/_groupcache/%f/k"]
    {
        assert_eq!(words_of(path).await, (400, "bad request\n".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn an_unknown_group_is_not_an_unknown_key() {
    assert_eq!(words_of("/_groupcache/nope/k").await, (404, "no such group: nope\n".to_owned()));
    assert_eq!(words_of("/_groupcache//k").await, (404, "no such group: \n".to_owned()));
    assert_eq!(words_of("/_groupcache/g/h/k").await, (404, "no such group: g\n".to_owned()));
    assert_eq!(words_of("/_groupcache/a%20b/k").await, (404, "no such group: a b\n".to_owned()));
    assert_eq!(words_of("/_groupcache/kinds/not-found").await, (404, "not found\n".to_owned()));
}

#[tokio::test]
async fn errors_have_gos_statuses() {
    for (key, status, body) in [
        ("load-failed", 500, "disk on fire\n"),
        ("overloaded", 503, "too many loads under way\n"),
        ("load-timed-out", 504, "the load took too long\n"),
        ("deadline", 504, "the caller's deadline passed\n"),
        ("value-too-large", 500, "the value is too large\n"),
    ] {
        assert_eq!(words_of(&format!("/_groupcache/kinds/{key}")).await, (status, body.to_owned()), "{key}");
    }
    let (_, body) = words_of("/_groupcache/kinds/wordy").await;
    assert_eq!(body, "w".repeat(1023) + "\n");
}

#[tokio::test]
async fn an_error_is_text_as_gos_is() {
    let answer = answer("/_groupcache/kinds/overloaded").await;
    for header in ["content-type: text/plain; charset=utf-8", "x-content-type-options: nosniff", "retry-after: 1"] {
        assert!(answer.contains(&format!("\r\n{header}\r\n")), "{answer}");
    }
}

/// A request to the path of native gets, of a member that names nobody.
async fn native_request(address: SocketAddr, method: &str, body: &[u8]) -> String {
    let head = format!(
        "{method} /_peercache/v1/get HTTP/1.1\r\nhost: x\r\npeercache: 1; node=00000000000000ff\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    raw(address, &[head.as_bytes(), body].concat()).await
}

#[tokio::test]
async fn other_methods_are_refused() {
    let node = node(groups()).await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = raw_request(node.address, method, "/_groupcache/echo/k").await;
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("\r\nallow: GET, HEAD\r\n"), "{answer}");
    }
    let answer = native_request(node.address, "GET", b"").await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("\r\nallow: POST\r\n"), "{answer}");
}

#[tokio::test]
async fn head_is_a_get_without_the_body() {
    let answer = raw_request(node(groups()).await.address, "HEAD", "/_groupcache/echo/v").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\ncontent-length: 3\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn every_answer_has_the_identity_header() {
    let node = node(groups()).await;
    for path in ["/_groupcache/echo/k", "/_groupcache/echo", "/_groupcache/nope/k", "/_peercache/v1/get"] {
        assert!(raw_get(node.address, path).await.contains("\r\npeercache: 1; node="), "{path}");
    }
}

#[tokio::test]
async fn a_native_request_that_is_none_is_refused() {
    let node = node(groups()).await;
    assert!(native_request(node.address, "POST", b"garbage").await.starts_with("HTTP/1.1 400 "));
    assert!(native_request(node.address, "POST", b"").await.starts_with("HTTP/1.1 400 "));
    assert!(native_request(node.address, "POST", &[0; 1 << 20]).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn a_client_that_has_closed_its_side_is_answered() {
    let groups = groups();
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (says, waits) = (begun.clone(), go_on.clone());
    group(&groups, "slow", move |_| {
        let waits = waits.clone();
        says.notify_one();
        Served::Loading(Box::pin(async move {
            waits.notified().await;
            // The server polls its sockets meanwhile.
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            Ok(PeerReply::new("late".into()))
        }))
    });
    let node = node(groups).await;
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    stream.write_all(b"GET /_groupcache/slow/k HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    soon(begun.notified()).await;
    stream.shutdown().await.unwrap();
    go_on.notify_one();
    assert_eq!(status_and_body(&read_to_close(&mut stream).await), (200, "\n\x04late"));
}
