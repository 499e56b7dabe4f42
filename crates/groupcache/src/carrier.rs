//! A tokio runtime that carries work, and the signs of life that callers of other runtimes see.
//!
//! Work that one runtime carries may be awaited in another. If nobody drives the first one any
//! more, its work stands still, and no timer of its own can say so: the runtime of a test that has
//! ended its `block_on` is such a one. So the caller who waits asks for a sign of life: a task that
//! does nothing but count. A slow load is no silence, for the runtime counts on beside it.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    runtime::{Handle, Id},
    time::{Instant, Sleep, sleep},
};

use crate::catch_panic::caught;

/// The time after which a caller of another runtime looks for a sign of life again.
pub(crate) const BEAT: Duration = Duration::from_millis(20);

/// The beats without a sign of life after which a runtime counts as silent: 100 ms. Beats are
/// counted rather than time, so that a process that was stopped as a whole finds nobody silent.
pub(crate) const SILENT_BEATS: u32 = 5;

/// A runtime that carries work.
pub(crate) struct Carrier {
    runtime: Handle,
    /// The signs of life so far.
    life: AtomicU64,
    /// Whether a sign has been asked for and has not come. There is never more than one.
    is_asked: AtomicBool,
    /// The count of `life` at which it was found silent, plus one. Zero is never.
    silent_at: AtomicU64,
    has_gone: AtomicBool,
}

impl Carrier {
    pub(crate) fn new(runtime: Handle) -> Arc<Self> {
        Arc::new(Carrier {
            runtime,
            life: AtomicU64::new(0),
            is_asked: AtomicBool::new(false),
            silent_at: AtomicU64::new(0),
            has_gone: AtomicBool::new(false),
        })
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn id(&self) -> Id {
        self.runtime.id()
    }

    /// Whether work can be given to it, as far as is known.
    pub(crate) fn is_alive(&self) -> bool {
        !self.has_gone.load(Relaxed) && self.silent_at.load(Relaxed) != self.life.load(Relaxed) + 1
    }

    /// Whether it is still there, after work of it was dropped: a runtime that has shut down drops
    /// the next sign of life too.
    pub(crate) fn is_there(self: &Arc<Self>) -> bool {
        self.ask();
        !self.has_gone.load(Relaxed)
    }

    /// The signs of life so far. The next one is on its way when this returns, if the runtime is
    /// driven at all.
    fn ask(self: &Arc<Self>) -> u64 {
        let life = self.life.load(Relaxed);
        if !self.is_asked.swap(true, Relaxed) {
            // A runtime that has shut down drops it here.
            let sign = Sign { carrier: self.clone(), was_given: false };
            self.runtime.spawn(sign.give());
        }
        life
    }
}

/// A sign of life to come.
struct Sign {
    carrier: Arc<Carrier>,
    was_given: bool,
}

impl Sign {
    async fn give(mut self) {
        self.was_given = true;
        self.carrier.life.fetch_add(1, Relaxed);
        self.carrier.is_asked.store(false, Relaxed);
    }
}

impl Drop for Sign {
    fn drop(&mut self) {
        if !self.was_given {
            self.carrier.has_gone.store(true, Relaxed);
        }
    }
}

/// The watch that a caller of another runtime keeps on the carrier of what it waits for.
pub(crate) struct Watch {
    carrier: Arc<Carrier>,
    life: u64,
    beats: u32,
}

impl Watch {
    pub(crate) fn new(carrier: Arc<Carrier>) -> Self {
        let life = carrier.ask();
        Watch { carrier, life, beats: 0 }
    }

    /// Whether the carrier has fallen silent. To be asked once in a [`BEAT`].
    pub(crate) fn is_silent(&mut self) -> bool {
        let life = self.carrier.ask();
        self.beats = if life == self.life { self.beats + 1 } else { 0 };
        self.life = life;
        if self.beats >= SILENT_BEATS {
            self.carrier.silent_at.store(life + 1, Relaxed);
        }
        !self.carrier.is_alive()
    }
}

/// A [`Watch`] with a timer of its own, which belongs to the runtime of the caller.
pub(crate) struct TimedWatch {
    watch: Watch,
    beat: Pin<Box<Sleep>>,
}

impl TimedWatch {
    /// Begins to watch; `None` in a runtime without timers, where nothing can be timed.
    pub(crate) fn new(carrier: Arc<Carrier>) -> Option<Self> {
        let beat = caught("the timer", || Box::pin(sleep(BEAT))).ok()?;
        Some(TimedWatch { watch: Watch::new(carrier), beat })
    }

    pub(crate) fn carrier(&self) -> &Arc<Carrier> {
        &self.watch.carrier
    }

    /// Polls for the silence of the carrier.
    pub(crate) fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.beat.as_mut().poll(cx));
            if self.watch.is_silent() {
                return Poll::Ready(());
            }
            self.beat.as_mut().reset(Instant::now() + BEAT);
        }
    }
}

/// The choice of the runtime that carries a node's work: the one that it was given, else the one
/// that serves its peers, else the caller's.
#[derive(Clone, Default)]
pub(crate) struct NodeRuntime {
    chosen: Arc<Chosen>,
}

#[derive(Default)]
struct Chosen {
    given: OnceLock<Arc<Carrier>>,
    serving: RwLock<Option<Arc<Carrier>>>,
}

impl NodeRuntime {
    /// Gives the runtime; only the first counts.
    pub(crate) fn give(&self, runtime: Handle) {
        let _ = self.chosen.given.set(Carrier::new(runtime));
    }

    /// Notes the runtime that serves. The latest counts.
    pub(crate) fn serve(&self, runtime: Handle) {
        let carrier = Carrier::new(runtime);
        let before = self.chosen.serving.write().unwrap_or_else(PoisonError::into_inner).replace(carrier);
        drop(before);
    }

    /// The runtime to use; `None` is the caller's.
    pub(crate) fn chosen(&self) -> Option<Arc<Carrier>> {
        if let Some(given) = self.chosen.given.get().filter(|given| given.is_alive()) {
            return Some(given.clone());
        }
        let serving = self.chosen.serving.read().unwrap_or_else(PoisonError::into_inner).clone();
        serving.filter(|serving| serving.is_alive())
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier")
            .field("runtime", &self.id())
            .field("is_alive", &self.is_alive())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(peercache_loom)))]
mod tests {
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn a_runtime_that_nobody_drives_falls_silent_and_comes_back() {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let carrier = Carrier::new(runtime.handle().clone());
        let mut watch = Watch::new(carrier.clone());
        let silent_after = (1..).find(|_| watch.is_silent());
        assert_eq!(silent_after, Some(SILENT_BEATS));
        assert!(!carrier.is_alive());
        runtime.block_on(tokio::task::yield_now());
        assert!(carrier.is_alive(), "it has shown life since");
    }

    #[test]
    fn a_runtime_that_is_driven_stays_alive_for_any_number_of_callers() {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let carrier = Carrier::new(runtime.handle().clone());
        let mut watches: Vec<_> = (0..3).map(|_| Watch::new(carrier.clone())).collect();
        for _ in 0..20 {
            runtime.block_on(tokio::task::yield_now());
            assert!(watches.iter_mut().all(|watch| !watch.is_silent()));
        }
    }

    #[test]
    fn a_runtime_that_has_shut_down_is_known_at_once() {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let carrier = Carrier::new(runtime.handle().clone());
        drop(runtime);
        let mut watch = Watch::new(carrier.clone());
        assert!(watch.is_silent() && !carrier.is_alive());
    }

    #[test]
    fn a_runtime_that_was_given_is_preferred_while_it_lives() {
        let [given, serving] = [(); 2].map(|()| Builder::new_current_thread().build().expect("a runtime"));
        let (given_id, serving_id) = (given.handle().id(), serving.handle().id());
        let choice = NodeRuntime::default();
        assert!(choice.chosen().is_none());
        choice.serve(serving.handle().clone());
        choice.give(given.handle().clone());
        assert_eq!(choice.chosen().map(|carrier| carrier.id()), Some(given_id));
        drop(given);
        assert!(!choice.chosen().expect("nobody has asked it yet").is_there());
        assert_eq!(choice.chosen().map(|carrier| carrier.id()), Some(serving_id));
    }
}
