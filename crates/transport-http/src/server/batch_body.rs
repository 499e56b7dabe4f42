//! The body of a native answer to many keys.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http_body::{Body, Frame};
use peercache_groupcache::{Error, Key, PeerReply, Served, ServedGroup, Terms};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    server::prefixed_body::MAX_COPIED_BYTES,
    server::ready_values::{MAX_READY_BYTES, ReadyValues},
    server::reply_frames::{RequestLimits, write_head},
    server::response_budget::{ResponseBudget, reserved, value_bytes},
    server::single_body::heartbeat,
    wire::frame,
};

/// The size of a piece, in bytes, that needs no budget. Small answers that are ready together go as
/// one piece: each piece is a system call.
const PIECE_BYTES: usize = 16 * 1024;

/// The size of a piece, in bytes, if there is budget for it.
const LARGE_PIECE_BYTES: usize = 128 * 1024;

/// The body of a native answer to many keys: each answer as soon as it is there, in no order.
pub(super) struct BatchBody {
    answers: Answers,
    max_value_bytes: u64,
    /// A large value, sent on its own behind the piece with its header.
    value: Bytes,
    heartbeat: Duration,
    next_heartbeat: Pin<Box<Sleep>>,
}

/// The answers to the keys of one batch, as they come.
///
/// Few of them are held before they are sent: those that [`ReadyValues`] admits, and at most one
/// more. A load that has ended is not polled before its value can be sent.
pub(super) struct Answers {
    budget: Arc<ResponseBudget>,
    group: Arc<dyn ServedGroup>,
    ready: VecDeque<Outcome>,
    ready_values: ReadyValues,
    loading: FuturesUnordered<Loading>,
    /// Whether the callers of each key said how long they wait, by its index.
    have_deadlines: Vec<bool>,
    _keys_permit: OwnedSemaphorePermit,
}

type Outcome = (u16, Result<PeerReply, Error>);

/// A load of one key.
struct Loading {
    index: u16,
    answer: Pin<Box<dyn Future<Output = Result<PeerReply, Error>> + Send>>,
}

impl Future for Loading {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        self.answer.as_mut().poll(cx).map(|answer| (self.index, answer))
    }
}

impl Answers {
    /// Answers of this group to this many keys. The permit is kept until all is sent.
    pub(super) fn new(
        budget: Arc<ResponseBudget>,
        group: Arc<dyn ServedGroup>,
        keys: usize,
        keys_permit: OwnedSemaphorePermit,
    ) -> Self {
        Answers {
            ready_values: ReadyValues::new(budget.clone()),
            budget,
            group,
            ready: VecDeque::new(),
            loading: FuturesUnordered::new(),
            have_deadlines: vec![false; keys],
            _keys_permit: keys_permit,
        }
    }

    /// Asks the group for these keys, all on the same terms.
    pub(super) fn ask(&mut self, keys: Vec<(u16, Bytes)>, terms: Terms) {
        let (indices, keys): (Vec<u16>, Vec<Key>) = keys.into_iter().map(|(index, key)| (index, key.into())).unzip();
        let mut hold = |value_bytes| self.ready_values.admit(value_bytes);
        let served = self.group.clone().answer_many(keys.clone(), terms, &mut hold);
        if terms.timeout.is_some() {
            indices.iter().for_each(|index| self.have_deadlines[usize::from(*index)] = true);
        }
        for ((index, key), served) in indices.into_iter().zip(keys).zip(served) {
            match served {
                Served::Ready(outcome) if outcome.as_ref().map_or(0, value_bytes) <= MAX_READY_BYTES => {
                    self.ready.push_back((index, outcome));
                }
                // The encoding may be longer than the weight for which it was held.
                served => match self.reserve(served, &key, terms) {
                    Served::Ready(outcome) => self.ready.push_back((index, outcome)),
                    Served::Loading(answer) => self.loading.push(Loading { index, answer }),
                },
            }
        }
    }

    /// The answer as soon as there is budget for it. The key is copied, so that it keeps no request
    /// alive.
    fn reserve(&self, served: Served, key: &Key, terms: Terms) -> Served {
        self.budget.reserve(served, self.group.clone(), Bytes::copy_from_slice(key.as_bytes()), terms)
    }

    /// About how many bytes are held ready.
    fn ready_bytes(&self) -> usize {
        /// The usual size of the frames before a value.
        const HEADS_BYTES: usize = 40;
        let bytes = |(_, outcome): &Outcome| HEADS_BYTES + outcome.as_ref().map_or(0, value_bytes);
        self.ready.iter().map(bytes).sum()
    }

    /// The next answer; `None` when all are given.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        match self.ready.pop_front() {
            Some(ready) => Poll::Ready(Some(ready)),
            None => self.loading.poll_next_unpin(cx),
        }
    }
}

impl BatchBody {
    /// The body for a client that tolerates this much silence and takes values of at most
    /// `max_value_bytes`.
    pub(super) fn new(answers: Answers, max_silence: Duration, max_value_bytes: u64) -> Self {
        let heartbeat = heartbeat(max_silence);
        let next_heartbeat = Box::pin(sleep_until(Instant::now() + heartbeat));
        BatchBody { answers, max_value_bytes, value: Bytes::new(), heartbeat, next_heartbeat }
    }

    /// The frames of the answers that are there, up to a large value; and whether those were all.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> (Bytes, bool) {
        let expected = self.answers.ready_bytes().min(LARGE_PIECE_BYTES);
        let mut permit = None;
        if expected > PIECE_BYTES {
            permit = self.answers.budget.try_reserve(LARGE_PIECE_BYTES);
        }
        let piece_bytes = if permit.is_some() { LARGE_PIECE_BYTES } else { PIECE_BYTES };
        let mut piece = Vec::with_capacity(expected.min(piece_bytes));
        let ended = loop {
            if piece.len() >= piece_bytes {
                break false;
            }
            match self.answers.poll_next(cx) {
                Poll::Pending => break false,
                Poll::Ready(None) => break true,
                Poll::Ready(Some((index, outcome))) => {
                    let has_deadline = self.answers.have_deadlines[usize::from(index)];
                    let limits = RequestLimits { max_value_bytes: self.max_value_bytes, has_deadline };
                    let value = write_head(&mut piece, index, outcome, limits);
                    if value.len() > MAX_COPIED_BYTES {
                        self.value = value;
                        break false;
                    }
                    piece.extend_from_slice(&value);
                }
            }
        };
        let piece = match permit {
            Some(permit) => reserved(piece.into(), permit),
            None => piece.into(),
        };
        (piece, ended)
    }

    fn restart_heartbeat(&mut self) {
        let next = Instant::now() + self.heartbeat;
        self.next_heartbeat.as_mut().reset(next);
    }
}

impl Body for BatchBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.value.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.value)))));
        }
        let (piece, ended) = self.poll_piece(cx);
        if !piece.is_empty() {
            self.restart_heartbeat();
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if ended {
            return Poll::Ready(None);
        }
        ready!(self.next_heartbeat.as_mut().poll(cx));
        self.restart_heartbeat();
        Poll::Ready(Some(Ok(Frame::data(frame::working()))))
    }
}
