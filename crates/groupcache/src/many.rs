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
    cache::entry::{Look, Reader},
    core::{Core, Departure, Trip},
    error::{Error, ErrorKind},
    key::Key,
    members::Owner,
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
    trip: Option<Trip>,
    /// Those that were cached when they were looked for. Their values are taken when they are given, for they may be changed till then.
    cached: VecDeque<(usize, Key)>,
    under_way: FuturesUnordered<Travel<V>>,
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
                trip: None,
                cached: VecDeque::new(),
                under_way: FuturesUnordered::new(),
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

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        while let Some((position, result)) = ready!(Pin::new(&mut self.stream).poll_next(context)) {
            self.results[position] = Some(result.map(|answer| answer.value));
        }
        let results = std::mem::take(&mut self.results);
        Poll::Ready(results.into_iter().map(|result| result.expect("the stream gives every key a result")).collect())
    }
}

impl<V: Value> Stream for GetStream<V> {
    type Item = (usize, Result<Answer<V>, Error>);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.keys.len() > 0 && self.under_way.len() <= UNDER_WAY_MAX / 2 {
            self.depart();
        }
        while let Some((position, key)) = self.cached.pop_front() {
            match self.core.look_up(key.as_bytes(), Reader::Caller, Look::Any, |seen| seen.found()) {
                Some(found) => return Poll::Ready(Some((position, found.answer()))),
                None => self.set_out(vec![(position, key)]),
            }
        }
        let next = ready!(Pin::new(&mut self.under_way).poll_next(context));
        Poll::Ready(next.map(|(position, outcome)| (position, outcome.and_then(|found| found.answer()))))
    }
}

impl<V: Value> GetStream<V> {
    /// Some keys set out. What is cached is ready; the rest goes in one go to the loader, and to each owner.
    fn depart(&mut self) {
        let now_ms = self.core.clock.coarse_ms();
        let free = UNDER_WAY_MAX - self.under_way.len();
        let mut missing = Vec::new();
        // However many are cached, they hold back none that are not.
        for (position, key) in self.keys.by_ref() {
            match self.core.store.cache.peek(key.as_bytes(), Reader::Caller, Look::Any, now_ms) {
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
        let trip = *self
            .trip
            .get_or_insert_with(|| Trip::of_caller(timeout.and_then(|timeout| Instant::now().checked_add(timeout))));
        for (position, key, departure) in self.core.clone().depart_many(missing, trip) {
            let travel = self.core.clone().arrive(position, key, trip, departure);
            self.under_way.push(Box::pin(travel));
        }
    }
}

impl<V: Value> Core<V> {
    fn depart_many(self: &Arc<Self>, keys: Vec<(usize, Key)>, trip: Trip) -> Vec<(usize, Key, Departure<V>)> {
        let view = self.members.view();
        let mut departures = Vec::with_capacity(keys.len());
        // By the owner's position in the list; `None` is this node.
        let mut by_owner: BTreeMap<Option<usize>, Vec<(usize, Key)>> = BTreeMap::new();
        let mut runtime = None;
        for (position, key) in keys {
            match self.prepare(key.as_bytes()) {
                _ if trip.is_over() => {
                    let late = Error::new(ErrorKind::DeadlineExceeded);
                    departures.push((position, key, Departure::failed(late)));
                }
                Err(error) => departures.push((position, key, Departure::failed(error))),
                Ok((key, handle)) => {
                    runtime = Some(handle);
                    by_owner.entry(view.remote_position(key.as_bytes())).or_default().push((position, key));
                }
            }
        }
        let Some(runtime) = runtime else { return departures };
        for (_, keys) in by_owner {
            let wanted: Vec<Key> = keys.iter().map(|(_, key)| key.clone()).collect();
            let first = wanted.first().expect("an owner is there for a key of its").clone();
            let going = match view.owner(first.as_bytes()) {
                Owner::Local => self.load_many(wanted, trip, &runtime),
                Owner::Remote(remote) => self.fetch_many(wanted, remote, view.digest(), trip, &runtime),
            };
            departures.extend(keys.into_iter().zip(going).map(|((position, key), going)| (position, key, going)));
        }
        departures
    }

    async fn arrive(
        self: Arc<Self>,
        position: usize,
        key: Key,
        trip: Trip,
        departure: Departure<V>,
    ) -> (usize, Outcome<V>) {
        let travel = self.travel(key, trip, departure);
        let outcome = match trip.deadline {
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
