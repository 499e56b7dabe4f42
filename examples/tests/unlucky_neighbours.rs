//! `role` beside neighbours that do not do their part: nobody reads its log, its origin closes kept
//! connections, a caller never ends its request.
#![cfg(unix)]
mod support;

use std::{process::Stdio, sync::Arc};

use rustix::process::Signal;
use support::{
    cluster::{Cluster, Said, role},
    eventually,
    origin::Origin,
    ports, within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// An origin that answers `role`, and closes each connection after its first answer without saying
/// so before.
async fn closing_origin() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nrole";
                if stream.write_all(answer).await.is_ok() {
                    // The next request meets a connection that ends just then.
                    let _ = stream.read_u8().await;
                }
            });
        }
    });
    format!("http://{address}/value?key={{key}}")
}

#[tokio::test]
async fn a_kept_connection_that_the_origin_closes_costs_no_answer() {
    let origin = closing_origin().await;
    let cluster = Cluster::start(1, &["--origin", &origin]).await;
    for nth in 0..30 {
        let reply = cluster.nodes[0].raw(format!("name {nth}")).await;
        assert_eq!((reply.status, reply.text()), (200, "role"), "the {nth}th");
    }
}

#[tokio::test]
async fn a_name_that_nobody_has_is_asked_for_once_in_a_while() {
    let origin = Origin::start().await;
    let cluster = Cluster::start(1, &["--origin", &origin.flag(), "--negative-ttl-ms", "60000"]).await;
    for _ in 0..300 {
        assert_eq!(cluster.nodes[0].raw("nobody").await.status, 404);
    }
    assert_eq!(origin.loads("nobody"), 1);
    let cluster = Cluster::start(1, &["--origin", &origin.flag(), "--negative-ttl-ms", "0"]).await;
    for _ in 0..3 {
        assert_eq!(cluster.nodes[0].raw("nobody").await.status, 404);
    }
    assert_eq!(origin.loads("nobody"), 4);
}

/// 3,000 failed reads, and a pipe that is full: every port answers.
#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_nothing() {
    let [front, peer, admin] = [(); 3].map(|()| format!("127.0.0.1:{}", ports::free()));
    let mut command = role();
    command.args(["--listen", &front, "--peer-listen", &peer, "--admin-listen", &admin]);
    command.args(["--self-url", &format!("http://{peer}"), "--origin", "http://127.0.0.1:1/{key}", "--log", "trace"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let node = command.spawn().unwrap();
    let client = support::cluster::client();
    let health = format!("http://{admin}/healthz");
    eventually("a node that is there", async || client.get(&health).send().await.ok()).await;
    let places = Arc::new(Semaphore::new(50));
    let reads: Vec<_> = (0..3_000)
        .map(|nth| {
            let (client, places, url) = (client.clone(), places.clone(), format!("http://{front}/raw?name={nth}"));
            tokio::spawn(async move {
                let _place = places.acquire().await;
                client.get(url).send().await.map(|answer| answer.status().as_u16())
            })
        })
        .collect();
    for read in reads {
        assert_eq!(within("a failed read", read).await.unwrap().unwrap(), 502);
    }
    for _ in 0..5 {
        let answer = within("an answer of the admin port", client.get(&health).send()).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    drop(node);
}

#[tokio::test]
async fn failed_reads_log_a_line_a_second_at_most_and_the_answer_says_what_is_missing() {
    let cluster = Cluster::start(1, &["--origin", "http://127.0.0.1:1/{key}"]).await;
    for nth in 0..100 {
        let reply = cluster.nodes[0].raw(format!("name {nth}")).await;
        assert_eq!(reply.status, 502);
        assert!(reply.text().contains("127.0.0.1:1"), "{}", reply.text());
    }
    let lines = cluster.nodes[0].process.stderr().matches("could not answer").count();
    assert!((1..=20).contains(&lines), "{lines} lines");
}

/// Sends a request, and reads the status of its answer.
async fn status_of(front: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(front.trim_start_matches("http://")).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_new_role_needs_a_body_which_may_be_empty() {
    let origin = Origin::start().await;
    let cluster = Cluster::start(1, &["--origin", &origin.flag()]).await;
    let front = &cluster.nodes[0].front;
    let put = |headers: &str| format!("PUT /role?name=k HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{headers}\r\n");
    assert_eq!(status_of(front, &put("")).await, "HTTP/1.1 400 Bad Request");
    assert_eq!(status_of(front, &put("content-length: 0\r\n")).await, "HTTP/1.1 200 OK");
    assert_eq!(cluster.nodes[0].raw("k").await.text(), "");
}

#[tokio::test]
async fn a_stopping_node_takes_new_connections_for_a_while_and_one_stuck_request_delays_no_other() {
    let origin = Origin::start().await;
    let mut cluster = Cluster::start(2, &["--origin", &origin.flag(), "--linger-ms", "3000"]).await;
    let key = cluster.key_of(1, "gated").await;
    origin.close_gate();
    let front = cluster.nodes[0].front.clone();
    let client = support::cluster::client();
    let stuck = tokio::spawn(client.get(format!("{front}/raw?name={key}")).send());
    origin.is_asked("gated", 1).await;
    cluster.nodes[0].process.signal(Signal::TERM);
    eventually("a node that drains", async || (cluster.nodes[0].readyz().await == Some(503)).then_some(())).await;
    // A new connection, while `/readyz` says 503.
    assert_eq!(status_of(&front, "GET /nothing HTTP/1.1\r\nhost: h\r\n\r\n").await, "HTTP/1.1 404 Not Found");
    // Its part of the peers' drain does not wait for the stuck request.
    let peer = cluster.nodes[0].peer.trim_start_matches("http://").to_owned();
    eventually("a peers' port that is closed", async || TcpStream::connect(&peer).await.err()).await;
    assert!(!cluster.nodes[0].process.is_gone());
    origin.open_gate();
    assert_eq!(within("the stuck answer", stuck).await.unwrap().unwrap().status(), 200);
    assert!(cluster.nodes[0].process.exited().await.success());
    let said = cluster.nodes[1].put("k", "v").await;
    assert_eq!(said, Said::missed(&[&cluster.nodes[0].peer]));
}
