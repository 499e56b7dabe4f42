//! Keys of one group that are asked for in one request.

use std::{mem, sync::Arc, time::Duration};

use bytes::Bytes;
use peercache_groupcache::{Error, PeerError, PeerReply, PeerRequest, Terms};
use tokio::time::Instant;

use crate::{
    client::failure::{Failure, RequestError},
    client::peer_state::PeerState,
    client::pending::{Bounds, Pending, fail_all, fail_overdue},
    wire::frame::{self, Ask},
};

/// A peer's answer to one key, or something that we do not understand.
pub(super) type Outcome = Result<Result<PeerReply, Error>, Failure>;

/// Keys of one group that are asked for together.
pub(super) struct Batch {
    peer: Arc<PeerState>,
    /// The keys by their index.
    keys: Vec<Slot>,
    unanswered: usize,
    received_bytes: usize,
    /// The time at which the first fetch ends.
    first_deadline: Option<Instant>,
}

/// A key of a batch.
enum Slot {
    Waits(Pending),
    Answered,
    /// Its fetch took too long. If its answer comes all the same, nobody needs it.
    GivenUp,
}

/// One who is told how a batch comes along.
pub(super) trait Progress: Send {
    /// The head of the answer is there, and the frames that came with it are read: the peer is at
    /// work, and further keys may be sent. Called once at least.
    fn is_at_work(&mut self);

    /// More frames have come, and keys of the batch still wait for their loads.
    fn still_waits(&mut self, batch: &Batch);
}

/// The values that a batch brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Received {
    pub(super) keys: usize,
    pub(super) bytes: usize,
}

/// The precision of a timeout that is sent with several keys, in bits. Keys are loaded together if
/// they are on the same terms, and callers with the same timeout rarely have the same number of
/// milliseconds left.
const TIMEOUT_BITS: u32 = 4;

impl Batch {
    /// A batch of at least one key.
    pub(super) fn new(peer: Arc<PeerState>, pending: impl Iterator<Item = Pending>) -> Self {
        let keys: Vec<_> = pending.map(Slot::Waits).collect();
        Batch { peer, unanswered: keys.len(), keys, received_bytes: 0, first_deadline: None }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Begins the fetches of its keys. Returns when the last of them ends.
    pub(super) fn begin(&mut self) -> Instant {
        let now = Instant::now();
        let (mut first, mut last) = (None, now);
        for slot in &mut self.keys {
            if let Slot::Waits(pending) = slot {
                let deadline = pending.begin(&self.peer, now);
                first = Some(first.map_or(deadline, |first: Instant| first.min(deadline)));
                last = last.max(deadline);
            }
        }
        self.first_deadline = first;
        last
    }

    /// Whether its keys can wait in one exchange with those of others, and make it no longer than
    /// two of its kind.
    pub(super) fn can_be_merged(&self) -> bool {
        let bytes: usize = self.waiting().map(|pending| pending.request.key.len()).sum();
        let is_short = 2 * self.unanswered <= frame::MAX_KEYS && 2 * bytes <= frame::MAX_KEYS_BYTES;
        is_short && self.waiting().all(|pending| !pending.send_alone)
    }

    pub(super) fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// The bounds of its keys.
    pub(super) fn bounds(&self) -> Option<Bounds> {
        self.waiting().next().map(Pending::bounds)
    }

    pub(super) fn received(&self) -> Received {
        Received { keys: self.len() - self.unanswered, bytes: self.received_bytes }
    }

    pub(super) fn is_answered(&self) -> bool {
        self.unanswered == 0
    }

    /// The request of the first key that has no answer yet.
    pub(super) fn first(&self) -> Option<&PeerRequest> {
        self.waiting().next().map(|pending| &pending.request)
    }

    /// The only key of the batch, unless it has several.
    pub(super) fn only(&self) -> Option<&PeerRequest> {
        if self.len() == 1 { self.first() } else { None }
    }

    /// The body of a request for its keys, none of which is answered yet, and the longest value
    /// that is taken.
    pub(super) fn body(&self, max_silence: Duration) -> (Bytes, usize) {
        let pending = || self.waiting();
        let first = self.first().expect("a batch is sent before it is answered");
        let (group, max_value_bytes) = (&first.group, first.max_value_bytes);
        let alike = pending().all(|pending| pending.request.terms == Terms::new());
        let terms: Vec<Terms> = match (alike, self.len()) {
            (true, count) => vec![Terms::new(); count],
            (false, 1) => pending().map(Pending::terms).collect(),
            (false, _) => pending().map(|pending| rounded(pending.terms())).collect(),
        };
        // The bound is checked when the pool is built to fit in 32 bits.
        let ask = Ask { silence_ms: max_silence.as_millis() as u32, terms: loosest(&terms) };
        let keys: Vec<(&[u8], Terms)> = pending().map(|pending| pending.request.key.as_bytes()).zip(terms).collect();
        (frame::request(ask, max_value_bytes as u64, group, keys.into_iter()), max_value_bytes)
    }

    /// Gives the answer to a key; `false` when the key was not asked for or has its answer.
    pub(super) fn answer(&mut self, index: usize, outcome: Outcome) -> bool {
        let Some(slot) = self.keys.get_mut(index) else { return false };
        let pending = match mem::replace(slot, Slot::Answered) {
            Slot::Waits(pending) => pending,
            Slot::Answered => return false,
            Slot::GivenUp => return true,
        };
        self.unanswered -= 1;
        pending.answer(match outcome {
            Ok(Ok(reply)) => {
                self.received_bytes += reply.value.as_ref().map_or(0, Bytes::len);
                Ok(reply)
            }
            Ok(Err(error)) => Err(PeerError::Answered(error)),
            Err(failure) => Err(self.peer.failed(failure)),
        });
        true
    }

    /// Fails the keys whose fetches have taken too long. The others wait on.
    pub(super) fn fail_overdue(&mut self) {
        let now = Instant::now();
        if self.first_deadline.is_none_or(|first| now < first) {
            return;
        }
        let is_over = |slot: &&mut Slot| matches!(slot, Slot::Waits(pending) if pending.is_over(&self.peer, now));
        let overdue = self.keys.iter_mut().filter(is_over).map(|slot| mem::replace(slot, Slot::GivenUp));
        let overdue: Vec<_> = overdue.filter_map(Slot::into_waiting).collect();
        self.unanswered -= overdue.len();
        fail_overdue(&self.peer, overdue);
        self.begin();
    }

    /// Answers all keys that have no answer yet with this error.
    pub(super) fn fail(&mut self, error: RequestError) {
        let pending = self.take_unanswered();
        fail_all(&self.peer, pending, error);
    }

    /// Takes the keys that have no answer yet, to be asked for in another way.
    pub(super) fn take_unanswered(&mut self) -> Vec<Pending> {
        self.unanswered = 0;
        mem::take(&mut self.keys).into_iter().filter_map(Slot::into_waiting).collect()
    }

    /// Takes the keys that have no answer yet, to be waited for in another exchange.
    pub(super) fn give_back(&mut self) -> Vec<Pending> {
        let mut pending = self.take_unanswered();
        pending.iter_mut().for_each(|pending| pending.is_loading = true);
        pending
    }

    fn waiting(&self) -> impl Iterator<Item = &Pending> {
        self.keys.iter().filter_map(|slot| if let Slot::Waits(pending) = slot { Some(pending) } else { None })
    }
}

impl Slot {
    fn into_waiting(self) -> Option<Pending> {
        if let Slot::Waits(pending) = self { Some(pending) } else { None }
    }
}

/// The terms that are at least as loose as those of every key. A peer that does not know terms of
/// single keys applies them to all.
fn loosest(terms: &[Terms]) -> Terms {
    let timeout = terms.iter().map(|terms| terms.timeout).reduce(|one, other| Some(one?.max(other?))).flatten();
    Terms::new().timeout(timeout).fresh(terms.iter().all(|terms| terms.fresh))
}

/// The same terms with a timeout of less precision, and never a longer one.
fn rounded(mut terms: Terms) -> Terms {
    terms.timeout = terms.timeout.map(|timeout| {
        let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let dropped = (u64::BITS - ms.leading_zeros()).saturating_sub(TIMEOUT_BITS);
        Duration::from_millis(ms >> dropped << dropped)
    });
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(ms: u64) -> Terms {
        Terms::new().timeout(Some(Duration::from_millis(ms)))
    }

    #[test]
    fn a_timeout_is_rounded_down_to_a_few_bits() {
        let rounded = |ms| rounded(within(ms)).timeout.unwrap().as_millis();
        assert_eq!(
            [rounded(0), rounded(15), rounded(16), rounded(17), rounded(199), rounded(200)],
            [0, 15, 16, 16, 192, 192]
        );
    }

    #[test]
    fn the_loosest_terms_shorten_no_keys_time() {
        assert_eq!(loosest(&[within(7), within(9).fresh(true)]), within(9));
        assert_eq!(loosest(&[within(7).fresh(true), Terms::new().fresh(true)]), Terms::new().fresh(true));
    }
}
