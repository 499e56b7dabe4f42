//! Peers that are sick, foreign or lying, on raw sockets.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use peercache_groupcache::{Connect, PeerRequest};
use peercache_transport_http::{Dialect, HttpPool, HttpPoolBuilder};
use support::{ask, ask_once, fixed_answer, pool, read_request, scripted, soon, words_of};
use tokio::{io::AsyncWriteExt, net::TcpListener, sync::Barrier};

const OURS: &str = "peercache: 1; node=00000000000000ff\r\n";

/// The header of Go's values.
const GO: &str = "content-type: application/x-protobuf\r\n";

/// A silence that a test waits out.
const SHORT: Duration = Duration::from_millis(150);

fn golang() -> HttpPoolBuilder {
    HttpPool::builder().dialect(Dialect::Golang).peer_timeout(SHORT)
}

fn native() -> HttpPoolBuilder {
    HttpPool::builder().peer_timeout(SHORT)
}

/// The outcome when a peer answers with these bytes and closes, without the peer's name.
async fn answered(builder: HttpPoolBuilder, words: impl Into<Vec<u8>>) -> String {
    let url = fixed_answer(words).await;
    words_of(ask_once(builder, &url, "g", b"k").await).replace(&format!("peer {url} "), "")
}

fn ok(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn status(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// An error as Go's `http.Error` writes it.
fn go_error(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = "content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n";
    format!("HTTP/1.1 {status}\r\n{head}content-length: {length}\r\n\r\n{body}").into()
}

#[tokio::test]
async fn answers_of_a_go_peer() {
    let chunked =
        format!("HTTP/1.1 200 OK\r\n{GO}transfer-encoding: chunked\r\n\r\n2\r\n\x0a\x01\r\n1\r\nv\r\n0\r\n\r\n");
    let closed = format!("HTTP/1.1 200 OK\r\n{GO}connection: close\r\n\r\n\x0a\x01v");
    for (words, outcome) in [
        (ok(GO, b""), "value b\"\""),
        (ok(GO, b"\x0a\x00"), "value b\"\""),
        (ok(GO, b"\x0a\x01v"), "value b\"v\""),
        (ok(GO, b"\x0a\x01v\x11\0\0\0\0\0\0\xf8\x3f"), "value b\"v\""),
        (ok(GO, b"\x18\x05\x0a\x01v"), "value b\"v\""),
        (chunked.into(), "value b\"v\""),
        (closed.into(), "value b\"v\""),
        (go_error("500 X", "no disk\n"), "answered LoadFailed"),
        (go_error("404 X", "no such group: g\n"), "failed: has no such group: g"),
        (go_error("400 X", "bad request\n"), "failed: answered 400 Bad Request"),
    ] {
        assert_eq!(answered(golang(), words).await, outcome);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = fixed_answer(ok("", b"\x0a\x01v")).await;
    let words = format!("HTTP/1.1 307 X\r\nlocation: {elsewhere}/_groupcache/g/k\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(answered(golang(), words).await, "failed: answered 307 Temporary Redirect");
}

#[tokio::test]
async fn garbage_is_a_failed_peer() {
    for builder in [golang, native] {
        for words in [&b"\x16\x03\x01garbage\r\n\r\n"[..], b"HTTP/9.9 999\r\n\r\n", &[0; 5_000], b""] {
            let outcome = answered(builder(), words).await;
            assert!(outcome.starts_with("failed: "), "{outcome}");
        }
    }
    let outcome = answered(golang(), ok(GO, b"\x0a\xff\xff\xff\xff\x0fv")).await;
    assert!(outcome.starts_with("failed: sent what is not an answer"), "{outcome}");
    let outcome = answered(golang(), ok("content-encoding: gzip\r\n", b"\x1f\x8b")).await;
    assert_eq!(outcome, "failed: sent a body coded as \"gzip\", unasked");
}

#[tokio::test]
async fn native_garbage_is_a_failed_peer() {
    for (frames, outcome) in [
        (&b""[..], "no answer before the end"),
        (&[0x80, 0, 0, 0, 0, 0, 0, 0], "no answer before the end"),
        (&[0x11, 0, 0, 0, 0, 0, 0, 9, b'v'], "a frame that is cut short"),
        (&[0x11, 0, 0, 0], "a frame that is cut short"),
        (&[0x7f, 0, 0, 0, 0, 0, 0, 0], "a frame of the unknown kind 0x7f"),
        (&[0x11, 0, 0, 1, 0, 0, 0, 0], "a frame that answers nothing that was asked"),
        (&[0x11, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], "a frame of 4294967295 bytes, 33554432 are allowed"),
        (&[0x12, 0, 0, 0, 0, 0, 0, 0], "a frame too short for its kind 0x12"),
        (&[0x12, 0, 0, 0, 0, 0, 0, 1, 63], "an error of the unknown code 63"),
        (b"<html>hello</html>", "a frame of the unknown kind 0x3c"),
    ] {
        assert_eq!(
            answered(native(), ok(OURS, frames)).await,
            format!("failed: sent what is not an answer: {outcome}")
        );
    }
}

#[tokio::test]
async fn truncation_is_a_failed_peer() {
    let cut = format!("HTTP/1.1 200 OK\r\n{GO}content-length: 100\r\n\r\n\x0a\x01v");
    assert!(answered(golang(), cut).await.starts_with("failed: broke off its answer"));
    let chunk = format!("HTTP/1.1 200 OK\r\n{OURS}transfer-encoding: chunked\r\n\r\n64\r\n\x11");
    assert!(answered(native(), chunk).await.starts_with("failed: broke off its answer"));
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let refusal = "failed: sent more than 33555456 bytes";
    let claimed = format!("HTTP/1.1 200 OK\r\n{GO}content-length: 99999999999\r\n\r\n");
    assert_eq!(answered(golang(), claimed).await, refusal);
    let url = scripted(|mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{GO}\r\n").as_bytes()).await;
        while stream.write_all(&[0; 65_536]).await.is_ok() {}
    })
    .await;
    assert!(words_of(ask_once(golang(), &url, "g", b"k").await).ends_with(&refusal["failed: ".len()..]));
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let head_of = |bytes: usize| ok(&format!("{GO}x-long: {}\r\n", "x".repeat(bytes)), b"\x0a\x01v");
    assert_eq!(answered(golang(), head_of(30_000)).await, "value b\"v\"");
    assert!(answered(golang(), head_of(200_000)).await.starts_with("failed: cannot be asked: "));
}

#[tokio::test]
async fn text_that_never_ends_is_cut() {
    let url = scripted(|mut stream| async move {
        read_request(&mut stream).await;
        let head =
            b"HTTP/1.1 500 X\r\ncontent-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n\r\n";
        let _ = stream.write_all(head).await;
        while stream.write_all(&[b'w'; 65_536]).await.is_ok() {}
    })
    .await;
    assert_eq!(words_of(ask_once(golang(), &url, "g", b"k").await), "answered LoadFailed");
}

/// A peer that says this after a request, then keeps the connection and says no more.
async fn silent_after(words: &'static [u8]) -> String {
    scripted(move |mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(words).await;
        let _ = read_request(&mut stream).await;
    })
    .await
}

#[tokio::test]
async fn silence_is_a_failed_peer() {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\npeercache: 1; node=00000000000000ff\r\ntransfer-encoding: chunked\r\n\r\n";
    const CUT: &[u8] =
        b"HTTP/1.1 200 OK\r\npeercache: 1; node=00000000000000ff\r\ntransfer-encoding: chunked\r\n\r\n8\r\n\x80";
    for words in [b"", HEAD, CUT] {
        let url = silent_after(words).await;
        assert_eq!(
            words_of(ask_once(native(), &url, "g", b"k").await),
            format!("failed: peer {url} was silent for {SHORT:?}")
        );
    }
}

#[tokio::test]
async fn a_go_peer_may_be_silent_for_as_long_as_a_load() {
    let url = silent_after(b"").await;
    let peer = pool(golang()).connect(&peercache_groupcache::Member::from(&url)).unwrap();
    let mut request = PeerRequest::new("g", "k");
    request.load_timeout = SHORT;
    assert_eq!(
        words_of(ask(&peer, request).await),
        format!("failed: peer {url} did not answer within {:?}", 2 * SHORT)
    );
    let url =
        silent_after(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 3\r\n\r\n\x0a").await;
    assert_eq!(
        words_of(ask_once(golang(), &url, "g", b"k").await),
        format!("failed: peer {url} was silent for {SHORT:?}")
    );
}

#[tokio::test]
async fn keys_that_wait_for_a_silent_peer_fail_with_the_first() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let url = scripted(move |mut stream| {
        let asked = counted.clone();
        async move {
            read_request(&mut stream).await;
            asked.fetch_add(1, Ordering::Relaxed);
            let _ = read_request(&mut stream).await;
        }
    })
    .await;
    let peer = pool(native().max_connections(4)).connect(&peercache_groupcache::Member::from(&url)).unwrap();
    let fetches: Vec<_> = (0..40).map(|_| (peer.clone(), PeerRequest::new("g", "k"))).collect();
    let fetches = fetches.into_iter().map(|(peer, request)| tokio::spawn(async move { ask(&peer, request).await }));
    for fetch in fetches.collect::<Vec<_>>() {
        assert!(words_of(fetch.await.unwrap()).contains("silent"));
    }
    assert!(asked.load(Ordering::Relaxed) <= 4, "each of the others had its own silence to wait out");
    // Only those that waited fail so: the next one is sent.
    assert!(words_of(ask(&peer, PeerRequest::new("g", "k")).await).ends_with("was silent for 150ms"));
}

#[tokio::test]
async fn keys_that_wait_behind_a_stalled_answer_are_sent() {
    let connections = Arc::new(AtomicUsize::new(0));
    let url = scripted(move |mut stream| {
        let stalls = connections.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            while read_request(&mut stream).await.is_some() {
                let mut words = ok(OURS, b"\x11\0\0\0\0\0\0\x01v");
                words.truncate(words.len() - usize::from(stalls));
                stream.write_all(&words).await.unwrap();
            }
        }
    })
    .await;
    let peer = pool(native().max_connections(1)).connect(&peercache_groupcache::Member::from(&url)).unwrap();
    let (first, second) = tokio::join!(ask(&peer, PeerRequest::new("g", "k")), ask(&peer, PeerRequest::new("h", "k")),);
    assert!(words_of(first).ends_with("was silent for 150ms"));
    assert_eq!(words_of(second), "value b\"v\"");
}

#[tokio::test]
async fn keys_that_wait_for_an_absent_peer_fail_with_the_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for builder in [golang(), native()] {
        let peer = pool(builder.max_connections(1)).connect(&peercache_groupcache::Member::from(&url)).unwrap();
        let (first, second) =
            tokio::join!(ask(&peer, PeerRequest::new("g", "k")), ask(&peer, PeerRequest::new("h", "k")),);
        assert!(words_of(first).contains("cannot be reached: "));
        assert!(words_of(second).contains("out of reach to others"));
    }
}

#[tokio::test]
async fn a_frozen_peer_is_a_failed_peer() {
    // The system completes the connection; no process accepts it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    assert_eq!(
        words_of(ask_once(native(), &url, "g", b"k").await),
        format!("failed: peer {url} was silent for {SHORT:?}")
    );
}

#[tokio::test]
async fn an_absent_peer_is_a_failed_peer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for builder in [golang(), native()] {
        let outcome = words_of(ask_once(builder, &url, "g", b"k").await);
        assert!(outcome.starts_with(&format!("failed: peer {url} cannot be reached: ")), "{outcome}");
    }
}

/// A server that knows only golang's path; `elsewhere` is what it says to a POST, `None` closes the
/// connection. It counts the GETs and the POSTs.
async fn go_only(elsewhere: Option<&'static str>) -> (String, Arc<[AtomicUsize; 2]>) {
    let asked = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counted = asked.clone();
    let url = scripted(move |mut stream| {
        let asked = counted.clone();
        async move {
            while let Some((head, _)) = read_request(&mut stream).await {
                if head.starts_with("GET ") {
                    asked[0].fetch_add(1, Ordering::Relaxed);
                    stream.write_all(&ok(GO, b"\x0a\x01v")).await.unwrap();
                    continue;
                }
                asked[1].fetch_add(1, Ordering::Relaxed);
                let Some(words) = elsewhere else { return };
                stream.write_all(words.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    (url, asked)
}

#[tokio::test]
async fn a_native_pool_asks_nobody_with_a_get() {
    for elsewhere in [
        Some("HTTP/1.1 404 X\r\ncontent-length: 19\r\n\r\n404 page not found\n"),
        Some("HTTP/1.1 405 X\r\ncontent-length: 0\r\n\r\n"),
        Some("HTTP/1.1 501 X\r\ncontent-length: 0\r\n\r\n"),
        Some("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nwelcome"),
        // golang's pool panics at paths that are not its own, and Go's server closes the connection
        // then.
        None,
    ] {
        let (url, asked) = go_only(elsewhere).await;
        let peer = pool(native()).connect(&peercache_groupcache::Member::from(&url)).unwrap();
        for _ in 0..3 {
            let words = words_of(ask(&peer, PeerRequest::new("g", "k")).await);
            assert!(words.starts_with("failed: "), "{words} after {elsewhere:?}");
        }
        assert_eq!(asked[0].load(Ordering::Relaxed), 0, "{elsewhere:?}");
    }
}

#[tokio::test]
async fn a_golang_pool_asks_a_go_peer_nothing_else() {
    let (url, asked) = go_only(Some("HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n")).await;
    let peer = pool(golang()).connect(&peercache_groupcache::Member::from(&url)).unwrap();
    for _ in 0..3 {
        assert_eq!(words_of(ask(&peer, PeerRequest::new("g", "k")).await), "value b\"v\"");
    }
    assert_eq!(asked[1].load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_golang_pool_goes_back_when_a_peer_stops_being_one_of_ours() {
    for refusal in [Some(status("404 X", "404 page not found\n")), None] {
        let asked = Arc::new(AtomicUsize::new(0));
        let (counted, refused) = (asked.clone(), refusal.clone());
        let url = scripted(move |mut stream| {
            let (asked, refusal) = (counted.clone(), refused.clone());
            async move {
                while let Some((head, _)) = read_request(&mut stream).await {
                    let first = asked.fetch_add(1, Ordering::Relaxed) == 0;
                    let words = if head.starts_with("GET ") {
                        ok(if first { OURS } else { GO }, b"\x0a\x01v")
                    } else {
                        match &refusal {
                            Some(words) => words.clone().into(),
                            None => return,
                        }
                    };
                    stream.write_all(&words).await.unwrap();
                }
            }
        })
        .await;
        let peer = pool(golang()).connect(&peercache_groupcache::Member::from(&url)).unwrap();
        let mut requests = Vec::new();
        for is_value in [true, false, true, true] {
            let words = words_of(ask(&peer, PeerRequest::new("g", "k")).await);
            assert_eq!(words == "value b\"v\"", is_value, "{words}");
            requests.push(asked.load(Ordering::Relaxed));
        }
        let tries = if refusal.is_some() { 1 } else { 2 };
        assert_eq!(requests, [1, 1 + tries, 2 + tries, 3 + tries], "a GET; {tries} POSTs; two GETs, after {refusal:?}");
    }
}

#[tokio::test]
async fn the_request_to_a_go_server() {
    let (tx, rx) = tokio::sync::oneshot::channel();
    let tx = Arc::new(std::sync::Mutex::new(Some(tx)));
    let url = scripted(move |mut stream| {
        let tx = tx.clone();
        async move {
            let request = read_request(&mut stream).await.unwrap();
            let _ = tx.lock().unwrap().take().unwrap().send(request);
        }
    })
    .await;
    let _ = ask_once(golang(), &format!("{url}/behind"), "g/h", b"a b+\xff").await;
    let (head, body) = soon(rx).await.unwrap();
    assert!(head.starts_with("GET /behind/_groupcache/g%2Fh/a%20b%2B%FF HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\npeercache: 1; node=") && !head.contains("accept-encoding"), "{head}");
    assert!(body.is_empty());
}

/// One of ours that closes these connections, counted from 0, instead of answering what comes on
/// them second.
async fn ours_that_closes(closes: fn(usize) -> bool) -> String {
    let connections = Arc::new(AtomicUsize::new(0));
    scripted(move |mut stream| {
        let closes = closes(connections.fetch_add(1, Ordering::Relaxed));
        async move {
            let mut answered = false;
            while read_request(&mut stream).await.is_some() && !(answered && closes) {
                stream.write_all(&ok(OURS, b"\x11\0\0\0\0\0\0\x01v")).await.unwrap();
                answered = true;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_stale_connection_to_one_of_ours_is_replaced() {
    let peer = pool(native())
        .connect(&peercache_groupcache::Member::from(&ours_that_closes(|connection| connection == 0).await))
        .unwrap();
    for _ in 0..3 {
        assert_eq!(words_of(ask(&peer, PeerRequest::new("g", "..")).await), "value b\"v\"");
    }
}

#[tokio::test]
async fn a_peer_that_always_closes_has_failed_whatever_the_key() {
    let url = fixed_answer("").await;
    let outcome = words_of(ask_once(native(), &url, "g", b"..").await);
    assert!(outcome.starts_with(&format!("failed: peer {url} closed the connection")), "{outcome}");
}

#[tokio::test]
async fn few_connections_are_kept_after_a_storm() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let all_asked = Arc::new(Barrier::new(64));
    let url = scripted(move |mut stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        let all_asked = all_asked.clone();
        async move {
            while read_request(&mut stream).await.is_some() {
                all_asked.wait().await;
                if stream.write_all(&ok(OURS, b"\x11\0\0\0\0\0\0\x01v")).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let peer = pool(HttpPool::builder().peer_timeout(support::WATCHDOG))
        .connect(&peercache_groupcache::Member::from(&url))
        .unwrap();
    for _ in 0..2 {
        // Of as many groups: keys of one would go together.
        let fetches: Vec<_> = (0..64).map(|n| (peer.clone(), PeerRequest::new(format!("g{n}"), "k"))).collect();
        let fetches = fetches.into_iter().map(|(peer, request)| tokio::spawn(async move { ask(&peer, request).await }));
        for fetch in fetches.collect::<Vec<_>>() {
            fetch.await.unwrap().unwrap();
        }
        // What was answered goes back to the pool.
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
    }
    // 32 of the first storm's were kept for the second.
    assert_eq!(connections.load(Ordering::Relaxed), 64 + 32);
}
