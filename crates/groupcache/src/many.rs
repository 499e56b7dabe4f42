//! Many gets at once: how many keys are in flight, and in which order they are given.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    iter::Enumerate,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
    vec::IntoIter,
};

use futures_core::Stream;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout_at;

use crate::{
    answer::Answer,
    cache::entry::{Freshness, Requester},
    core::Core,
    core::get_context::GetContext,
    core::join::Started,
    error::{Error, ErrorKind},
    key::Key,
    store::flight::Outcome,
    value::Value,
};

/// Many gets in progress, made by [`Group::get_many`](crate::Group::get_many): a future of their
/// results, in the order of the keys.
///
/// Nothing happens until it is first polled.
#[must_use = "a get does nothing unless it is awaited"]
pub struct GetMany<V> {
    stream: GetStream<V>,
    results: Vec<Option<Result<V, Error>>>,
}

/// Many gets in progress, each given as it comes with the position of its key. Made by
/// [`GetMany::stream`].
#[must_use = "a get does nothing unless it is polled"]
pub struct GetStream<V> {
    core: Core<V>,
    /// The keys that have not been looked up yet, with their positions.
    keys: Enumerate<IntoIter<Key>>,
    timeout: Option<Duration>,
    /// The terms of all its gets, made at the first poll.
    context: Option<GetContext>,
    /// The keys that were cached when they were looked for. Their values are read when they are
    /// given: they may change until then.
    cached: VecDeque<(usize, Key)>,
    in_flight: FuturesUnordered<InFlight<V>>,
}

/// The most keys in flight for one call. A great many at once would take all permits from others,
/// or be refused for want of them. The next are started when half of these have come.
const MAX_IN_FLIGHT: usize = 1_024;

type InFlight<V> = Pin<Box<dyn Future<Output = (usize, Outcome<V>)> + Send>>;

impl<V: Value> GetMany<V> {
    pub(crate) fn new(core: Core<V>, keys: Vec<Key>) -> Self {
        let results = keys.iter().map(|_| None).collect();
        let keys = keys.into_iter().enumerate();
        GetMany {
            stream: GetStream {
                core,
                keys,
                timeout: None,
                context: None,
                cached: VecDeque::new(),
                in_flight: FuturesUnordered::new(),
            },
            results,
        }
    }

    /// Bounds the wait for each key, as [`Get::timeout`](crate::Get::timeout) does.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.stream.timeout = Some(timeout);
        self
    }

    /// Gives the results one by one, as they come, each with the position of its key.
    pub fn stream(self) -> GetStream<V> {
        self.stream
    }
}

impl<V: Value> Future for GetMany<V> {
    type Output = Vec<Result<V, Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        while let Some((position, result)) = ready!(Pin::new(&mut self.stream).poll_next(cx)) {
            self.results[position] = Some(result.map(|answer| answer.value));
        }
        let results = std::mem::take(&mut self.results);
        Poll::Ready(results.into_iter().map(|result| result.expect("the stream gives every key a result")).collect())
    }
}

impl<V: Value> Stream for GetStream<V> {
    type Item = (usize, Result<Answer<V>, Error>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.keys.len() > 0 && self.in_flight.len() <= MAX_IN_FLIGHT / 2 {
            self.start_next();
        }
        while let Some((position, key)) = self.cached.pop_front() {
            match self.core.look_up(key.as_bytes(), Requester::Local, Freshness::AllowStale, |seen| seen.found()) {
                Some(found) => return Poll::Ready(Some((position, found.answer()))),
                // It has left the cache since it was looked for.
                None => self.start(vec![(position, key)]),
            }
        }
        let next = ready!(Pin::new(&mut self.in_flight).poll_next(cx));
        Poll::Ready(next.map(|(position, outcome)| (position, outcome.and_then(|found| found.answer()))))
    }
}

impl<V: Value> GetStream<V> {
    /// Starts as many keys as may be in flight. Cached ones are ready, and hold back none that are
    /// not.
    fn start_next(&mut self) {
        let state = &self.core.state;
        let now_ms = state.clock.coarse_ms();
        let free = MAX_IN_FLIGHT - self.in_flight.len();
        let mut missing = Vec::new();
        for (position, key) in self.keys.by_ref() {
            match state.store.peek(key.as_bytes(), Requester::Local, Freshness::AllowStale, now_ms) {
                Some(_) => self.cached.push_back((position, key)),
                None => missing.push((position, key)),
            }
            if missing.len() == free {
                break;
            }
        }
        self.start(missing);
    }

    fn start(&mut self, missing: Vec<(usize, Key)>) {
        let context = *self.context.get_or_insert_with(|| GetContext::for_caller(self.timeout));
        for (position, key, started) in self.core.start_many(missing, context) {
            let waiting = wait(self.core.clone(), position, key, context, started);
            self.in_flight.push(Box::pin(waiting));
        }
    }
}

/// Waits for one of many keys, until the deadline at most.
async fn wait<V: Value>(
    core: Core<V>,
    position: usize,
    key: Key,
    context: GetContext,
    started: Started<V>,
) -> (usize, Outcome<V>) {
    let outcome = core.wait(&key, context, started);
    let outcome = match context.deadline {
        None => outcome.await,
        Some(deadline) => {
            let late = |_| Err(Error::new(ErrorKind::DeadlineExceeded));
            timeout_at(deadline, outcome).await.unwrap_or_else(late)
        }
    };
    (position, outcome)
}

/// Nothing in it is pinned in place.
impl<V> Unpin for GetMany<V> {}

impl<V> fmt::Debug for GetMany<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetMany").field("keys", &self.results.len()).finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for GetStream<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetStream").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
