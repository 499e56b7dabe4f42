//! The network between the nodes: every message is a task that sleeps for as long as the message travels.
//!
//! An exchange is a request, a head that says "I am there" as soon as the request arrives, and an answer for each key; a change has no
//! head. Each of these can be late, lost, cut off, overtaken, or held by a node that is frozen.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use peercache_groupcache::{
    Ack, BoxError, Connect, Groups, Peer, PeerError, PeerReply, PeerRequest, PeerUpdate, Reply, Served,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    history::{Event, History},
    plan::{DELAY_MS, Plan},
    rng::Rng,
};

/// How long it takes at most until what waited for a frozen node is read.
const THAW_MS: u64 = 200;

/// The network. Clones are the same one.
#[derive(Clone)]
pub struct Net {
    history: History,
    silence: Duration,
    state: Arc<Mutex<State>>,
}

struct State {
    seats: Vec<Seat>,
    /// From the one, to the other.
    lines: Vec<Vec<Line>>,
    lossy_percent: u64,
    slow_ms: u64,
}

/// Where a node sits, or nobody.
#[derive(Default)]
struct Seat {
    /// How many nodes have sat here: what is sent to an earlier one is lost.
    life: u32,
    groups: Option<Groups>,
    frozen: bool,
    /// What waits for the thaw.
    arrived: Vec<Parcel>,
    leaving: Vec<Parcel>,
}

/// One way from a node to another.
struct Line {
    rng: Rng,
    cut: Option<Cut>,
    /// When the latest message arrives: one that arrives before has overtaken it.
    latest: Instant,
}

#[derive(Clone, Copy)]
struct Cut {
    /// Whether the sender is told, as by a closed port, or hears nothing.
    refused: bool,
}

/// A node, for as long as it lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub node: u8,
    pub life: u32,
}

struct Parcel {
    from: Place,
    to: Place,
    request: bool,
    open: Box<dyn FnOnce(Groups) + Send>,
}

/// What an asker hears.
enum Sign {
    Head,
    Answer(usize, Result<PeerReply, PeerError>),
}

/// The way from one node to the others.
struct Port {
    net: Net,
    from: Place,
}

struct Link {
    net: Net,
    from: Place,
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
        let line = |from: usize, to: usize| Line {
            rng: Rng::of(plan.seed, &format!("line {from} {to}")),
            cut: None,
            latest: Instant::now(),
        };
        let state = State {
            seats: (0..plan.nodes).map(|_| Seat::default()).collect(),
            lines: (0..plan.nodes).map(|from| (0..plan.nodes).map(|to| line(from, to)).collect()).collect(),
            lossy_percent: 0,
            slow_ms: DELAY_MS,
        };
        Net {
            history: history.clone(),
            silence: Duration::from_millis(plan.silence_ms),
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The next node to sit here.
    pub fn next_place(&self, node: u8) -> Place {
        Place { node, life: self.state().seats[usize::from(node)].life + 1 }
    }

    /// How a node at `place` reaches others.
    pub fn port(&self, place: Place) -> impl Connect {
        Port { net: self.clone(), from: place }
    }

    pub fn sit(&self, place: Place, groups: Groups) {
        let seat = &mut self.state().seats[usize::from(place.node)];
        (seat.life, seat.groups) = (place.life, Some(groups));
    }

    /// The node is gone, with all that waited for it.
    pub fn leave(&self, node: u8) -> Option<Groups> {
        let mut state = self.state();
        let seat = &mut state.seats[usize::from(node)];
        let lost = (std::mem::take(&mut seat.arrived), std::mem::take(&mut seat.leaving));
        (seat.life, seat.frozen) = (seat.life + 1, false);
        let groups = seat.groups.take();
        drop(state);
        drop(lost);
        groups
    }

    pub fn freeze(&self, node: u8) {
        self.state().seats[usize::from(node)].frozen = true;
    }

    pub fn thaw(&self, node: u8) {
        let mut state = self.state();
        let seat = &mut state.seats[usize::from(node)];
        seat.frozen = false;
        let (arrived, leaving) = (std::mem::take(&mut seat.arrived), std::mem::take(&mut seat.leaving));
        drop(state);
        // Read in any order, by a process that has a lot to read.
        arrived.into_iter().for_each(|parcel| self.travel(parcel, THAW_MS));
        for parcel in leaving {
            // Whether it is refused is not asked any more: the sender waits for signs by now.
            let _ = self.send(parcel);
        }
    }

    pub fn cut(&self, from: u8, to: u8, refused: bool) {
        self.state().lines[usize::from(from)][usize::from(to)].cut = Some(Cut { refused });
    }

    /// Takes all cuts back and says which there were.
    pub fn heal(&self) -> Vec<(u8, u8)> {
        let mut healed = Vec::new();
        for (from, lines) in self.state().lines.iter_mut().enumerate() {
            for (to, line) in lines.iter_mut().enumerate() {
                healed.extend(line.cut.take().map(|_| (from as u8, to as u8)));
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

    /// Sends the parcel on its way. False if the sender is told at once that there is none.
    fn send(&self, parcel: Parcel) -> bool {
        let (from, to, request) = (parcel.from, parcel.to, parcel.request);
        let mut state = self.state();
        let sender = &mut state.seats[usize::from(from.node)];
        if sender.life != from.life {
            return false;
        }
        if sender.frozen {
            sender.leaving.push(parcel);
            return true;
        }
        let (lossy_percent, slow_ms) = (state.lossy_percent, state.slow_ms);
        let vacant = state.seats[usize::from(to.node)].groups.is_none();
        let line = &mut state.lines[usize::from(from.node)][usize::from(to.node)];
        // One in four is slow where messages are, so that others can pass it.
        let longest_ms = if line.rng.percent(25) { slow_ms } else { DELAY_MS };
        let lost = line.cut.is_some() || line.rng.percent(lossy_percent);
        let refused = vacant || line.cut.is_some_and(|cut| cut.refused);
        drop(state);
        if lost || vacant {
            self.history.note(Event::Dropped { from: from.node, to: to.node, request });
            // A parcel holds what is dropped with it, and that may send again.
            drop(parcel);
            return !refused;
        }
        self.travel(parcel, longest_ms);
        true
    }

    fn travel(&self, parcel: Parcel, longest_ms: u64) {
        let arrives = self.arrival(&parcel, longest_ms);
        let net = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(arrives).await;
            net.deliver(parcel);
        });
    }

    fn arrival(&self, parcel: &Parcel, longest_ms: u64) -> Instant {
        let (from, to) = (parcel.from.node, parcel.to.node);
        let mut state = self.state();
        let line = &mut state.lines[usize::from(from)][usize::from(to)];
        let arrives = Instant::now() + Duration::from_millis(line.rng.between(0, longest_ms));
        let overtakes = arrives < line.latest;
        line.latest = line.latest.max(arrives);
        drop(state);
        if overtakes {
            self.history.note(Event::Overtook { from, to });
        }
        arrives
    }

    fn deliver(&self, parcel: Parcel) {
        let mut state = self.state();
        let seat = &mut state.seats[usize::from(parcel.to.node)];
        let there = seat.life == parcel.to.life;
        if there && seat.frozen {
            return seat.arrived.push(parcel);
        }
        let groups = seat.groups.clone().filter(|_| there);
        drop(state);
        match groups {
            Some(groups) => (parcel.open)(groups),
            None => {
                let (from, to) = (parcel.from.node, parcel.to.node);
                self.history.note(Event::Dropped { from, to, request: parcel.request });
            }
        }
    }

    fn answer<T: Send + 'static>(&self, from: Place, to: Place, signs: &UnboundedSender<T>, sign: T) {
        let signs = signs.clone();
        // Nobody listens any more where the asker has given up.
        let open = Box::new(move |_| drop(signs.send(sign)));
        self.send(Parcel { from, to, request: false, open });
    }
}

impl Connect for Port {
    fn connect(&self, name: &str) -> Result<Arc<dyn Peer>, BoxError> {
        let to = index(name).ok_or("no such node")?;
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
        let (signs, heard) = unbounded_channel();
        let sent = self.request({
            let (net, here, there, signs) = (self.net.clone(), self.from, self.there(), signs.clone());
            move |groups| net.serve(&groups, &requests, there, here, &signs)
        });
        let waiting = Waiting { silence: self.net.silence, load_timeout, replies, _signs: signs };
        tokio::spawn(waiting.land(sent, heard));
    }

    fn update(&self, update: PeerUpdate, timeout_after: Duration, reply: Reply<Ack>) {
        let (signs, mut heard) = unbounded_channel();
        let sent = self.request({
            let (net, here, there, signs) = (self.net.clone(), self.from, self.there(), signs.clone());
            move |groups| {
                let acked = match groups.get(&update.group) {
                    Some(group) => group.update(update).map_err(PeerError::Answered),
                    None => Err(PeerError::failed("no such group")),
                };
                net.answer(there, here, &signs, acked);
            }
        });
        tokio::spawn(async move {
            // Held, so that a lost message is silence.
            let _signs = signs;
            // Longer than anybody listens: it is not the transport that keeps to the bound.
            let acked = if sent { timeout(4 * timeout_after, heard.recv()).await.ok().flatten() } else { None };
            reply.send(acked.unwrap_or_else(|| Err(PeerError::failed("no acknowledgement"))));
        });
    }
}

impl Link {
    /// Whoever sits there now.
    fn there(&self) -> Place {
        Place { node: self.to, life: self.net.state().seats[usize::from(self.to)].life }
    }

    fn request(&self, open: impl FnOnce(Groups) + Send + 'static) -> bool {
        self.net.send(Parcel { from: self.from, to: self.there(), request: true, open: Box::new(open) })
    }
}

impl Net {
    /// The receiving end of a request: a head at once, each answer when it is there.
    fn serve(
        &self,
        groups: &Groups,
        requests: &[PeerRequest],
        here: Place,
        asker: Place,
        signs: &UnboundedSender<Sign>,
    ) {
        self.answer(here, asker, signs, Sign::Head);
        let Some(group) = groups.get(&requests[0].group) else {
            for nth in 0..requests.len() {
                self.answer(here, asker, signs, Sign::Answer(nth, Err(PeerError::failed("no such group"))));
            }
            return;
        };
        let served = match requests {
            [one] => vec![group.answer(one.key.as_bytes(), one.terms)],
            many => group.answer_many(many.iter().map(|one| one.key.clone()).collect(), many[0].terms, &mut |_| true),
        };
        for (nth, served) in served.into_iter().enumerate() {
            let (net, signs) = (self.clone(), signs.clone());
            let answer = move |answered: Result<PeerReply, _>| {
                net.answer(here, asker, &signs, Sign::Answer(nth, answered.map_err(PeerError::Answered)));
            };
            match served {
                Served::Ready(answered) => answer(answered),
                loading => drop(tokio::spawn(async move { answer(loading.finish().await) })),
            }
        }
    }
}

/// An asker's end of an exchange.
struct Waiting {
    silence: Duration,
    load_timeout: Duration,
    replies: Vec<Reply>,
    /// Held, so that a lost message is silence.
    _signs: UnboundedSender<Sign>,
}

impl Waiting {
    async fn land(self, sent: bool, mut heard: UnboundedReceiver<Sign>) {
        let mut replies: Vec<Option<Reply>> = self.replies.into_iter().map(Some).collect();
        if !sent {
            sleep(Duration::from_millis(1)).await;
        }
        let begun = Instant::now();
        let mut deadline = if sent { begun + self.silence } else { begun };
        while replies.iter().any(Option::is_some) {
            let Ok(Some(sign)) = timeout_at(deadline, heard.recv()).await else { break };
            // A load may queue for as long as it may take.
            deadline = begun + self.silence + 2 * self.load_timeout;
            if let Sign::Answer(nth, answer) = sign
                && let Some(reply) = replies[nth].take()
            {
                reply.send(answer);
            }
        }
        replies.into_iter().flatten().for_each(|reply| reply.send(Err(PeerError::failed("silence"))));
    }
}
