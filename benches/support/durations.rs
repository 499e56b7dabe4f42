//! Times: for how long criterion measures, and how long something takes.

use std::time::{Duration, Instant};

use criterion::Criterion;

/// Criterion with short measurements, so that all benches together take some minutes. The command
/// line can say otherwise: `--measurement-time 10`.
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1_500))
        // A tenth of the usual: resampling would take as long as measuring.
        .nresamples(10_000)
        .without_plots()
        .configure_from_args()
}

/// The time that something takes.
pub fn elapsed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}
