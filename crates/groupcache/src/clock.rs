//! The time that groups go by: a coarse tick, at which it is done what is due.

pub(crate) mod due;

use std::{
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, time::MissedTickBehavior};

use crate::clock::due::{Alarm, DueQueue, OnTick};

/// The most that the coarse time is late.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// The time that groups go by, at most 10 ms late.
///
/// A hit reads the last tick, which costs a load from memory and no call of the system's clock.
/// Nothing ticks before the first miss, or after the last group of a node is gone. Clones are the
/// same clock.
#[derive(Clone, Debug)]
pub struct Clock {
    ticks: Arc<Ticks>,
}

struct Ticks {
    time: Time,
    tick_ms: AtomicU64,
    /// The latest time of a clock that is always exact.
    latest_ms: AtomicU64,
    ticking: AtomicBool,
    due: Arc<DueQueue>,
}

/// The time when the clock is first needed. It is long after 0, so that a value that a peer loaded
/// before this process began has a time as well.
const EPOCH_MS: u64 = 1 << 40;

/// The tick of a clock that has none: its time is asked for.
const ALWAYS_EXACT: u64 = 0;

enum Time {
    System(OnceLock<Instant>),
    Tokio(OnceLock<tokio::time::Instant>),
    Simulated(Box<dyn Fn() -> Duration + Send + Sync>),
}

impl Clock {
    /// The system's time, which is the default. A small thread ticks, so that a runtime that is
    /// busy, idle or gone does not stop the time.
    pub fn system() -> Self {
        Clock::new(Time::System(OnceLock::new()))
    }

    /// Tokio's time, for tests that pause and advance it. A task ticks in the runtime of the first
    /// miss, or of a later one if that is gone, so that what has expired is swept out. A get sees
    /// the exact time.
    pub fn tokio() -> Self {
        Clock::new(Time::Tokio(OnceLock::new()))
    }

    /// The time that `now` says, since some moment, for simulations of processes that are stopped
    /// for a while. It is read as the system's is: by ticks, which a task makes in the runtime of
    /// the first miss. Time that goes back stands still.
    pub fn simulated(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Clock::new(Time::Simulated(Box::new(now)))
    }

    fn new(time: Time) -> Self {
        let first = if matches!(time, Time::Tokio(_)) { ALWAYS_EXACT } else { EPOCH_MS };
        Clock {
            ticks: Arc::new(Ticks {
                time,
                tick_ms: AtomicU64::new(first),
                latest_ms: AtomicU64::new(0),
                ticking: AtomicBool::new(false),
                due: Arc::default(),
            }),
        }
    }

    /// The time of the last tick. Tokio's is always exact, so that a test that advances it sees the
    /// new time at once.
    #[inline]
    pub(crate) fn coarse_ms(&self) -> u64 {
        match self.ticks.tick_ms.load(Relaxed) {
            ALWAYS_EXACT => self.exact_coarse_ms(),
            tick_ms => tick_ms,
        }
    }

    /// The exact time, which does not go back: outside the runtime that pauses it, tokio's time is
    /// the system's.
    #[cold]
    #[inline(never)]
    fn exact_coarse_ms(&self) -> u64 {
        let exact_ms = self.exact_ms();
        self.ticks.latest_ms.fetch_max(exact_ms, Relaxed).max(exact_ms)
    }

    /// The exact time, for which the system's clock is asked.
    pub(crate) fn exact_ms(&self) -> u64 {
        self.ticks.exact_ms()
    }

    /// Brings the coarse time up to the exact one.
    pub(crate) fn advance(&self) {
        self.ticks.advance();
    }

    /// An alarm by which `subscriber` is called at ticks that have something due for it.
    pub(crate) fn alarm(&self, subscriber: Weak<dyn OnTick>) -> Alarm {
        self.ticks.due.alarm(subscriber)
    }

    /// The number of subscribers with something due.
    #[cfg(test)]
    pub(crate) fn due(&self) -> usize {
        self.ticks.due.len()
    }

    /// Starts the clock, unless it ticks, and brings it up to date. Called on every miss.
    pub(crate) fn start(&self, runtime: &Handle) {
        self.ticks.advance();
        if self.ticks.ticking.load(Relaxed) || self.ticks.ticking.swap(true, Relaxed) {
            return;
        }
        let ticker = Ticker(Arc::downgrade(&self.ticks));
        match self.ticks.time {
            Time::Tokio(_) | Time::Simulated(_) => drop(runtime.spawn(ticker.run_in_task())),
            // Where no thread can be had there is one tick a miss, and another attempt at the next.
            Time::System(_) => {
                drop(thread::Builder::new().name("peercache-clock".into()).spawn(|| ticker.run_in_thread()));
            }
        }
    }
}

impl fmt::Debug for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticks").field("tick_ms", &self.tick_ms).finish_non_exhaustive()
    }
}

impl Default for Clock {
    /// [`Clock::system`].
    fn default() -> Self {
        Clock::system()
    }
}

impl Ticks {
    fn advance(&self) {
        let tick_ms = if matches!(self.time, Time::Tokio(_)) { &self.latest_ms } else { &self.tick_ms };
        tick_ms.fetch_max(self.exact_ms(), Relaxed);
    }

    fn tick(&self) {
        self.advance();
        self.due.tick(self.exact_ms());
    }

    fn exact_ms(&self) -> u64 {
        let since_epoch = match &self.time {
            Time::System(epoch) => epoch.get_or_init(Instant::now).elapsed(),
            Time::Tokio(epoch) => epoch.get_or_init(tokio::time::Instant::now).elapsed(),
            Time::Simulated(now) => now(),
        };
        EPOCH_MS.saturating_add(millis(since_epoch))
    }
}

/// A length of time in the clock's whole milliseconds. Cut off at the most that a `u64` holds.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The thread or task that ticks. However it ends, the next [`Clock::start`] starts another.
struct Ticker(Weak<Ticks>);

impl Ticker {
    fn run_in_thread(self) {
        while self.tick() {
            thread::sleep(TICK);
        }
    }

    async fn run_in_task(self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while self.tick() {
            ticks.tick().await;
        }
    }

    /// Ticks once; false when nobody is left who could read the time.
    fn tick(&self) -> bool {
        self.0.upgrade().map(|ticks| ticks.tick()).is_some()
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if let Some(ticks) = self.0.upgrade() {
            ticks.ticking.store(false, Relaxed);
        }
    }
}

#[cfg(all(test, not(peercache_loom)))]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
    }

    #[tokio::test(start_paused = true)]
    async fn tokios_time_is_exact_as_soon_as_it_is_advanced() {
        let clock = Clock::tokio();
        clock.start(&Handle::current());
        let before = clock.coarse_ms();
        tokio::time::advance(Duration::from_millis(1_234)).await;
        assert_eq!(clock.coarse_ms() - before, 1_234);
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_time_is_read_by_ticks() {
        let start = tokio::time::Instant::now();
        let clock = Clock::simulated(move || start.elapsed());
        clock.start(&Handle::current());
        tokio::task::yield_now().await;
        let before = clock.coarse_ms();
        tokio::time::advance(TICK / 2).await;
        assert_eq!((clock.coarse_ms() - before, clock.exact_ms() - before), (0, 5));
        tokio::time::sleep(TICK).await;
        assert_eq!(clock.coarse_ms() - before, 10);
    }

    #[test]
    fn tokios_time_ticks_on_in_the_next_runtime() {
        let clock = Clock::tokio();
        for _ in 0..2 {
            runtime().block_on(async {
                clock.start(&Handle::current());
                assert!(clock.ticks.ticking.load(Relaxed));
            });
        }
        assert!(!clock.ticks.ticking.load(Relaxed), "the second runtime is gone as well");
    }

    #[test]
    fn the_systems_time_goes_on_without_a_runtime() {
        let clock = Clock::system();
        clock.start(runtime().handle());
        let before = clock.coarse_ms();
        // An event is waited for; a clock that stands still hangs the test.
        while clock.coarse_ms() == before {
            thread::yield_now();
        }
    }

    #[test]
    fn nothing_ticks_for_a_clock_that_is_gone() {
        let clock = Clock::system();
        clock.start(runtime().handle());
        let ticks = Arc::downgrade(&clock.ticks);
        drop(clock);
        while ticks.strong_count() > 0 {
            thread::yield_now();
        }
        assert!(!Ticker(ticks).tick());
    }
}
