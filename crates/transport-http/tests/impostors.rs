//! Impostors at a member's address: none of them is believed.

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use peercache_groupcache::{Change, Connect, Member, Peer, PeerRequest, PeerUpdate};
use peercache_transport_http::{Dialect, HttpPool, Membership};
use support::{ask, fixed_answer, read_request, scripted, send_update, words_of};
use tokio::io::AsyncWriteExt;

const NODE: &str = "node=00000000000000ff";

/// A native answer with the value `v`.
const VALUE: &[u8] = b"\x11\0\0\0\0\0\0\x01v";

/// The member `b` of the cluster `orders`, at this address.
fn connect_in(dialect: Dialect, url: &str) -> Arc<dyn Peer> {
    let membership = Membership::new("a").cluster("orders");
    let mut member = Member::from("b");
    member.address = url.to_owned();
    HttpPool::builder().dialect(dialect).membership(membership).build().unwrap().connect(&member).unwrap()
}

async fn asked_in(dialect: Dialect, url: &str) -> String {
    words_of(ask(&connect_in(dialect, url), PeerRequest::new("g", "k")).await)
}

/// The outcome of an update to the member at this address.
async fn updated_in(dialect: Dialect, url: &str) -> String {
    let update = PeerUpdate::new("g", 7, Change::Remove(vec!["k".into()]));
    let sent = send_update(&connect_in(dialect, url), update, support::WATCHDOG).await;
    sent.map_or_else(|error| format!("{error:?}"), |_| "acknowledged".to_owned())
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

const GO: &str = "content-type: application/x-protobuf\r\n";
const TEXT: &str = "content-type: text/plain; charset=utf-8\r\n";
const HTML: &str = "content-type: text/html; charset=utf-8\r\n";
const NOSNIFF: &str = "x-content-type-options: nosniff\r\n";
const PAGE: &[u8] = b"<!doctype html><title>welcome</title>";

fn strangers() -> Vec<(&'static str, Vec<u8>)> {
    let html_error = format!("{HTML}{NOSNIFF}");
    vec![
        ("404", answer("404 Not Found", HTML, PAGE)),
        ("404 of ours in words", answer("404 Not Found", &format!("{TEXT}{NOSNIFF}"), b"not found\n")),
        ("404 without a body", answer("404 Not Found", "", b"")),
        ("404 of an unknown group", answer("404 Not Found", TEXT, b"no such group: g\n")),
        ("404 with our error", answer("404 Not Found", "peercache-error: not-found\r\npeercache-life: age=1\r\n", b"")),
        ("empty 200", answer("200 OK", "", b"")),
        ("200 with a page", answer("200 OK", HTML, PAGE)),
        ("a value without its content type", answer("200 OK", "", b"\x0a\x01v")),
        ("a value as another type", answer("200 OK", "content-type: application/octet-stream\r\n", b"\x0a\x01v")),
        ("garbage of the right type", answer("200 OK", GO, PAGE)),
        ("a message without a value", answer("200 OK", GO, b"\x18\x05")),
        ("a coded value", answer("200 OK", &format!("{GO}content-encoding: gzip\r\n"), b"\x0a\x01v")),
        ("a value of two types", answer("200 OK", &format!("{GO}{HTML}"), b"\x0a\x01v")),
        ("an error of two types", answer("500 X", &format!("{TEXT}{NOSNIFF}{HTML}"), b"oops\n")),
        (
            "a value that is coded in a second header",
            answer("200 OK", &format!("{GO}content-encoding: identity\r\ncontent-encoding: gzip\r\n"), b"\x0a\x01v"),
        ),
        ("frames", answer("200 OK", "", VALUE)),
        ("204", answer("204 No Content", "", b"")),
        ("206", answer("206 Partial Content", GO, b"\x0a\x01v")),
        ("307", answer("307 X", "location: /\r\n", b"")),
        ("400", answer("400 Bad Request", TEXT, b"bad request\n")),
        ("401 with a nonce", answer("401 X", "peercache-nonce: 1\r\n", b"")),
        ("403", answer("403 Forbidden", TEXT, b"no")),
        ("500", answer("500 X", TEXT, b"oops\n")),
        ("500 with a page", answer("500 X", &html_error, PAGE)),
        ("502", answer("502 Bad Gateway", &format!("{TEXT}{NOSNIFF}"), b"oops\n")),
        ("503", answer("503 Service Unavailable", &format!("{TEXT}{NOSNIFF}"), b"oops\n")),
        ("503 with our error", answer("503 X", "peercache-error: overloaded\r\nretry-after: 1\r\n", b"")),
        ("504", answer("504 Gateway Timeout", "", b"")),
    ]
}

/// Whether an update has failed, in whatever way.
fn has_failed(outcome: &str) -> bool {
    ["Failed(", "Unreachable("].iter().any(|kind| outcome.starts_with(kind))
}

#[tokio::test]
async fn strangers_are_not_believed() {
    for dialect in [Dialect::Native, Dialect::Golang] {
        for (what, words) in strangers() {
            let url = fixed_answer(words).await;
            let outcome = asked_in(dialect, &url).await;
            assert!(outcome.starts_with("failed: "), "{what}, {dialect:?}: {outcome}");
            let outcome = updated_in(dialect, &url).await;
            assert!(has_failed(&outcome), "{what}, {dialect:?}: {outcome}");
        }
    }
}

#[tokio::test]
async fn what_go_says_counts_in_a_go_dialect_alone() {
    let error = format!("{TEXT}{NOSNIFF}");
    for (words, outcome) in [
        (answer("200 OK", GO, b""), "value b\"\""),
        (answer("200 OK", GO, b"\x0a\x01v"), "value b\"v\""),
        (answer("500 Internal Server Error", &error, b"no disk\n"), "answered LoadFailed"),
    ] {
        let url = fixed_answer(words).await;
        assert_eq!(asked_in(Dialect::Golang, &url).await, outcome);
        assert!(asked_in(Dialect::Native, &url).await.starts_with("failed: "), "{outcome}");
    }
}

#[tokio::test]
async fn other_members_are_not_believed_whatever_they_answer() {
    const STRANGER: &str = "it is no member";
    for (who, reason) in [
        (format!("1; {NODE}; cluster=users; name=b"), "it is a member of another cluster, \"users\""),
        (format!("1; {NODE}; name=b"), "it is a member of another cluster, \"\""),
        (format!("1; {NODE}"), "it is a member of another cluster, \"\""),
        (format!("1; {NODE}; cluster=orders; name=c"), "it is another member, \"c\""),
        (format!("1; {NODE}; cluster=orders"), "it is another member, \"\""),
        ("1; node=zz; cluster=orders; name=b".to_owned(), STRANGER),
        (format!("1; {NODE}; {NODE}; cluster=orders; name=b"), STRANGER),
        (format!("1; {NODE}; cluster=orders; name=b\r\npeercache: 1; {NODE}; cluster=orders; name=b"), STRANGER),
    ] {
        for status in ["200 OK", "404 X", "412 X", "413 X", "421 X", "500 X", "503 X", "504 X"] {
            let url = fixed_answer(answer(status, &format!("peercache: {who}\r\n"), VALUE)).await;
            let outcome = asked_in(Dialect::Native, &url).await;
            assert!(outcome.contains(&format!("peer b is not believed: {reason}")), "{status} of {who}: {outcome}");
            let outcome = updated_in(Dialect::Native, &url).await;
            assert!(has_failed(&outcome), "{status} of {who}: {outcome}");
        }
        // In a Go dialect, too: who has our header is no Go process.
        let headers = format!("peercache: {who}\r\n{GO}");
        let url = fixed_answer(answer("200 OK", &headers, b"\x0a\x01v")).await;
        let outcome = asked_in(Dialect::Golang, &url).await;
        assert!(outcome.starts_with("failed: "), "{who}: {outcome}");
    }
}

#[tokio::test]
async fn the_member_itself_is_believed() {
    let header = format!("peercache: 1; {NODE}; cluster=orders; name=b\r\n");
    let url = fixed_answer(answer("200 OK", &header, VALUE)).await;
    assert_eq!(asked_in(Dialect::Native, &url).await, "value b\"v\"");
    let url = fixed_answer(answer("200 OK", &header, b"\x0a\x01v")).await;
    assert_eq!(asked_in(Dialect::Golang, &url).await, "value b\"v\"");
    // An empty body is how Go says nil, and one of ours never.
    let url = fixed_answer(answer("200 OK", &format!("{header}{GO}"), b"")).await;
    assert!(asked_in(Dialect::Golang, &url).await.starts_with("failed: "));
}

#[tokio::test]
async fn an_echo_is_not_believed() {
    let url = scripted(|mut stream| async move {
        while let Some((head, body)) = read_request(&mut stream).await {
            let headers = head.split_once("\r\n").unwrap().1;
            let words = [b"HTTP/1.1 200 OK\r\n", headers.as_bytes(), &body].concat();
            stream.write_all(&words).await.unwrap();
        }
    })
    .await;
    for dialect in [Dialect::Native, Dialect::Golang] {
        let outcome = asked_in(dialect, &url).await;
        assert!(outcome.contains("is this node itself"), "{outcome}");
        let outcome = updated_in(dialect, &url).await;
        assert!(has_failed(&outcome), "{outcome}");
    }
}

#[tokio::test]
async fn an_impostor_is_asked_once_a_key() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let url = scripted(move |mut stream| {
        let asked = counted.clone();
        async move {
            while read_request(&mut stream).await.is_some() {
                asked.fetch_add(1, Ordering::Relaxed);
                stream.write_all(&answer("404 Not Found", TEXT, b"not found\n")).await.unwrap();
            }
        }
    })
    .await;
    for dialect in [Dialect::Native, Dialect::Golang] {
        asked.store(0, Ordering::Relaxed);
        let peer = connect_in(dialect, &url);
        for _ in 0..10 {
            assert!(words_of(ask(&peer, PeerRequest::new("g", "k")).await).starts_with("failed: "));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 10, "{dialect:?}");
    }
}

/// The log, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::io::Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_says_once_why_a_peer_is_not_believed() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // Beside a second subscriber: where there is one alone, the thread of another test that comes
    // to a line of the log first decides for all threads that nobody reads it.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::subscriber::set_default(subscriber);
    let url = fixed_answer(answer("404 Not Found", TEXT, b"not found\n")).await;
    let peer = connect_in(Dialect::Native, &url);
    for _ in 0..3 {
        let _ = ask(&peer, PeerRequest::new("g", "k")).await;
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("is not believed") && log.contains("it is no member") && log.contains(&url), "{log}");
}

#[tokio::test]
async fn a_golang_pool_does_not_wait_for_who_answers_a_probe_without_end() {
    let url = scripted(|mut stream| async move {
        read_request(&mut stream).await;
        let head = format!("HTTP/1.1 400 X\r\n{TEXT}{NOSNIFF}\r\n");
        let _ = stream.write_all(head.as_bytes()).await;
        while stream.write_all(&[b'w'; 65_536]).await.is_ok() {}
    })
    .await;
    let update = PeerUpdate::new("g", 7, Change::Clear);
    let sent = send_update(&connect_in(Dialect::Golang, &url), update, Duration::from_secs(30)).await;
    assert!(sent.unwrap_err().to_string().contains("sent more than"));
}
