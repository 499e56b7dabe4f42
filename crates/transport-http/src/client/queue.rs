//! Natural batching: what goes to the peer now, and with what.
//!
//! A lone key leaves at once. While an exchange of its group is on its way, which is until the head of its answer is there,
//! further keys collect; then they leave together. There is no timer in it, and where little is asked for nothing waits.

use std::{
    collections::VecDeque,
    iter, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use peercache_groupcache::{Ack, PeerUpdate, Reply};
use tokio::{runtime::Handle, sync::mpsc, time::Instant};

use crate::wire::frame;
use crate::{
    client::batch::{Asked, Exchange, refuse},
    client::failure::Failure,
    client::peer::{Shared, overloaded},
    client::worker,
};

/// How many changes one peer is told at once. They are short; a few connections carry many.
const TELLINGS_MAX: usize = 16;

/// How many changes for one peer may be under way or waiting. One too many fails at once: they come faster than the
/// peer can be told.
const UPDATES_MAX: usize = 1_024;

/// Couriers without work that are kept, each with its connection. Fewer than may be under way: a storm's connections would
/// fill the peer for seconds after the storm, and some dozens carry a steady load.
pub(super) const IDLE_MAX: usize = 32;

/// How many bytes of values are asked for together, as far as they can be foreseen: as large as those that came last. CPU
/// of both sides at 64 callers, with as many keys together as make 64 KiB, 256 KiB and 1 MiB, against each key by itself:
/// 0.20, 0.13, 0.13 at 4 KB; 0.45, 0.27, 0.26 at 10 KB; 0.88, 0.5, 0.5 at 30 KB; 1.0 at 100 KB, whatever goes together.
const TOGETHER_BYTES_MAX: usize = 256 * 1024;

/// From here on a key goes by itself: together they would save next to nothing, and wait for each other.
const ALONE_FROM_BYTES: usize = 64 * 1024;

/// The keys and changes for one peer that wait, and the couriers that carry them.
pub(super) struct Dispatcher {
    state: Mutex<State>,
    /// Keys that are asked for and have no answer yet.
    asked: AtomicUsize,
}

#[derive(Default)]
struct State {
    lanes: Vec<Lane>,
    /// The lane whose turn it is.
    turn: usize,
    exchanges: usize,
    changes: VecDeque<Telling>,
    tellings: usize,
    /// Who was last to become idle is first to go: the rest may leave.
    idle: Vec<Bell>,
    /// Who has waited for too long, and is to be told so when the lock is free.
    expired: Vec<Asked>,
}

/// The keys of one group.
struct Lane {
    group: Arc<str>,
    waiting: VecDeque<Asked>,
    /// No exchange is on its way.
    is_open: bool,
    /// How many bytes the values have that came last.
    value_bytes: usize,
}

/// A change that the peer is to be told.
pub(super) struct Telling {
    pub(super) update: PeerUpdate,
    pub(super) within: std::time::Duration,
    pub(super) since: Instant,
    pub(super) reply: Reply<Ack>,
}

/// What a courier carries to the peer.
pub(super) enum Job {
    Fetch(Exchange, Gate),
    Tell(Telling, Turn),
    /// To have a connection.
    Warm,
}

/// Calls a courier that has no work. Nobody but the dispatcher has it then, so that couriers leave with their peer; a job
/// brings it back.
#[derive(Clone)]
pub(super) struct Bell(pub(super) mpsc::Sender<(Job, Bell)>);

/// An exchange under way. While it is on its way, the keys of its group wait.
pub(super) struct Gate {
    peer: Arc<Shared>,
    lane: usize,
    holds: bool,
    has_ended: bool,
}

/// An exchange that has ended.
pub(super) struct Done {
    gate: Gate,
    brought: (usize, usize),
}

/// A change under way.
pub(super) struct Turn(Arc<Shared>);

impl Dispatcher {
    pub(super) fn new() -> Self {
        Dispatcher { state: Mutex::default(), asked: AtomicUsize::new(0) }
    }

    /// Counts as many of these keys as asked for as there is place for, and says how many.
    fn count_in(&self, keys: usize, allowed: usize) -> usize {
        let mut fit = 0;
        let counted = self.asked.fetch_update(Relaxed, Relaxed, |asked| {
            fit = keys.min(allowed.saturating_sub(asked));
            Some(asked + fit)
        });
        counted.map_or(0, |_| fit)
    }

    /// So many keys have their answers.
    pub(super) fn answered(&self, keys: usize) {
        self.asked.fetch_sub(keys, Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Asks for these keys of one group as soon as may be, the first of them as far as there is place.
    pub(super) fn ask(self: &Arc<Self>, mut asked: Vec<Asked>) {
        let excess = asked.split_off(self.dispatcher.count_in(asked.len(), self.site.fetches_max));
        if let Some(first) = asked.first() {
            let mut state = self.dispatcher.state();
            let lane = state.lane(&first.request.group);
            state.lanes[lane].waiting.extend(asked);
            self.send_off(state);
        }
        if !excess.is_empty() {
            refuse(self, excess, overloaded());
        }
    }

    /// Asks for one key as soon as may be.
    pub(super) fn ask_one(self: &Arc<Self>, asked: Asked) {
        let allowed = self.site.fetches_max;
        if self.dispatcher.asked.fetch_add(1, Relaxed) >= allowed {
            self.dispatcher.answered(1);
            return refuse(self, vec![asked], overloaded());
        }
        let mut state = self.dispatcher.state();
        let lane = state.lane(&asked.request.group);
        state.lanes[lane].waiting.push_back(asked);
        self.send_off(state);
    }

    /// Asks once more for keys that are counted as asked for, before all others.
    pub(super) fn ask_again(self: &Arc<Self>, asked: Vec<Asked>) {
        let mut state = self.dispatcher.state();
        let Some(first) = asked.first() else { return };
        let lane = state.lane(&first.request.group);
        asked.into_iter().rev().for_each(|asked| state.lanes[lane].waiting.push_front(asked));
        self.send_off(state);
    }

    /// Tells the change as soon as may be.
    pub(super) fn tell(self: &Arc<Self>, telling: Telling) {
        let mut state = self.dispatcher.state();
        if state.changes.len() + state.tellings >= UPDATES_MAX {
            drop(state);
            return telling.reply.send(Err(self.failed(Failure::TooManyUpdates)));
        }
        state.changes.push_back(telling);
        self.send_off(state);
    }

    /// Opens a connection for whoever asks first, if there is a runtime and no connection yet.
    pub(super) fn warm(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let is_cold = |state: &State| state.idle.is_empty() && state.exchanges == 0;
        if is_cold(&self.dispatcher.state()) {
            runtime.spawn(worker::carry(self.clone(), Job::Warm));
        }
    }

    /// Hands all that may leave to couriers.
    fn send_off<'a>(self: &'a Arc<Self>, mut state: MutexGuard<'a, State>) {
        loop {
            let first = state.next_departure(self);
            let rest: Vec<_> = iter::from_fn(|| state.next_departure(self)).collect();
            let expired = mem::take(&mut state.expired);
            drop(state);
            let departures = first.into_iter().chain(rest);
            let undone: Vec<Done> = departures.filter_map(|(idle, job)| self.hand_over(idle, job)).collect();
            self.refuse_expired(expired);
            if undone.is_empty() {
                return;
            }
            // Those were on nobody's way, and others may leave in their place.
            state = self.dispatcher.state();
            undone.into_iter().for_each(|undone| undone.note(&mut state));
        }
    }

    /// Gives a job to a courier. Without one there is an exchange that has ended already.
    fn hand_over(self: &Arc<Self>, mut idle: Option<Bell>, mut job: Job) -> Option<Done> {
        while let Some(bell) = idle {
            match bell.0.try_send((job, bell.clone())) {
                Ok(()) => return None,
                // Its runtime has ended.
                Err(unsent) => job = unsent.into_inner().0,
            }
            idle = self.dispatcher.state().idle.pop();
        }
        self.send_new_courier(job)
    }

    fn refuse_expired(&self, expired: Vec<Asked>) {
        if !expired.is_empty() {
            self.dispatcher.answered(expired.len());
            refuse(self, expired, overloaded());
        }
    }

    fn send_new_courier(self: &Arc<Self>, job: Job) -> Option<Done> {
        match (Handle::try_current(), job) {
            (Ok(runtime), job) => drop(runtime.spawn(worker::carry(self.clone(), job))),
            (Err(_), Job::Fetch(mut exchange, gate)) => {
                exchange.fail(Failure::NoRuntime.into());
                return Some(gate.done((0, 0)));
            }
            (Err(_), Job::Tell(telling, _)) => telling.reply.send(Err(self.failed(Failure::NoRuntime))),
            (Err(_), Job::Warm) => {}
        }
        None
    }

    /// The next job of a courier who has done with another. Without one it is idle, or, if there are enough who are, leaves.
    pub(super) fn next_job(self: &Arc<Self>, done: Option<Done>, bell: Bell) -> Result<(Job, Bell), Idle> {
        let mut state = self.dispatcher.state();
        if let Some(done) = done {
            done.note(&mut state);
        }
        let next = match state.next_job(self) {
            Some(job) => Ok((job, bell)),
            None if state.idle.len() < IDLE_MAX => {
                state.idle.push(bell);
                Err(Idle::Waits)
            }
            None => Err(Idle::Leaves),
        };
        // One that has ended may let several leave.
        self.send_off(state);
        next
    }

    /// Takes a courier from the idle ones, where it is unless it has been given a job.
    pub(super) fn leaves(&self, me: &mpsc::WeakSender<(Job, Bell)>) -> bool {
        let mut state = self.dispatcher.state();
        let Some(me) = me.upgrade() else { return false };
        let place = state.idle.iter().position(|idle| me.same_channel(&idle.0));
        place.map(|place| state.idle.remove(place)).is_some()
    }

    /// What waited while the peer was found silent or out of reach need not find it out again.
    pub(super) fn give_up_waiting(&self) {
        let waiting = self.dispatcher.state().take_waiting();
        self.dispatcher.answered(waiting.len());
        if !waiting.is_empty() {
            refuse(self, waiting, Failure::SilentMeanwhile.into());
        }
    }
}

/// What becomes of a courier without a job.
pub(super) enum Idle {
    Waits,
    Leaves,
}

impl State {
    fn lane(&mut self, group: &Arc<str>) -> usize {
        let same = |lane: &Lane| Arc::ptr_eq(&lane.group, group) || lane.group == *group;
        self.lanes.iter().position(same).unwrap_or_else(|| {
            self.lanes.push(Lane { group: group.clone(), waiting: VecDeque::new(), is_open: true, value_bytes: 0 });
            self.lanes.len() - 1
        })
    }

    /// What may leave now, and an idle courier to carry it.
    fn next_departure(&mut self, peer: &Arc<Shared>) -> Option<(Option<Bell>, Job)> {
        let job = self.next_job(peer)?;
        Some((self.idle.pop(), job))
    }

    /// What may leave now.
    fn next_job(&mut self, peer: &Arc<Shared>) -> Option<Job> {
        if self.tellings < TELLINGS_MAX
            && let Some(telling) = self.changes.pop_front()
        {
            self.tellings += 1;
            return Some(Job::Tell(telling, Turn(peer.clone())));
        }
        if self.exchanges >= peer.site.connections_max {
            return None;
        }
        let natively = peer.is_asked_natively();
        for _ in 0..self.lanes.len() {
            let turn = self.turn;
            self.turn = (turn + 1) % self.lanes.len();
            let lane = &mut self.lanes[turn];
            if !lane.waiting.is_empty() {
                lane.expire(peer, &mut self.expired);
            }
            let Some(first) = lane.waiting.front() else { continue };
            // The answer to a plain GET has its head after the load, so others do not wait for that.
            let by_itself = !natively || first.alone;
            if !by_itself && !lane.is_open {
                continue;
            }
            let count = if by_itself { 1 } else { lane.count_together() };
            let exchange = Exchange::new(peer.clone(), lane.waiting.drain(..count));
            lane.is_open &= by_itself;
            self.exchanges += 1;
            return Some(Job::Fetch(
                exchange,
                Gate { peer: peer.clone(), lane: turn, holds: !by_itself, has_ended: false },
            ));
        }
        None
    }

    fn take_waiting(&mut self) -> Vec<Asked> {
        self.lanes.iter_mut().flat_map(|lane| lane.waiting.drain(..)).collect()
    }
}

impl Lane {
    /// Takes out who has waited for longer than a fetch may take, which is to say for a connection.
    fn expire(&mut self, peer: &Shared, expired: &mut Vec<Asked>) {
        let now = Instant::now();
        let is_over = |asked: &Asked| now.duration_since(asked.since) > peer.fetch_bound(&asked.request);
        while self.waiting.front().is_some_and(is_over) {
            expired.extend(self.waiting.pop_front());
        }
    }

    /// How many of those that wait go into one exchange.
    fn count_together(&self) -> usize {
        let Some(first) = self.waiting.front() else { return 0 };
        let few = match self.value_bytes < ALONE_FROM_BYTES {
            true => TOGETHER_BYTES_MAX / self.value_bytes.max(1),
            false => 1,
        };
        let alike = self.waiting.iter().take(few).take_while(|asked| first.goes_with(asked));
        frame::keys_of_one_exchange(alike.map(|asked| asked.request.key.len())).max(1)
    }

    /// Remembers how large values are here.
    fn learn(&mut self, (bytes, keys): (usize, usize)) {
        if let Some(mean) = bytes.checked_div(keys) {
            self.value_bytes = (self.value_bytes + mean) / 2;
        }
    }
}

impl Gate {
    /// Lets others leave: the peer is at work.
    pub(super) fn open(&mut self) {
        if self.holds {
            self.holds = false;
            let mut state = self.peer.dispatcher.state();
            state.lanes[self.lane].is_open = true;
            self.peer.send_off(state);
        }
    }

    /// Whether others still wait for it.
    pub(super) fn is_held(&self) -> bool {
        self.holds
    }

    /// The exchange has ended, and brought so many bytes of values for so many keys.
    pub(super) fn done(self, brought: (usize, usize)) -> Done {
        Done { gate: self, brought }
    }

    fn end(&mut self, state: &mut State) {
        self.has_ended = true;
        state.exchanges -= 1;
        state.lanes[self.lane].is_open |= self.holds;
    }
}

impl Done {
    fn note(mut self, state: &mut State) {
        state.lanes[self.gate.lane].learn(self.brought);
        self.gate.end(state);
    }
}

/// An exchange that nobody carries to its end: its task panicked, or its runtime has ended. Who waits behind it might wait
/// for ever.
impl Drop for Gate {
    fn drop(&mut self) {
        if !self.has_ended {
            let peer = self.peer.clone();
            let mut state = peer.dispatcher.state();
            self.end(&mut state);
            let stranded = state.take_waiting();
            drop(state);
            peer.dispatcher.answered(stranded.len());
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.dispatcher.state().tellings -= 1;
    }
}
