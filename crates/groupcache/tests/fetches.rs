//! What a node does with other members: owners, copies, failures, rings that change or disagree.

mod support;

use peercache_groupcache::{
    Always, BuildError, Bytes, Clock, Error, ErrorKind, Group, GroupBuilder, Groups, LoadError, Members, Never,
    PeerError, PeerReply, Source, Terms,
};
use support::{GROUP, Net, Origin, group_of, ms};

/// A node of a test's cluster.
struct Node {
    members: Members,
    groups: Groups,
    group: Group<Bytes>,
    origin: Origin,
}

impl Node {
    fn new(net: &Net, name: &str, list: &[&str], origin: Origin) -> Self {
        Node::with(net, name, list, origin, |group| group.hot_admission(Never))
    }

    fn with(
        net: &Net,
        name: &str,
        list: &[&str],
        origin: Origin,
        set: impl Fn(GroupBuilder<Bytes>) -> GroupBuilder<Bytes>,
    ) -> Self {
        let members = Members::builder(name, net.clone()).members(list.to_vec()).build().unwrap();
        let groups = Groups::with_clock(members.clone(), Clock::tokio());
        net.add(name, &groups);
        let group = set(group_of(&groups, &origin)).build().unwrap();
        Node { members, groups, group, origin }
    }

    /// Someone who asks for `key` and waits.
    fn caller(&self, key: &str) -> tokio::task::JoinHandle<Result<Bytes, Error>> {
        let (group, key) = (self.group.clone(), key.to_owned());
        tokio::spawn(async move { group.get(&key).await })
    }

    async fn source(&self, key: &str) -> Source {
        self.group.get(key).detailed().await.unwrap().source
    }
}

/// A key that `owner` owns among `list`.
fn key_of(owner: &str, list: &[&str]) -> String {
    let members = Members::builder(list[0], Net::default()).members(list.to_vec()).build().unwrap();
    let view = members.view();
    (0..).map(|n| format!("key-{n}")).find(|key| view.owner_name(key) == owner).expect("every member owns some key")
}

const AB: [&str; 2] = ["a", "b"];

#[tokio::test]
async fn a_value_is_loaded_by_its_owner_alone() {
    let net = Net::default();
    let (a, b) = (Node::new(&net, "a", &AB, Origin::echo()), Node::new(&net, "b", &AB, Origin::echo()));
    let key = key_of("b", &AB);
    assert_eq!(a.source(&key).await, Source::Peer);
    assert_eq!((a.origin.calls(), b.origin.calls()), (0, 1));
    assert_eq!(b.source(&key).await, Source::Main);
}

#[tokio::test]
async fn callers_of_one_key_share_one_fetch() {
    let net = Net::default();
    let a = Node::new(&net, "a", &AB, Origin::echo());
    let key = key_of("b", &AB);
    net.hold("b");
    let mut callers = Vec::new();
    for _ in 0..5 {
        let (group, key) = (a.group.clone(), key.clone());
        callers.push(tokio::spawn(async move { group.get(&key).await }));
    }
    net.until_asked("b", 1).await;
    while a.group.stats().loads < 5 {
        tokio::task::yield_now().await;
    }
    net.answer_held("b", || Ok(PeerReply::new("value".into())));
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap(), "value");
    }
    assert_eq!((net.asked("b"), a.group.stats().loads_deduped), (1, 1));
}

#[tokio::test]
async fn the_owners_not_found_is_the_answer() {
    let net = Net::default();
    let a = Node::new(&net, "a", &AB, Origin::echo());
    let _b = Node::new(&net, "b", &AB, Origin::replying(|_| Err(LoadError::not_found())));
    assert!(a.group.get(&key_of("b", &AB)).await.unwrap_err().is_not_found());
    assert_eq!((a.origin.calls(), a.group.stats().peer_errors), (0, 0));
}

#[tokio::test]
async fn the_owners_failed_load_is_the_answer() {
    let net = Net::default();
    let a = Node::new(&net, "a", &AB, Origin::echo());
    let _b = Node::new(&net, "b", &AB, Origin::replying(|_| Err("disk on fire".into())));
    assert_eq!(a.group.get(&key_of("b", &AB)).await.unwrap_err().kind(), ErrorKind::LoadFailed);
    assert_eq!(a.origin.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_peer_owned_is_kept_briefly_as_a_hot_copy() {
    let net = Net::default();
    let a = Node::with(&net, "a", &AB, Origin::echo(), |group| group.fallback_ttl(ms(2_000)));
    let key = key_of("b", &AB);
    net.cut("b");
    assert_eq!(a.source(&key).await, Source::Origin);
    assert_eq!((a.group.stats().main.items, a.group.stats().hot.items), (0, 1));
    tokio::time::sleep(ms(1_900)).await;
    assert_eq!(a.source(&key).await, Source::Hot);
    tokio::time::sleep(ms(110)).await;
    assert_eq!(a.source(&key).await, Source::Origin);
    assert_eq!(a.group.stats().peer_errors, 2);
}

#[tokio::test]
async fn a_dead_peer_is_no_overload() {
    let net = Net::default();
    let a = Node::with(&net, "a", &AB, Origin::echo(), |group| group.max_concurrent_fetches(1));
    let key = key_of("b", &AB);
    net.cut("b");
    assert_eq!(a.source(&key).await, Source::Origin);
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_peer_owned_lives_no_longer_than_a_hot_copy() {
    let net = Net::default();
    let a = Node::with(&net, "a", &AB, Origin::echo(), |group| group.fallback_ttl(ms(60_000)).hot_ttl(ms(1_000)));
    let key = key_of("b", &AB);
    net.cut("b");
    a.source(&key).await;
    tokio::time::sleep(ms(1_010)).await;
    assert_eq!(a.source(&key).await, Source::Origin);
}

#[tokio::test]
async fn what_is_loaded_while_the_key_changes_hands_is_not_main() {
    let net = Net::default();
    let a = Node::new(&net, "a", &["a"], Origin::gated());
    let key = key_of("b", &AB);
    let waiting = a.caller(&key);
    a.origin.called(1).await;
    a.members.set(AB).unwrap();
    a.origin.open(1);
    assert_eq!(waiting.await.unwrap().unwrap(), key);
    let stats = a.group.stats();
    assert_eq!((stats.main.items, stats.hot.items), (0, 1));
}

#[tokio::test]
async fn entries_that_changed_hands_go_where_no_copies_are_kept() {
    let net = Net::default();
    let a = Node::with(&net, "a", &["a"], Origin::echo(), |group| group.hot_ttl(ms(0)));
    a.source(&key_of("b", &AB)).await;
    a.members.set(AB).unwrap();
    let stats = a.group.stats();
    assert_eq!((stats.main.items, stats.hot.items, stats.main.bytes + stats.hot.bytes), (0, 0, 0));
}

#[tokio::test]
async fn a_dropped_reply_is_a_failed_peer_and_all_who_wait_get_the_value() {
    let net = Net::default();
    let a = Node::new(&net, "a", &AB, Origin::echo());
    let key = key_of("b", &AB);
    net.hold("b");
    let waiting = a.caller(&key);
    net.until_asked("b", 1).await;
    net.answer_held("b", || Err(PeerError::failed("reset")));
    assert_eq!(waiting.await.unwrap().unwrap(), key);
}

#[tokio::test]
async fn a_key_that_the_dialect_cannot_carry_is_loaded_here_and_counted() {
    let net = Net::default();
    let a = Node::new(&net, "a", &AB, Origin::echo());
    let key = key_of("b", &AB);
    net.hold("b");
    let waiting = a.caller(&key);
    net.until_asked("b", 1).await;
    net.answer_held("b", || Err(PeerError::NotCarried));
    assert_eq!(waiting.await.unwrap().unwrap(), key);
    let stats = a.group.stats();
    assert_eq!((stats.keys_not_carried, stats.peer_errors, stats.local_loads), (1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_hot_copy_lives_as_long_as_it_may() {
    let net = Net::default();
    let a = Node::with(&net, "a", &AB, Origin::echo(), |group| group.hot_admission(Always).hot_ttl(ms(1_000)));
    let _b = Node::new(&net, "b", &AB, Origin::echo());
    let key = key_of("b", &AB);
    assert_eq!(a.source(&key).await, Source::Peer);
    tokio::time::sleep(ms(980)).await;
    assert_eq!(a.source(&key).await, Source::Hot);
    tokio::time::sleep(ms(30)).await;
    assert_eq!(a.source(&key).await, Source::Peer);
}

#[tokio::test]
async fn without_a_hot_life_nothing_is_copied() {
    let net = Net::default();
    let a = Node::with(&net, "a", &AB, Origin::echo(), |group| group.hot_admission(Always).hot_ttl(ms(0)));
    let _b = Node::new(&net, "b", &AB, Origin::echo());
    let key = key_of("b", &AB);
    a.source(&key).await;
    assert_eq!(a.source(&key).await, Source::Peer);
}

#[tokio::test]
async fn what_arrives_from_a_peer_is_never_forwarded() {
    let net = Net::default();
    // Each takes the other for the owner of this key.
    let key = key_of("b", &AB);
    let a = Node::new(&net, "a", &AB, Origin::echo());
    let b = Node::with(&net, "b", &["b", "x"], Origin::echo(), |group| group);
    assert_eq!(a.group.get(&key).await.unwrap(), key);
    assert_eq!((a.origin.calls(), b.origin.calls(), net.asked("x")), (0, 1, 0));
}

#[tokio::test]
async fn members_that_disagree_answer_each_other_while_both_fetch() {
    let net = Net::default();
    // Each is sure that the other owns every key.
    let a = Node::new(&net, "a", &["a"], Origin::gated());
    let b = Node::new(&net, "b", &["b"], Origin::gated());
    let swapped = |us: &str, other: &str| {
        let members = Members::builder(us, net.clone()).client_only(true).members([other.to_owned()]).build().unwrap();
        let groups = Groups::new(members);
        net.add(us, &groups);
        groups
    };
    let (groups_a, groups_b) = (swapped("a", "b"), swapped("b", "a"));
    let group_a = group_of(&groups_a, &a.origin).build().unwrap();
    let group_b = group_of(&groups_b, &b.origin).build().unwrap();
    let (one, other) =
        (tokio::spawn(async move { group_a.get("k").await }), tokio::spawn(async move { group_b.get("k").await }));
    let both_load = async { tokio::join!(a.origin.called(1), b.origin.called(1)) };
    tokio::time::timeout(ms(60_000), both_load).await.expect("each waits for the other");
    a.origin.open(1);
    b.origin.open(1);
    assert_eq!((one.await.unwrap().unwrap(), other.await.unwrap().unwrap()), ("k".into(), "k".into()));
}

#[tokio::test]
async fn a_peer_is_never_answered_from_what_was_fetched() {
    let net = Net::default();
    let a = Node::with(&net, "a", &AB, Origin::echo(), |group| group.hot_admission(Always));
    let _b = Node::new(&net, "b", &AB, Origin::echo());
    let key = key_of("b", &AB);
    a.source(&key).await;
    let served = a.groups.get(GROUP).unwrap().answer(key.as_bytes(), Terms::new());
    assert_eq!(served.finish().await.unwrap().value.unwrap(), key);
    assert_eq!(a.origin.calls(), 1, "the copy was fetched, so the peer's request is loaded");
}

#[tokio::test(start_paused = true)]
async fn entries_that_changed_hands_end_as_hot_copies() {
    let net = Net::default();
    let a = Node::with(&net, "a", &["a"], Origin::echo(), |group| group.hot_ttl(ms(1_000)));
    let _b = Node::new(&net, "b", &AB, Origin::echo());
    let (lost, kept) = (key_of("b", &AB), key_of("a", &AB));
    a.source(&lost).await;
    a.source(&kept).await;
    a.members.set(AB).unwrap();
    assert_eq!((a.source(&lost).await, a.source(&kept).await), (Source::Hot, Source::Main));
    tokio::time::sleep(ms(1_010)).await;
    assert_eq!((a.source(&lost).await, a.source(&kept).await), (Source::Peer, Source::Main));
}

#[tokio::test]
async fn what_was_fetched_under_another_ring_is_answered_and_not_cached() {
    let net = Net::default();
    let a = Node::with(&net, "a", &AB, Origin::echo(), |group| group.hot_admission(Always));
    let key = key_of("b", &AB);
    net.hold("b");
    let waiting = a.caller(&key);
    net.until_asked("b", 1).await;
    a.members.set(["a", "b", "c"]).unwrap();
    net.answer_held("b", || Ok(PeerReply::new("value".into())));
    assert_eq!(waiting.await.unwrap().unwrap(), "value");
    assert_eq!(a.group.stats().hot.items, 0);
}

#[tokio::test]
async fn a_cached_value_pins_no_network_buffer() {
    let net = Net::default();
    let a = Node::with(&net, "a", &AB, Origin::echo(), |group| group.hot_admission(Always));
    let key = key_of("b", &AB);
    net.hold("b");
    let waiting = a.caller(&key);
    net.until_asked("b", 1).await;
    let buffer = Bytes::from(vec![7; 65_536]);
    net.answer_held("b", || Ok(PeerReply::new(buffer.slice(..100))));
    assert_eq!(waiting.await.unwrap().unwrap().len(), 100);
    assert!(a.group.stats().hot.items == 1 && buffer.is_unique(), "the copy holds the buffer");
}

#[tokio::test]
async fn a_client_owns_nothing() {
    let net = Net::default();
    let b = Node::new(&net, "b", &["b"], Origin::echo());
    let members = Members::builder("client", net.clone()).client_only(true).members(["b"]).build().unwrap();
    let origin = Origin::echo();
    let client = group_of(&Groups::new(members), &origin).build().unwrap();
    for key in ["x", "y", "z"] {
        client.get(key).await.unwrap();
    }
    assert_eq!((origin.calls(), b.origin.calls()), (0, 3));
}

#[tokio::test]
async fn garbage_that_does_not_decode_is_a_failed_peer() {
    let net = Net::default();
    let members = Members::builder("a", net.clone()).members(AB).build().unwrap();
    let key = key_of("b", &AB);
    let group: Group<String> = Groups::new(members)
        .group(GROUP, peercache_groupcache::loader_fn(|_| async { Ok("text".to_owned()) }))
        .build()
        .unwrap();
    net.hold("b");
    let waiting = tokio::spawn({
        let group = group.clone();
        async move { group.get(&key).await }
    });
    net.until_asked("b", 1).await;
    net.answer_held("b", || Ok(PeerReply::new(Bytes::from_static(b"\xff"))));
    assert_eq!(waiting.await.unwrap().unwrap(), "text");
    assert_eq!(group.stats().peer_errors, 1);
}

#[tokio::test]
async fn an_answer_larger_than_the_limit_is_an_error() {
    let net = Net::default();
    let a = Node::with(&net, "a", &AB, Origin::echo(), |group| group.max_value_bytes(10));
    let _b = Node::new(&net, "b", &AB, Origin::replying(|_| Ok(vec![0; 11].into())));
    let error: Error = a.group.get(&key_of("b", &AB)).await.unwrap_err();
    assert_eq!((error.kind(), a.origin.calls()), (ErrorKind::ValueTooLarge, 0));
}

#[test]
fn a_bad_member_list_is_refused_and_the_old_one_stays() {
    let members = Members::builder("a", Net::default()).members(AB).build().unwrap();
    let refused = |list: &[&str]| members.set(list.to_vec()).unwrap_err();
    assert_eq!(refused(&[]), BuildError::NoMembers);
    assert_eq!(refused(&["b"]), BuildError::SelfMissing("a".into()));
    assert_eq!(refused(&["a", "b", "b"]), BuildError::DuplicateMember("b".into()));
    assert_eq!(members.view().names(), AB);
}

#[test]
fn a_group_is_named_once() {
    let groups = Groups::new(Members::alone());
    group_of(&groups, &Origin::echo()).build().unwrap();
    assert_eq!(group_of(&groups, &Origin::echo()).build().unwrap_err(), BuildError::DuplicateGroup(GROUP.to_owned()));
}
