//! Changes are seen on every node, and members that could not be told are named.
mod support;

use reqwest::Method;
use support::{
    cluster::{Cluster, Node, Said},
    eventually,
    origin::{Origin, VALUE_BYTES_MAX},
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn start(count: usize, flags: &[&str]) -> (Cluster, Origin) {
    let origin = Origin::start().await;
    let template = origin.flag();
    let flags = [flags, &["--origin", &template]].concat();
    (Cluster::start(count, &flags).await, origin)
}

/// The answers of all nodes, each asked often enough to have a hot copy.
async fn values(cluster: &Cluster, key: impl AsRef<[u8]>) -> Vec<String> {
    let mut values = Vec::new();
    for node in &cluster.nodes {
        for _ in 0..30 {
            let reply = node.raw(&key).await;
            values.push(format!("{} {}", reply.status, reply.text()));
        }
    }
    values.dedup();
    values
}

#[tokio::test]
async fn a_put_through_any_node_is_seen_on_every_node_and_the_origin_is_left_alone() {
    let (cluster, origin) = start(3, &[]).await;
    let key = cluster.key_of(1, "k").await;
    assert_eq!(values(&cluster, &key).await, [format!("200 the {key}")]);
    for (node, role) in ["first", "second", ""].into_iter().enumerate() {
        assert_eq!(cluster.nodes[node].put(&key, role).await, Said::known());
        assert_eq!(values(&cluster, &key).await, [format!("200 {role}")]);
    }
    assert_eq!(origin.loads(&key), 1);
    assert_eq!(cluster.nodes[1].raw(&key).await.brief(), "200 main", "the owner holds it");
}

#[tokio::test]
async fn a_delete_through_any_node_has_every_node_forget() {
    let (cluster, origin) = start(3, &[]).await;
    let key = cluster.key_of(1, "k").await;
    for (node, role) in ["first", "second", "third"].into_iter().enumerate() {
        assert_eq!(values(&cluster, &key).await.len(), 1);
        origin.set(&key, role);
        assert_eq!(cluster.nodes[node].delete(&key).await, Said::known());
        assert_eq!(values(&cluster, &key).await, [format!("200 {role}")]);
    }
    assert_eq!(origin.loads(&key), 4);
}

#[tokio::test]
async fn a_sentence_says_the_new_role() {
    let (cluster, _origin) = start(1, &[]).await;
    assert_eq!(cluster.nodes[0].put("张三", "元帅").await, Said::known());
    assert_eq!(cluster.nodes[0].role("张三").await.text(), "老人家,你儿子张三,现在是元帅了!\n");
}

#[tokio::test]
async fn any_name_and_any_bytes_can_be_put() {
    let (cluster, _origin) = start(2, &[]).await;
    let all: Vec<u8> = (0..=255).collect();
    for name in [&all[..], b"", b".", b"..", b"/", b"+", b"%2F", b"\xFF"] {
        assert_eq!(cluster.nodes[0].put(name, all.clone()).await, Said::known());
        for node in &cluster.nodes {
            assert_eq!(node.raw(name).await.body, all, "{name:?}");
        }
    }
}

#[tokio::test]
async fn a_delete_during_a_load_is_not_undone_by_it() {
    let (cluster, origin) = start(2, &[]).await;
    for owner in [0, 1] {
        origin.close_gate();
        let key = cluster.key_of(owner, &format!("gated {owner} ")).await;
        let (reply, ()) = tokio::join!(cluster.nodes[0].raw(&key), async {
            origin.is_asked(&key, 1).await;
            origin.set(&key, "new");
            assert_eq!(cluster.nodes[1].delete(&key).await, Said::known());
            origin.open_gate();
        });
        assert_eq!(reply.text(), "new", "it waited, and the delete came first");
        assert_eq!(values(&cluster, &key).await, ["200 new"]);
    }
}

#[tokio::test]
async fn a_change_is_seen_at_once_also_where_the_load_before_it_failed() {
    let (cluster, origin) = start(3, &[]).await;
    for round in 0..5 {
        let keys =
            [cluster.key_of(1, &format!("put {round} ")).await, cluster.key_of(1, &format!("del {round} ")).await];
        origin.fail(true);
        for key in &keys {
            for node in &cluster.nodes {
                assert_eq!(node.raw(key).await.status, 502);
            }
        }
        origin.fail(false);
        assert_eq!(cluster.nodes[0].put(&keys[0], "new").await, Said::known());
        assert_eq!(cluster.nodes[0].delete(&keys[1]).await, Said::known());
        assert_eq!(values(&cluster, &keys[0]).await, ["200 new"]);
        assert_eq!(values(&cluster, &keys[1]).await, [format!("200 the {}", keys[1])]);
    }
}

#[tokio::test]
async fn a_name_is_required() {
    let (cluster, _origin) = start(1, &[]).await;
    for method in ["PUT", "DELETE"] {
        let request = format!("{method} /role HTTP/1.1\r\nhost: gate\r\ncontent-length: 3\r\n\r\nnew");
        assert!(answer(&cluster.nodes[0], request.as_bytes()).await.starts_with("HTTP/1.1 400 "), "{method}");
    }
}

/// The beginning of the answer of a node to these bytes.
async fn answer(node: &Node, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(&node.front[7..]).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut beginning = [0; 64];
    let read = within("an answer", stream.read(&mut beginning)).await.unwrap();
    String::from_utf8_lossy(&beginning[..read]).into_owned()
}

#[tokio::test]
async fn the_longest_role_can_be_put_and_one_byte_more_cannot() {
    let (cluster, _origin) = start(2, &["--cache-bytes", "512MiB"]).await;
    let key = cluster.key_of(1, "k").await;
    assert_eq!(cluster.nodes[0].put(&key, vec![b'x'; VALUE_BYTES_MAX]).await, Said::known());
    for node in &cluster.nodes {
        assert_eq!(node.raw(&key).await.body.len(), VALUE_BYTES_MAX);
    }
    for too_long in [VALUE_BYTES_MAX + 1, 100_000_000] {
        assert_eq!(cluster.nodes[0].put(&key, vec![b'x'; too_long]).await.status, 413);
    }
    assert_eq!(cluster.nodes[0].raw(&key).await.body.len(), VALUE_BYTES_MAX, "nothing was changed");
}

#[tokio::test]
async fn a_client_that_reads_only_after_it_has_sent_all_is_told_that_the_role_is_too_long() {
    let (cluster, _origin) = start(1, &[]).await;
    let before = cluster.nodes[0].process.memory_bytes("VmHWM");
    for head in
        [format!("content-length: {}\r\n\r\n", 100_000_000), "transfer-encoding: chunked\r\n\r\n5f5e100\r\n".to_owned()]
    {
        let head = format!("PUT /role?name=a HTTP/1.1\r\nhost: gate\r\n{head}");
        let body = vec![b'x'; 100_000_000];
        let request = [head.as_bytes(), &body, if head.contains("chunked") { b"\r\n0\r\n\r\n" } else { b"" }].concat();
        assert!(answer(&cluster.nodes[0], &request).await.starts_with("HTTP/1.1 413 "), "{head}");
    }
    let grown = cluster.nodes[0].process.memory_bytes("VmHWM") - before;
    assert!(grown < 70 << 20, "refusing 100 MB cost {} MiB", grown >> 20);
}

#[tokio::test]
async fn a_role_that_says_that_it_is_too_long_is_refused_before_it_is_sent() {
    let (cluster, _origin) = start(1, &[]).await;
    for expect in ["", "expect: 100-continue\r\n"] {
        let head = format!("PUT /role?name=a HTTP/1.1\r\nhost: gate\r\n{expect}content-length: 100000000\r\n\r\n");
        assert!(answer(&cluster.nodes[0], head.as_bytes()).await.starts_with("HTTP/1.1 413 "));
    }
}

#[tokio::test]
async fn many_slow_senders_of_long_roles_cost_little_memory() {
    let (cluster, _origin) = start(1, &[]).await;
    let node = &cluster.nodes[0];
    let before = node.process.memory_bytes("VmRSS");
    let mut senders = Vec::new();
    let piece = vec![b'x'; 4 << 20];
    for _ in 0..20 {
        let mut stream = TcpStream::connect(&node.front[7..]).await.unwrap();
        let head = "PUT /role?name=a HTTP/1.1\r\nhost: gate\r\ncontent-length: 33554432\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        senders.push(stream);
    }
    let sent = async {
        for stream in &mut senders {
            // All but the first stand still in the end.
            let mut left = &piece[..];
            while !left.is_empty() {
                let Ok(Ok(count)) =
                    tokio::time::timeout(std::time::Duration::from_millis(50), stream.write(left)).await
                else {
                    break;
                };
                left = &left[count..];
            }
        }
    };
    within("what is taken", sent).await;
    let grown = node.process.memory_bytes("VmRSS").saturating_sub(before);
    assert!(grown < 40 << 20, "20 senders of 4 MiB each cost {} MiB", grown >> 20);
    assert_eq!(node.put("b", "new").await, Said::known(), "short ones are not held up");
}

#[tokio::test]
async fn a_deadline_ends_the_wait_for_a_role_that_does_not_come() {
    let (cluster, _origin) = start(1, &[]).await;
    let head = "PUT /role?name=a HTTP/1.1\r\nhost: gate\r\nx-timeout-ms: 100\r\ncontent-length: 3\r\n\r\n";
    assert!(answer(&cluster.nodes[0], head.as_bytes()).await.starts_with("HTTP/1.1 504 "));
    assert_eq!(cluster.nodes[0].raw("a").await.text(), "the a");
}

/// Stops the process of a node, and lets it go on when this is dropped.
#[cfg(unix)]
struct Stopped<'a>(&'a Node);

#[cfg(unix)]
impl<'a> Stopped<'a> {
    async fn new(node: &'a Node) -> Self {
        node.process.signal(rustix::process::Signal::STOP);
        eventually("the stop", async || node.process.is_stopped().then_some(())).await;
        Stopped(node)
    }
}

#[cfg(unix)]
impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.process.signal(rustix::process::Signal::CONT);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_stopped_member_is_named_and_forgets_when_it_goes_on() {
    let (cluster, origin) = start(3, &["--peer-timeout-ms", "300"]).await;
    let stopped = &cluster.nodes[1];
    // One key of each node: the one that makes the change, the one that is stopped, and the third.
    let mut keys = Vec::new();
    for owner in 0..3 {
        keys.push(cluster.key_of(owner, "k").await);
    }
    for key in &keys {
        assert_eq!(values(&cluster, key).await, [format!("200 the {key}")]);
    }
    let stop = Stopped::new(stopped).await;
    for key in &keys {
        origin.set(key, "new");
        assert_eq!(cluster.nodes[0].delete(key).await, Said::missed(&[&stopped.peer]));
        for node in [0, 2] {
            assert_eq!(cluster.nodes[node].raw(key).await.text(), "new", "the others know");
        }
    }
    drop(stop);
    for key in &keys {
        eventually("the member that was stopped forgetting", async || {
            (stopped.raw(key).await.text() == "new").then_some(())
        })
        .await;
        assert_eq!(values(&cluster, key).await, ["200 new"]);
    }
    assert_eq!(cluster.nodes[0].delete(&keys[0]).await, Said::known());
}

#[cfg(unix)]
#[tokio::test]
async fn a_put_whose_owner_is_stopped_is_not_said_to_be_known() {
    let (cluster, _origin) = start(3, &["--peer-timeout-ms", "300"]).await;
    let key = cluster.key_of(1, "k").await;
    assert_eq!(values(&cluster, &key).await, [format!("200 the {key}")]);
    let stop = Stopped::new(&cluster.nodes[1]).await;
    assert_eq!(cluster.nodes[0].put(&key, "new").await, Said::missed(&[&cluster.nodes[1].peer]));
    drop(stop);
    // It did not get the value, and its old one is no longer right.
    eventually("a put that every node knows", async || {
        (cluster.nodes[0].put(&key, "newer").await == Said::known()).then_some(())
    })
    .await;
    assert_eq!(values(&cluster, &key).await, ["200 newer"]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_deadline_ends_the_wait_and_not_the_change() {
    let (cluster, origin) = start(3, &["--peer-timeout-ms", "3000"]).await;
    for method in [Method::DELETE, Method::PUT] {
        let key = cluster.key_of(0, method.as_str()).await;
        assert_eq!(values(&cluster, &key).await, [format!("200 the {key}")]);
        origin.set(&key, "new");
        let stop = Stopped::new(&cluster.nodes[1]).await;
        let said = cluster.nodes[0].change_within(method.clone(), &key, 100).await;
        assert_eq!((said.status, said.body.as_str()), (504, "not within x-timeout-ms; the change goes on\n"));
        drop(stop);
        eventually("the change", async || (values(&cluster, &key).await == ["200 new"]).then_some(())).await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_silent_member_is_waited_for_as_long_as_it_is_allowed_to_be_silent() {
    let (cluster, _origin) = start(2, &["--peer-timeout-ms", "3600000"]).await;
    let stop = Stopped::new(&cluster.nodes[1]).await;
    assert_eq!(cluster.nodes[0].change_within(Method::DELETE, "a", 3_000).await.status, 504);
    drop(stop);
    assert_eq!(cluster.nodes[0].delete("a").await, Said::known());
}

#[tokio::test]
async fn a_killed_member_is_named_and_knows_nothing_old_when_it_is_back() {
    let (mut cluster, origin) = start(3, &["--peer-timeout-ms", "300"]).await;
    let key = cluster.key_of(1, "k").await;
    assert_eq!(values(&cluster, &key).await, [format!("200 the {key}")]);
    cluster.nodes[1].process.kill().await;
    origin.set(&key, "new");
    assert_eq!(cluster.nodes[2].delete(&key).await, Said::missed(&[&cluster.nodes[1].peer]));
    for node in [0, 2] {
        assert_eq!(cluster.nodes[node].raw(&key).await.text(), "new");
    }
    cluster.restart(1).await;
    assert_eq!(values(&cluster, &key).await, ["200 new"]);
    eventually("a delete that every node knows", async || {
        (cluster.nodes[2].delete(&key).await == Said::known()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_member_with_another_list_is_named() {
    let (cluster, _origin) = start(3, &[]).await;
    let names: Vec<&str> = cluster.nodes.iter().map(|node| node.peer.as_str()).collect();
    // The third's list lacks the first.
    assert_eq!(cluster.nodes[2].set_members(format!("{:?}", &names[1..])).await.0, 204);
    assert_eq!(cluster.nodes[0].delete("a").await, Said::missed(&[names[2]]));
    assert_eq!(cluster.nodes[2].set_members(format!("{names:?}")).await.0, 204);
    assert_eq!(cluster.nodes[0].delete("a").await, Said::known());
}
