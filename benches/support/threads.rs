//! Work on several threads at once, the time it took, and whether the machine gave it what it could
//! use.

use std::{
    hint::spin_loop,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// The least share of a processor that a thread at work must have had: two of them have 1.8
/// processors then.
const MIN_SHARE: f64 = 0.9;

/// The time that some threads worked.
pub struct Worked {
    /// The time of the slowest.
    pub time: Duration,
    /// Whether the threads had the processors they could have used.
    pub undisturbed: bool,
}

/// Has each thread do the work, all at once. `work` is told which thread it is, and begins when all
/// are there.
pub fn at_once(threads: usize, work: impl Fn(usize) + Sync) -> Worked {
    let waiting = AtomicUsize::new(threads);
    let run = |thread| {
        waiting.fetch_sub(1, SeqCst);
        // No sleep: waking up takes as long as some measurements.
        while waiting.load(SeqCst) > 0 {
            spin_loop();
        }
        let (started, cpu) = (Instant::now(), cpu_time());
        work(thread);
        Span { started, ended: Instant::now(), cpu: cpu_time() - cpu }
    };
    let run = &run;
    let spans: Vec<Span> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let mine = run(0);
        others.into_iter().map(|other| other.join().expect("nobody panics")).chain([mine]).collect()
    });
    let started = spans.iter().map(|span| span.started).min().expect("there are threads");
    let ended = spans.iter().map(|span| span.ended).max().expect("there are threads");
    let cpu: Duration = spans.iter().map(|span| span.cpu).sum();
    Worked {
        time: spans.iter().map(|span| span.ended - span.started).max().expect("there are threads"),
        undisturbed: cpu.as_secs_f64() >= MIN_SHARE * threads as f64 * (ended - started).as_secs_f64(),
    }
}

/// Time for which a thread was at work, and its share of a processor.
struct Span {
    started: Instant,
    ended: Instant,
    cpu: Duration,
}

/// The processor time of the thread that asks.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
