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

use crate::wire::{error_codes, frame};
use crate::{
    server::prefixed_body::Pieces,
    server::reply_frames::{Asker, write_head},
};

/// The body of a native answer. While the load runs it says so every now and then, and then it gives the answer.
pub(super) struct ReplyBody {
    state: State,
    asker: Asker,
}

enum State {
    Loading(Loading),
    Ready(Pieces),
}

struct Loading {
    answer: Pin<Box<dyn Future<Output = Result<PeerReply, Error>> + Send>>,
    beat: Duration,
    /// Goes off when it is time to say "working".
    next_beat: Pin<Box<Sleep>>,
}

impl ReplyBody {
    /// The answer to the one key of an exchange, for an asker that bears this much silence.
    pub(super) fn new(served: Served, silence_max: Duration, asker: Asker) -> Self {
        let state = match served {
            Served::Ready(outcome) => ready_state(outcome, asker),
            Served::Loading(answer) => {
                let beat = beat(silence_max);
                let next_beat = Box::pin(sleep_until(Instant::now() + beat));
                State::Loading(Loading { answer, beat, next_beat })
            }
        };
        ReplyBody { state, asker }
    }

    /// The answer that the peer cannot answer.
    pub(super) fn failure(code: u8, text: &str) -> Self {
        ReplyBody { state: State::Ready(refusal(code, text)), asker: Asker { value_bytes_max: 0, has_deadline: false } }
    }
}

/// Three beats fit in the silence that the asker bears, so that one or two may be late.
pub(super) fn beat(silence_max: Duration) -> Duration {
    (silence_max / 3).clamp(Duration::from_millis(10), Duration::from_secs(1))
}

/// Room for what usually comes before a value.
const HEADS_BYTES: usize = 64;

fn ready_state(outcome: Result<PeerReply, Error>, asker: Asker) -> State {
    let mut head = Vec::with_capacity(HEADS_BYTES);
    let value = write_head(&mut head, 0, outcome, asker);
    State::Ready(Pieces::new(&head, value))
}

fn refusal(code: u8, text: &str) -> Pieces {
    Pieces::new(&frame::error(0, &error_codes::payload(code, text)), Bytes::new())
}

impl Loading {
    /// The answer, or `None` when it is time for a beat.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<PeerReply, Error>>> {
        if let Poll::Ready(outcome) = self.answer.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        ready!(self.next_beat.as_mut().poll(cx));
        self.next_beat.as_mut().reset(Instant::now() + self.beat);
        Poll::Ready(None)
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            match &mut self.state {
                State::Loading(loading) => match ready!(loading.poll(cx)) {
                    Some(outcome) => self.state = ready_state(outcome, self.asker),
                    None => return Poll::Ready(Some(Ok(Frame::data(frame::working())))),
                },
                State::Ready(pieces) => return Pin::new(pieces).poll_frame(cx),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.state, State::Ready(pieces) if pieces.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Loading(_) => SizeHint::default(),
            State::Ready(pieces) => pieces.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const ASKER: Asker = Asker { value_bytes_max: u64::MAX, has_deadline: false };

    #[test]
    fn a_beat_is_a_third_of_the_silence_within_reason() {
        let beat_ms = |ms| beat(Duration::from_millis(ms)).as_millis();
        assert_eq!([beat_ms(0), beat_ms(300), beat_ms(1_000_000)], [10, 100, 1_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_is_accompanied_by_beats() {
        let load = async {
            tokio::time::sleep(Duration::from_millis(350)).await;
            Ok(PeerReply::new("v".into()))
        };
        let body = ReplyBody::new(Served::Loading(Box::pin(load)), Duration::from_millis(300), ASKER);
        let sent = body.collect().await.unwrap().to_bytes();
        assert_eq!(
            sent,
            [&frame::working()[..], &frame::working(), &frame::working(), &frame::value_header(0, 1), b"v"].concat()
        );
    }
}
