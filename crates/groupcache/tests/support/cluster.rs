//! Some nodes that know each other, over one network and one origin.

use std::{collections::BTreeMap, ops::Index, task::Poll};

use peercache_groupcache::{
    Always, Answer, Bytes, Clock, Error, Group, GroupBuilder, Groups, Members, Source, loader_fn_with,
};
use tokio::task::JoinHandle;

use super::{GROUP, origin::Db, net::Net, poll_once, soon};

pub const AB: [&str; 2] = ["a", "b"];
pub const ABC: [&str; 3] = ["a", "b", "c"];

pub struct Cluster {
    pub net: Net,
    pub db: Db,
    nodes: BTreeMap<String, Node>,
}

pub struct Node {
    pub name: String,
    pub members: Members,
    pub groups: Groups,
    pub group: Group<Bytes>,
}

/// How a test wants its groups.
pub trait Settings: Fn(GroupBuilder<Bytes>) -> GroupBuilder<Bytes> {}
impl<F: Fn(GroupBuilder<Bytes>) -> GroupBuilder<Bytes>> Settings for F {}

/// Copies of all that is fetched, and times to live to the tick.
pub fn plain(group: GroupBuilder<Bytes>) -> GroupBuilder<Bytes> {
    group.hot_admission(Always).expiry_jitter(0.0)
}

impl Cluster {
    pub fn new<const N: usize>(names: [&str; N]) -> Self {
        Cluster::with(names, |group| group)
    }

    pub fn with<const N: usize>(names: [&str; N], set: impl Settings) -> Self {
        let mut cluster = Cluster { net: Net::default(), db: Db::new(), nodes: BTreeMap::new() };
        for name in names {
            cluster.add(name, &names, &set);
        }
        cluster
    }

    /// As [`loader_fn_with`](Cluster::with), loading many keys in one go.
    pub fn batched<const N: usize>(names: [&str; N], set: impl Settings) -> Self {
        let mut cluster = Cluster { net: Net::default(), db: Db::new(), nodes: BTreeMap::new() };
        for name in names {
            let (members, groups) = cluster.groups(name, &names);
            let group = set(plain(groups.group_batched(GROUP, cluster.db.asked_by(name)))).build().unwrap();
            cluster.nodes.insert(name.to_owned(), Node { name: name.to_owned(), members, groups, group });
        }
        cluster
    }

    /// Starts a node with a list of its own.
    pub fn add(&mut self, name: &str, list: &[&str], set: impl Settings) {
        let (members, groups) = self.groups(name, list);
        let group = set(plain(groups.group(GROUP, loader_fn_with(self.db.asked_by(name), Db::load)))).build().unwrap();
        self.nodes.insert(name.to_owned(), Node { name: name.to_owned(), members, groups, group });
    }

    fn groups(&self, name: &str, list: &[&str]) -> (Members, Groups) {
        let members = Members::builder(name, self.net.seen_by(name)).members(list.to_vec()).build().unwrap();
        let groups = Groups::with_clock(members.clone(), Clock::tokio());
        self.net.add(name, &groups);
        (members, groups)
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Node> + Clone {
        self.nodes.values()
    }

    /// Gives these members, and no others, this list.
    pub fn set_members(&self, names: &[&str], list: &[&str]) {
        names.iter().for_each(|name| self[name].members.set(list.to_vec()).unwrap());
    }

    /// A key that `owner` owns.
    pub fn key_of(&self, owner: &str) -> String {
        self.keys_of(owner, 1).remove(0)
    }

    /// Keys that `owner` owns, as it sees it.
    pub fn keys_of(&self, owner: &str, count: usize) -> Vec<String> {
        let view = self[owner].members.view();
        (0..).map(|n| format!("key-{n}")).filter(|key| view.owner_name(key) == owner).take(count).collect()
    }

    /// What all nodes answer, in the order of their names: `v1 v1 v1`.
    pub async fn read(&self, key: &str) -> String {
        let mut read = Vec::new();
        for node in self.nodes() {
            read.push(node.read(key).await);
        }
        read.join(" ")
    }

    /// Where all nodes have it from, in the order of their names: `hot main hot`.
    pub async fn sources(&self, key: &str) -> String {
        let mut sources = Vec::new();
        for node in self.nodes() {
            sources.push(node.source(key).await.to_string());
        }
        sources.join(" ")
    }

    /// What all nodes have cached, in the order of their names: `v1 - v1`.
    pub fn cached(&self, key: &str) -> String {
        let cached = self.nodes().map(|node| match node.group.peek(key) {
            Some(answer) => text(&answer.value),
            None => "-".to_owned(),
        });
        cached.collect::<Vec<_>>().join(" ")
    }
}

impl Index<&str> for Cluster {
    type Output = Node;

    fn index(&self, name: &str) -> &Node {
        &self.nodes[name]
    }
}

impl Index<&&str> for Cluster {
    type Output = Node;

    fn index(&self, name: &&str) -> &Node {
        &self.nodes[*name]
    }
}

impl Node {
    /// The value that it answers, or the error's kind.
    pub async fn read(&self, key: &str) -> String {
        told(soon(self.group.get(key)).await)
    }

    pub async fn source(&self, key: &str) -> Source {
        self.answer(key).await.source
    }

    pub async fn answer(&self, key: &str) -> Answer<Bytes> {
        soon(self.group.get(key).detailed()).await.unwrap()
    }

    /// What each key is answered with: its value or the error's kind.
    pub async fn read_many(&self, keys: &[String]) -> Vec<String> {
        soon(self.group.get_many(keys)).await.into_iter().map(told).collect()
    }

    /// What it answers without waiting, and where from: `stale v1`, or `waits`.
    pub async fn at_once(&self, key: &str) -> String {
        match poll_once(self.group.get(key).detailed()).await {
            Poll::Ready(result) => told_in_full(result),
            Poll::Pending => "waits".to_owned(),
        }
    }

    /// As [`at_once`](Node::at_once), for one that may wait.
    pub async fn in_the_end(&self, key: &str) -> String {
        told_in_full(soon(self.group.get(key).detailed()).await)
    }

    /// Someone who asks for `key` and waits.
    pub fn caller(&self, key: &str) -> JoinHandle<String> {
        let (group, key) = (self.group.clone(), key.to_owned());
        tokio::spawn(async move { told(soon(group.get(&key)).await) })
    }

    /// Bytes that main and hot hold.
    pub fn bytes(&self) -> u64 {
        let stats = self.group.stats();
        stats.main.bytes + stats.hot.bytes
    }

    /// Why entries left, main and hot together.
    pub fn left(&self) -> String {
        let stats = self.group.stats();
        let (main, hot) = (stats.main, stats.hot);
        format!(
            "evicted {}, expired {}, replaced {}, removed {}",
            main.evictions + hot.evictions,
            main.expirations + hot.expirations,
            main.replacements + hot.replacements,
            main.removals + hot.removals,
        )
    }

    pub fn items(&self) -> u64 {
        let stats = self.group.stats();
        stats.main.items + stats.hot.items
    }
}

/// A result in a word: the value or the error's kind.
pub fn told(result: Result<Bytes, Error>) -> String {
    match result {
        Ok(value) => text(&value),
        Err(error) => format!("{:?}", error.kind()),
    }
}

/// As [`told`], with where it came from.
pub fn told_in_full(result: Result<Answer<Bytes>, Error>) -> String {
    match result {
        Ok(answer) => format!("{} {}", answer.source, text(&answer.value)),
        Err(error) => format!("{:?}", error.kind()),
    }
}

pub fn text(value: &Bytes) -> String {
    String::from_utf8(value.to_vec()).unwrap()
}
