use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use crate::{
    answer::Answer,
    cache::entry::{Freshness, Requester},
    core::{Core, GetContext, Started},
    error::{Error, ErrorKind},
    key::Key,
    members::view::Owner,
    store::flight::Outcome,
    value::Value,
};

/// Many gets under way, made by [`Group::get_many`](crate::Group::get_many): a future of their results, in the order of the keys.
///
/// Nothing happens until it is first polled.
#[must_use = "a get does nothing unless it is awaited"]
pub struct GetMany<V> {
    stream: GetStream<V>,
    results: Vec<Option<Result<V, Error>>>,
}

/// Many gets under way, each given as it comes with the position of its key. Made by [`GetMany::stream`].
#[must_use = "a get does nothing unless it is polled"]
pub struct GetStream<V> {
    core: Arc<Core<V>>,
    /// Those that have not departed yet, with their positions.
    keys: std::iter::Enumerate<std::vec::IntoIter<Key>>,
    timeout: Option<Duration>,
    /// From the first poll on.
    context: Option<GetContext>,
    /// Those that were cached when they were looked for. Their values are taken when they are given, for they may be changed till then.
    cached: VecDeque<(usize, Key)>,
    in_flight: FuturesUnordered<Travel<V>>,
}

/// The most keys that are under way for one call: a great many are not to take all turns and permits, nor to be refused for want of
/// them. The next depart when half of them have arrived.
const UNDER_WAY_MAX: usize = 1_024;

type Travel<V> = Pin<Box<dyn Future<Output = (usize, Outcome<V>)> + Send>>;

impl<V: Value> GetMany<V> {
    pub(crate) fn new(core: Arc<Core<V>>, keys: Vec<Key>) -> Self {
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

    /// Waits at most so long for each key, as [`Get::timeout`](crate::Get::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.stream.timeout = Some(timeout);
        self
    }

    /// The results one by one, as they come, each with the position of its key.
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
        if self.keys.len() > 0 && self.in_flight.len() <= UNDER_WAY_MAX / 2 {
            self.start();
        }
        while let Some((position, key)) = self.cached.pop_front() {
            match self.core.look_up(key.as_bytes(), Requester::Local, Freshness::AllowStale, |seen| seen.found()) {
                Some(found) => return Poll::Ready(Some((position, found.answer()))),
                None => self.set_out(vec![(position, key)]),
            }
        }
        let next = ready!(Pin::new(&mut self.in_flight).poll_next(cx));
        Poll::Ready(next.map(|(position, outcome)| (position, outcome.and_then(|found| found.answer()))))
    }
}

impl<V: Value> GetStream<V> {
    /// Some keys set out. What is cached is ready; the rest goes in one go to the loader, and to each owner.
    fn start(&mut self) {
        let now_ms = self.core.clock.coarse_ms();
        let free = UNDER_WAY_MAX - self.in_flight.len();
        let mut missing = Vec::new();
        // However many are cached, they hold back none that are not.
        for (position, key) in self.keys.by_ref() {
            match self.core.store.peek(key.as_bytes(), Requester::Local, Freshness::AllowStale, now_ms) {
                Some(_) => self.cached.push_back((position, key)),
                None => missing.push((position, key)),
            }
            if missing.len() == free {
                break;
            }
        }
        self.set_out(missing);
    }

    fn set_out(&mut self, missing: Vec<(usize, Key)>) {
        let timeout = self.timeout;
        let context = *self.context.get_or_insert_with(|| {
            GetContext::of_caller(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
        });
        for (position, key, departure) in self.core.clone().start_many(missing, context) {
            let travel = self.core.clone().arrive(position, key, context, departure);
            self.in_flight.push(Box::pin(travel));
        }
    }
}

impl<V: Value> Core<V> {
    fn start_many(self: &Arc<Self>, keys: Vec<(usize, Key)>, context: GetContext) -> Vec<(usize, Key, Started<V>)> {
        let view = self.members.view();
        let mut retries = Vec::with_capacity(keys.len());
        // By the owner's position in the list; `None` is this node.
        let mut by_owner: BTreeMap<Option<usize>, Vec<(usize, Key)>> = BTreeMap::new();
        let mut runtime = None;
        for (position, key) in keys {
            match self.prepare(key.as_bytes()) {
                _ if context.is_over() => {
                    let late = Error::new(ErrorKind::DeadlineExceeded);
                    retries.push((position, key, Started::failed(late)));
                }
                Err(error) => retries.push((position, key, Started::failed(error))),
                Ok((key, handle)) => {
                    runtime = Some(handle);
                    by_owner.entry(view.remote_position(key.as_bytes())).or_default().push((position, key));
                }
            }
        }
        let Some(runtime) = runtime else { return retries };
        for (_, keys) in by_owner {
            let wanted: Vec<Key> = keys.iter().map(|(_, key)| key.clone()).collect();
            let first = wanted.first().expect("an owner is there for a key of its").clone();
            let going = match view.owner(first.as_bytes()) {
                Owner::Local => self.load_many(wanted, context, &runtime),
                Owner::Remote(remote) => self.fetch_many(wanted, remote, view.digest(), context, &runtime),
            };
            retries.extend(keys.into_iter().zip(going).map(|((position, key), going)| (position, key, going)));
        }
        retries
    }

    async fn arrive(
        self: Arc<Self>,
        position: usize,
        key: Key,
        context: GetContext,
        departure: Started<V>,
    ) -> (usize, Outcome<V>) {
        let travel = self.travel(key, context, departure);
        let outcome = match context.deadline {
            None => travel.await,
            Some(deadline) => {
                let late = |_| Err(Error::new(ErrorKind::DeadlineExceeded));
                timeout_at(deadline, travel).await.unwrap_or_else(late)
            }
        };
        (position, outcome)
    }
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
