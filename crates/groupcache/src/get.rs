//! One get, as a future: what it does at each poll.

use std::{
    fmt,
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep_until};

use crate::{
    answer::Answer,
    cache::entry::{Found, Freshness, Requester},
    core::flight_wait::FlightWait,
    core::get_context::GetContext,
    core::join::Started,
    core::{Core, MAX_RETRIES},
    error::{Error, ErrorKind},
    store::flight::Outcome,
    value::Value,
};

/// A get in progress, made by [`Group::get`](crate::Group::get): a future of the value.
///
/// Nothing happens until it is first polled. A fresh hit is ready at that poll, without allocation.
/// It may be dropped at any time: a load that it started goes on and is cached.
#[must_use = "a get does nothing unless it is awaited"]
pub struct Get<'a, V> {
    detailed: Detailed<'a, V>,
}

/// A get as [`Get`] is, whose result says where the value came from. Made by [`Get::detailed`].
#[must_use = "a get does nothing unless it is awaited"]
pub struct Detailed<'a, V> {
    core: &'a Core<V>,
    key: &'a [u8],
    timeout: Option<Duration>,
    wait: Option<Wait<V>>,
}

/// The state of a get that waits for a flight.
struct Wait<V> {
    wait: FlightWait<V>,
    context: GetContext,
    /// The times that it may still start again because the key was removed.
    retries: u32,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<'a, V: Value> Get<'a, V> {
    pub(crate) fn new(core: &'a Core<V>, key: &'a [u8]) -> Self {
        Get { detailed: Detailed { core, key, timeout: None, wait: None } }
    }

    /// Bounds the wait, counted from the first poll. After it the get is an error of kind
    /// [`DeadlineExceeded`](ErrorKind::DeadlineExceeded); the load goes on for others and is
    /// cached. A cached value is answered even with a timeout of zero, which never starts a load.
    /// Defaults to no bound but the load's own.
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

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Detailed { core, key, ref wait, .. } = self.detailed;
        // Most gets are hits, of which nothing but the value is asked.
        if wait.is_none()
            && let Some(value) = core.look_up(key, Requester::Local, Freshness::AllowStale, |seen| seen.value())
        {
            return Poll::Ready(value.ok_or_else(|| Error::new(ErrorKind::NotFound)));
        }
        let answer = ready!(self.detailed.poll_miss(cx));
        Poll::Ready(answer.map(|answer| answer.value))
    }
}

impl<V: Value> Future for Detailed<'_, V> {
    type Output = Result<Answer<V>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.wait.is_none()
            && let Some(found) =
                self.core.look_up(self.key, Requester::Local, Freshness::AllowStale, |seen| seen.found())
        {
            return Poll::Ready(found.answer());
        }
        self.poll_miss(cx)
    }
}

impl<V: Value> Detailed<'_, V> {
    /// Goes on after a miss. It is not inlined, which keeps the code of a hit short.
    #[inline(never)]
    fn poll_miss(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer<V>, Error>> {
        let outcome = match &mut self.wait {
            None => ready!(self.start(cx)),
            Some(wait) => ready!(wait.poll(self.core, self.key, cx)),
        };
        let outcome = self.core.or_stale(self.key, Requester::Local, outcome);
        Poll::Ready(outcome.and_then(Found::answer))
    }

    fn start(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<V>> {
        if self.timeout == Some(Duration::ZERO) {
            return Poll::Ready(Err(Error::new(ErrorKind::DeadlineExceeded)));
        }
        let context = GetContext::for_caller(self.timeout);
        let mut retries = MAX_RETRIES;
        match next_wait(self.core, self.key, context, self.core.start(self.key, context), &mut retries) {
            ControlFlow::Break(outcome) => Poll::Ready(outcome),
            ControlFlow::Continue(wait) => {
                let deadline = context.deadline.map(|deadline| Box::pin(sleep_until(deadline)));
                self.wait.insert(Wait { wait, context, retries, deadline }).poll(self.core, self.key, cx)
            }
        }
    }
}

impl<V: Value> Wait<V> {
    fn poll(&mut self, core: &Core<V>, key: &[u8], cx: &mut Context<'_>) -> Poll<Outcome<V>> {
        while let Poll::Ready(result) = Pin::new(&mut self.wait).poll(cx) {
            match next_wait(core, key, self.context, Started::Done(result), &mut self.retries) {
                ControlFlow::Break(outcome) => return Poll::Ready(outcome),
                ControlFlow::Continue(wait) => self.wait = wait,
            }
        }
        match &mut self.deadline {
            Some(deadline) => deadline.as_mut().poll(cx).map(|()| Err(Error::new(ErrorKind::DeadlineExceeded))),
            None => Poll::Pending,
        }
    }
}

/// The flight to wait for, or the outcome of the get if there is none.
fn next_wait<V: Value>(
    core: &Core<V>,
    key: &[u8],
    context: GetContext,
    mut started: Started<V>,
    retries: &mut u32,
) -> ControlFlow<Outcome<V>, FlightWait<V>> {
    loop {
        started = match started {
            Started::Waiting(wait) => return ControlFlow::Continue(wait),
            Started::Done(result) => core.retry(key, context, result, retries)?,
        }
    }
}

impl<V> Found<V> {
    /// The answer that a caller sees; a "not found" is an error to it.
    pub(crate) fn answer(self) -> Result<Answer<V>, Error> {
        let (age, remaining) = (self.age(), self.remaining());
        let value = self.value.ok_or_else(|| Error::new(ErrorKind::NotFound))?;
        Ok(Answer { value, source: self.source, age, remaining })
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
