use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, MissedTickBehavior},
};

/// How late the coarse time may be.
const TICK: Duration = Duration::from_millis(10);

/// Milliseconds since the clock was first needed. A hit reads the last tick, which costs a load from memory and no call
/// of the system's clock; what is written is dated exactly.
///
/// Time is tokio's, so that a test that pauses it has it in hand.
#[derive(Default)]
pub(crate) struct Clock {
    epoch: OnceLock<Instant>,
    tick_ms: AtomicU64,
    ticking: AtomicBool,
}

impl Clock {
    /// The time of the last tick.
    pub(crate) fn coarse_ms(&self) -> u64 {
        self.tick_ms.load(Relaxed)
    }

    /// The time `ttl` from now, never 0.
    pub(crate) fn deadline_ms(&self, ttl: Duration) -> u64 {
        self.exact_ms().saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)).max(1)
    }

    /// Makes sure that the clock ticks: on first use, and again if the runtime that it ticked in is gone.
    pub(crate) fn start(self: &Arc<Self>, runtime: &Handle) {
        if self.ticking.load(Relaxed) || self.ticking.swap(true, Relaxed) {
            return;
        }
        self.advance();
        let stop = StopTicking(Arc::downgrade(self));
        runtime.spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let Some(clock) = stop.0.upgrade() else { return };
                clock.advance();
            }
        });
    }

    fn advance(&self) {
        self.tick_ms.fetch_max(self.exact_ms(), Relaxed);
    }

    fn exact_ms(&self) -> u64 {
        let epoch = *self.epoch.get_or_init(Instant::now);
        u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// However the ticking task ends, the next [`Clock::start`] starts another.
struct StopTicking(Weak<Clock>);

impl Drop for StopTicking {
    fn drop(&mut self) {
        if let Some(clock) = self.0.upgrade() {
            clock.ticking.store(false, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_coarse_time_is_at_most_a_tick_late() {
        let clock = Arc::new(Clock::default());
        clock.start(&Handle::current());
        tokio::time::sleep(Duration::from_millis(1_234)).await;
        let late_ms = clock.exact_ms() - clock.coarse_ms();
        assert!(late_ms <= 10, "{late_ms} ms late");
    }

    #[test]
    fn the_clock_ticks_on_in_the_next_runtime() {
        let clock = Arc::new(Clock::default());
        for _ in 0..2 {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
            runtime.block_on(async {
                clock.start(&Handle::current());
                assert!(clock.ticking.load(Relaxed));
            });
        }
        assert!(!clock.ticking.load(Relaxed), "the second runtime is gone as well");
    }
}
