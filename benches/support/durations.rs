use std::time::Duration;

use criterion::Criterion;

/// Criterion with short measurements, so that all benches together take some minutes. The command line can say otherwise:
/// `--measurement-time 10`.
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args()
}
