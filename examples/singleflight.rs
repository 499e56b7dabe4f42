//! A hundred requests for one report, which is computed once.
//!
//! ```text
//! cargo run --example singleflight
//! ```

use std::sync::Arc;
use std::time::Duration;

use peercache_singleflight::{CallError, SingleFlight};
use tokio::time::{sleep, timeout};

/// A type that is cheap to clone, since every caller gets one.
type Report = Arc<str>;

/// The reports of your service, to put into its state.
#[derive(Clone, Default)]
struct Reports {
    flight: SingleFlight<u32, Result<Report, String>>,
}

impl Reports {
    async fn report(&self, year: u32) -> Result<Report, CallError<String>> {
        let outcome = self.flight.try_run(year, move || compute(year)).await?;
        if outcome.led {
            println!("{year}: computed once, for others too: {}", outcome.shared);
        }
        Ok(outcome.value)
    }
}

/// Does something slow: a query, a request, a long sum.
async fn compute(year: u32) -> Result<Report, String> {
    sleep(Duration::from_millis(200)).await;
    match year {
        1999 => Err("the records of 1999 burnt".to_owned()),
        2000 => panic!("the year 2000 has come"),
        _ => Ok(format!("all was well in {year}").into()),
    }
}

#[tokio::main]
async fn main() {
    let reports = Reports::default();

    println!("a hundred callers at once:");
    let ask = |year| {
        let reports = reports.clone();
        tokio::spawn(async move { reports.report(year).await })
    };
    let callers: Vec<_> = (0..100).map(|_| ask(2024)).collect();
    for caller in callers {
        let report = caller.await.expect("no caller panics").expect("2024 can be computed");
        assert_eq!(&*report, "all was well in 2024");
    }

    println!("\na caller that leaves early takes nothing from one that stays:");
    let stays = ask(2025);
    let hasty = timeout(Duration::from_millis(50), reports.report(2025)).await;
    println!("hasty: {}", if hasty.is_err() { "gave up after 50 ms" } else { "was lucky" });
    println!("patient: {}", stays.await.expect("no caller panics").expect("2025 can be computed"));

    println!("\na failure and a panic are errors, and the key can be asked again at once:");
    for year in [1999, 1999, 2000] {
        match reports.report(year).await {
            Ok(report) => println!("{report}"),
            Err(CallError::Failed(why)) => println!("{year} failed: {why}"),
            Err(other) => println!("{year} went wrong: {other}"),
        }
    }
}
