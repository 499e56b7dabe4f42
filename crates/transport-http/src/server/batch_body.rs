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
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    server::permits::KeysPermit,
    server::prefixed_body::MAX_COPIED_BYTES,
    server::ready_values::BatchLimit,
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
/// Few of them are in memory before they are sent: those that [`BatchLimit`] holds, and at most one
/// more. A load that has ended is not polled before its value can be sent.
pub(super) struct Answers {
    budget: Arc<ResponseBudget>,
    group: Arc<dyn ServedGroup>,
    ready: VecDeque<Outcome>,
    limit: Arc<BatchLimit>,
    loading: FuturesUnordered<Loading>,
    /// Whether the callers of each key said how long they wait, by its index.
    have_deadlines: Vec<bool>,
    _keys_permit: KeysPermit,
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
        keys_permit: KeysPermit,
    ) -> Self {
        Answers {
            limit: Arc::new(BatchLimit::new(budget.clone())),
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
        let served = self.group.clone().answer_many(keys.clone(), terms, self.limit.clone());
        if terms.timeout.is_some() {
            indices.iter().for_each(|index| self.have_deadlines[usize::from(*index)] = true);
        }
        for ((index, key), served) in indices.into_iter().zip(keys).zip(served) {
            // Copied, so that what waits keeps no request alive.
            let key = || Bytes::copy_from_slice(key.as_bytes());
            let served = match served {
                Served::Ready(outcome) if self.holds(&outcome) => Served::Ready(outcome),
                Served::Ready(_) => self.ask_again(key(), terms),
                loading @ Served::Loading(_) => self.budget.reserve(loading, self.group.clone(), key(), terms),
            };
            match served {
                Served::Ready(outcome) => self.ready.push_back((index, outcome)),
                Served::Loading(answer) => self.loading.push(Loading { index, answer }),
            }
        }
    }

    fn holds(&self, outcome: &Result<PeerReply, Error>) -> bool {
        self.limit.holds(outcome.as_ref().map_or(0, value_bytes))
    }

    /// Asks the group again once the answer can be sent: it was there, and is too much to hold.
    fn ask_again(&self, key: Bytes, terms: Terms) -> Served {
        let (budget, group, since) = (self.budget.clone(), self.group.clone(), Instant::now());
        Served::Loading(Box::pin(async move {
            // The callers have waited since then.
            let timeout = terms.timeout.map(|timeout| timeout.saturating_sub(since.elapsed()));
            budget.answer(group, key, terms.timeout(timeout)).finish().await
        }))
    }

    /// Estimates the bytes that are held ready, with the frames before each value.
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::server::{permits::Permits, ready_values::MAX_READY_BYTES};
    use peercache_groupcache::{BoxError, Groups, LoadError, Members, Value, loader_fn};

    const KEYS: usize = 1_000;
    const ENCODED_BYTES: usize = 30 * 1024;

    /// A value that weighs nothing, and whose encodings are long and counted while they are alive.
    #[derive(Clone)]
    struct Weightless(Arc<AtomicUsize>);

    impl Value for Weightless {
        fn encode(&self) -> Result<Bytes, BoxError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Bytes::from_owner(Encoded { bytes: vec![b'x'; ENCODED_BYTES], alive: self.0.clone() }))
        }

        fn decode(_: Bytes) -> Result<Self, BoxError> {
            Err("it is never fetched".into())
        }

        fn weight(&self) -> usize {
            0
        }
    }

    struct Encoded {
        bytes: Vec<u8>,
        alive: Arc<AtomicUsize>,
    }

    impl AsRef<[u8]> for Encoded {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    impl Drop for Encoded {
        fn drop(&mut self) {
            self.alive.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn key(n: usize) -> Bytes {
        n.to_string().into()
    }

    /// Answers to [`KEYS`] keys of this group, asked for together.
    fn ask(group: Arc<dyn ServedGroup>) -> Answers {
        let permit = Permits::new().keys(group.name(), std::iter::repeat_n(1, KEYS)).unwrap();
        let mut answers = Answers::new(Arc::new(ResponseBudget::new(64 << 20)), group, KEYS, permit);
        answers.ask((0..).zip((0..KEYS).map(key)).collect(), Terms::new());
        answers
    }

    /// Takes all answers, as a reader that reads, and returns the most bytes of values in memory.
    async fn take_all(mut answers: Answers, alive: &AtomicUsize) -> usize {
        let (mut most, mut taken) = (0, vec![false; KEYS]);
        while let Some((index, outcome)) = std::future::poll_fn(|cx| answers.poll_next(cx)).await {
            most = most.max(alive.load(Ordering::Relaxed) * ENCODED_BYTES);
            assert_eq!(value_bytes(&outcome.unwrap()), ENCODED_BYTES);
            taken[usize::from(index)] = true;
        }
        assert!(taken.into_iter().all(|taken| taken), "each key is answered");
        most
    }

    #[tokio::test]
    async fn values_that_weigh_nothing_are_held_by_their_encoding() {
        let (groups, alive) = (Groups::new(Members::alone()), Arc::new(AtomicUsize::new(0)));
        let counted = alive.clone();
        let load = loader_fn(move |_| {
            let value = Weightless(counted.clone());
            async move { Ok::<_, LoadError>(value) }
        });
        let group = groups.group("g", load).build().unwrap();
        for n in 0..KEYS {
            group.get(&key(n)).await.unwrap();
        }
        let answers = ask(groups.get("g").unwrap());
        let held = alive.load(Ordering::Relaxed) * ENCODED_BYTES;
        assert!(held <= MAX_READY_BYTES, "{held} bytes are held for a reader that has not read");
        let most = take_all(answers, &alive).await;
        assert!(most <= MAX_READY_BYTES + ENCODED_BYTES, "{most} bytes at once");
    }
}
