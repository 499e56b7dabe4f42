//! Some nodes that know each other, over one network and one origin.

use std::{collections::BTreeMap, ops::Index, task::Poll, time::Duration};

use peercache_groupcache::{
    Always, Answer, Bytes, Clock, Error, Group, GroupBuilder, Groups, Members, MembersBuilder, PeerReply, Source, Terms,
};
use tokio::task::{JoinHandle, yield_now};

use super::{GROUP, net::Net, origin::Origin, poll_once, soon};

pub const AB: [&str; 2] = ["a", "b"];
pub const ABC: [&str; 3] = ["a", "b", "c"];

pub struct Cluster {
    pub net: Net,
    pub origin: Origin,
    nodes: BTreeMap<String, Node>,
}

pub struct Node {
    pub name: String,
    pub members: Members,
    pub groups: Groups,
    pub group: Group<Bytes>,
}

/// The settings that a test wants its groups to have.
pub trait Settings: Fn(GroupBuilder<Bytes>) -> GroupBuilder<Bytes> {}
impl<F: Fn(GroupBuilder<Bytes>) -> GroupBuilder<Bytes>> Settings for F {}

impl Cluster {
    pub fn new<const N: usize>(names: [&str; N]) -> Self {
        Cluster::with(names, |group| group)
    }

    /// Keeps a copy of all that is fetched, and times to live to the tick, unless `set` says
    /// otherwise.
    pub fn with<const N: usize>(names: [&str; N], set: impl Settings) -> Self {
        let mut cluster = Cluster::empty();
        names.iter().for_each(|name| cluster.add(name, &names, &set));
        cluster
    }

    /// A cluster whose loaders load many keys in one go.
    pub fn batched<const N: usize>(names: [&str; N], set: impl Settings) -> Self {
        let mut cluster = Cluster::empty();
        for name in names {
            let loader = cluster.origin.loader_of(name);
            let group = |groups: &Groups| set(defaults(groups.group_batched(GROUP, loader)));
            cluster.start(name, &names, |members| members, group);
        }
        cluster
    }

    /// Two nodes that load one key at a time, of which `owner` is busy, and another key of it.
    pub async fn with_busy(owner: &str) -> (Self, String) {
        let cluster = Cluster::with(AB, |group| group.max_concurrent_loads(1));
        let [first, second] = cluster.keys_of(owner, 2).try_into().unwrap();
        cluster.origin.hold();
        drop(cluster[owner].caller(&first));
        cluster.origin.until_held(1).await;
        cluster.origin.hold_no_more();
        (cluster, second)
    }

    pub fn empty() -> Self {
        Cluster { net: Net::default(), origin: Origin::new(), nodes: BTreeMap::new() }
    }

    /// Starts a node with a member list of its own.
    pub fn add(&mut self, name: &str, list: &[&str], set: impl Settings) {
        self.add_as(name, list, |members| members, set);
    }

    /// Starts a node that owns no keys.
    pub fn add_client(&mut self, name: &str, list: &[&str]) {
        self.add_as(name, list, |members| members.client_only(true), |group| group);
    }

    /// Starts a node that sees its members in its own way.
    pub fn add_as(
        &mut self,
        name: &str,
        list: &[&str],
        members: impl FnOnce(MembersBuilder) -> MembersBuilder,
        set: impl Settings,
    ) {
        let loader = self.origin.loader_of(name);
        self.start(name, list, members, |groups| set(defaults(groups.group(GROUP, loader))));
    }

    fn start(
        &mut self,
        name: &str,
        list: &[&str],
        members: impl FnOnce(MembersBuilder) -> MembersBuilder,
        group: impl FnOnce(&Groups) -> GroupBuilder<Bytes>,
    ) {
        let members = members(Members::builder(name, self.net.of(name)).members(list.to_vec())).build().unwrap();
        let groups = Groups::with_clock(members.clone(), Clock::tokio());
        self.net.add(name, &groups);
        let group = group(&groups).build().unwrap();
        self.nodes.insert(name.to_owned(), Node { name: name.to_owned(), members, groups, group });
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Node> + Clone {
        self.nodes.values()
    }

    /// Gives these members, and no others, this list.
    pub fn set_members(&self, names: &[&str], list: &[&str]) {
        names.iter().for_each(|name| self[name].members.set(list.to_vec()).unwrap());
    }

    /// A key of which `line` are the first in line.
    pub fn key_in_line(&self, line: &[&str]) -> String {
        self.keys_in_line(line, 1).remove(0)
    }

    /// Keys of which `line` are the first in line.
    pub fn keys_in_line(&self, line: &[&str], count: usize) -> Vec<String> {
        let names: Vec<&str> = self.nodes.keys().map(String::as_str).collect();
        let table = peercache_consistenthash::Table::new(names).unwrap();
        let keys = (0..).map(|nth| format!("key-{nth}"));
        keys.filter(|key| table.owners(key.as_bytes(), line.len()) == line).take(count).collect()
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

    /// The answers of all nodes, in the order of their names: `v1 v1 v1`.
    pub async fn read(&self, key: &str) -> String {
        let mut read = Vec::new();
        for node in self.nodes() {
            read.push(node.read(key).await);
        }
        read.join(" ")
    }

    /// The sources of all nodes' answers, in the order of their names: `hot main hot`.
    pub async fn sources(&self, key: &str) -> String {
        let mut sources = Vec::new();
        for node in self.nodes() {
            sources.push(node.source(key).await.to_string());
        }
        sources.join(" ")
    }

    /// The values that all nodes have cached, in the order of their names: `v1 - v1`.
    pub fn cached(&self, key: &str) -> String {
        let cached = self.nodes().map(|node| node.group.peek(key).map_or("-".to_owned(), |answer| text(&answer.value)));
        cached.collect::<Vec<_>>().join(" ")
    }
}

fn defaults(group: GroupBuilder<Bytes>) -> GroupBuilder<Bytes> {
    group.hot_admission(Always).expiry_jitter(0.0)
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
        outcome(soon(self.group.get(key)).await)
    }

    /// The value that it answers within this time, or the error's kind.
    pub async fn read_within(&self, key: &str, time: Duration) -> String {
        outcome(soon(self.group.get(key).timeout(time)).await)
    }

    pub async fn source(&self, key: &str) -> Source {
        self.answer(key).await.source
    }

    pub async fn answer(&self, key: &str) -> Answer<Bytes> {
        soon(self.group.get(key).detailed()).await.unwrap()
    }

    pub async fn error(&self, key: &str) -> Error {
        soon(self.group.get(key)).await.expect_err("the get fails")
    }

    /// The values that it answers, or the errors' kinds.
    pub async fn read_many(&self, keys: &[String]) -> Vec<String> {
        outcomes(soon(self.group.get_many(keys)).await)
    }

    /// The source and the value that it answers without waiting, such as `stale v1`; or `waits`.
    pub async fn read_at_once(&self, key: &str) -> String {
        match poll_once(self.group.get(key).detailed()).await {
            Poll::Ready(result) => detailed_outcome(result),
            Poll::Pending => "waits".to_owned(),
        }
    }

    /// The source and the value that it answers, such as `stale v1`.
    pub async fn read_detailed(&self, key: &str) -> String {
        detailed_outcome(soon(self.group.get(key).detailed()).await)
    }

    /// The answer to a peer.
    pub async fn answer_peer(&self, key: &str, terms: Terms) -> Result<PeerReply, Error> {
        let group = self.groups.get(GROUP).expect("the node has the group");
        soon(group.answer(key.as_bytes(), terms).finish()).await
    }

    /// A caller that waits for `key`.
    pub fn caller(&self, key: &str) -> JoinHandle<String> {
        let (group, key) = (self.group.clone(), key.to_owned());
        tokio::spawn(async move { outcome(soon(group.get(&key)).await) })
    }

    /// A caller that waits for `key` no longer than this.
    pub fn caller_within(&self, key: &str, time: Duration) -> JoinHandle<String> {
        let (group, key) = (self.group.clone(), key.to_owned());
        tokio::spawn(async move { outcome(soon(group.get(&key).timeout(time)).await) })
    }

    /// Waits until this many gets have found nothing cached and wait for a flight.
    pub async fn until_missed(&self, gets: u64) {
        while self.group.stats().loads < gets {
            yield_now().await;
        }
    }

    /// A caller that waits for many keys.
    pub fn caller_of_many(&self, keys: Vec<String>) -> JoinHandle<Vec<String>> {
        let group = self.group.clone();
        tokio::spawn(async move { outcomes(soon(group.get_many(keys)).await) })
    }

    /// Bytes that main and hot hold.
    pub fn bytes(&self) -> u64 {
        let stats = self.group.stats();
        stats.main.bytes + stats.hot.bytes
    }

    /// Entries that main and hot hold.
    pub fn items(&self) -> u64 {
        let stats = self.group.stats();
        stats.main.items + stats.hot.items
    }

    /// The number of entries that have left main and hot, by reason.
    pub fn discarded(&self) -> String {
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
}

/// A result in a word: the value or the error's kind.
pub fn outcome(result: Result<Bytes, Error>) -> String {
    match result {
        Ok(value) => text(&value),
        Err(error) => format!("{:?}", error.kind()),
    }
}

pub fn outcomes(results: impl IntoIterator<Item = Result<Bytes, Error>>) -> Vec<String> {
    results.into_iter().map(outcome).collect()
}

/// A result in words: the source and the value, or the error's kind.
pub fn detailed_outcome(result: Result<Answer<Bytes>, Error>) -> String {
    match result {
        Ok(answer) => format!("{} {}", answer.source, text(&answer.value)),
        Err(error) => format!("{:?}", error.kind()),
    }
}

pub fn text(value: &Bytes) -> String {
    String::from_utf8(value.to_vec()).unwrap()
}
