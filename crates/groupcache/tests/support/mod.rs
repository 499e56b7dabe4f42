//! Members in one process: messages between them are function calls that a test can cut, hold or
//! count.
#![allow(dead_code, unused_imports, reason = "each test file uses what it needs")]

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Mutex,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::sync::Notify;

pub mod cluster;
pub mod net;
pub mod origin;
pub mod updates;

/// The group of every test.
pub const GROUP: &str = "roles";

/// The error of the clock: it may be late by this much.
pub const TICK: Duration = Duration::from_millis(10);

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[track_caller]
pub fn assert_about(time: Duration, expected: Duration) {
    assert!(time <= expected + TICK && time + 2 * TICK >= expected, "{time:?} is not about {expected:?}");
}

/// Keys of all members, in no order.
pub fn keys(count: usize) -> Vec<String> {
    (0..count).map(|key| format!("key-{key}")).collect()
}

/// The output of `future`, which takes a minute of the paused time at most: a test that would hang
/// fails.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(ms(60_000), future).await.expect("it ends within a minute")
}

/// Has all tasks go on until they wait for something; the paused time stands still.
pub async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Polls a future once and drops it, as a caller does that is cancelled.
pub async fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

/// The output of a future that is polled outside every runtime and has nothing to wait for.
pub fn outside_a_runtime<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing to wait for"),
    }
}

/// A state that can be waited for.
#[derive(Default)]
pub struct Watched<T> {
    state: Mutex<T>,
    changed: Notify,
}

impl<T> Watched<T> {
    pub fn read<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        read(&self.state.lock().unwrap())
    }

    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.state.lock().unwrap());
        self.changed.notify_waiters();
        result
    }

    pub async fn until(&self, holds: impl Fn(&T) -> bool) {
        loop {
            let changed = self.changed.notified();
            if self.read(&holds) {
                return;
            }
            changed.await;
        }
    }
}
