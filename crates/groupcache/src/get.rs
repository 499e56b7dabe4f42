use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    answer::Answer,
    cache::entry::{Found, Freshness, Requester},
    core::{Core, GetContext, RETRIES_MAX, Started, too_many_retries},
    error::{Error, ErrorKind},
    store::flight::{FlightResult, Outcome, Waiter, flight_result},
    value::Value,
};

/// A get under way, made by [`Group::get`](crate::Group::get): a future of the value.
///
/// Nothing happens until it is first polled. A fresh hit is ready at that poll, without allocation. It may be dropped at any
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
    waiter: Waiter<V>,
    context: GetContext,
    /// How often it may still depart anew because the key was removed.
    retries: u32,
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

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Detailed { core, key, ref wait, .. } = self.detailed;
        // Most gets are hits, of which nothing but the value is asked.
        if wait.is_none()
            && let Some(value) = core.look_up(key, Requester::Local, Freshness::AllowStale, |seen| seen.value())
        {
            return Poll::Ready(value.ok_or_else(|| Error::new(ErrorKind::NotFound)));
        }
        let answer = ready!(self.detailed.go_on(cx));
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
        self.go_on(cx)
    }
}

impl<V: Value> Detailed<'_, V> {
    /// When nothing was cached, and from then on. Apart from the hit, which stays short for it.
    #[inline(never)]
    fn go_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer<V>, Error>> {
        let outcome = match &mut self.wait {
            None => ready!(self.begin(cx)),
            Some(wait) => ready!(wait.poll(self.core, self.key, cx)),
        };
        let outcome = self.core.arrived(self.key, Requester::Local, outcome);
        Poll::Ready(outcome.and_then(Found::answer))
    }

    fn begin(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<V>> {
        if self.timeout == Some(Duration::ZERO) {
            return Poll::Ready(Err(Error::new(ErrorKind::DeadlineExceeded)));
        }
        // A time beyond what a clock can say is none.
        let context = GetContext::of_caller(self.timeout.and_then(|timeout| Instant::now().checked_add(timeout)));
        let mut retries = RETRIES_MAX;
        let boarded = match self.core.start(self.key, context) {
            Started::Waiting(waiter) => Ok(waiter),
            Started::Done(result) => join_again(self.core, self.key, context, result, &mut retries),
        };
        match boarded {
            Err(outcome) => Poll::Ready(outcome),
            Ok(waiter) => {
                let deadline = context.deadline.map(|deadline| Box::pin(sleep_until(deadline)));
                self.wait.insert(Wait { waiter, context, retries, deadline }).poll(self.core, self.key, cx)
            }
        }
    }
}

impl<V: Value> Wait<V> {
    fn poll(&mut self, core: &Arc<Core<V>>, key: &[u8], cx: &mut Context<'_>) -> Poll<Outcome<V>> {
        while let Poll::Ready(result) = Pin::new(&mut self.waiter).poll(cx) {
            let result = flight_result(result);
            match join_again(core, key, self.context, result, &mut self.retries) {
                Err(outcome) => return Poll::Ready(outcome),
                Ok(waiter) => self.waiter = waiter,
            }
        }
        match &mut self.deadline {
            Some(deadline) => deadline.as_mut().poll(cx).map(|()| Err(Error::new(ErrorKind::DeadlineExceeded))),
            None => Poll::Pending,
        }
    }
}

/// The flight to wait for next, or how it all ended.
fn join_again<V: Value>(
    core: &Arc<Core<V>>,
    key: &[u8],
    context: GetContext,
    mut result: FlightResult<V>,
    retries: &mut u32,
) -> Result<Waiter<V>, Outcome<V>> {
    while let Some(departure) = core.start_again(key, context, &result, retries) {
        match departure {
            Started::Waiting(waiter) => return Ok(waiter),
            Started::Done(next) => result = next,
        }
    }
    match result {
        FlightResult::Done(outcome) => Err(outcome),
        FlightResult::Retry | FlightResult::Abandoned => Err(Err(too_many_retries())),
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
