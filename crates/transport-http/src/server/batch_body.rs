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

use crate::wire::frame;
use crate::{
    server::prefixed_body::COPIED_BYTES_MAX,
    server::reply_frames::{Asker, write_head},
    server::response_budget::{Room, in_room, later, value_bytes},
    server::single_body::beat,
};

/// Small answers that are there together go as one piece of about so many bytes: each piece is a call of the system. A
/// piece up to the first needs no room, as a value up to there needs none.
const PIECE_BYTES: usize = 16 * 1024;
const PIECE_BYTES_MAX: usize = 128 * 1024;

/// How many bytes of values one exchange holds for its turn to send them. What goes beyond is asked for again then. Of
/// small values it may be more, if there is room for them: bringing one twice costs more than holding it.
const HELD_BYTES_MAX: usize = 32 * 1024;
const SMALL_BYTES_MAX: usize = 2 * 1024;
const SMALL_HELD_BYTES_MAX: usize = 128 * 1024;

/// The body of a native answer to many keys: each answer as soon as it is there, in no order.
pub(super) struct ManyBody {
    answers: Answers,
    value_bytes_max: u64,
    /// A value that is sent behind what came before it.
    value: Bytes,
    beat: Duration,
    /// Goes off when it is time to say "working".
    next_beat: Pin<Box<Sleep>>,
}

/// The answers to the keys of one exchange, as they come.
///
/// At most one of them is there and not sent yet, and a few that were there from the beginning: a load that has ended
/// is not looked at before there is room to send what it brought.
pub(super) struct Answers {
    room: Arc<Room>,
    group: Arc<dyn ServedGroup>,
    since: Instant,
    ready: VecDeque<(u16, Result<PeerReply, Error>)>,
    /// What was there and is too much to hold.
    again: VecDeque<(u16, Key, Terms)>,
    held_bytes: usize,
    /// For small values beyond what is held without room.
    more_room: Option<OwnedSemaphorePermit>,
    loading: FuturesUnordered<Loading>,
    /// Whether the callers of each key said how long they wait, by its index.
    have_deadlines: Vec<bool>,
    _places: OwnedSemaphorePermit,
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
    /// Answers of this group to so many keys. The places are kept until all is sent.
    pub(super) fn new(room: Arc<Room>, group: Arc<dyn ServedGroup>, keys: usize, places: OwnedSemaphorePermit) -> Self {
        Answers {
            room,
            group,
            since: Instant::now(),
            ready: VecDeque::new(),
            again: VecDeque::new(),
            held_bytes: 0,
            more_room: None,
            loading: FuturesUnordered::new(),
            have_deadlines: vec![false; keys],
            _places: places,
        }
    }

    /// Asks the group for these keys, all on the same terms.
    pub(super) fn ask(&mut self, keys: Vec<(u16, Bytes)>, terms: Terms) {
        let (indices, keys): (Vec<u16>, Vec<Key>) = keys.into_iter().map(|(index, key)| (index, key.into())).unzip();
        let served = self.group.clone().answer_many(keys.clone(), terms);
        if terms.timeout.is_some() {
            indices.iter().for_each(|index| self.have_deadlines[usize::from(*index)] = true);
        }
        for ((index, key), served) in indices.into_iter().zip(keys).zip(served) {
            match served {
                Served::Ready(outcome) => {
                    let bytes = outcome.as_ref().map_or(0, value_bytes);
                    self.held_bytes += bytes;
                    match self.held_bytes <= HELD_BYTES_MAX || (bytes <= SMALL_BYTES_MAX && self.has_more_room()) {
                        true => self.ready.push_back((index, outcome)),
                        false => self.again.push_back((index, kept(&key), terms)),
                    }
                }
                loading => match self.room.hold(loading, self.group.clone(), kept(&key).into_bytes(), terms) {
                    Served::Ready(outcome) => self.ready.push_back((index, outcome)),
                    Served::Loading(answer) => self.loading.push(Loading { index, answer }),
                },
            }
        }
    }

    /// Whether there is room for what is held beyond a little. It is kept to the end.
    fn has_more_room(&mut self) -> bool {
        if self.held_bytes > SMALL_HELD_BYTES_MAX {
            return false;
        }
        if self.more_room.is_none() {
            self.more_room = self.room.try_hold(SMALL_HELD_BYTES_MAX - HELD_BYTES_MAX);
        }
        self.more_room.is_some()
    }

    /// About how many bytes the answers have that were there from the beginning and are not given yet.
    fn ready_bytes(&self) -> usize {
        /// What usually comes before a value.
        const HEADS_BYTES: usize = 40;
        let bytes = |(_, outcome): &Outcome| HEADS_BYTES + outcome.as_ref().map_or(0, value_bytes);
        self.ready.iter().map(bytes).sum()
    }

    /// The next answer; `None` when all are given.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        if let Some(ready) = self.ready.pop_front() {
            return Poll::Ready(Some(ready));
        }
        while let Some((index, key, terms)) = self.again.pop_front() {
            match self.room.answer(self.group.clone(), key.into_bytes(), later(terms, self.since)) {
                Served::Ready(outcome) => return Poll::Ready(Some((index, outcome))),
                // The room holds the answer from here on.
                Served::Loading(answer) => self.loading.push(Loading { index, answer }),
            }
        }
        self.loading.poll_next_unpin(cx)
    }
}

/// A key of its own, which keeps no request alive.
fn kept(key: &Key) -> Key {
    Key::copy_from(key.as_bytes())
}

impl ManyBody {
    /// For an asker that bears this much silence and takes values of so many bytes.
    pub(super) fn new(answers: Answers, silence_max: Duration, value_bytes_max: u64) -> Self {
        let beat = beat(silence_max);
        let next_beat = Box::pin(sleep_until(Instant::now() + beat));
        ManyBody { answers, value_bytes_max, value: Bytes::new(), beat, next_beat }
    }

    /// The frames of the answers that are there, up to a large value; and whether those were all.
    fn poll_pieces(&mut self, cx: &mut Context<'_>) -> (Bytes, bool) {
        let expected = self.answers.ready_bytes().min(PIECE_BYTES_MAX);
        let mut room = None;
        if expected > PIECE_BYTES {
            room = self.answers.room.try_hold(PIECE_BYTES_MAX);
        }
        let piece_bytes = if room.is_some() { PIECE_BYTES_MAX } else { PIECE_BYTES };
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
                    let asker = Asker { value_bytes_max: self.value_bytes_max, has_deadline };
                    let value = write_head(&mut piece, index, outcome, asker);
                    if value.len() > COPIED_BYTES_MAX {
                        self.value = value;
                        break false;
                    }
                    piece.extend_from_slice(&value);
                }
            }
        };
        let piece = match room {
            Some(room) => in_room(piece.into(), room),
            None => piece.into(),
        };
        (piece, ended)
    }
}

impl Body for ManyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.value.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.value)))));
        }
        let (piece, ended) = self.poll_pieces(cx);
        if !piece.is_empty() {
            let next_beat = Instant::now() + self.beat;
            self.next_beat.as_mut().reset(next_beat);
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if ended {
            return Poll::Ready(None);
        }
        ready!(self.next_beat.as_mut().poll(cx));
        let next_beat = Instant::now() + self.beat;
        self.next_beat.as_mut().reset(next_beat);
        Poll::Ready(Some(Ok(Frame::data(frame::working()))))
    }
}
