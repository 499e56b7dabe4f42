//! The watch on one member: what its exchanges tell of its health, and the probes that it is sent
//! while it is down.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{
            AtomicBool,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use tokio::{
    runtime::{Handle, Id},
    sync::oneshot,
    time::{Instant, sleep, timeout},
};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    members::followers::Followers,
    members::health::{Evidence, Health, PeerState},
    peer::{Peer, PeerError, Reply},
};

/// The watch on one member.
pub(crate) struct Watch {
    name: String,
    peer: Arc<dyn Peer>,
    /// The groups, whose entries may have to go when the member is back.
    followers: Followers,
    /// The same as the health's state, for a look without the lock.
    is_down: AtomicBool,
    /// Whether a announcement of it is answered by a probe just now.
    is_announced: AtomicBool,
    state: Mutex<State>,
}

struct State {
    health: Health,
    /// The reason of the latest fall.
    why: Option<String>,
    probing: Option<Probing>,
    /// The number of tasks so far.
    tasks: u64,
    /// The time at which the latest probe was sent.
    probed: Option<Instant>,
}

/// The task that sends probes now.
struct Probing {
    nth: u64,
    runtime: Id,
    /// The time at which it last went on.
    since: Instant,
}

/// The health of a member, as it is shown.
pub(crate) struct Seen {
    pub(crate) state: PeerState,
    pub(crate) since: Duration,
    pub(crate) why: Option<String>,
}

/// The pause between two probes is from here to half as long again: nobody is probed more than once
/// a second, and not by all at one time.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest time that a member may take to answer a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The time after which a task that has not gone on is taken to be in a runtime that nobody drives.
const STALLED_AFTER: Duration = Duration::from_secs(4);

impl Watch {
    pub(crate) fn new(name: String, peer: Arc<dyn Peer>, followers: Followers) -> Arc<Self> {
        let health = Health::new(Instant::now());
        let state = State { health, why: None, probing: None, tasks: 0, probed: None };
        Arc::new(Watch {
            name,
            peer,
            followers,
            is_down: AtomicBool::new(false),
            is_announced: AtomicBool::new(false),
            state: Mutex::new(state),
        })
    }

    #[inline]
    pub(crate) fn is_down(&self) -> bool {
        self.is_down.load(Relaxed)
    }

    /// Whether it is down, and nothing is known but that it is silent.
    pub(crate) fn is_down_by_silence(&self) -> bool {
        self.is_down() && self.lock().health.is_down_by_silence()
    }

    pub(crate) fn seen(&self) -> Seen {
        let state = self.lock();
        let is_down = state.health.state() == PeerState::Down;
        Seen {
            state: state.health.state(),
            since: state.health.since().elapsed(),
            why: state.why.clone().filter(|_| is_down),
        }
    }

    /// Records how an exchange ended that began then. A member that falls is probed from now on, in
    /// this runtime.
    pub(crate) fn observe<T>(self: &Arc<Self>, ended: &Result<T, PeerError>, began: Instant, runtime: Option<&Handle>) {
        let evidence = match ended {
            Ok(_) | Err(PeerError::Answered(_)) => Evidence::Answered,
            Err(PeerError::Unreachable(_)) => Evidence::Unreachable,
            Err(PeerError::Silent(_)) => Evidence::Silent,
            // It concerns the request alone.
            Err(PeerError::Failed(_) | PeerError::NotCarried) => return,
        };
        let why = ended.as_ref().err().map(|error| error.to_string());
        self.record(evidence, why, began);
        if let Some(runtime) = runtime.filter(|_| self.is_down()) {
            self.probe_until_up(runtime);
        }
    }

    fn record(&self, evidence: Evidence, why: Option<String>, began: Instant) {
        let changed = {
            let mut state = self.lock();
            let before = state.health.since();
            let changed = state.health.observe(evidence, began, Instant::now());
            if changed == Some(PeerState::Down) {
                state.why = why.clone();
            }
            self.is_down.store(state.health.state() == PeerState::Down, Relaxed);
            changed.map(|changed| (changed, before.elapsed()))
        };
        let member = &self.name;
        match changed {
            None => {}
            Some((PeerState::Down, lasted)) => {
                let why = why.unwrap_or_default();
                tracing::warn!(%member, %why, ?lasted, "a member is down, the next in line stands in for it");
            }
            Some((PeerState::Up, lasted)) => {
                tracing::info!(%member, ?lasted, "a member is up again");
                // No lock is held: this may drop values of a user's type.
                self.followers.alive().iter().for_each(|group| group.came_back());
            }
        }
    }

    /// Sends a probe to a member that is up, of which somebody else thinks that it is down: unless
    /// one was sent within the last second.
    pub(crate) fn doubt(self: &Arc<Self>, runtime: &Handle) {
        if !self.may_probe() {
            return;
        }
        let (watch, handle) = (self.clone(), runtime.clone());
        runtime.spawn(async move { watch.probe(Some(&handle)).await });
    }

    /// Starts the task that probes the member, unless it is up or a task does so already.
    pub(crate) fn probe_until_up(self: &Arc<Self>, runtime: &Handle) {
        // Outside the lock: a runtime that has shut down drops the task here, and its drop locks.
        if let Some(nth) = self.next_task(runtime.id()) {
            runtime.spawn(ProbeTask { watch: Arc::downgrade(self), nth }.run());
        }
    }

    /// The number of a task that has to be started; it then counts as running.
    fn next_task(&self, runtime: Id) -> Option<u64> {
        let mut state = self.lock();
        let stands_still = |task: &Probing| task.runtime != runtime && task.since.elapsed() >= STALLED_AFTER;
        let is_probed = state.probing.as_ref().is_some_and(|task| !stands_still(task));
        if state.health.state() == PeerState::Up || is_probed {
            return None;
        }
        state.tasks += 1;
        state.probing = Some(Probing { nth: state.tasks, runtime, since: Instant::now() });
        Some(state.tasks)
    }

    /// The pause of this task before its next probe; `None` ends it, under the lock: a fall that
    /// comes later starts another.
    fn next_pause(&self, nth: u64, probes: u64) -> Option<Duration> {
        let mut state = self.lock();
        let task = state.probing.as_mut().filter(|task| task.nth == nth)?;
        task.since = Instant::now();
        if state.health.state() == PeerState::Up {
            state.probing = None;
            return None;
        }
        let jitter = xxh3_64(&[self.name.as_bytes(), &nth.to_le_bytes(), &probes.to_le_bytes()].concat());
        Some(PAUSE + PAUSE.mul_f64(jitter as f64 / u64::MAX as f64 / 2.0))
    }

    /// Sends a probe, whenever the latest one was: the member has said that it is there. If it is
    /// down here, it is up when this returns; else it could not be reached.
    pub(crate) async fn announced(self: &Arc<Self>) {
        // Two members that are down for each other announce themselves by these probes, too: one at
        // a time.
        if self.is_down() && !self.is_announced.swap(true, SeqCst) {
            let _announced = Announced(self);
            self.lock().health.has_started();
            self.probe(None).await;
        }
    }

    /// Tells the member that this node is there, by a probe. One that does not answer may be about
    /// to start itself, and is not down for that.
    pub(crate) async fn announce(self: &Arc<Self>) {
        let began = Instant::now();
        let answered = self.ask().await;
        if answered.is_ok() {
            self.observe(&answered, began, None);
        }
    }

    /// Whether no probe was sent within the last second; then one counts as sent.
    fn may_probe(&self) -> bool {
        let mut state = self.lock();
        let may_probe = state.probed.is_none_or(|probed| probed.elapsed() >= PAUSE);
        if may_probe {
            state.probed = Some(Instant::now());
        }
        may_probe
    }

    /// Sends a probe, and records how it ends.
    async fn probe(self: &Arc<Self>, runtime: Option<&Handle>) {
        let began = Instant::now();
        let ended = self.ask().await;
        self.observe(&ended, began, runtime);
    }

    /// Asks the member for a sign of life.
    async fn ask(&self) -> Result<(), PeerError> {
        let (sender, receiver) = oneshot::channel();
        self.peer.probe(PROBE_TIMEOUT, Reply::new(move |answer| drop(sender.send(answer))));
        match timeout(PROBE_TIMEOUT, receiver).await {
            // A member that knows no probes is up until the next request finds out.
            Ok(Ok(Err(PeerError::NotCarried))) => Ok(()),
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(PeerError::failed("the transport dropped the probe")),
            Err(_) => Err(PeerError::Silent(format!("did not answer a probe within {PROBE_TIMEOUT:?}").into())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A announcement that is answered by a probe, until this is dropped.
struct Announced<'a>(&'a Watch);

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.0.is_announced.store(false, SeqCst);
    }
}

/// The task that probes a member until it is up. Another can be started once it has ended, in
/// whatever way.
struct ProbeTask {
    watch: Weak<Watch>,
    nth: u64,
}

impl ProbeTask {
    async fn run(self) {
        for probes in 0.. {
            let Some(pause) = self.watch.upgrade().and_then(|watch| watch.next_pause(self.nth, probes)) else {
                return;
            };
            // The watch is not held during the pause: a member that leaves the list is not probed.
            sleep(pause).await;
            let Some(watch) = self.watch.upgrade() else { return };
            // It may have come back meanwhile, and been doubted.
            if watch.is_down() && watch.may_probe() {
                watch.probe(None).await;
            }
        }
    }
}

impl Drop for ProbeTask {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.upgrade() {
            let mut state = watch.lock();
            state.probing = state.probing.take().filter(|task| task.nth != self.nth);
        }
    }
}
