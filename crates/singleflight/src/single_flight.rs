//! The async layer: calls run in tasks of their own, callers wait.

use std::fmt;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use hashbrown::Equivalent;
use tokio::runtime::Handle;

use crate::error::CallError;
use crate::flights::{Flights, Join};
use crate::leader::Leader;
use crate::waiter::Waiter;

/// The default limit of calls: more than a service has at a time, and few enough for its memory.
const MAX_CALLS_DEFAULT: usize = 1 << 16;

/// Runs one call for each key at a time. Callers that ask meanwhile share its result.
///
/// A call belongs to none of its callers. It runs in a task of its own, on the runtime of the
/// caller that started it, and always runs to its end. A caller may time out, be cancelled or
/// simply leave, at any await point, and disturbs neither the call nor another caller.
///
/// When a call panics, or its task is aborted because its runtime shuts down, all waiters get one
/// [`CallError`], and the key can be called again at once. Nothing is remembered once a call has
/// ended: this is no cache.
///
/// The time of a call has no bound but its own: let it have a timeout inside. The number of calls
/// at a time is bounded by [`max_calls`](Self::max_calls).
///
/// Cloning gives another handle to the same flights.
///
/// ```
/// use peercache_singleflight::SingleFlight;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), peercache_singleflight::CallError> {
/// let flight = SingleFlight::new();
/// let square = |n: u64| flight.run(n, move || async move { n * n });
/// let (one, other) = tokio::join!(square(7), square(7));
/// assert_eq!((one?.value, other?.value), (49, 49)); // computed once
/// # Ok(())
/// # }
/// ```
pub struct SingleFlight<K, T, S = RandomState> {
    flights: Flights<K, Result<T, CallError>, S>,
    running: Arc<AtomicUsize>,
    max_calls: usize,
}

/// A call's value, and whether this caller started the call or shared it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome<T> {
    /// The value that the call returned. Every caller gets a clone.
    pub value: T,
    /// Whether more than one caller asked for this call's result.
    pub shared: bool,
    /// Whether this caller started the call, for the others too if it is `shared`.
    pub led: bool,
}

impl<K, T> SingleFlight<K, T> {
    /// Makes one without flights, which hashes keys as std's `HashMap` does.
    pub fn new() -> Self {
        Self::with_hasher(RandomState::new())
    }
}

impl<K, T, S> SingleFlight<K, T, S> {
    /// Makes one without flights, with a hasher of your own.
    ///
    /// Where strangers choose the keys, let it be seeded.
    pub fn with_hasher(hasher: S) -> Self {
        Self { flights: Flights::with_hasher(hasher), running: Arc::default(), max_calls: MAX_CALLS_DEFAULT }
    }

    /// Sets the most calls that run at a time, over all handles, with those that were forgotten.
    ///
    /// One more is refused with [`CallError::TooManyCalls`]. To join one that runs is always
    /// allowed. Defaults to 65,536.
    #[must_use]
    pub fn max_calls(mut self, max: usize) -> Self {
        self.max_calls = max;
        self
    }

    /// The number of keys in flight: exact when nothing moves meanwhile.
    pub fn len(&self) -> usize {
        self.flights.len()
    }

    /// Whether no key is in flight.
    pub fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }
}

impl<K: Hash + Eq, T, S: BuildHasher> SingleFlight<K, T, S> {
    /// Lets the next caller of `key` start a new call even while one runs, and says whether one
    /// runs.
    ///
    /// Waiters of the old call still get its result. This is for when the data has changed: a
    /// caller that asks after `forget` never gets a value that was read before.
    pub fn forget<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        self.flights.forget(key)
    }
}

impl<K, T, S> SingleFlight<K, T, S>
where
    K: Hash + Eq + Send + 'static,
    T: Clone + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Waits for the call that runs for `key`, or starts `call` if none does.
    ///
    /// Only a started `call` is ever invoked, in its own task. Nothing happens before the first
    /// poll. Every caller gets a clone: let `T` be cheap to clone, such as an `Arc`.
    #[doc(alias = "get_with")]
    ///
    /// # Errors
    ///
    /// [`CallError::Panicked`] and [`CallError::Aborted`] if the call did not end by returning,
    /// [`CallError::TooManyCalls`] and [`CallError::NoRuntime`] if it could not be started.
    pub async fn run<F, Fut>(&self, key: K, call: F) -> Result<Outcome<T>, CallError>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + Send + 'static,
    {
        let (mut waiter, led) = self.join(key, call);
        let value = (&mut waiter).await??;
        let shared = waiter.shared();
        Ok(Outcome { value, shared, led })
    }

    fn join<F, Fut>(&self, key: K, call: F) -> (Waiter<Result<T, CallError>>, bool)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + Send + 'static,
    {
        let join = self.flights.lock(&key).join(key);
        match join {
            Join::Wait(waiter) => (waiter, false),
            Join::Lead(leader) => {
                let waiter = leader.waiter();
                self.start(leader, call);
                (waiter, true)
            }
        }
    }

    /// Starts a task that owns the leader. When the task ends in any way, the leader tells the
    /// waiters.
    fn start<F, Fut>(&self, leader: Leader<K, Result<T, CallError>, S>, call: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + Send + 'static,
    {
        let Some(running) = Running::begin(&self.running, self.max_calls) else {
            return leader.finish(Err(CallError::TooManyCalls { max: self.max_calls }));
        };
        let Ok(runtime) = Handle::try_current() else {
            return leader.finish(Err(CallError::NoRuntime));
        };
        runtime.spawn(async move {
            let result = catch_panic(call).await;
            // The place is free before the waiters are woken, so that each may start a call.
            drop(running);
            leader.finish(result);
        });
    }
}

impl<K, V, E, S> SingleFlight<K, Result<V, E>, S>
where
    K: Hash + Eq + Send + 'static,
    V: Clone + Send + 'static,
    E: Clone + Send + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Does as [`run`](Self::run) with a call that may fail.
    ///
    /// Its error is the [`CallError::Failed`] of all waiters, and the next caller calls again. Many
    /// errors cannot be cloned. An `Arc` of them can, and `?` makes one by itself:
    ///
    /// ```
    /// use std::{io, sync::Arc};
    /// use peercache_singleflight::{CallError, SingleFlight};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let files: SingleFlight<&str, Result<String, Arc<io::Error>>> = SingleFlight::new();
    /// let read = |path: &'static str| {
    ///     files.try_run(path, move || async move { Ok(std::fs::read_to_string(path)?) })
    /// };
    /// match read("no such file").await {
    ///     Ok(outcome) => println!("{}", outcome.value),
    ///     Err(CallError::Failed(error)) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
    ///     Err(other) => panic!("{other}"),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CallError::Failed`] with the call's error, and those of [`run`](Self::run).
    #[doc(alias = "try_get_with")]
    pub async fn try_run<F, Fut>(&self, key: K, call: F) -> Result<Outcome<V>, CallError<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        let outcome = self.run(key, call).await.map_err(CallError::widen)?;
        let value = outcome.value.map_err(CallError::Failed)?;
        Ok(Outcome { value, shared: outcome.shared, led: outcome.led })
    }
}

/// Awaits the call. A panic in it, or in the making of its future, becomes an error.
async fn catch_panic<F, Fut>(call: F) -> Result<Fut::Output, CallError>
where
    F: FnOnce() -> Fut,
    Fut: Future,
{
    let mut call = pin!(async move { call().await });
    poll_fn(|context| {
        // Unwind safe: a future that panicked is not polled again, only dropped.
        match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(CallError::panicked(&*panic))),
        }
    })
    .await
}

/// The place of a running call among `max_calls`, until it is dropped.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(running: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let began = Self(Arc::clone(running));
        let before = running.fetch_add(1, Ordering::Relaxed);
        (before < max).then_some(began)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<K, T, S> Clone for SingleFlight<K, T, S> {
    /// Makes another handle to the same flights.
    fn clone(&self) -> Self {
        Self { flights: self.flights.clone(), running: Arc::clone(&self.running), max_calls: self.max_calls }
    }
}

impl<K, T, S: Default> Default for SingleFlight<K, T, S> {
    fn default() -> Self {
        Self::with_hasher(S::default())
    }
}

impl<K, T, S> fmt::Debug for SingleFlight<K, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight")
            .field("running", &self.running.load(Ordering::Relaxed))
            .field("max_calls", &self.max_calls)
            .finish_non_exhaustive()
    }
}
