//! Members in one process: what one asks another is a function call that a test can cut, hold or count.
#![allow(dead_code, reason = "each test file uses what it needs")]

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use peercache_groupcache::{
    BoxError, Bytes, Clock, Connect, Error, GroupBuilder, Groups, Key, LoadError, Members, Peer, PeerError, PeerReply,
    PeerRequest, Reply, Served, ServedGroup, with,
};
use tokio::sync::{Notify, Semaphore};

pub const GROUP: &str = "roles";

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// An origin that counts its calls and lets them through one by one when it is told to.
#[derive(Clone)]
pub struct Origin {
    shared: Arc<OriginShared>,
}

struct OriginShared {
    calls: AtomicUsize,
    called: Notify,
    gate: Option<Semaphore>,
    reply: Box<Replying>,
}

type Replying = dyn Fn(&Key) -> Result<Bytes, LoadError> + Send + Sync;

impl Origin {
    /// Answers at once, with the key.
    pub fn echo() -> Self {
        Origin::replying(|key| Ok(key.clone().into_bytes()))
    }

    pub fn replying(reply: impl Fn(&Key) -> Result<Bytes, LoadError> + Send + Sync + 'static) -> Self {
        Origin::new(None, reply)
    }

    /// Echoes the key once a permit is there; see [`open`](Origin::open).
    pub fn gated() -> Self {
        Origin::gated_replying(|key| Ok(key.clone().into_bytes()))
    }

    pub fn gated_replying(reply: impl Fn(&Key) -> Result<Bytes, LoadError> + Send + Sync + 'static) -> Self {
        Origin::new(Some(Semaphore::new(0)), reply)
    }

    fn new(gate: Option<Semaphore>, reply: impl Fn(&Key) -> Result<Bytes, LoadError> + Send + Sync + 'static) -> Self {
        let shared = OriginShared { calls: AtomicUsize::new(0), called: Notify::new(), gate, reply: Box::new(reply) };
        Origin { shared: Arc::new(shared) }
    }

    /// Lets `calls` more calls through.
    pub fn open(&self, calls: usize) {
        self.shared.gate.as_ref().expect("the origin is gated").add_permits(calls);
    }

    pub fn calls(&self) -> usize {
        self.shared.calls.load(SeqCst)
    }

    /// Waits until the origin has been called so often.
    pub async fn called(&self, calls: usize) {
        while self.calls() < calls {
            let called = self.shared.called.notified();
            if self.calls() < calls {
                called.await;
            }
        }
    }

    async fn load(self, key: Key) -> Result<Bytes, LoadError> {
        self.shared.calls.fetch_add(1, SeqCst);
        self.shared.called.notify_waiters();
        if let Some(gate) = &self.shared.gate {
            gate.acquire().await?.forget();
        }
        (self.shared.reply)(&key)
    }
}

/// A group of one node alone, loading from `origin`.
pub fn alone(origin: &Origin) -> GroupBuilder<Bytes> {
    group_of(&Groups::with_clock(Members::alone(), Clock::tokio()), origin)
}

pub fn group_of(groups: &Groups, origin: &Origin) -> GroupBuilder<Bytes> {
    groups.group(GROUP, with(origin.clone(), Origin::load))
}

/// The network between the nodes of one test.
#[derive(Clone, Default)]
pub struct Net {
    shared: Arc<NetShared>,
}

#[derive(Default)]
struct NetShared {
    nodes: Mutex<HashMap<String, Groups>>,
    cut: Mutex<HashSet<String>>,
    held: Mutex<HashMap<String, Vec<Reply>>>,
    asked: Mutex<HashMap<String, usize>>,
    asked_one: Notify,
}

impl Net {
    pub fn add(&self, name: &str, groups: &Groups) {
        self.shared.nodes.lock().unwrap().insert(name.to_owned(), groups.clone());
    }

    /// From now on, nobody reaches `name`.
    pub fn cut(&self, name: &str) {
        self.shared.cut.lock().unwrap().insert(name.to_owned());
    }

    /// From now on, requests to `name` are neither answered nor refused.
    pub fn hold(&self, name: &str) {
        self.shared.held.lock().unwrap().insert(name.to_owned(), Vec::new());
    }

    /// Answers the requests held for `name` with `answer`.
    pub fn answer_held(&self, name: &str, answer: impl Fn() -> Result<PeerReply, PeerError>) {
        let held = self.shared.held.lock().unwrap().remove(name).expect("requests to the peer are held");
        held.into_iter().for_each(|reply| reply.send(answer()));
    }

    /// How often `name` was asked.
    pub fn asked(&self, name: &str) -> usize {
        self.shared.asked.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    pub async fn until_asked(&self, name: &str, times: usize) {
        while self.asked(name) < times {
            let asked = self.shared.asked_one.notified();
            if self.asked(name) < times {
                asked.await;
            }
        }
    }

    pub fn forget_asked(&self) {
        self.shared.asked.lock().unwrap().clear();
    }
}

impl Connect for Net {
    fn connect(&self, name: &str) -> Result<Arc<dyn Peer>, BoxError> {
        Ok(Arc::new(Link { net: self.clone(), name: name.to_owned() }))
    }
}

struct Link {
    net: Net,
    name: String,
}

impl Peer for Link {
    fn get(&self, request: PeerRequest, reply: Reply) {
        let net = &self.net.shared;
        *net.asked.lock().unwrap().entry(self.name.clone()).or_default() += 1;
        net.asked_one.notify_waiters();
        if net.cut.lock().unwrap().contains(&self.name) {
            return reply.send(Err(PeerError::failed("no way to the peer")));
        }
        if let Some(held) = net.held.lock().unwrap().get_mut(&self.name) {
            return held.push(reply);
        }
        let node = net.nodes.lock().unwrap().get(&self.name).cloned();
        match node.and_then(|groups| groups.get(&request.group)) {
            Some(group) => answer(group, &request.key, reply),
            None => reply.send(Err(PeerError::failed("no such group"))),
        }
    }
}

fn answer(group: Arc<dyn ServedGroup>, key: &Key, reply: Reply) {
    match group.answer(key.as_bytes()) {
        Served::Ready(answer) => reply.send(to_reply(answer)),
        loading => drop(tokio::spawn(async move { reply.send(to_reply(loading.finish().await)) })),
    }
}

fn to_reply(answer: Result<Bytes, Error>) -> Result<PeerReply, PeerError> {
    answer.map(PeerReply::new).map_err(PeerError::Answered)
}
