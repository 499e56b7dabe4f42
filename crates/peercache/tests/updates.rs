//! Removes and sets over real sockets: an acknowledged update is seen on every node, in spite of
//! loads, lost connections and changes of the member list.

mod support;

use std::{collections::BTreeSet, time::Duration};

use peercache::{Always, Bytes, GroupBuilder, HttpPool, UpdateError};
use support::{
    Member, database::Database, key_of, link::Link, listeners, name_of, pool, random::Random, until, watched,
};
use tokio::task::{JoinHandle, yield_now};

const ROUNDS: usize = 100;
/// A time longer than any test.
const HOUR: Duration = Duration::from_secs(3600);

/// A cluster on a database whose members keep a hot copy of everything they fetch.
async fn cluster<const N: usize>(database: &Database) -> [Member; N] {
    let listeners = listeners::<N>().await;
    let list: Vec<String> = listeners.iter().map(name_of).collect();
    listeners.map(|listener| {
        let name = name_of(&listener);
        Member::start_as(name, listener, &list, pool(), |group| group.hot_admission(Always), database.clone())
    })
}

async fn value(member: &Member, key: &str) -> String {
    let value = watched(member.group.get(key)).await.unwrap_or_else(|error| panic!("{key}: {error:?}"));
    String::from_utf8(value.into()).unwrap()
}

/// The answers of the members. Each is asked twice, so that its cache is looked at, too.
async fn values(members: impl IntoIterator<Item = &Member> + Clone, key: &str) -> BTreeSet<String> {
    let mut values = BTreeSet::new();
    for _ in 0..2 {
        for member in members.clone() {
            values.insert(value(member, key).await);
        }
    }
    values
}

fn only(value: &str) -> BTreeSet<String> {
    BTreeSet::from([value.to_owned()])
}

fn reader(member: &Member, key: &str) -> JoinHandle<String> {
    let (group, key) = (member.group.clone(), key.to_owned());
    tokio::spawn(async move { String::from_utf8(group.get(&key).await.unwrap().into()).unwrap() })
}

fn remover(member: &Member, key: &str) -> JoinHandle<Result<(), UpdateError>> {
    let (group, key) = (member.group.clone(), key.to_owned());
    tokio::spawn(async move { group.remove(&key).await })
}

async fn set(member: &Member, key: &str, value: &str) -> Result<(), UpdateError> {
    watched(member.group.set(key, Bytes::copy_from_slice(value.as_bytes()))).await
}

fn owns(member: &Member, key: &str) -> bool {
    member.node.members().view().owner_name(key) == member.name
}

/// Lets other tasks run this number of times. They may get nowhere, or through several exchanges.
async fn a_while(turns: usize) {
    for _ in 0..turns {
        yield_now().await;
    }
}

/// The moments of a load at which a remove may come.
const MOMENTS: [&str; 4] = ["before", "during", "as it ends", "after"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remove_at_any_moment_of_a_load_leaves_nothing_old() {
    let mut random = Random::new();
    let database = Database::default();
    let members = cluster::<3>(&database).await;
    let mut moments = [0; MOMENTS.len()];
    for round in 0..ROUNDS {
        let moment = random.below(MOMENTS.len());
        moments[moment] += 1;
        let key = format!("key {round}");
        let removing = &members[random.below(3)];
        database.write(&key, "old");
        database.hold();
        let readers = |count: usize| -> Vec<_> { (0..count).map(|nth| reader(&members[nth % 3], &key)).collect() };
        let loading = || until(|| database.loads(&key) >= 1);
        let waiting = match MOMENTS[moment] {
            "before" => {
                database.write(&key, "new");
                let remove = remover(removing, &key);
                a_while(random.below(50)).await;
                let waiting = readers(6);
                watched(remove).await.unwrap().unwrap();
                database.release();
                waiting
            }
            "during" => {
                let waiting = readers(6);
                watched(loading()).await;
                a_while(random.below(200)).await;
                database.write(&key, "new");
                watched(remover(removing, &key)).await.unwrap().unwrap();
                // No reader has its answer yet, so none may get the old value any more.
                database.release();
                for reader in waiting {
                    assert_eq!(watched(reader).await.unwrap(), "new", "round {round}");
                }
                Vec::new()
            }
            "as it ends" => {
                let waiting = readers(6);
                watched(loading()).await;
                database.write(&key, "new");
                let before = random.below(100);
                let ending = async {
                    a_while(before).await;
                    database.release();
                };
                let after = random.below(100);
                let removing = async {
                    a_while(after).await;
                    remover(removing, &key).await
                };
                let ((), removed) = watched(async { tokio::join!(ending, removing) }).await;
                removed.unwrap().unwrap();
                waiting
            }
            _ => {
                database.release();
                for reader in readers(6) {
                    assert_eq!(watched(reader).await.unwrap(), "old");
                }
                database.write(&key, "new");
                watched(remover(removing, &key)).await.unwrap().unwrap();
                Vec::new()
            }
        };
        assert_eq!(values(&members, &key).await, only("new"), "round {round}, {}", MOMENTS[moment]);
        for reader in waiting {
            watched(reader).await.unwrap();
        }
        assert_eq!(values(&members, &key).await, only("new"), "round {round}, {}, a little later", MOMENTS[moment]);
    }
    assert!(moments.iter().all(|&count| count > 0), "{moments:?}");
}

#[tokio::test]
async fn keys_that_are_removed_together_and_a_group_that_is_cleared_are_new_everywhere() {
    let database = Database::default();
    let members = cluster::<3>(&database).await;
    let keys: Vec<String> = (0..300).map(|number| format!("key {number}")).collect();
    let write = |value: &str| keys.iter().for_each(|key| database.write(key, value));
    let held = async || {
        let mut held = BTreeSet::new();
        for key in &keys {
            for member in &members {
                held.insert(value(member, key).await);
            }
        }
        held
    };
    write("first");
    assert_eq!(held().await, only("first"));
    write("second");
    watched(members[0].group.remove_many(&keys)).await.unwrap();
    assert_eq!(held().await, only("second"));
    write("third");
    watched(members[1].group.clear()).await.unwrap();
    assert!(members.iter().all(|member| member.group.snapshot().is_empty()));
    assert_eq!(held().await, only("third"));
}

/// Three members, the second of them behind a link, and the link.
async fn linked(database: &Database, hot_ttl: Duration) -> ([Member; 3], Link) {
    let [one, two, three] = listeners::<3>().await;
    let link = Link::to(two.local_addr().unwrap()).await;
    let names = [name_of(&one), link.name.clone(), name_of(&three)];
    let quick = Duration::from_millis(200);
    let members = [(one, 0), (two, 1), (three, 2)].map(|(listener, nth)| {
        let pool = HttpPool::builder().peer_timeout(quick);
        Member::start_as(
            names[nth].clone(),
            listener,
            &names,
            pool,
            |group| group.hot_admission(Always).hot_ttl(hot_ttl).update_timeout(quick),
            database.clone(),
        )
    });
    (members, link)
}

fn missed(result: Result<(), UpdateError>) -> Vec<String> {
    let error = result.expect_err("somebody was missed");
    error.missed().iter().map(|missed| missed.member.clone()).collect()
}

#[tokio::test]
async fn a_member_that_is_stopped_is_named_and_forgets_when_it_goes_on() {
    let database = Database::default();
    let (members, link) = linked(&database, HOUR).await;
    let [a, b, c] = &members;
    let keys = [a, b, c].map(|owner| key_of(&owner.name, a));
    for key in &keys {
        database.write(key, "old");
        assert_eq!(values(&members, key).await, only("old"));
    }
    link.stop();
    for key in &keys {
        database.write(key, "new");
        assert_eq!(missed(watched(a.group.remove(key)).await), std::slice::from_ref(&link.name));
        assert_eq!(values([a, c], key).await, only("new"), "the others know, and do not ask the one that does not");
    }
    link.open();
    for key in &keys {
        let told = async {
            while value(b, key).await != "new" {
                yield_now().await;
            }
        };
        watched(told).await;
        assert_eq!(values(&members, key).await, only("new"));
    }
    watched(a.group.remove(&keys[1])).await.unwrap();
}

#[tokio::test]
async fn a_member_that_was_cut_off_is_told_before_it_is_asked_again() {
    let database = Database::default();
    // Without copies, so that the owner is asked each time.
    let (members, link) = linked(&database, Duration::ZERO).await;
    let [a, b, c] = &members;
    let key = key_of(&b.name, a);
    for round in 0..10 {
        let (old, new) = (format!("old {round}"), format!("new {round}"));
        database.write(&key, &old);
        watched(a.group.remove(&key)).await.unwrap();
        assert_eq!(values(&members, &key).await, only(&old));
        link.cut();
        database.write(&key, &new);
        // The update was lost on its way, and must be sent again.
        assert_eq!(missed(watched(a.group.remove(&key)).await), std::slice::from_ref(&link.name));
        assert_eq!(values([a, c], &key).await, only(&new));
        link.open();
        let told = async {
            while value(b, &key).await != new {
                // They ask its owner only once the owner has the update.
                assert_eq!(value(a, &key).await, new);
                assert_eq!(value(c, &key).await, new);
                yield_now().await;
            }
        };
        watched(told).await;
        // Undelivered updates are sent in the background. A remove before that may miss the member
        // again.
        watched(async { while a.group.remove(&key).await.is_err() {} }).await;
    }
}

#[tokio::test]
async fn a_set_whose_owner_is_stopped_is_not_known_and_the_next_one_is() {
    let database = Database::default();
    let (members, link) = linked(&database, HOUR).await;
    let [a, b, _] = &members;
    let key = key_of(&b.name, a);
    database.write(&key, "loaded");
    assert_eq!(values(&members, &key).await, only("loaded"));
    link.stop();
    assert_eq!(missed(set(a, &key, "given up").await), std::slice::from_ref(&link.name));
    link.open();
    // In the end it gets all updates that it has missed.
    watched(async { while set(a, &key, "set").await.is_err() {} }).await;
    assert_eq!(values(&members, &key).await, only("set"));
}

#[tokio::test]
async fn an_acknowledged_set_is_not_undone_by_an_older_change_that_its_owner_hears_of_later() {
    let database = Database::default();
    let (members, link) = linked(&database, HOUR).await;
    let [a, b, c] = &members;
    let mut keys = (0..).map(|number| format!("key {number}")).filter(|key| owns(b, key));
    let (key, other) = (keys.next().unwrap(), keys.next().unwrap());
    database.write(&key, "loaded");
    database.write(&other, "loaded");
    for round in 0..10 {
        assert_eq!(value(b, &other).await, "loaded");
        link.cut();
        missed(watched(a.group.remove(&other)).await);
        missed(set(a, &key, "given up").await);
        link.open();
        let setter = [a, c][round % 2];
        watched(async { while set(setter, &key, "set").await.is_err() {} }).await;
        // The owner gets both updates that it has missed, that of the other key as well.
        watched(until(|| b.group.peek(&other).is_none())).await;
        assert_eq!(values(&members, &key).await, only("set"), "round {round}");
    }
}

#[tokio::test]
async fn a_set_that_arrives_when_it_was_given_up_is_not_taken() {
    let database = Database::default();
    let (members, link) = linked(&database, HOUR).await;
    let [a, b, c] = &members;
    let key = key_of(&b.name, a);
    database.write(&key, "loaded");
    assert_eq!(values(&members, &key).await, only("loaded"));
    link.snag(b"given up");
    assert_eq!(missed(set(a, &key, "given up").await), std::slice::from_ref(&link.name));
    watched(async { while set(c, &key, "set").await.is_err() {} }).await;
    assert_eq!(values(&members, &key).await, only("set"));
    link.open();
    watched(link.snagged()).await;
    assert_eq!(values(&members, &key).await, only("set"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_sets_of_one_key_at_two_nodes_at_once_all_nodes_agree() {
    let mut random = Random::new();
    let database = Database::default();
    let members = cluster::<3>(&database).await;
    let mut second_won = 0;
    for round in 0..ROUNDS {
        let key = format!("key {round}");
        database.write(&key, "loaded");
        if random.below(2) == 0 {
            value(&members[random.below(3)], &key).await;
        }
        let readers: Vec<_> = members.iter().map(|member| reader(member, &key)).collect();
        let set = |member: &Member, value: &'static str, turns: usize| {
            let (group, key) = (member.group.clone(), key.clone());
            tokio::spawn(async move {
                a_while(turns).await;
                group.set(&key, Bytes::from_static(value.as_bytes())).await
            })
        };
        let (one, two) = (random.below(3), random.below(3));
        let sets = [set(&members[one], "first", random.below(50)), set(&members[two], "second", random.below(50))];
        for set in sets {
            watched(set).await.unwrap().unwrap();
        }
        let values = values(&members, &key).await;
        assert!(values == only("first") || values == only("second"), "round {round}: {values:?}");
        second_won += usize::from(values == only("second"));
        for reader in readers {
            watched(reader).await.unwrap();
        }
        assert_eq!(self::values(&members, &key).await, values, "round {round}: no reader brought an old one back");
    }
    println!("the second set won {second_won} times of {ROUNDS}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_is_seen_on_every_node_when_it_returns() {
    let mut random = Random::new();
    let database = Database::default();
    let members = cluster::<3>(&database).await;
    database.write("key", "loaded");
    for round in 0..ROUNDS {
        let reading: Vec<_> = (0..6).map(|nth| reader(&members[nth % 3], "key")).collect();
        a_while(random.below(50)).await;
        let new = format!("round {round}");
        match random.below(4) {
            0 => {
                database.write("key", &new);
                watched(members[random.below(3)].group.remove("key")).await.unwrap();
            }
            _ => set(&members[random.below(3)], "key", &new).await.unwrap(),
        }
        assert_eq!(values(&members, "key").await, only(&new));
        for reader in reading {
            watched(reader).await.unwrap();
        }
        assert_eq!(values(&members, "key").await, only(&new), "nor does any reader bring an old one back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_value_is_replaced_nobody_is_answered_what_the_origin_holds() {
    let mut random = Random::new();
    let database = Database::default();
    let members = cluster::<3>(&database).await;
    database.write("key", "loaded");
    set(&members[0], "key", "set 0").await.unwrap();
    for round in 1..=ROUNDS {
        let (old, new) = (format!("set {}", round - 1), format!("set {round}"));
        let reading: Vec<_> = (0..6).map(|nth| reader(&members[nth % 3], "key")).collect();
        a_while(random.below(50)).await;
        set(&members[random.below(3)], "key", &new).await.unwrap();
        for reader in reading {
            let value = watched(reader).await.unwrap();
            assert!(value == old || value == new, "round {round}: {value}");
        }
    }
    assert_eq!(database.loads("key"), 0);
}

/// A fourth member joins, and the others get the new list one after the other. It was not asked for
/// anything before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remove_while_members_hear_of_another_one_is_true_or_says_that_it_is_not() {
    let mut random = Random::new();
    let database = Database::default();
    let listeners = listeners::<4>().await;
    let four: Vec<String> = listeners.iter().map(name_of).collect();
    let members = listeners.map(|listener| {
        let name = name_of(&listener);
        Member::start_as(name, listener, &four, pool(), |group| group.hot_admission(Always), database.clone())
    });
    let (three, mut known) = (&four[..3], 0);
    for round in 0..ROUNDS {
        members[..3].iter().for_each(|member| member.node.set_members(three).unwrap());
        let key = format!("key {round}");
        database.write(&key, "old");
        assert_eq!(values(&members[..3], &key).await, only("old"));

        let hearing: Vec<_> = members[..3]
            .iter()
            .map(|member| {
                let (node, four, turns) = (member.node.clone(), four.clone(), random.below(200));
                tokio::spawn(async move {
                    a_while(turns).await;
                    node.set_members(four).unwrap();
                })
            })
            .collect();
        let reading: Vec<_> = (0..6).map(|nth| reader(&members[nth % 3], &key)).collect();
        a_while(random.below(200)).await;
        database.write(&key, "new");
        let told = watched(remover(&members[0], &key)).await.unwrap();
        match &told {
            Ok(()) => {
                known += 1;
                assert_eq!(values(&members, &key).await, only("new"), "round {round}");
            }
            Err(error) => {
                let names: BTreeSet<&String> = error.missed().iter().map(|missed| &missed.member).collect();
                assert!(!names.is_empty() && names.iter().all(|name| four.contains(name)), "{error}");
            }
        }
        for task in hearing {
            watched(task).await.unwrap();
        }
        for task in reading {
            watched(task).await.unwrap();
        }
        if told.is_ok() {
            assert_eq!(values(&members, &key).await, only("new"), "round {round}, when all have heard");
        }
        watched(members[0].group.remove(&key)).await.unwrap();
        assert_eq!(values(&members, &key).await, only("new"), "round {round}, removed again");
    }
    println!("{known} of {ROUNDS} removes were known to all");
}

/// A group's limit holds for values that are set on the way to their owner, too: nobody sets the
/// server's.
#[tokio::test]
async fn a_value_as_long_as_the_groups_limit_is_set_from_every_node() {
    let database = Database::default();
    let listeners = listeners::<2>().await;
    let list: Vec<String> = listeners.iter().map(name_of).collect();
    let members = listeners.map(|listener| {
        let name = name_of(&listener);
        let group = |group: GroupBuilder<Bytes>| {
            group.max_bytes(256 << 20).max_value_bytes(64 << 20).update_timeout(Duration::from_secs(30))
        };
        Member::start_as(name, listener, &list, pool(), group, database.clone())
    });
    for (setter, owner) in [(0, 0), (0, 1), (1, 0)] {
        let key = key_of(&list[owner], &members[0]);
        let value = Bytes::from(vec![b'x'; 40 << 20]);
        watched(members[setter].group.set(&key, value)).await.expect("it is set");
        assert_eq!(watched(members[owner].group.get(&key)).await.expect("it is there").len(), 40 << 20);
    }
}
