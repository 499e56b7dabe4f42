//! Gets of many keys at a time over real sockets: a result for each, and no key held back by
//! another.

mod support;

use futures_util::StreamExt;
use peercache::{Bytes, ErrorKind, Group, Node};
use support::{
    GROUP, Member,
    database::{Database, InBatches},
    key_of, listeners, name_of, pool, watched,
};

fn keys(database: &Database, count: usize) -> Vec<String> {
    let keys: Vec<String> = (0..count).map(|number| format!("key {number}")).collect();
    keys.iter().for_each(|key| database.write(key, key));
    keys
}

async fn cluster<const N: usize>(database: &Database) -> [Member; N] {
    let listeners = listeners::<N>().await;
    let list: Vec<String> = listeners.iter().map(name_of).collect();
    listeners
        .map(|listener| Member::start_as(name_of(&listener), listener, &list, pool(), |group| group, database.clone()))
}

/// A cluster as [`cluster`] makes, with a loader that loads many keys in one call.
async fn batched<const N: usize>(database: &Database) -> [(Node, Group<Bytes>); N] {
    let listeners = listeners::<N>().await;
    let list: Vec<String> = listeners.iter().map(name_of).collect();
    listeners.map(|listener| {
        let node = Node::builder(name_of(&listener)).members(&list).build().unwrap();
        let group = node.groups().group_batched(GROUP, InBatches(database.clone())).build().unwrap();
        tokio::spawn(node.serve(listener));
        (node, group)
    })
}

#[tokio::test]
async fn each_key_has_its_own_result_in_its_place() {
    let database = Database::default();
    let mut keys = keys(&database, 300);
    keys[7] = "missing".to_owned();
    keys[100] = keys[200].clone();
    for member in &cluster::<3>(&database).await {
        let results = watched(member.group.get_many(&keys)).await;
        assert_eq!(results.len(), 300);
        for (key, result) in keys.iter().zip(results) {
            match key.as_str() {
                "missing" => assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound),
                _ => assert_eq!(result.unwrap(), key.as_str()),
            }
        }
    }
    assert!(keys.iter().filter(|key| *key != "missing").all(|key| database.loads(key) == 1));
}

#[tokio::test]
async fn a_slow_key_holds_back_no_other() {
    let database = Database::default();
    let members = cluster::<3>(&database).await;
    for owner in &members {
        let keys = keys(&database, 60);
        let slow = key_of(&owner.name, &members[0]);
        database.write(&slow, &slow);
        // All but the slow one are cached at their owners already.
        watched(members[0].group.get_many(&keys)).await;
        database.hold();
        let mut asked = keys.clone();
        asked.insert(20, slow);
        let mut answers = members[0].group.get_many(&asked).stream();
        for _ in 0..keys.len() {
            let (nth, answer) = watched(answers.next()).await.unwrap();
            assert_eq!(answer.unwrap().value, asked[nth].as_str());
            assert_ne!(nth, 20);
        }
        database.release();
        assert_eq!(watched(answers.next()).await.unwrap().0, 20);
        assert!(watched(answers.next()).await.is_none());
    }
}

#[tokio::test]
async fn three_hundred_cold_keys_over_three_nodes_are_one_call_for_each_owner() {
    let database = Database::default();
    let nodes = batched::<3>(&database).await;
    let keys = keys(&database, 300);
    let results = watched(nodes[1].1.get_many(&keys)).await;
    for (key, result) in keys.iter().zip(results) {
        assert_eq!(result.unwrap(), key.as_str());
    }
    assert_eq!(database.calls(), 3);
    assert!(keys.iter().all(|key| database.loads(key) == 1));
}

#[tokio::test]
async fn a_slow_key_of_a_batch_holds_back_no_other() {
    let database = Database::default();
    let nodes = batched::<3>(&database).await;
    let mut keys = keys(&database, 100);
    keys.extend((0..10).map(|number| format!("slow {number}")));
    keys.iter().for_each(|key| database.write(key, key));
    database.hold();
    let mut answers = nodes[0].1.get_many(&keys).stream();
    for _ in 0..100 {
        let (nth, answer) = watched(answers.next()).await.unwrap();
        assert_eq!((answer.unwrap().value, nth < 100), (keys[nth].clone().into(), true));
    }
    database.release();
    for _ in 0..10 {
        watched(answers.next()).await.unwrap().1.unwrap();
    }
    assert!(watched(answers.next()).await.is_none());
    assert!(database.calls() <= 3, "{} calls", database.calls());
}
