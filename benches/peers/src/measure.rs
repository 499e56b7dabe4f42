//! The callers: each asks for one key, or batch, after another.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    say,
    setting::{SLOW_LOAD, SLOW_PREFIX, Setting},
    system::System,
};

/// Time in which keys are asked for before anything is measured.
const WARM_UP: Duration = Duration::from_millis(300);
/// The time that the measuring process has to look at us before the callers start.
const PAUSE: Duration = Duration::from_millis(100);
/// Few histograms for all callers, so that those of 256 do not weigh in the memory that is
/// measured.
const HISTOGRAMS: usize = 8;
/// Far beyond what anybody waits here, in nanoseconds.
const MAX_LATENCY: u64 = 60_000_000_000;

/// The client, from filling the server to the report.
pub async fn client(system: impl System, setting: Setting) -> Result<()> {
    let keys = system.fill(&setting).await.context("cannot fill the server")?;
    let slow_keys = if setting.slow_every > 0 { far_slow_keys(&system, &setting) } else { vec![] };
    let shared = Arc::new(Shared { system, setting, keys, slow_keys, next_slow: AtomicU64::new(0) });
    Round::new(&shared).run(WARM_UP).await?;
    say(&json!({ "warm": true }));
    tokio::time::sleep(PAUSE).await;
    let before = shared.system.crossed().await?;
    let round = Round::new(&shared);
    let took = round.run(Duration::from_secs_f64(shared.setting.seconds)).await?;
    let crossed = shared.system.crossed().await? - before;
    say(&round.report(took, crossed));
    Ok(())
}

/// Lists as many slow keys as the callers could ask for if they asked for nothing else: a key is
/// slow once, and cached then.
fn far_slow_keys(system: &impl System, setting: &Setting) -> Vec<String> {
    let seconds = setting.seconds + WARM_UP.as_secs_f64() + SLOW_LOAD.as_secs_f64();
    let most = setting.callers * (seconds / SLOW_LOAD.as_secs_f64()).ceil() as usize;
    let keys = (0..).map(|number| format!("{SLOW_PREFIX}{number:011}"));
    keys.filter(|key| system.is_far(key)).take(most).collect()
}

struct Shared<S> {
    system: S,
    setting: Setting,
    keys: Vec<String>,
    slow_keys: Vec<String>,
    next_slow: AtomicU64,
}

/// State that the callers of one stretch of time share.
struct Round<S> {
    shared: Arc<Shared<S>>,
    gets: AtomicU64,
    slow: AtomicU64,
    histograms: [Mutex<Histogram<u64>>; HISTOGRAMS],
}

impl<S: System> Round<S> {
    fn new(shared: &Arc<Shared<S>>) -> Arc<Self> {
        let histogram = |_| Mutex::new(Histogram::new_with_max(MAX_LATENCY, 3).expect("the bounds are good"));
        Arc::new(Round {
            shared: shared.clone(),
            gets: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            histograms: std::array::from_fn(histogram),
        })
    }

    /// Returns how long it took, to the last answer.
    async fn run(self: &Arc<Self>, length: Duration) -> Result<Duration> {
        let started = Instant::now();
        let mut callers = JoinSet::new();
        for caller in 0..self.shared.setting.callers {
            let round = self.clone();
            callers.spawn(async move { round.call(caller, started + length).await });
        }
        while let Some(ended) = callers.join_next().await {
            ended.context("a caller panicked")??;
        }
        Ok(started.elapsed())
    }

    async fn call(&self, caller: usize, end: Instant) -> Result<()> {
        let batch = self.shared.setting.batch as u64;
        let mut now = Instant::now();
        for turn in 0.. {
            if now >= end {
                break;
            }
            let slow = self.is_slow(caller, turn);
            self.ask(caller, turn, slow).await?;
            let then = Instant::now();
            if !slow {
                let mut histogram = self.histograms[caller % HISTOGRAMS].lock().expect("nobody panics");
                histogram.saturating_record((then - now).as_nanos() as u64);
            }
            self.gets.fetch_add(batch, Relaxed);
            now = then;
        }
        Ok(())
    }

    /// Each caller has its share of slow keys, and not all callers at the same time.
    fn is_slow(&self, caller: usize, turn: usize) -> bool {
        let every = self.shared.setting.slow_every;
        every > 0 && (turn + 37 * caller) % every == every / 2
    }

    async fn ask(&self, caller: usize, turn: usize, slow: bool) -> Result<()> {
        let Shared { system, setting, slow_keys, next_slow, .. } = &*self.shared;
        let bytes = if slow {
            self.slow.fetch_add(1, Relaxed);
            let key = &slow_keys[next_slow.fetch_add(1, Relaxed) as usize];
            system.get(caller, key).await?
        } else if setting.batch > 1 {
            let keys: Vec<&str> = (0..setting.batch).map(|position| self.key(caller, turn, position)).collect();
            system.get_many(caller, &keys).await?
        } else {
            system.get(caller, self.key(caller, turn, 0)).await?
        };
        let expected = setting.value_bytes * setting.batch;
        ensure!(bytes == expected, "got {bytes} bytes, not {expected}: they were not fetched");
        Ok(())
    }

    /// Every caller goes round keys of its own, or one that is not given the processor for long
    /// would ask for what another asks for just then, and the two would share a fetch.
    fn key(&self, caller: usize, turn: usize, position: usize) -> &str {
        let Shared { setting, keys, .. } = &*self.shared;
        &keys[((caller + turn * setting.callers) * setting.batch + position) % keys.len()]
    }

    /// `gets` and `crossed` count keys; the latencies are of single gets or of whole batches,
    /// without those of slow keys.
    fn report(&self, took: Duration, crossed: u64) -> Value {
        let mut all = Histogram::<u64>::new_with_max(MAX_LATENCY, 3).expect("the bounds are good");
        for histogram in &self.histograms {
            all.add(&*histogram.lock().expect("nobody panics")).expect("they have the same bounds");
        }
        let micros = |nanos: u64| nanos as f64 / 1e3;
        json!({
            "gets": self.gets.load(Relaxed),
            "seconds": took.as_secs_f64(),
            "p50_us": micros(all.value_at_quantile(0.5)),
            "p99_us": micros(all.value_at_quantile(0.99)),
            "max_us": micros(all.max()),
            "crossed": crossed,
            "slow": self.slow.load(Relaxed),
        })
    }
}
