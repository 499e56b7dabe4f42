//! The network between the nodes: every message is a task that sleeps until the message arrives.
//!
//! A get is a request, a head that is sent as soon as the request arrives, and an answer for each
//! key; an update has no head. Each of these can be late, lost, cut off, overtaken, or held by a
//! node that is frozen.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use peercache_groupcache::{
    Ack, BoxError, Change, Connect, Groups, HoldAll, Member, Peer, PeerError, PeerReply, PeerRequest, PeerUpdate,
    Reply, Served,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    history::{Event, History},
    plan::{DELAY_MS, Plan},
    rng::Rng,
    time::decode_slowly,
};

/// The longest time after a thaw until a message that waited for the node is read.
const THAW_MS: u64 = 200;

/// The sets in a hundred that arrive twice.
const REPEATED_PERCENT: u64 = 30;

/// The sets in a hundred whose value is slow to decode.
const SLOW_PERCENT: u64 = 30;

/// The longest time that such a value takes, and that every fourth of them does: longer than
/// senders wait.
const DECODE_MS: u64 = 60;
const LONG_DECODE_MS: u64 = 400;

/// The updates in a hundred that are made at the very end of such a decoding, if there is one, so
/// that only what is done under the lock comes later.
const OVERTAKE_PERCENT: u64 = 40;

/// The network. Clones are the same one.
#[derive(Clone)]
pub struct Net {
    history: History,
    silence: Duration,
    state: Arc<Mutex<State>>,
}

struct State {
    slots: Vec<Slot>,
    /// Directions by sender, then by receiver.
    directions: Vec<Vec<Direction>>,
    lossy_percent: u64,
    slow_ms: u64,
}

/// The slot of a node, which may be empty.
#[derive(Default)]
struct Slot {
    /// The number of the latest run. A message to an earlier one is lost.
    nth: u32,
    groups: Option<Groups>,
    frozen: bool,
    /// Messages that wait for the thaw.
    arrived: Vec<Message>,
    leaving: Vec<Message>,
    /// Sets whose values are being decoded, and since when.
    decoding: Vec<(Instant, Message)>,
}

/// One direction between two nodes.
struct Direction {
    rng: Rng,
    cut: Option<Cut>,
    /// The latest arrival: a message that arrives earlier has overtaken that one.
    latest: Instant,
}

#[derive(Clone, Copy)]
struct Cut {
    /// Whether the sender gets an error, as from a closed links, or nothing at all.
    refused: bool,
}

/// One run of a node: a restart is another one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NodeRun {
    pub node: u8,
    pub nth: u32,
}

struct Message {
    from: NodeRun,
    to: NodeRun,
    kind: Kind,
    open: Box<dyn FnOnce(Groups) + Send>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Get,
    Remove,
    Set,
    Response,
}

impl Message {
    fn is_request(&self) -> bool {
        self.kind != Kind::Response
    }

    fn is_update(&self) -> bool {
        matches!(self.kind, Kind::Remove | Kind::Set)
    }
}

/// A part of the response to a get.
enum Part {
    Head,
    Answer(usize, Result<PeerReply, PeerError>),
}

/// The links from one node to the others.
#[derive(Clone)]
struct Links {
    net: Net,
    from: NodeRun,
}

#[derive(Clone)]
struct Link {
    net: Net,
    from: NodeRun,
    to: u8,
}

pub fn name(node: u8) -> String {
    format!("node-{node}")
}

/// The node of this name.
pub fn index(name: &str) -> Option<u8> {
    name.strip_prefix("node-")?.parse().ok()
}

impl Net {
    pub fn new(plan: &Plan, history: &History) -> Self {
        let direction = |from: usize, to: usize| Direction {
            rng: Rng::of(plan.seed, &format!("line {from} {to}")),
            cut: None,
            latest: Instant::now(),
        };
        let state = State {
            slots: (0..plan.nodes).map(|_| Slot::default()).collect(),
            directions: (0..plan.nodes).map(|from| (0..plan.nodes).map(|to| direction(from, to)).collect()).collect(),
            lossy_percent: 0,
            slow_ms: DELAY_MS,
        };
        Net {
            history: history.clone(),
            silence: Duration::from_millis(plan.silence_ms),
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The next run of this node.
    pub fn next_run(&self, node: u8) -> NodeRun {
        NodeRun { node, nth: self.state().slots[usize::from(node)].nth + 1 }
    }

    /// The links from `run` to the others.
    pub fn links(&self, run: NodeRun) -> impl Connect {
        Links { net: self.clone(), from: run }
    }

    pub fn start(&self, run: NodeRun, groups: Groups) {
        let slot = &mut self.state().slots[usize::from(run.node)];
        (slot.nth, slot.groups) = (run.nth, Some(groups));
    }

    /// Stops the node, and loses all messages that wait for it.
    pub fn stop(&self, node: u8) -> Option<Groups> {
        let mut state = self.state();
        let slot = &mut state.slots[usize::from(node)];
        let lost = [&mut slot.arrived, &mut slot.leaving].map(std::mem::take);
        let undecoded = std::mem::take(&mut slot.decoding);
        (slot.nth, slot.frozen) = (slot.nth + 1, false);
        let groups = slot.groups.take();
        drop(state);
        drop((lost, undecoded));
        groups
    }

    pub fn freeze(&self, node: u8) {
        self.state().slots[usize::from(node)].frozen = true;
    }

    pub fn thaw(&self, node: u8) {
        let mut state = self.state();
        let slot = &mut state.slots[usize::from(node)];
        slot.frozen = false;
        let (arrived, leaving) = (std::mem::take(&mut slot.arrived), std::mem::take(&mut slot.leaving));
        drop(state);
        // They are read in any order.
        arrived.into_iter().for_each(|message| self.deliver_later(message, THAW_MS));
        for message in leaving {
            // The sender waits for the response by now, so a refusal comes too late.
            let _ = self.send(message);
        }
    }

    pub fn cut(&self, from: u8, to: u8, refused: bool) {
        self.state().directions[usize::from(from)][usize::from(to)].cut = Some(Cut { refused });
    }

    /// Ends all cuts and returns them.
    pub fn heal(&self) -> Vec<(u8, u8)> {
        let mut healed = Vec::new();
        for (from, directions) in self.state().directions.iter_mut().enumerate() {
            for (to, direction) in directions.iter_mut().enumerate() {
                healed.extend(direction.cut.take().map(|_| (from as u8, to as u8)));
            }
        }
        healed
    }

    pub fn lose(&self, percent: u64) {
        self.state().lossy_percent = percent;
    }

    pub fn slow(&self, ms: u64) {
        self.state().slow_ms = ms;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Sends a message. False if the sender gets an error at once.
    fn send(&self, message: Message) -> bool {
        let (from, to, request) = (message.from, message.to, message.is_request());
        let mut state = self.state();
        let sender = &mut state.slots[usize::from(from.node)];
        if sender.nth != from.nth {
            return false;
        }
        if sender.frozen {
            sender.leaving.push(message);
            return true;
        }
        let (lossy_percent, slow_ms) = (state.lossy_percent, state.slow_ms);
        let vacant = state.slots[usize::from(to.node)].groups.is_none();
        let direction = &mut state.directions[usize::from(from.node)][usize::from(to.node)];
        // One message in four is slow, so that others can overtake it.
        let longest_ms = if direction.rng.percent(25) { slow_ms } else { DELAY_MS };
        let lost = direction.cut.is_some() || direction.rng.percent(lossy_percent);
        let refused = vacant || direction.cut.is_some_and(|cut| cut.refused);
        drop(state);
        if lost || vacant {
            self.history.note(Event::Dropped { from: from.node, to: to.node, request });
            // To drop a message may send another one, so the lock is not held.
            drop(message);
            return !refused;
        }
        self.deliver_later(message, longest_ms);
        true
    }

    fn deliver_later(&self, message: Message, longest_ms: u64) {
        let arrives = self.arrival(&message, longest_ms);
        let net = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(arrives).await;
            net.deliver(message);
        });
    }

    fn arrival(&self, message: &Message, longest_ms: u64) -> Instant {
        let (from, to) = (message.from.node, message.to.node);
        let mut state = self.state();
        let direction = &mut state.directions[usize::from(from)][usize::from(to)];
        let arrives = Instant::now() + Duration::from_millis(direction.rng.between(0, longest_ms));
        let overtakes = arrives < direction.latest;
        direction.latest = direction.latest.max(arrives);
        drop(state);
        if overtakes {
            self.history.note(Event::Overtook { from, to });
        }
        arrives
    }

    fn deliver(&self, message: Message) {
        let mut state = self.state();
        let (from, to) = (usize::from(message.from.node), usize::from(message.to.node));
        let there = state.slots[to].nth == message.to.nth;
        if there && state.slots[to].frozen {
            return state.slots[to].arrived.push(message);
        }
        let rng = &mut state.directions[from][to].rng;
        if there && message.kind == Kind::Set && rng.percent(SLOW_PERCENT) {
            let longest_ms = if rng.percent(25) { LONG_DECODE_MS } else { DECODE_MS };
            let decoded = Duration::from_millis(rng.between(1, longest_ms));
            state.slots[to].decoding.push((Instant::now(), message));
            drop(state);
            let net = self.clone();
            tokio::spawn(async move {
                sleep(decoded).await;
                net.decoded(to as u8);
            });
            return;
        }
        let is_last = message.is_update() && rng.percent(OVERTAKE_PERCENT);
        drop(state);
        if is_last {
            self.overtake(message);
        } else {
            self.open(message);
        }
    }

    /// Makes an update, at a node that may have begun to decode the value of a set before. The
    /// decoding ends with it.
    fn overtake(&self, message: Message) {
        let to = message.to.node;
        let Some((since, slow)) = self.first_decoding(to) else { return self.open(message) };
        let net = self.clone();
        let meanwhile = move || {
            net.history.note(Event::SlowDecode { node: to });
            net.open(message);
        };
        decode_slowly(since, Some(Box::new(meanwhile)), || self.open(slow));
    }

    /// Makes a set that no update has overtaken.
    fn decoded(&self, to: u8) {
        if let Some((since, message)) = self.first_decoding(to) {
            decode_slowly(since, None, || self.open(message));
        }
    }

    fn first_decoding(&self, to: u8) -> Option<(Instant, Message)> {
        let mut state = self.state();
        let decoding = &mut state.slots[usize::from(to)].decoding;
        (!decoding.is_empty()).then(|| decoding.remove(0))
    }

    fn open(&self, message: Message) {
        let mut state = self.state();
        let slot = &mut state.slots[usize::from(message.to.node)];
        let there = slot.nth == message.to.nth;
        if there && slot.frozen {
            return slot.arrived.push(message);
        }
        let groups = slot.groups.clone().filter(|_| there);
        drop(state);
        match groups {
            Some(groups) => (message.open)(groups),
            None => {
                let (from, to) = (message.from.node, message.to.node);
                self.history.note(Event::Dropped { from, to, request: message.is_request() });
            }
        }
    }

    fn answer<T: Send + 'static>(&self, from: NodeRun, to: NodeRun, parts: &UnboundedSender<T>, part: T) {
        let parts = parts.clone();
        // The asker may have given up.
        let open = Box::new(move |_| drop(parts.send(part)));
        self.send(Message { from, to, kind: Kind::Response, open });
    }
}

impl Connect for Links {
    fn connect(&self, member: &Member) -> Result<Arc<dyn Peer>, BoxError> {
        let to = index(&member.name).ok_or("no such node")?;
        Ok(Arc::new(Link { net: self.net.clone(), from: self.from, to }))
    }
}

impl Peer for Link {
    fn get(&self, request: PeerRequest, reply: Reply) {
        self.get_many(vec![(request, reply)]);
    }

    fn get_many(&self, requests: Vec<(PeerRequest, Reply)>) {
        let (requests, replies): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
        let Some(first) = requests.first() else { return };
        let load_timeout = first.load_timeout;
        let (parts, heard) = unbounded_channel();
        let sent = self.request(Kind::Get, {
            let (net, here, there, parts) = (self.net.clone(), self.from, self.there(), parts.clone());
            move |groups| net.serve(&groups, &requests, there, here, &parts)
        });
        let pending = PendingGet { silence: self.net.silence, load_timeout, replies, _parts: parts };
        tokio::spawn(pending.run(sent, heard));
    }

    fn probe(&self, timeout_after: Duration, reply: Reply<()>) {
        let (parts, mut heard) = unbounded_channel();
        let sent = self.request(Kind::Get, {
            let (net, here, there, parts) = (self.net.clone(), self.from, self.there(), parts.clone());
            move |_| net.answer(there, here, &parts, ())
        });
        self.net.history.note(Event::Probed { from: self.from.node, to: self.to });
        tokio::spawn(async move {
            // Keeps the channel open, so that a lost message is silence.
            let _parts = parts;
            let heard = if sent { timeout(timeout_after, heard.recv()).await.ok().flatten() } else { None };
            reply.send(heard.ok_or_else(|| unheard(sent)));
        });
    }

    fn update(&self, update: PeerUpdate, timeout_after: Duration, reply: Reply<Ack>) {
        let (parts, mut heard) = unbounded_channel();
        let kind = if matches!(update.change, Change::Set(_)) { Kind::Set } else { Kind::Remove };
        let send = {
            let link = self.clone();
            move |parts: &UnboundedSender<_>| {
                let (net, here, there, parts) = (link.net.clone(), link.from, link.there(), parts.clone());
                let update = update.clone();
                link.request(kind, move |groups| {
                    let acked = match groups.get(&update.group) {
                        Some(group) => group.update(update).map_err(PeerError::Answered),
                        None => Err(PeerError::failed("no such group")),
                    };
                    net.answer(there, here, &parts, acked);
                })
            }
        };
        let sent = send(&parts);
        if let Some(after) = self.repeats(kind, timeout_after) {
            // The transport has sent the set on two connections, since the first one was closed
            // before an answer. What was on the first arrives last, and its answer does not.
            let (net, from, to) = (self.net.clone(), self.from.node, self.to);
            tokio::spawn(async move {
                sleep(after).await;
                net.history.note(Event::Repeated { from, to });
                send(&unbounded_channel().0);
            });
        }
        tokio::spawn(async move {
            // Keeps the channel open, so that a lost message is silence.
            let _parts = parts;
            // Longer than the sender waits: the engine keeps to the timeout, not the transport.
            let acked = if sent { timeout(4 * timeout_after, heard.recv()).await.ok().flatten() } else { None };
            reply.send(acked.unwrap_or_else(|| Err(unheard(sent))));
        });
    }
}

impl Link {
    /// The run of the other node that is in progress.
    fn there(&self) -> NodeRun {
        NodeRun { node: self.to, nth: self.net.state().slots[usize::from(self.to)].nth }
    }

    /// The time after which an update is sent once more, if it is: as long as its sender waits.
    fn repeats(&self, kind: Kind, timeout: Duration) -> Option<Duration> {
        let (from, to) = (usize::from(self.from.node), usize::from(self.to));
        let mut state = self.net.state();
        let rng = &mut state.directions[from][to].rng;
        let repeats = kind == Kind::Set && rng.percent(REPEATED_PERCENT);
        repeats.then(|| Duration::from_millis(rng.below(timeout.as_millis() as u64)))
    }

    fn request(&self, kind: Kind, open: impl FnOnce(Groups) + Send + 'static) -> bool {
        self.net.send(Message { from: self.from, to: self.there(), kind, open: Box::new(open) })
    }
}

impl Net {
    /// The receiving end of a request: a head at once, each answer when it is there.
    fn serve(
        &self,
        groups: &Groups,
        requests: &[PeerRequest],
        here: NodeRun,
        asker: NodeRun,
        parts: &UnboundedSender<Part>,
    ) {
        self.answer(here, asker, parts, Part::Head);
        let Some(group) = groups.get(&requests[0].group) else {
            for nth in 0..requests.len() {
                self.answer(here, asker, parts, Part::Answer(nth, Err(PeerError::failed("no such group"))));
            }
            return;
        };
        let served = match requests {
            [one] => vec![group.answer(one.key.as_bytes(), one.terms)],
            many => {
                group.answer_many(many.iter().map(|one| one.key.clone()).collect(), many[0].terms, Arc::new(HoldAll))
            }
        };
        for (nth, served) in served.into_iter().enumerate() {
            let (net, parts) = (self.clone(), parts.clone());
            let answer = move |answered: Result<PeerReply, _>| {
                net.answer(here, asker, &parts, Part::Answer(nth, answered.map_err(PeerError::Answered)));
            };
            match served {
                Served::Ready(answered) => answer(answered),
                loading @ Served::Loading(_) => drop(tokio::spawn(async move { answer(loading.finish().await) })),
            }
        }
    }
}

/// The failure of a request that brought no answer.
fn unheard(sent: bool) -> PeerError {
    if sent { PeerError::Silent("silence".into()) } else { PeerError::Unreachable("refused".into()) }
}

/// The asker's end of a get.
struct PendingGet {
    silence: Duration,
    load_timeout: Duration,
    replies: Vec<Reply>,
    /// Keeps the channel open, so that a lost message is silence.
    _parts: UnboundedSender<Part>,
}

impl PendingGet {
    async fn run(self, sent: bool, mut heard: UnboundedReceiver<Part>) {
        let mut replies: Vec<Option<Reply>> = self.replies.into_iter().map(Some).collect();
        if !sent {
            sleep(Duration::from_millis(1)).await;
        }
        let begun = Instant::now();
        let mut deadline = if sent { begun + self.silence } else { begun };
        while replies.iter().any(Option::is_some) {
            let Ok(Some(part)) = timeout_at(deadline, heard.recv()).await else { break };
            // A load may queue for as long as it may take.
            deadline = begun + self.silence + 2 * self.load_timeout;
            if let Part::Answer(nth, answer) = part
                && let Some(reply) = replies[nth].take()
            {
                reply.send(answer);
            }
        }
        replies.into_iter().flatten().for_each(|reply| reply.send(Err(unheard(sent))));
    }
}
