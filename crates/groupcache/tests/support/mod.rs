//! Members in one process: what one asks another is a function call that a test can cut, hold or count.
#![allow(dead_code, unused_imports, reason = "each test file uses what it needs")]

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use peercache_groupcache::{Bytes, Clock, GroupBuilder, Groups, Key, LoadError, Members, loader_fn_with};
use tokio::sync::{Notify, Semaphore};

pub mod cluster;
pub mod origin;
pub mod net;
pub mod updates;

pub use net::Net;

pub const GROUP: &str = "roles";

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// As much later than said as the clock may be.
pub const TICK: Duration = Duration::from_millis(10);

#[track_caller]
pub fn assert_about(time: Duration, expected: Duration) {
    assert!(time <= expected + TICK && time + 2 * TICK >= expected, "{time:?} is not about {expected:?}");
}

/// Keys of all members, in no order.
pub fn keys(count: usize) -> Vec<String> {
    (0..count).map(|key| format!("key-{key}")).collect()
}

/// What `future` comes to, which takes a minute of the paused time at most: a test that would hang fails.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(ms(60_000), future).await.expect("it ends within a minute")
}

/// Has all tasks go on until they wait for something; the paused time stands still.
pub async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Polls a future once and lets it go, as a caller that is cancelled does.
pub async fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

/// An origin that counts its calls and lets them through one by one when it is told to.
#[derive(Clone)]
pub struct Origin {
    shared: Arc<OriginShared>,
}

struct OriginShared {
    calls: AtomicUsize,
    called: Notify,
    gate: Option<Semaphore>,
    reply: Box<Replying>,
}

type Replying = dyn Fn(&Key) -> Result<Bytes, LoadError> + Send + Sync;

impl Origin {
    /// Answers at once, with the key.
    pub fn echo() -> Self {
        Origin::replying(|key| Ok(key.clone().into_bytes()))
    }

    pub fn replying(reply: impl Fn(&Key) -> Result<Bytes, LoadError> + Send + Sync + 'static) -> Self {
        Origin::new(None, reply)
    }

    /// Echoes the key once a permit is there; see [`open`](Origin::open).
    pub fn gated() -> Self {
        Origin::gated_replying(|key| Ok(key.clone().into_bytes()))
    }

    pub fn gated_replying(reply: impl Fn(&Key) -> Result<Bytes, LoadError> + Send + Sync + 'static) -> Self {
        Origin::new(Some(Semaphore::new(0)), reply)
    }

    fn new(gate: Option<Semaphore>, reply: impl Fn(&Key) -> Result<Bytes, LoadError> + Send + Sync + 'static) -> Self {
        let shared = OriginShared { calls: AtomicUsize::new(0), called: Notify::new(), gate, reply: Box::new(reply) };
        Origin { shared: Arc::new(shared) }
    }

    /// Lets `calls` more calls through.
    pub fn open(&self, calls: usize) {
        self.shared.gate.as_ref().expect("the origin is gated").add_permits(calls);
    }

    pub fn calls(&self) -> usize {
        self.shared.calls.load(SeqCst)
    }

    /// Waits until the origin has been called so often.
    pub async fn called(&self, calls: usize) {
        while self.calls() < calls {
            let called = self.shared.called.notified();
            if self.calls() < calls {
                called.await;
            }
        }
    }

    async fn load(self, key: Key) -> Result<Bytes, LoadError> {
        self.shared.calls.fetch_add(1, SeqCst);
        self.shared.called.notify_waiters();
        if let Some(gate) = &self.shared.gate {
            gate.acquire().await?.forget();
        }
        (self.shared.reply)(&key)
    }
}

/// A group of one node alone, loading from `origin`.
pub fn alone(origin: &Origin) -> GroupBuilder<Bytes> {
    group_of(&Groups::with_clock(Members::alone(), Clock::tokio()), origin)
}

pub fn group_of(groups: &Groups, origin: &Origin) -> GroupBuilder<Bytes> {
    groups.group(GROUP, loader_fn_with(origin.clone(), Origin::load))
}
