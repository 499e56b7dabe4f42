//! The support of the tests of `role`: real processes on ports of their own, and an origin that the
//! test controls.
#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod child;
pub mod cluster;
pub mod load;
pub mod origin;
pub mod ports;
pub mod required;

use std::{future::Future, time::Duration};

/// A time longer than any step of a test takes on a busy machine.
const WATCHDOG: Duration = Duration::from_secs(60);
/// A time below the flags' defaults of 30 s: an event within it happens because a flag says so.
pub const SOONER_THAN_THE_DEFAULTS: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Waits for `what`, and fails the test rather than wait for ever.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(WATCHDOG, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {WATCHDOG:?}"),
    }
}

/// Looks again and again until `what` is there.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        let mut ticks = tokio::time::interval(LOOK_AGAIN);
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    })
    .await
}

/// Lets this process have `count` files open, if the system starts it with a lower limit.
pub fn open_files(count: u64) {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let wanted = limit.maximum.map_or(count, |maximum| maximum.min(count));
        if limit.current.is_some_and(|current| current < wanted) {
            setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })
                .expect("a limit may be raised up to its maximum");
        }
    }
}
