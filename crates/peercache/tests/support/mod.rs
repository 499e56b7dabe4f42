//! Nodes of one process over real sockets, with an origin that counts its calls and can be blocked.
#![allow(dead_code, reason = "each test file uses what it needs")]

pub mod database;
pub mod link;
pub mod random;

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use peercache::{
    Bytes, Group, GroupBuilder, HttpPool, HttpPoolBuilder, Key, LoadError, Loader, Never, Node, NodeBuilder,
    loader_fn_with,
};
use tokio::{net::TcpListener, sync::Semaphore};

pub const GROUP: &str = "roles";

/// Awaits `what`, and fails after a minute. Real sockets take real time, and this only ends a test
/// that hangs.
pub async fn watched<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("the test hangs")
}

/// An origin shared by all nodes of a test.
#[derive(Clone, Default)]
pub struct Origin {
    shared: Arc<OriginShared>,
}

#[derive(Default)]
struct OriginShared {
    calls: Mutex<HashMap<Key, usize>>,
    gate: Option<Semaphore>,
    delay: Duration,
}

impl Origin {
    /// Makes an origin whose calls wait until [`open`](Origin::open) lets them through.
    pub fn gated() -> Self {
        let gate = Some(Semaphore::new(0));
        Origin { shared: Arc::new(OriginShared { gate, ..OriginShared::default() }) }
    }

    /// Makes an origin whose calls take `delay` each.
    pub fn slow(delay: Duration) -> Self {
        Origin { shared: Arc::new(OriginShared { delay, ..OriginShared::default() }) }
    }

    pub fn open(&self, calls: usize) {
        self.shared.gate.as_ref().expect("the origin is gated").add_permits(calls);
    }

    pub fn calls(&self) -> usize {
        self.shared.calls.lock().unwrap().values().sum()
    }

    pub async fn called(&self, calls: usize) {
        until(|| self.calls() >= calls).await;
    }

    /// Loads as the key says: `missing`, `failing`, `panicking` and `N bytes`. All others are
    /// echoed.
    pub async fn load(self, key: Key) -> Result<Bytes, LoadError> {
        *self.shared.calls.lock().unwrap().entry(key.clone()).or_default() += 1;
        if let Some(gate) = &self.shared.gate {
            gate.acquire().await?.forget();
        }
        tokio::time::sleep(self.shared.delay).await;
        match key.as_str().unwrap_or_default() {
            "missing" => Err(LoadError::not_found()),
            "failing" => Err("disk on fire".into()),
            "panicking" => panic!("a planned panic"),
            text => match text.strip_suffix(" bytes").and_then(|count| count.parse().ok()) {
                Some(count) => Ok(vec![7; count].into()),
                None => Ok(key.into_bytes()),
            },
        }
    }
}

/// Yields until `done` answers true. The caller bounds it with [`watched`].
pub async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}

pub struct Member {
    pub node: Node,
    pub group: Group<Bytes>,
    pub name: String,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Member {
    /// Starts a node on `listener` with the member list `list`.
    pub fn start(
        listener: TcpListener,
        list: &[String],
        pool: HttpPoolBuilder,
        set: impl FnOnce(GroupBuilder<Bytes>) -> GroupBuilder<Bytes>,
        origin: &Origin,
    ) -> Self {
        let name = name_of(&listener);
        // Each failure is a call at the origin, so that calls can be counted.
        let plain =
            |group: GroupBuilder<Bytes>| group.hot_admission(Never).error_backoff(Duration::ZERO, Duration::ZERO);
        let set = |group| set(plain(group));
        Member::start_as(name, listener, list, pool, set, loader_fn_with(origin.clone(), Origin::load))
    }

    /// Starts a node under any name and with any loader.
    pub fn start_as(
        name: String,
        listener: TcpListener,
        list: &[String],
        pool: HttpPoolBuilder,
        set: impl FnOnce(GroupBuilder<Bytes>) -> GroupBuilder<Bytes>,
        loader: impl Loader<Value = Bytes>,
    ) -> Self {
        let builder = Node::builder(&name).members(list).transport(pool);
        Member::start_built(name, listener, builder, set, loader)
    }

    /// Starts a node with settings of its own.
    pub fn start_built(
        name: String,
        listener: TcpListener,
        builder: NodeBuilder,
        set: impl FnOnce(GroupBuilder<Bytes>) -> GroupBuilder<Bytes>,
        loader: impl Loader<Value = Bytes>,
    ) -> Self {
        let node = builder.build().unwrap();
        let group = set(node.group(GROUP, loader)).build().unwrap();
        let serving = tokio::spawn(node.serve(listener));
        Member { node, group, name, serving }
    }

    /// Stops serving and waits until that is done.
    pub async fn stop(self) {
        self.node.shutdown();
        watched(self.serving).await.unwrap().unwrap();
    }
}

pub async fn listeners<const N: usize>() -> [TcpListener; N] {
    let mut all = Vec::new();
    for _ in 0..N {
        all.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    all.try_into().expect("as many as were asked for")
}

pub fn name_of(listener: &TcpListener) -> String {
    format!("http://{}", listener.local_addr().unwrap())
}

/// Starts a cluster whose members have the same list.
pub async fn cluster<const N: usize>(origin: &Origin) -> [Member; N] {
    let listeners = listeners::<N>().await;
    let list: Vec<String> = listeners.iter().map(name_of).collect();
    listeners.map(|listener| Member::start(listener, &list, pool(), |group| group, origin))
}

pub fn pool() -> HttpPoolBuilder {
    HttpPool::builder()
}

/// A key that `owner` owns by the list of `member`.
pub fn key_of(owner: &str, member: &Member) -> String {
    let view = member.node.members().view();
    (0..).map(|n| format!("key-{n}")).find(|key| view.owner_name(key) == owner).expect("every member owns some key")
}
