//! A node's list of members: the owner of a key is named as in the list, and a node alone needs
//! none.

mod support;

use std::collections::BTreeSet;

use peercache::{BuildError, Node, loader_fn_with};
use support::{GROUP, Origin, until, watched};

#[test]
fn an_owner_is_named_exactly_as_in_the_list() {
    let list = ["http://Node-A.example:9090", "http://10.0.0.2:9090", "http://[::1]:9090/base"];
    let node = Node::builder(list[0]).members(list).trust_network().build().unwrap();
    let owners: BTreeSet<String> = (0..1_000).map(|number| node.owner(&format!("key-{number}"))).collect();
    assert_eq!(owners, list.map(str::to_owned).into());
    assert_eq!(node.members().view().names(), list);
}

#[test]
fn members_of_the_same_list_name_the_same_owner() {
    let list = ["http://10.0.0.1:9090", "http://10.0.0.2:9090", "http://10.0.0.3:9090"];
    let [a, b] = [list[0], list[1]].map(|name| Node::builder(name).members(list).trust_network().build().unwrap());
    assert!((0..1_000_u32).all(|number| a.owner(&number.to_be_bytes()) == b.owner(&number.to_be_bytes())));
}

#[test]
fn the_owner_is_that_of_the_list_in_force() {
    let (me, other) = ("http://10.0.0.1:9090", "http://10.0.0.2:9090");
    let node = Node::builder(me).trust_network().build().unwrap();
    let owners = || (0..100_u8).map(|key| node.owner(&[key])).collect::<BTreeSet<_>>();
    assert_eq!(owners(), BTreeSet::from([me.to_owned()]));
    node.set_members([me, other]).unwrap();
    assert_eq!(owners(), BTreeSet::from([me.to_owned(), other.to_owned()]));
    assert!(matches!(node.set_members([other]), Err(BuildError::SelfMissing(name)) if name == me));
    assert_eq!(owners().len(), 2, "a refused list changes nothing");
}

#[tokio::test]
async fn a_node_alone_loads_and_caches() {
    let origin = Origin::default();
    let roles = Node::alone().group(GROUP, loader_fn_with(origin.clone(), Origin::load)).build().unwrap();
    for _ in 0..3 {
        assert_eq!(watched(roles.get("key")).await.unwrap(), "key");
    }
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn a_node_alone_merges_concurrent_loads() {
    let origin = Origin::gated();
    let roles = Node::alone().group(GROUP, loader_fn_with(origin.clone(), Origin::load)).build().unwrap();
    let gets = [(); 10].map(|()| {
        let roles = roles.clone();
        tokio::spawn(async move { roles.get("key").await })
    });
    watched(until(|| roles.stats().gets >= 10)).await;
    origin.open(10);
    for get in gets {
        assert_eq!(watched(get).await.unwrap().unwrap(), "key");
    }
    assert_eq!(origin.calls(), 1);
}

#[test]
fn a_node_alone_owns_every_key_and_is_its_own_only_member() {
    let node = Node::alone();
    let names = node.members().view().names().to_vec();
    assert_eq!(names.len(), 1);
    assert!((0..100_u8).all(|key| node.owner(&[key]) == names[0]));
}

#[test]
fn a_node_alone_refuses_other_members_and_says_why() {
    let node = Node::alone();
    let me = node.members().view().names()[0].clone();
    let refused = node.set_members([me.as_str(), "http://10.0.0.2:9090"]).unwrap_err();
    let why = r#""http://10.0.0.2:9090" cannot be a member: this node was built to be alone"#;
    assert_eq!(refused.to_string(), why);
    assert_eq!(node.members().view().names(), [me.as_str()], "the list is as it was");
    node.set_members([me]).unwrap();
}
