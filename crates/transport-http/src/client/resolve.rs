//! The look-ups of members' names: one at a time for each name, on threads of their own.
//!
//! A look-up blocks its thread, for many seconds if no name server answers. Its thread belongs to
//! no runtime: neither do loaders wait for one in the blocking pool, nor does an answer depend on a
//! runtime that nobody drives. All who wait for a name share its look-up, whichever runtime they
//! are of.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::{runtime::Handle, sync::watch, time::Instant};

use crate::client::{network::Network, sweep::SweepTime};

/// The look-ups of one pool that run at once, each on its thread. Further names wait their turn.
const MAX_THREADS: usize = 16;

/// The addresses of a name that are used.
const MAX_ADDRESSES: usize = 16;

/// The time for which new connections use an answer: some hundred are opened at once in a storm.
const KEPT_FOR: Duration = Duration::from_secs(5);

/// The time for which an error is the answer.
const ERROR_KEPT_FOR: Duration = Duration::from_secs(1);

/// The time after which a name with open connections is looked up again. With a look at it every
/// [`CHECK_EVERY`] a connection to an address that it has left is found within a minute.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(20);

/// The time between two looks of one connection at whether its name has moved.
pub(super) const CHECK_EVERY: Duration = Duration::from_secs(10);

/// The time after which a name that nobody uses is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// The addresses of a name, one at least, or the reason why there are none, in words.
pub(super) type Answer = Result<Arc<[IpAddr]>, Arc<str>>;

/// The names of a pool's members.
pub(super) struct Names {
    network: Arc<dyn Network>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    names: HashMap<Arc<str>, Name>,
    /// The look-ups that no thread has begun.
    waiting: VecDeque<LookUp>,
    threads: usize,
    sweep: SweepTime,
}

#[derive(Default)]
struct Name {
    last: Option<(Instant, Answer)>,
    /// The last addresses; an error since then does not change them.
    addresses: Option<Arc<[IpAddr]>>,
    /// The end at which the answer of the look-up in flight comes.
    in_flight: Option<watch::Receiver<Option<Answer>>>,
}

struct LookUp {
    name: Arc<str>,
    answer: watch::Sender<Option<Answer>>,
    /// The runtime whose clock tells the time of the answer.
    clock: Handle,
}

impl Names {
    pub(super) fn new(network: Arc<dyn Network>) -> Arc<Self> {
        Arc::new(Names { network, state: Mutex::default() })
    }

    /// The addresses of a name, as they were a few seconds ago at most.
    pub(super) async fn look_up(self: &Arc<Self>, name: &str) -> Answer {
        let mut answer = {
            let mut state = self.state();
            match state.fresh_answer(name, Instant::now()) {
                Some(answer) => return answer,
                None => {
                    let (answer, starts) = state.join(name);
                    drop(state);
                    self.start(starts);
                    answer
                }
            }
        };
        let answer = answer.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
        answer.unwrap_or_else(|| Err("its look-up was broken off".into()))
    }

    /// Whether a name is known to have left this address. The name is looked up again, without
    /// waiting for it, if the last time is a while ago.
    pub(super) fn has_left(self: &Arc<Self>, name: &str, address: IpAddr) -> bool {
        let mut state = self.state();
        let known = state.names.get(name);
        let is_recent = |(at, _): &(Instant, Answer)| at.elapsed() < LOOK_AGAIN_AFTER;
        let is_due = !known.and_then(|known| known.last.as_ref()).is_some_and(is_recent);
        let addresses = known.and_then(|known| known.addresses.as_ref());
        let has_left = addresses.is_some_and(|addresses| !addresses.contains(&address));
        let starts = is_due && state.join(name).1;
        drop(state);
        self.start(starts);
        has_left
    }

    /// Starts a thread that looks names up until none waits.
    fn start(self: &Arc<Self>, starts: bool) {
        if !starts {
            return;
        }
        let names = self.clone();
        let thread = thread::Builder::new().name("peercache-names".to_owned());
        if let Err(error) = thread.spawn(move || names.run()) {
            let why: Arc<str> = format!("no thread for its look-up: {error}").into();
            // Those that have begun have threads. The others fail, unless a thread is there to
            // take them.
            let mut state = self.state();
            state.threads -= 1;
            let stranded = if state.threads == 0 { std::mem::take(&mut state.waiting) } else { VecDeque::new() };
            drop(state);
            stranded.into_iter().for_each(|look_up| self.finish(&look_up, Err(why.clone())));
        }
    }

    fn run(&self) {
        let next = || self.state().next();
        while let Some(look_up) = next() {
            let answer = match self.network.look_up(&look_up.name) {
                Ok(addresses) if addresses.is_empty() => Err("its name has no address".into()),
                Ok(addresses) => Ok(addresses.into_iter().take(MAX_ADDRESSES).collect()),
                Err(error) => Err(format!("its name has no address: {error}").into()),
            };
            self.finish(&look_up, answer);
        }
    }

    fn finish(&self, look_up: &LookUp, answer: Answer) {
        let now = {
            let _clock = look_up.clock.enter();
            Instant::now()
        };
        let mut state = self.state();
        let before = state.names.get_mut(&look_up.name).map(|name| {
            let addresses = answer.as_ref().ok().cloned().or_else(|| name.addresses.clone());
            std::mem::replace(name, Name { last: Some((now, answer.clone())), addresses, in_flight: None })
        });
        drop(state);
        drop(before);
        look_up.answer.send_replace(Some(answer));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fresh_answer(&self, name: &str, now: Instant) -> Option<Answer> {
        let (at, answer) = self.names.get(name)?.last.as_ref()?;
        let kept_for = if answer.is_ok() { KEPT_FOR } else { ERROR_KEPT_FOR };
        (now.duration_since(*at) < kept_for).then(|| answer.clone())
    }

    /// Joins the look-up of a name that is in flight, or adds one. Returns whether a thread is to
    /// be started for it.
    fn join(&mut self, name: &str) -> (watch::Receiver<Option<Answer>>, bool) {
        if let Some(in_flight) = self.names.get(name).and_then(|name| name.in_flight.clone()) {
            return (in_flight, false);
        }
        if self.sweep.is_due(self.names.len()) {
            let is_used = |last: &(Instant, Answer)| last.0.elapsed() < FORGOTTEN_AFTER;
            self.names.retain(|_, name| name.in_flight.is_some() || name.last.as_ref().is_some_and(is_used));
            self.sweep.swept(self.names.len());
        }
        let (name, (sender, receiver)): (Arc<str>, _) = (name.into(), watch::channel(None));
        self.names.entry(name.clone()).or_default().in_flight = Some(receiver.clone());
        self.waiting.push_back(LookUp { name, answer: sender, clock: Handle::current() });
        let starts = self.threads < MAX_THREADS;
        self.threads += usize::from(starts);
        (receiver, starts)
    }

    /// The next look-up of a thread. Without one the thread ends.
    fn next(&mut self) -> Option<LookUp> {
        let next = self.waiting.pop_front();
        self.threads -= usize::from(next.is_none());
        next
    }
}
