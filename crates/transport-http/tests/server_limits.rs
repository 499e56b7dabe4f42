//! The server's bounds on hostile and slow clients.

mod support;

use std::{sync::Arc, time::Duration};

use axum::{Router, routing::get};
use peercache_transport_http::Server;
use support::{raw, raw_get, read_to_close, serve, soon, status_and_body};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
};

const SHORT: Duration = Duration::from_millis(200);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

fn hello() -> Server {
    Server::new(
        Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/read", axum::routing::post(|body: String| async { body })),
    )
}

/// Reads one answer whose body is `hello`.
async fn read_hello(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        answer.push(soon(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let node = serve(hello().header_read_timeout(SHORT)).await;
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    assert_eq!(read_to_close(&mut stream).await, "");
}

#[tokio::test]
async fn a_head_that_drips_is_cut_off() {
    let node = serve(hello().header_read_timeout(SHORT)).await;
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    let mut beat = tokio::time::interval(SHORT / 10);
    soon(async {
        // One more byte comes for as long as the server takes it. It is far from the longest head
        // when the watchdog ends the test.
        while stream.write_all(b"y").await.is_ok() {
            beat.tick().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let node = serve(hello().header_read_timeout(SHORT)).await;
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    read_hello(&mut stream).await;
    assert_eq!(read_to_close(&mut stream).await, "");
}

/// A time longer than any test: a connection that is closed was not closed by this.
const NEVER: Duration = Duration::MAX;

#[tokio::test]
async fn connections_without_a_request_do_not_lock_others_out() {
    for words in ["", "GET / HTTP/1.1\r\nx: y"] {
        let node = serve(hello().header_read_timeout(NEVER).max_connections(3)).await;
        let mut silent = Vec::new();
        for _ in 0..4 {
            let mut stream = TcpStream::connect(node.address).await.unwrap();
            stream.write_all(words.as_bytes()).await.unwrap();
            silent.push(stream);
        }
        for _ in 0..10 {
            assert_eq!(status_and_body(&raw_get(node.address, "/").await), (200, "hello"), "{words:?}");
        }
    }
}

#[tokio::test]
async fn the_connection_that_has_been_idle_for_longest_is_closed() {
    let node = serve(hello().header_read_timeout(NEVER).max_connections(2)).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        read_hello(&mut stream).await;
        streams.push(stream);
    }
    // The first is used again, so the second has been idle for longer.
    streams[0].write_all(REQUEST).await.unwrap();
    read_hello(&mut streams[0]).await;
    assert_eq!(status_and_body(&raw_get(node.address, "/").await), (200, "hello"));
    assert_eq!(read_to_close(&mut streams[1]).await, "");
    streams[0].write_all(REQUEST).await.unwrap();
    read_hello(&mut streams[0]).await;
}

#[tokio::test]
async fn one_connection_too_many_waits_while_others_are_answered() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (says, waits) = (begun.clone(), go_on.clone());
    let handler = move || async move {
        says.notify_one();
        waits.notified().await;
        "hello"
    };
    let app = Router::new().route("/slow", get(handler)).route("/", get(|| async { "hello" }));
    let node = serve(Server::new(app).header_read_timeout(NEVER).max_connections(1)).await;
    let mut first = TcpStream::connect(node.address).await.unwrap();
    first.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    soon(begun.notified()).await;
    let mut second = TcpStream::connect(node.address).await.unwrap();
    second.write_all(REQUEST).await.unwrap();
    turns().await;
    assert_eq!(second.try_read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    go_on.notify_one();
    // The first is answered, then idle, then closed for the second.
    read_hello(&mut first).await;
    read_hello(&mut second).await;
}

#[tokio::test]
async fn an_answer_that_is_being_read_is_not_cut_for_others() {
    const BYTES: usize = 64 << 20;
    let app = Router::new().route("/large", get(|| async { vec![b'x'; BYTES] })).route("/", get(|| async { "hello" }));
    let node = serve(Server::new(app).header_read_timeout(NEVER).write_timeout(NEVER).max_connections(1)).await;
    let mut first = TcpStream::connect(node.address).await.unwrap();
    first.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    first.readable().await.unwrap();
    let mut second = TcpStream::connect(node.address).await.unwrap();
    second.write_all(REQUEST).await.unwrap();
    turns().await;
    assert_eq!(status_and_body(&read_to_close(&mut first).await).1.len(), BYTES);
    read_hello(&mut second).await;
}

/// Yields until the server has polled its sockets, and all that follows from it.
async fn turns() {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn over_long_heads_are_refused_and_the_refusal_arrives() {
    let node = serve(hello()).await;
    let line = |bytes: usize| format!("GET /{} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "a".repeat(bytes));
    let header = |bytes: usize| format!("GET / HTTP/1.1\r\nconnection: close\r\nx: {}\r\n\r\n", "a".repeat(bytes));
    let headers = |count: usize| format!("GET / HTTP/1.1\r\nconnection: close\r\n{}\r\n", "x: y\r\n".repeat(count));
    for (request, status) in [
        (line(15_000), 404),
        (header(15_000), 200),
        (headers(90), 200),
        (line(17_000), 431),
        (line(70_000), 431),
        (line(1_000_000), 431),
        (header(17_000), 431),
        (header(500_000), 431),
        (headers(200), 431),
    ] {
        assert_eq!(status_and_body(&raw(node.address, request.as_bytes()).await).0, status, "{} bytes", request.len());
    }
}

#[tokio::test]
async fn a_refusal_does_not_reset_the_connection() {
    let node = serve(hello()).await;
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    stream.write_all(format!("GET / HTTP/1.1\r\nx: {}", "a".repeat(17_000)).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(soon(stream.read_u8()).await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 431 "));
    // A client that has not looked yet goes on sending. A reset would make it lose the answer.
    for _ in 0..20 {
        stream.write_all(&[b'a'; 1_000]).await.expect("the server still takes what it does not want");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn bytes_that_are_not_http_are_refused() {
    let node = serve(hello()).await;
    assert!(raw(node.address, b"\x16\x03\x01\0\xff\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn a_body_that_drips_is_cut_off() {
    let node = serve(hello().body_read_timeout(SHORT)).await;
    let answer = raw(node.address, b"POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhell").await;
    assert_eq!(status_and_body(&answer).0, 400);
}

#[tokio::test]
async fn a_reader_that_does_not_read_loses_its_place() {
    let app =
        Router::new().route("/large", get(|| async { vec![0_u8; 64 << 20] })).route("/", get(|| async { "hello" }));
    let node = serve(Server::new(app).write_timeout(SHORT).max_connections(1)).await;
    let mut lazy = TcpStream::connect(node.address).await.unwrap();
    lazy.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_eq!(status_and_body(&raw_get(node.address, "/").await), (200, "hello"));
    assert!(read_to_close(&mut lazy).await.len() < 64 << 20, "the answer was sent whole");
}

#[tokio::test]
async fn bounds_without_end_are_bounds() {
    let app = Router::new()
        .route("/large", get(|| async { vec![b'x'; 32 << 20] }))
        .route("/read", axum::routing::post(|body: String| async { body }));
    let server = Server::new(app).header_read_timeout(NEVER).body_read_timeout(NEVER).write_timeout(NEVER);
    let node = serve(server.drain_timeout(NEVER)).await;
    let answer = raw_get(node.address, "/large").await;
    assert_eq!(status_and_body(&answer).1.len(), 32 << 20);
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    stream.write_all(b"POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n").await.unwrap();
    // The reading has begun when another request is answered.
    assert_eq!(status_and_body(&raw_get(node.address, "/none").await).0, 404);
    stream.write_all(b"hello").await.unwrap();
    read_hello(&mut stream).await;
}

/// A server with a handler that reports when it has begun, and ends on a signal.
struct Slow {
    address: std::net::SocketAddr,
    begun: Arc<Notify>,
    go_on: Arc<Notify>,
    shutdown: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn slow(drain_timeout: Duration) -> Slow {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (says, waits) = (begun.clone(), go_on.clone());
    let handler = move || async move {
        says.notify_one();
        waits.notified().await;
        "hello"
    };
    let app = Router::new().route("/slow", get(handler)).route("/", get(|| async { "hello" }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (shutdown, signal) = oneshot::channel::<()>();
    let server = Server::new(app).drain_timeout(drain_timeout);
    let ended = tokio::spawn(server.serve(listener, async { signal.await.unwrap() }));
    Slow { address, begun, go_on, shutdown, ended }
}

#[tokio::test]
async fn a_shutdown_finishes_requests_in_flight() {
    let server = slow(support::WATCHDOG).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    soon(server.begun.notified()).await;
    server.shutdown.send(()).unwrap();
    // The listener is gone: new connections are refused, while the old one still waits for its
    // answer.
    soon(async { while TcpStream::connect(server.address).await.is_ok() {} }).await;
    server.go_on.notify_one();
    let answer = read_hello(&mut stream).await;
    assert!(answer.contains("connection: close"), "{answer}");
    soon(server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_closes_idle_connections() {
    let server = slow(support::WATCHDOG).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(REQUEST).await.unwrap();
    read_hello(&mut idle).await;
    let mut fresh = TcpStream::connect(server.address).await.unwrap();
    server.shutdown.send(()).unwrap();
    assert_eq!((read_to_close(&mut idle).await, read_to_close(&mut fresh).await), (String::new(), String::new()));
    drop((idle, fresh));
    soon(server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_crosses_the_shutdown_is_answered() {
    let server = slow(support::WATCHDOG).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    // Nothing was awaited since: the connection may still be in the listener's queue.
    server.shutdown.send(()).unwrap();
    assert!(read_hello(&mut stream).await.contains("200 OK"));
    drop(stream);
    soon(server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_that_only_the_system_knows_of_is_served_after_the_shutdown() {
    use std::io::Write;

    let server = slow(support::WATCHDOG).await;
    tokio::task::yield_now().await;
    // Made behind the runtime's back, while the server waits: the runtime has not heard of it when
    // it hears of the end.
    let mut stream = std::net::TcpStream::connect(server.address).unwrap();
    stream.write_all(REQUEST).unwrap();
    server.shutdown.send(()).unwrap();
    stream.set_nonblocking(true).unwrap();
    assert!(read_hello(&mut TcpStream::from_std(stream).unwrap()).await.contains("200 OK"));
    soon(server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_new_connection_outlives_an_idle_one_by_time_for_its_request() {
    let server = slow(support::WATCHDOG).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(REQUEST).await.unwrap();
    read_hello(&mut idle).await;
    let mut new = TcpStream::connect(server.address).await.unwrap();
    server.shutdown.send(()).unwrap();
    assert_eq!(read_to_close(&mut idle).await, "");
    new.write_all(REQUEST).await.unwrap();
    assert!(read_hello(&mut new).await.contains("200 OK"));
    drop((idle, new));
    soon(server.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let server = slow(SHORT).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    soon(server.begun.notified()).await;
    server.shutdown.send(()).unwrap();
    soon(server.ended).await.unwrap().unwrap();
    assert_eq!(read_to_close(&mut stream).await, "");
}
