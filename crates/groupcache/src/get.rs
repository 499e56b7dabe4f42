use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

use crate::{
    Answer, Error, ErrorKind, Value,
    cache::Reader,
    core::{Core, Departure},
    flight::{Outcome, Passenger, landed},
};

/// A get under way, made by [`Group::get`](crate::Group::get): a future of the value.
///
/// Nothing happens until it is first polled. A hit is ready at that poll, without allocation. It may be dropped at any
/// time: a load that it started goes on and is cached.
#[must_use = "a get does nothing unless it is awaited"]
pub struct Get<'a, V> {
    detailed: Detailed<'a, V>,
}

/// As [`Get`], with where the value came from. Made by [`Get::detailed`].
#[must_use = "a get does nothing unless it is awaited"]
pub struct Detailed<'a, V> {
    core: &'a Arc<Core<V>>,
    key: &'a [u8],
    timeout: Option<Duration>,
    wait: Option<Wait<V>>,
}

struct Wait<V> {
    passenger: Passenger<V>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<'a, V: Value> Get<'a, V> {
    pub(crate) fn new(core: &'a Arc<Core<V>>, key: &'a [u8]) -> Self {
        Get { detailed: Detailed { core, key, timeout: None, wait: None } }
    }

    /// Waits at most so long, counted from the first poll; then the get is an error of kind
    /// [`DeadlineExceeded`](ErrorKind::DeadlineExceeded). The load goes on for others and is cached. What is cached is
    /// answered even with a timeout of zero, which never starts a load. Defaults to no bound but the load's own.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.detailed.timeout = Some(timeout);
        self
    }

    /// Asks for an [`Answer`], which says where the value came from.
    pub fn detailed(self) -> Detailed<'a, V> {
        self.detailed
    }
}

impl<V: Value> Future for Get<'_, V> {
    type Output = Result<V, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.detailed).poll(context));
        Poll::Ready(answer.map(|answer| answer.value))
    }
}

impl<V: Value> Future for Detailed<'_, V> {
    type Output = Result<Answer<V>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        match &mut this.wait {
            None => this.begin(context),
            Some(wait) => wait.poll(context),
        }
    }
}

impl<V: Value> Detailed<'_, V> {
    fn begin(&mut self, context: &mut Context<'_>) -> Poll<Outcome<V>> {
        if let Some(hit) = self.core.look_up(self.key, Reader::Caller) {
            return Poll::Ready(Ok(hit.into()));
        }
        if self.timeout == Some(Duration::ZERO) {
            return Poll::Ready(Err(Error::new(ErrorKind::DeadlineExceeded)));
        }
        match self.core.depart(self.key) {
            Departure::Landed(outcome) => Poll::Ready(outcome),
            Departure::Waiting(passenger) => {
                let deadline = self.timeout.map(|timeout| Box::pin(sleep(timeout)));
                self.wait.insert(Wait { passenger, deadline }).poll(context)
            }
        }
    }
}

impl<V: Value> Wait<V> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome<V>> {
        if let Poll::Ready(outcome) = Pin::new(&mut self.passenger).poll(context) {
            return Poll::Ready(landed(outcome));
        }
        match &mut self.deadline {
            Some(deadline) => deadline.as_mut().poll(context).map(|()| Err(Error::new(ErrorKind::DeadlineExceeded))),
            None => Poll::Pending,
        }
    }
}

impl<V> fmt::Debug for Get<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Get").field("timeout", &self.detailed.timeout).finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for Detailed<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detailed").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
