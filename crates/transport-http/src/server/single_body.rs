//! The body of a native answer to one key.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use peercache_groupcache::{Error, PeerReply, Served};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    server::prefixed_body::PrefixedBody,
    server::reply_frames::{RequestLimits, write_head},
    wire::frame,
};

/// The body of a native answer to one key: heartbeats while the load runs, then the answer.
pub(super) struct SingleBody {
    state: State,
    limits: RequestLimits,
}

enum State {
    Loading(Loading),
    Ready(PrefixedBody),
}

struct Loading {
    answer: Pin<Box<dyn Future<Output = Result<PeerReply, Error>> + Send>>,
    heartbeat: Duration,
    next_heartbeat: Pin<Box<Sleep>>,
}

impl SingleBody {
    /// The body for a client that tolerates this much silence.
    pub(super) fn new(served: Served, max_silence: Duration, limits: RequestLimits) -> Self {
        let state = match served {
            Served::Ready(outcome) => ready_state(outcome, limits),
            Served::Loading(answer) => {
                let heartbeat = heartbeat(max_silence);
                let next_heartbeat = Box::pin(sleep_until(Instant::now() + heartbeat));
                State::Loading(Loading { answer, heartbeat, next_heartbeat })
            }
        };
        SingleBody { state, limits }
    }
}

/// The time between two heartbeats: three of them fit in the silence that the client tolerates, so
/// that one or two may be late.
pub(super) fn heartbeat(max_silence: Duration) -> Duration {
    (max_silence / 3).clamp(Duration::from_millis(10), Duration::from_secs(1))
}

fn ready_state(outcome: Result<PeerReply, Error>, limits: RequestLimits) -> State {
    /// The usual size of the frames before a value.
    const HEADS_BYTES: usize = 64;
    let mut head = Vec::with_capacity(HEADS_BYTES);
    let value = write_head(&mut head, 0, outcome, limits);
    State::Ready(PrefixedBody::new(&head, value))
}

impl Loading {
    /// The answer, or `None` when it is time for a heartbeat.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<PeerReply, Error>>> {
        if let Poll::Ready(outcome) = self.answer.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        ready!(self.next_heartbeat.as_mut().poll(cx));
        self.next_heartbeat.as_mut().reset(Instant::now() + self.heartbeat);
        Poll::Ready(None)
    }
}

impl Body for SingleBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            match &mut self.state {
                State::Loading(loading) => match ready!(loading.poll(cx)) {
                    Some(outcome) => self.state = ready_state(outcome, self.limits),
                    None => return Poll::Ready(Some(Ok(Frame::data(frame::working())))),
                },
                State::Ready(body) => return Pin::new(body).poll_frame(cx),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.state, State::Ready(body) if body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Loading(_) => SizeHint::default(),
            State::Ready(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const LIMITS: RequestLimits = RequestLimits { max_value_bytes: u64::MAX, has_deadline: false };

    #[test]
    fn a_heartbeat_is_a_third_of_the_silence_within_bounds() {
        let heartbeat_ms = |ms| heartbeat(Duration::from_millis(ms)).as_millis();
        assert_eq!([heartbeat_ms(0), heartbeat_ms(300), heartbeat_ms(1_000_000)], [10, 100, 1_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeats_come_while_a_load_runs() {
        let load = async {
            tokio::time::sleep(Duration::from_millis(350)).await;
            Ok(PeerReply::new("v".into()))
        };
        let body = SingleBody::new(Served::Loading(Box::pin(load)), Duration::from_millis(300), LIMITS);
        let sent = body.collect().await.unwrap().to_bytes();
        assert_eq!(
            sent,
            [&frame::working()[..], &frame::working(), &frame::working(), &frame::value_header(0, 1), b"v"].concat()
        );
    }
}
