//! The network between the nodes of one test.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use peercache_groupcache::{
    Ack, BoxError, Bytes, Change, Connect, Error, Groups, HoldAll, Key, Member, Peer, PeerError, PeerReply,
    PeerRequest, PeerUpdate, Reply, ReplyMeta, Served, ServedGroup,
};

use super::Watched;

/// The kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Requests for values.
    Gets,
    /// The owner's answers to them.
    Answers,
    /// Removes and clears, which are also the first round of a set.
    Removes,
    /// Values for their owner to hold.
    Sets,
    /// Acknowledgements of updates.
    Acks,
}

use Kind::{Acks, Answers, Gets, Removes, Sets};

/// The kinds that ask a member for something.
const REQUESTS: [Kind; 3] = [Gets, Removes, Sets];
/// The kinds that carry an update to a member.
pub const UPDATES: [Kind; 2] = [Removes, Sets];

/// A function call for each message, which a test can cut, pause or count. A message goes by the
/// name of the member that it is for, an answer or an acknowledgement by that of its sender.
#[derive(Clone, Default)]
pub struct Net {
    shared: Arc<Watched<State>>,
}

#[derive(Default)]
struct State {
    nodes: HashMap<String, Groups>,
    cut: HashSet<(String, Kind)>,
    /// Members whose ports are closed.
    gone: HashSet<String>,
    /// Members that say nothing.
    silent: HashSet<String>,
    /// Links that are cut, from one member to another.
    cut_links: HashSet<(String, String)>,
    without_updates: HashSet<String>,
    held_requests: HashMap<String, Vec<Reply>>,
    paused: HashMap<(String, Kind), Vec<Delivery>>,
    log: HashMap<String, Sent>,
}

/// The messages that were sent to a member, whether they arrived or not.
#[derive(Clone, Default)]
struct Sent {
    batches: usize,
    requests: Vec<PeerRequest>,
    updates: Vec<PeerUpdate>,
}

/// A message on its way.
pub type Delivery = Box<dyn FnOnce() + Send>;

impl Net {
    pub fn add(&self, name: &str, groups: &Groups) {
        self.shared.change(|state| state.nodes.insert(name.to_owned(), groups.clone()));
    }

    /// The network as the member `name` uses it, so that [`cut_link`](Net::cut_link) can tell who
    /// asks.
    pub fn of(&self, name: &str) -> impl Connect + use<> {
        let (net, from) = (self.clone(), name.to_owned());
        Links { net, from }
    }

    /// Cuts off `name`: no request reaches it from now on.
    pub fn cut(&self, name: &str) {
        self.cut_kinds(name, &REQUESTS);
    }

    /// Closes the port of `name`: who asks it is told so at once.
    pub fn close(&self, name: &str) {
        self.cut(name);
        self.shared.change(|state| state.gone.insert(name.to_owned()));
    }

    /// Makes `name` silent: who asks it has waited in vain.
    pub fn silence(&self, name: &str) {
        self.cut(name);
        self.shared.change(|state| state.silent.insert(name.to_owned()));
    }

    /// Cuts off `name` for messages of these kinds alone.
    pub fn cut_kinds(&self, name: &str, kinds: &[Kind]) {
        self.shared.change(|state| state.cut.extend(kinds.iter().map(|kind| (name.to_owned(), *kind))));
    }

    /// Cuts the link on which requests of `from` reach `to`.
    pub fn cut_link(&self, from: &str, to: &str) {
        self.shared.change(|state| state.cut_links.insert((from.to_owned(), to.to_owned())));
    }

    /// Has all requests reach `name` again.
    pub fn mend(&self, name: &str) {
        self.shared.change(|state| {
            state.gone.remove(name);
            state.silent.remove(name);
            state.cut.retain(|(cut, _)| cut != name);
            state.cut_links.retain(|(_, to)| to != name);
        });
    }

    /// Makes `name` speak a dialect that carries no updates.
    pub fn carry_no_updates(&self, name: &str) {
        self.shared.change(|state| state.without_updates.insert(name.to_owned()));
    }

    /// Makes requests to `name` wait for [`answer_held`](Net::answer_held).
    pub fn hold_requests(&self, name: &str) {
        self.shared.change(|state| state.held_requests.insert(name.to_owned(), Vec::new()));
    }

    /// Answers the requests held for `name`, and lets later ones through.
    pub fn answer_held(&self, name: &str, answer: impl Fn() -> Result<PeerReply, PeerError>) {
        let held = self.shared.change(|state| state.held_requests.remove(name)).expect("requests are held");
        held.into_iter().for_each(|reply| reply.send(answer()));
    }

    /// Keeps messages of this kind on their way from now on.
    pub fn pause(&self, name: &str, kind: Kind) {
        self.shared.change(|state| {
            state.paused.entry((name.to_owned(), kind)).or_default();
        });
    }

    /// Waits until this many messages are on their way.
    pub async fn until_paused(&self, name: &str, kind: Kind, messages: usize) {
        let of = (name.to_owned(), kind);
        self.shared.until(|state| state.paused.get(&of).map_or(0, Vec::len) >= messages).await;
    }

    /// Has messages of this kind arrive: the paused ones in the order in which they were sent,
    /// later ones at once.
    pub fn resume(&self, name: &str, kind: Kind) {
        self.take_paused(name, kind).into_iter().for_each(|deliver| deliver());
    }

    /// Has later messages arrive at once. The paused ones are for the test to deliver or to drop.
    pub fn take_paused(&self, name: &str, kind: Kind) -> Vec<Delivery> {
        self.shared.change(|state| state.paused.remove(&(name.to_owned(), kind))).unwrap_or_default()
    }

    /// The number of values that `name` was asked for, each key of a batch counted.
    pub fn asked(&self, name: &str) -> usize {
        self.requests(name).len()
    }

    pub async fn until_asked(&self, name: &str, requests: usize) {
        self.shared.until(|state| state.log.get(name).map_or(0, |sent| sent.requests.len()) >= requests).await;
    }

    /// The number of batches that were sent to `name`, those of one key included.
    pub fn batches(&self, name: &str) -> usize {
        self.sent(name).batches
    }

    pub fn requests(&self, name: &str) -> Vec<PeerRequest> {
        self.sent(name).requests
    }

    pub fn updates(&self, name: &str) -> Vec<PeerUpdate> {
        self.sent(name).updates
    }

    /// Forgets which messages were sent.
    pub fn clear_log(&self) {
        self.shared.change(|state| state.log.clear());
    }

    fn sent(&self, name: &str) -> Sent {
        self.shared.read(|state| state.log.get(name).cloned().unwrap_or_default())
    }

    fn log(&self, name: &str, log: impl FnOnce(&mut Sent)) {
        self.shared.change(|state| log(state.log.entry(name.to_owned()).or_default()));
    }

    /// Delivers a message, now or when the test says so.
    fn pass(&self, name: &str, kind: Kind, deliver: impl FnOnce() + Send + 'static) {
        let unpaused = self.shared.change(|state| match state.paused.get_mut(&(name.to_owned(), kind)) {
            Some(paused) => {
                paused.push(Box::new(deliver));
                None
            }
            None => Some(deliver),
        });
        if let Some(deliver) = unpaused {
            deliver();
        }
    }

    fn group(&self, name: &str, group: &str) -> Option<Arc<dyn ServedGroup>> {
        let node = self.shared.read(|state| state.nodes.get(name).cloned());
        node?.get(group)
    }
}

/// The links from one member to the others.
struct Links {
    net: Net,
    from: String,
}

impl Connect for Links {
    fn connect(&self, member: &Member) -> Result<Arc<dyn Peer>, BoxError> {
        Ok(Arc::new(Link { net: self.net.clone(), from: self.from.clone(), to: member.name.clone() }))
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
        let (requests, replies): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
        self.net.log(&self.to, |sent| {
            sent.batches += 1;
            sent.requests.extend_from_slice(&requests);
        });
        if self.is_cut(Gets) {
            return replies.into_iter().for_each(|reply| reply.send(Err(self.unreachable())));
        }
        let not_held = self.net.shared.change(|state| match state.held_requests.get_mut(&self.to) {
            Some(held) => {
                held.extend(replies);
                None
            }
            None => Some(replies),
        });
        let Some(replies) = not_held else { return };
        let link = self.clone();
        self.net.pass(&self.to, Gets, move || link.deliver_gets(&requests, replies));
    }

    fn probe(&self, _: Duration, reply: Reply<()>) {
        let answer = if self.is_cut(Gets) { Err(self.unreachable()) } else { Ok(()) };
        reply.send(answer);
    }

    fn update(&self, update: PeerUpdate, _: Duration, reply: Reply<Ack>) {
        self.net.log(&self.to, |sent| sent.updates.push(update.clone()));
        let kind = if matches!(update.change, Change::Set(_)) { Sets } else { Removes };
        if self.net.shared.read(|state| state.without_updates.contains(&self.to)) {
            return reply.send(Err(PeerError::NotCarried));
        }
        if self.is_cut(kind) {
            return reply.send(Err(self.unreachable()));
        }
        let link = self.clone();
        self.net.pass(&self.to, kind, move || link.deliver_update(update, reply));
    }
}

impl Link {
    fn is_cut(&self, kind: Kind) -> bool {
        self.net.shared.read(|state| {
            state.cut.contains(&(self.to.clone(), kind))
                || state.cut_links.contains(&(self.from.clone(), self.to.clone()))
        })
    }

    fn deliver_gets(self, requests: &[PeerRequest], replies: Vec<Reply>) {
        let Some(group) = self.net.group(&self.to, &requests[0].group) else {
            return replies.into_iter().for_each(|reply| reply.send(Err(PeerError::failed("no such group"))));
        };
        let served = match requests {
            [one] => vec![group.answer(one.key.as_bytes(), one.terms)],
            many => {
                let keys: Vec<Key> = many.iter().map(|request| request.key.clone()).collect();
                group.answer_many(keys, many[0].terms, Arc::new(HoldAll))
            }
        };
        for (served, reply) in served.into_iter().zip(replies) {
            let link = self.clone();
            match served {
                Served::Ready(answer) => link.answer(answer, reply),
                loading @ Served::Loading(_) => {
                    drop(tokio::spawn(async move { link.answer(loading.finish().await, reply) }));
                }
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

impl Link {
    /// The failure of a request that is not delivered.
    fn unreachable(&self) -> PeerError {
        if self.net.shared.read(|state| state.gone.contains(&self.to)) {
            PeerError::Unreachable("its port is closed".into())
        } else if self.net.shared.read(|state| state.silent.contains(&self.to)) {
            PeerError::Silent("it says nothing".into())
        } else {
            PeerError::failed("no way to the peer")
        }
    }
}

/// The facts that an owner sends beside a value.
pub type Facts = ReplyMeta;

/// An answer made by hand, as an owner of another version might send it.
pub fn reply(value: impl Into<Bytes>, set: impl FnOnce(&mut Facts)) -> Result<PeerReply, PeerError> {
    let mut reply = PeerReply::new(value.into());
    set(&mut reply.meta);
    Ok(reply)
}
