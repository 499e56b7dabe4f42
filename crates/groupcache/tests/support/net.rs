//! The network between the nodes of one test.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use peercache_groupcache::{
    Ack, BoxError, Change, Connect, Error, Groups, Key, Peer, PeerError, PeerReply, PeerRequest, PeerUpdate, Reply,
    Served, ServedGroup,
};
use tokio::sync::Notify;

/// What travels between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// Requests for values.
    Gets,
    /// The answers to them, as their owner gave them.
    Answers,
    /// Changes that make a member forget.
    Forgets,
    /// Values for their owner to hold.
    Sets,
    /// Acknowledgements of changes that have been made.
    Acks,
}

use What::{Acks, Answers, Forgets, Gets, Sets};

/// All that is sent to a member.
pub const CALLS: [What; 3] = [Gets, Forgets, Sets];
/// Changes that are sent to a member.
pub const CHANGES: [What; 2] = [Forgets, Sets];

/// A function call for each message, that a test can cut, hold or count. Names are of those who are asked.
#[derive(Clone, Default)]
pub struct Net {
    shared: Arc<NetShared>,
}

#[derive(Default)]
struct NetShared {
    nodes: Mutex<HashMap<String, Groups>>,
    /// Who cannot be reached with what.
    cut: Mutex<HashSet<(String, What)>>,
    /// Who cannot be reached by whom.
    ways_cut: Mutex<HashSet<(String, String)>>,
    held: Mutex<HashMap<String, Vec<Reply>>>,
    stopped: Mutex<HashMap<(String, What), Vec<Delivery>>>,
    mute: Mutex<HashSet<String>>,
    log: Mutex<Log>,
    sent_one: Notify,
}

/// What was sent to each member so far.
#[derive(Default)]
struct Log {
    exchanges: HashMap<String, usize>,
    requests: HashMap<String, Vec<PeerRequest>>,
    updates: HashMap<String, Vec<PeerUpdate>>,
}

/// A message on its way.
type Delivery = Box<dyn FnOnce() + Send>;

impl Net {
    pub fn add(&self, name: &str, groups: &Groups) {
        self.shared.nodes.lock().unwrap().insert(name.to_owned(), groups.clone());
    }

    /// The network as the member `name` sees it, so that [`cut_way`](Net::cut_way) can tell who asks.
    pub fn seen_by(&self, name: &str) -> SeenBy {
        SeenBy { net: self.clone(), name: name.to_owned() }
    }

    /// From now on, nobody reaches `name`.
    pub fn cut(&self, name: &str) {
        self.cut_off(name, &CALLS);
    }

    /// From now on, nobody reaches `name` with any of these.
    pub fn cut_off(&self, name: &str, what: &[What]) {
        self.shared.cut.lock().unwrap().extend(what.iter().map(|what| (name.to_owned(), *what)));
    }

    /// From now on, `from` does not reach `to`.
    pub fn cut_way(&self, from: &str, to: &str) {
        self.shared.ways_cut.lock().unwrap().insert((from.to_owned(), to.to_owned()));
    }

    /// Everybody reaches `name` again.
    pub fn mend(&self, name: &str) {
        self.shared.cut.lock().unwrap().retain(|(cut, _)| cut != name);
        self.shared.ways_cut.lock().unwrap().retain(|(_, to)| to != name);
    }

    /// From now on, `name` speaks a dialect that carries no changes.
    pub fn make_mute(&self, name: &str) {
        self.shared.mute.lock().unwrap().insert(name.to_owned());
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

    /// From now on, messages of this kind to or from `name` stay on their way until they are [let go](Net::let_go).
    pub fn stop(&self, name: &str, what: What) {
        self.shared.stopped.lock().unwrap().entry((name.to_owned(), what)).or_default();
    }

    /// How many messages are on their way.
    pub fn stopped(&self, name: &str, what: What) -> usize {
        self.shared.stopped.lock().unwrap().get(&(name.to_owned(), what)).map_or(0, Vec::len)
    }

    pub async fn until_stopped(&self, name: &str, what: What, messages: usize) {
        self.until(|| self.stopped(name, what) >= messages).await;
    }

    /// Messages of this kind arrive, those that were stopped in the order in which they were sent.
    pub fn let_go(&self, name: &str, what: What) {
        let stopped = self.shared.stopped.lock().unwrap().remove(&(name.to_owned(), what));
        stopped.into_iter().flatten().for_each(|deliver| deliver());
    }

    /// The messages that were stopped arrive in that order, later ones are still stopped.
    pub fn let_these_go(&self, name: &str, what: What) {
        let stopped = self.take_stopped(name, what);
        stopped.into_iter().for_each(|deliver| deliver());
    }

    /// The messages that were stopped never arrive, and later ones arrive again.
    pub fn lose(&self, name: &str, what: What) {
        let lost = self.take_stopped(name, what);
        self.shared.stopped.lock().unwrap().remove(&(name.to_owned(), what));
        drop(lost);
    }

    /// Later messages arrive again. The ones stopped so far are for the test to deliver or to drop.
    pub fn keep_stopped(&self, name: &str, what: What) -> Vec<Delivery> {
        self.shared.stopped.lock().unwrap().remove(&(name.to_owned(), what)).unwrap_or_default()
    }

    fn take_stopped(&self, name: &str, what: What) -> Vec<Delivery> {
        let mut stopped = self.shared.stopped.lock().unwrap();
        stopped.get_mut(&(name.to_owned(), what)).map(std::mem::take).unwrap_or_default()
    }

    /// How often `name` was asked for a value, each key of many counted.
    pub fn asked(&self, name: &str) -> usize {
        self.shared.log.lock().unwrap().requests.get(name).map_or(0, Vec::len)
    }

    pub async fn until_asked(&self, name: &str, times: usize) {
        self.until(|| self.asked(name) >= times).await;
    }

    /// How many exchanges there were with `name` to get values, of one key or of many.
    pub fn exchanges(&self, name: &str) -> usize {
        self.shared.log.lock().unwrap().exchanges.get(name).copied().unwrap_or(0)
    }

    /// What `name` was asked for.
    pub fn requests(&self, name: &str) -> Vec<PeerRequest> {
        self.shared.log.lock().unwrap().requests.get(name).cloned().unwrap_or_default()
    }

    /// The changes that `name` was to be told of, whether it was reached or not.
    pub fn updates(&self, name: &str) -> Vec<PeerUpdate> {
        self.shared.log.lock().unwrap().updates.get(name).cloned().unwrap_or_default()
    }

    /// The values that `name` was to hold.
    pub fn sets(&self, name: &str) -> usize {
        self.updates(name).iter().filter(|update| matches!(update.change, Change::Set(_))).count()
    }

    pub async fn until_told(&self, name: &str, times: usize) {
        self.until(|| self.updates(name).len() >= times).await;
    }

    pub fn forget_asked(&self) {
        *self.shared.log.lock().unwrap() = Log::default();
    }

    async fn until(&self, is_so: impl Fn() -> bool) {
        while !is_so() {
            let sent_one = self.shared.sent_one.notified();
            if !is_so() {
                sent_one.await;
            }
        }
    }

    fn log(&self, write: impl FnOnce(&mut Log)) {
        write(&mut self.shared.log.lock().unwrap());
        self.shared.sent_one.notify_waiters();
    }

    /// Delivers a message, now or when the test says so.
    fn pass(&self, name: &str, what: What, deliver: impl FnOnce() + Send + 'static) {
        let mut stopped = self.shared.stopped.lock().unwrap();
        match stopped.get_mut(&(name.to_owned(), what)) {
            Some(messages) => messages.push(Box::new(deliver)),
            None => {
                drop(stopped);
                return deliver();
            }
        }
        drop(stopped);
        self.shared.sent_one.notify_waiters();
    }

    fn group(&self, name: &str, group: &str) -> Option<Arc<dyn ServedGroup>> {
        let node = self.shared.nodes.lock().unwrap().get(name).cloned();
        node?.get(group)
    }
}

impl Connect for Net {
    fn connect(&self, name: &str) -> Result<Arc<dyn Peer>, BoxError> {
        self.seen_by("").connect(name)
    }
}

/// The network as one member sees it.
pub struct SeenBy {
    net: Net,
    name: String,
}

impl Connect for SeenBy {
    fn connect(&self, name: &str) -> Result<Arc<dyn Peer>, BoxError> {
        Ok(Arc::new(Link { net: self.net.clone(), from: self.name.clone(), to: name.to_owned() }))
    }
}

#[derive(Clone)]
struct Link {
    net: Net,
    from: String,
    to: String,
}

impl Peer for Link {
    fn get(&self, request: PeerRequest, reply: Reply) {
        self.get_many(vec![(request, reply)]);
    }

    fn get_many(&self, calls: Vec<(PeerRequest, Reply)>) {
        let net = &self.net.shared;
        self.net.log(|log| {
            *log.exchanges.entry(self.to.clone()).or_default() += 1;
            log.requests.entry(self.to.clone()).or_default().extend(calls.iter().map(|(request, _)| request.clone()));
        });
        if self.is_cut(Gets) {
            return calls.into_iter().for_each(|(_, reply)| reply.send(Err(no_way())));
        }
        if let Some(held) = net.held.lock().unwrap().get_mut(&self.to) {
            return held.extend(calls.into_iter().map(|(_, reply)| reply));
        }
        let link = self.clone();
        self.net.pass(&self.to, Gets, move || link.deliver_gets(calls));
    }

    fn update(&self, update: PeerUpdate, _: Duration, reply: Reply<Ack>) {
        self.net.log(|log| log.updates.entry(self.to.clone()).or_default().push(update.clone()));
        let what = if matches!(update.change, Change::Set(_)) { Sets } else { Forgets };
        if self.net.shared.mute.lock().unwrap().contains(&self.to) {
            return reply.send(Err(PeerError::NotCarried));
        }
        if self.is_cut(what) {
            return reply.send(Err(no_way()));
        }
        let link = self.clone();
        self.net.pass(&self.to, what, move || link.deliver_update(update, reply));
    }
}

impl Link {
    fn is_cut(&self, what: What) -> bool {
        let net = &self.net.shared;
        net.cut.lock().unwrap().contains(&(self.to.clone(), what))
            || net.ways_cut.lock().unwrap().contains(&(self.from.clone(), self.to.clone()))
    }

    fn deliver_gets(self, calls: Vec<(PeerRequest, Reply)>) {
        let (requests, replies): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
        let Some(group) = self.net.group(&self.to, &requests[0].group) else {
            return replies.into_iter().for_each(|reply| reply.send(Err(PeerError::failed("no such group"))));
        };
        let served = match requests.as_slice() {
            [one] => vec![group.answer(one.key.as_bytes(), one.terms)],
            many => {
                let keys: Vec<Key> = many.iter().map(|request| request.key.clone()).collect();
                group.answer_many(keys, many[0].terms, &mut |_| true)
            }
        };
        for (served, reply) in served.into_iter().zip(replies) {
            let link = self.clone();
            match served {
                Served::Ready(answer) => link.answer(answer, reply),
                loading => drop(tokio::spawn(async move { link.answer(loading.finish().await, reply) })),
            }
        }
    }

    fn answer(&self, answer: Result<PeerReply, Error>, reply: Reply) {
        self.net.pass(&self.to, Answers, move || reply.send(answer.map_err(PeerError::Answered)));
    }

    fn deliver_update(self, update: PeerUpdate, reply: Reply<Ack>) {
        let ack = match self.net.group(&self.to, &update.group) {
            Some(group) => group.update(update).map_err(PeerError::Answered),
            None => Err(PeerError::failed("no such group")),
        };
        self.net.pass(&self.to, Acks, move || reply.send(ack));
    }
}

fn no_way() -> PeerError {
    PeerError::failed("no way to the peer")
}
