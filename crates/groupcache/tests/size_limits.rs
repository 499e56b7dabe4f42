//! Sizes of keys and values: what is refused, what is answered and not cached, and what is charged.

mod support;

use peercache_groupcache::{Bytes, ErrorKind, Group, loader_fn};
use support::{
    cluster::{AB, Cluster},
    net::reply,
    updates::refused,
};

#[tokio::test]
async fn a_value_heavier_than_the_budget_is_answered_and_evicts_nothing() {
    let cluster = Cluster::with(["a"], |group| group.max_bytes(50_000));
    cluster.origin.put("big", &"x".repeat(100_000));
    cluster["a"].read("small").await;
    assert_eq!(cluster["a"].read("big").await.len(), 100_000);
    assert_eq!(cluster["a"].read("big").await.len(), 100_000);
    let main = cluster["a"].group.stats().main;
    assert_eq!((cluster.origin.calls(), main.items, main.evictions), (3, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_value_over_half_the_budget_is_answered_and_neither_loaded_nor_set_to_stay() {
    let cluster = Cluster::with(["a"], |group| group.max_bytes(64 << 10));
    let large = "x".repeat(33 << 10);
    for key in 0..1_000 {
        cluster["a"].read(&format!("key-{key}")).await;
    }
    cluster.origin.put("large", &large);
    assert_eq!(cluster["a"].read("large").await, large);
    assert_eq!(cluster.cached("large"), "-");
    let result = cluster["a"].group.set("large", Bytes::from(large.clone())).await;
    assert_eq!(refused(result), ErrorKind::ValueTooLarge);
    assert_eq!((cluster.cached("large").as_str(), cluster["a"].group.stats().too_large_to_cache), ("-", 2));
    assert!(cluster["a"].items() > 100, "the others stay");
}

#[tokio::test]
async fn a_value_over_the_groups_limit_is_an_error() {
    let cluster = Cluster::with(["a"], |group| group.max_value_bytes(1_000));
    cluster.origin.put("key", &"x".repeat(1_001));
    assert_eq!(cluster["a"].read("key").await, "ValueTooLarge");
}

#[tokio::test]
async fn a_peers_value_over_the_groups_limit_is_an_error_and_is_not_loaded_here() {
    let mut cluster = Cluster::new(["b"]);
    cluster.set_members(&["b"], &AB);
    cluster.add("a", &AB, |group| group.max_value_bytes(10));
    let key = cluster.key_of("b");
    cluster.origin.put(&key, &"x".repeat(11));
    assert_eq!(cluster["a"].read(&key).await, "ValueTooLarge");
    assert_eq!(cluster.origin.calls_of("a"), 0);
}

#[tokio::test]
async fn a_key_over_the_groups_limit_is_an_error_and_is_not_loaded() {
    let cluster = Cluster::with(["a"], |group| group.max_key_bytes(3));
    assert_eq!(cluster["a"].read("four").await, "KeyTooLong");
    assert_eq!(cluster.origin.calls(), 0);
}

#[tokio::test]
async fn any_bytes_are_a_key() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.echo();
    let group = &cluster["a"].group;
    for byte in 0..=255_u8 {
        assert_eq!(group.get(&[byte]).await.unwrap(), [byte].as_slice());
    }
    assert_eq!(group.get("").await.unwrap(), "");
    assert_eq!(group.stats().main.items, 257);
}

#[tokio::test]
async fn text_is_charged_for_its_length_and_not_for_its_capacity() {
    let cluster = Cluster::new(["a"]);
    let loader = loader_fn(|_| async {
        let mut text = String::with_capacity(1 << 20);
        text.push_str("ten bytes.");
        Ok(text)
    });
    let group: Group<String> = cluster["a"].groups.group("texts", loader).max_value_bytes(10).build().unwrap();
    assert_eq!(group.get("key").await.unwrap(), "ten bytes.");
    let bytes = group.stats().main.bytes;
    assert!(bytes < 1_000, "charged {bytes}");
}

#[tokio::test]
async fn a_cached_value_pins_no_network_buffer() {
    let cluster = Cluster::new(AB);
    let key = cluster.key_of("b");
    cluster.net.hold_requests("b");
    let waiting = cluster["a"].caller(&key);
    cluster.net.until_asked("b", 1).await;
    let buffer = Bytes::from(vec![b'x'; 65_536]);
    cluster.net.answer_held("b", || reply(buffer.slice(..100), |_| ()));
    assert_eq!(waiting.await.unwrap().len(), 100);
    assert!(cluster["a"].group.stats().hot.items == 1 && buffer.is_unique(), "the copy holds the buffer");
}
