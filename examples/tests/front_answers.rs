//! One node's answers to people, byte for byte.
mod support;

use support::{
    SOONER_THAN_THE_DEFAULTS,
    cluster::{Cluster, Node, client},
    eventually,
    origin::{Origin, VALUE_BYTES_MAX},
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

/// A node by itself and its origin.
async fn node_with(flags: &[&str]) -> (Cluster, Origin) {
    let origin = Origin::start().await;
    let template = origin.flag();
    let flags = [flags, &["--origin", &template]].concat();
    (Cluster::start(1, &flags).await, origin)
}

fn node(cluster: &Cluster) -> &Node {
    &cluster.nodes[0]
}

/// Writes these bytes on a connection to `address` and reads until the other side closes it.
async fn exchange(address: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // The other side may close before it has read all.
    let _ = within("the end of a connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

/// The answer with its headers in order, without those that differ every time or that say that the
/// connection ends.
fn plain(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.split("\r\n").collect();
    lines.retain(|line| !line.starts_with("date: ") && !line.starts_with("connection: "));
    lines[1..].sort_unstable();
    format!("{}\n\n{body}", lines.join("\n"))
}

async fn get(node: &Node, path_and_query: &str) -> String {
    let request = format!("GET {path_and_query} HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n\r\n");
    plain(&exchange(&node.front, request.as_bytes()).await)
}

#[tokio::test]
async fn a_role_is_a_sentence() {
    let (cluster, _origin) = node_with(&[]).await;
    let body = "老人家,你儿子张 三,现在是the 张 三了!\n";
    assert_eq!(
        get(node(&cluster), "/role?name=%E5%BC%A0+%E4%B8%89").await,
        format!(
            "HTTP/1.1 200 OK\ncontent-length: {}\ncontent-type: text/plain; charset=utf-8\nx-cache: origin\n\n{body}",
            body.len()
        )
    );
}

#[tokio::test]
async fn curl_may_send_a_name_unescaped() {
    let (cluster, _origin) = node_with(&[]).await;
    let answer = get(node(&cluster), "/role?name=张三").await;
    assert!(answer.ends_with("\n\n老人家,你儿子张三,现在是the 张三了!\n"), "{answer}");
}

#[tokio::test]
async fn raw_is_the_value_and_nothing_else() {
    let (cluster, _origin) = node_with(&[]).await;
    assert_eq!(
        get(node(&cluster), "/raw?name=a%2Bb").await,
        "HTTP/1.1 200 OK\ncontent-length: 7\ncontent-type: application/octet-stream\nx-cache: origin\n\nthe a+b"
    );
}

#[tokio::test]
async fn a_name_that_nobody_has_is_a_404() {
    let (cluster, _origin) = node_with(&[]).await;
    for path in ["/role", "/raw"] {
        assert_eq!(
            get(node(&cluster), &format!("{path}?name=nobody")).await,
            "HTTP/1.1 404 Not Found\ncontent-length: 30\ncontent-type: text/plain; charset=utf-8\n\n\
             大伯,咱军营没这个人!\n"
        );
    }
}

#[tokio::test]
async fn a_name_is_required_and_may_be_empty() {
    let (cluster, _origin) = node_with(&[]).await;
    for query in ["", "?", "?names=x"] {
        let answer = get(node(&cluster), &format!("/raw{query}")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{query}: {answer}");
    }
    assert_eq!(node(&cluster).raw("").await.body, b"the ");
}

#[tokio::test]
async fn every_byte_of_a_name_and_of_a_value_arrives() {
    let (cluster, origin) = node_with(&[]).await;
    let all: Vec<u8> = (0..=255).collect();
    for name in [&all[..], b".", b"..", b"/", b"//", b"+", b" ", b"%2F", b"a&b=c", b"\xFF\xFE", b"binary \xFF"] {
        let value =
            if name.starts_with(b"binary") { [&b"\xFFa\0"[..], name].concat() } else { [&b"the "[..], name].concat() };
        assert_eq!(node(&cluster).raw(name).await.body, value);
        assert_eq!(origin.loads(name), 1);
    }
}

#[tokio::test]
async fn a_sentence_replaces_bytes_that_are_no_text() {
    let (cluster, _origin) = node_with(&[]).await;
    let reply = node(&cluster).role(b"binary \xFE").await;
    let text = "老人家,你儿子binary \u{FFFD},现在是\u{FFFD}a\0binary \u{FFFD}了!\n";
    assert_eq!(String::from_utf8(reply.body).unwrap(), text);
}

#[tokio::test]
async fn a_loaded_value_is_answered_from_the_main_cache() {
    let (cluster, origin) = node_with(&[]).await;
    let mut briefs = Vec::new();
    for _ in 0..3 {
        briefs.push(node(&cluster).role("a").await.brief());
    }
    assert_eq!((briefs.join(", ").as_str(), origin.loads("a")), ("200 origin, 200 main, 200 main", 1));
}

#[tokio::test]
async fn a_cache_of_no_bytes_keeps_nothing() {
    let (cluster, origin) = node_with(&["--cache-bytes", "0"]).await;
    for _ in 0..2 {
        assert_eq!(node(&cluster).raw("a").await.brief(), "200 origin");
    }
    assert_eq!(origin.loads("a"), 2);
}

#[tokio::test]
async fn an_origin_that_fails_is_a_502() {
    let (cluster, origin) = node_with(&[]).await;
    assert_eq!(node(&cluster).role("broken").await.brief(), "502 -");
    assert_eq!(node(&cluster).raw("moved").await.brief(), "502 -", "redirects are not followed");
    assert_eq!(origin.loads("a"), 0);
}

#[tokio::test]
async fn an_origin_out_of_reach_is_a_502() {
    let cluster = Cluster::start(1, &["--origin", "http://127.0.0.1:1/?key={key}"]).await;
    assert_eq!(node(&cluster).role("a").await.brief(), "502 -");
}

#[tokio::test]
async fn an_empty_body_is_a_value() {
    let (cluster, _origin) = node_with(&[]).await;
    let reply = node(&cluster).raw("empty").await;
    assert_eq!((reply.brief().as_str(), reply.body.as_slice()), ("200 origin", &b""[..]));
    assert_eq!(node(&cluster).raw("empty").await.brief(), "200 main");
}

#[tokio::test]
async fn a_deadline_ends_the_wait_and_not_the_load() {
    let (cluster, origin) = node_with(&[]).await;
    assert_eq!(node(&cluster).raw_within("gated", 200).await.brief(), "504 -");
    origin.open_gate();
    // A caller that comes before the load has ended still waits for it, and is told `origin`.
    eventually("the load being cached", async || {
        (node(&cluster).raw_within("gated", 5).await.brief() == "200 main").then_some(())
    })
    .await;
    assert_eq!(origin.loads("gated"), 1);
}

#[tokio::test]
async fn a_deadline_that_is_no_number_is_refused() {
    let (cluster, _origin) = node_with(&[]).await;
    for deadline in ["soon", "-1", "+1", "1.5", ""] {
        let url = format!("{}/raw?name=a", node(&cluster).front);
        let answer = client().get(url).header("x-timeout-ms", deadline).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{deadline:?}");
    }
}

#[tokio::test]
async fn a_deadline_beyond_all_numbers_is_the_longest_there_is() {
    let (cluster, _origin) = node_with(&[]).await;
    let url = format!("{}/raw?name=a", node(&cluster).front);
    let answer = client().get(url).header("x-timeout-ms", "9".repeat(40)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_load_that_takes_too_long_is_a_504() {
    let (cluster, _origin) = node_with(&["--load-timeout-ms", "200"]).await;
    let asked = timeout(SOONER_THAN_THE_DEFAULTS, node(&cluster).raw("gated")).await;
    assert_eq!(asked.expect("the flag is heeded").brief(), "504 -");
}

#[tokio::test]
async fn a_value_of_32_mib_is_answered_and_one_byte_more_is_not() {
    let (cluster, origin) = node_with(&["--cache-bytes", "64KiB"]).await;
    assert_eq!(node(&cluster).raw("a").await.brief(), "200 origin");
    assert_eq!(node(&cluster).raw("longest").await.body.len(), VALUE_BYTES_MAX);
    for name in ["too long", "endless"] {
        assert_eq!(node(&cluster).raw(name).await.brief(), "413 -");
    }
    assert_eq!(node(&cluster).raw("a").await.brief(), "200 main", "nothing was evicted");
    assert_eq!(node(&cluster).raw("longest").await.brief(), "200 origin", "it was not cached");
    assert_eq!(origin.loads("too long"), 1);
}

#[tokio::test]
async fn no_more_than_the_limit_is_read_of_a_value() {
    let (cluster, origin) = node_with(&[]).await;
    assert_eq!(node(&cluster).raw("endless").await.brief(), "413 -");
    // The bytes in the sockets between us come on top.
    let slack = 16 << 20;
    let limit = VALUE_BYTES_MAX as u64;
    assert!((limit..limit + slack).contains(&origin.endless_bytes()), "{}", origin.endless_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_callers_of_two_hundred_cold_keys_are_all_served() {
    let (cluster, origin) = node_with(&[]).await;
    let mut callers = JoinSet::new();
    for caller in 0..300 {
        let url = format!("{}/raw?name=gated{}", node(&cluster).front, caller % 200);
        callers.spawn(async move { client().get(url).send().await.unwrap().status().as_u16() });
    }
    origin.is_asked("gated", 200).await;
    origin.open_gate();
    let statuses = within("all answers", callers.join_all()).await;
    assert_eq!((statuses, origin.loads_of_all()), (vec![200; 300], 200));
}

#[tokio::test]
async fn a_role_can_be_changed_and_else_only_reading_is_allowed() {
    let (cluster, _origin) = node_with(&[]).await;
    for (method, path, allowed) in [
        ("PUT", "raw", "GET,HEAD"),
        ("DELETE", "raw", "GET,HEAD"),
        ("POST", "raw", "GET,HEAD"),
        ("POST", "role", "GET,HEAD,PUT,DELETE"),
    ] {
        let request = format!("{method} /{path}?name=a HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n\r\n");
        let answer = exchange(&node(&cluster).front, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(answer.contains(&format!("\r\nallow: {allowed}\r\n")), "{answer}");
    }
}

#[tokio::test]
async fn a_head_has_the_length_and_no_body() {
    let (cluster, _origin) = node_with(&[]).await;
    let request = b"HEAD /raw?name=a HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n\r\n";
    let answer = exchange(&node(&cluster).front, request).await;
    assert!(answer.contains("\r\ncontent-length: 5\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn an_endless_request_line_is_refused() {
    let (cluster, _origin) = node_with(&[]).await;
    for length in [20_000, 200_000] {
        let request = format!("GET /raw?name={} HTTP/1.1\r\nhost: gate\r\n\r\n", "a".repeat(length));
        let answer = exchange(&node(&cluster).front, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 414 ") || answer.starts_with("HTTP/1.1 431 "), "{length}: {answer:.40}");
    }
}

#[tokio::test]
async fn a_silent_connection_is_closed_at_every_port() {
    let (cluster, _origin) = node_with(&[]).await;
    let node = node(&cluster);
    let silence = [&node.front, &node.peer, &node.admin].map(|address| exchange(address, b"GET /"));
    let [front, peer, admin] = silence;
    let (front, peer, admin) = tokio::join!(front, peer, admin);
    assert!([front, peer, admin].iter().all(|answer| !answer.contains("200 OK")));
}

#[tokio::test]
async fn a_long_value_is_shared_by_its_slow_readers() {
    // Enough for every shard of the cache to hold a value of 3 MiB.
    let (cluster, _origin) = node_with(&["--cache-bytes", "256MiB"]).await;
    assert_eq!(node(&cluster).raw("3 MiB").await.brief(), "200 origin");
    assert_eq!(node(&cluster).raw("3 MiB").await.brief(), "200 main");
    let before = node(&cluster).process.memory_bytes("VmRSS");
    let mut readers = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(&node(&cluster).front[7..]).await.unwrap();
        stream.write_all(b"GET /role?name=3+MiB HTTP/1.1\r\nhost: gate\r\n\r\n").await.unwrap();
        let mut beginning = [0; 1024];
        within("the beginning of an answer", stream.read_exact(&mut beginning)).await.unwrap();
        readers.push(stream);
    }
    let grown = node(&cluster).process.memory_bytes("VmRSS").saturating_sub(before);
    assert!(grown < 30 << 20, "50 readers of one value of 3 MiB cost {} MiB", grown >> 20);
}
