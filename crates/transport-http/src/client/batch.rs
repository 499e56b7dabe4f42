//! Keys of one group that are asked for in one request.

use std::{mem, sync::Arc, time::Duration};

use bytes::Bytes;
use peercache_groupcache::{Error, PeerError, PeerReply, PeerRequest, Terms};

use crate::{
    client::failure::{Failure, RequestError},
    client::peer_state::PeerState,
    client::pending::{Pending, fail_all},
    wire::frame::{self, Ask},
};

/// A peer's answer to one key, or something that we do not understand.
pub(super) type Outcome = Result<Result<PeerReply, Error>, Failure>;

/// Keys of one group that are asked for together.
pub(super) struct Batch {
    peer: Arc<PeerState>,
    /// The keys by their index; `None` has its answer.
    pending: Vec<Option<Pending>>,
    unanswered: usize,
    received_bytes: usize,
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
        let pending: Vec<_> = pending.map(Some).collect();
        Batch { peer, unanswered: pending.len(), pending, received_bytes: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn received(&self) -> Received {
        Received { keys: self.len() - self.unanswered, bytes: self.received_bytes }
    }

    pub(super) fn is_answered(&self) -> bool {
        self.unanswered == 0
    }

    /// The request of the first key that has no answer yet.
    pub(super) fn first(&self) -> Option<&PeerRequest> {
        self.pending.iter().flatten().next().map(|pending| &pending.request)
    }

    /// The only key of the batch, unless it has several.
    pub(super) fn only(&self) -> Option<&PeerRequest> {
        if self.len() == 1 { self.first() } else { None }
    }

    /// The body of a request for its keys, none of which is answered yet, and the longest value
    /// that is taken.
    pub(super) fn body(&self, max_silence: Duration) -> (Bytes, usize) {
        let pending = || self.pending.iter().flatten();
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
        let Some(pending) = self.pending.get_mut(index).and_then(Option::take) else {
            return false;
        };
        self.unanswered -= 1;
        pending.answer(match outcome {
            Ok(Ok(reply)) => {
                self.received_bytes += reply.value.as_ref().map_or(0, Bytes::len);
                Ok(reply)
            }
            Ok(Err(error)) => Err(PeerError::Answered(error)),
            Err(failure) => Err(PeerError::failed(self.peer.failure(failure))),
        });
        true
    }

    /// Answers all keys that have no answer yet with this error.
    pub(super) fn fail(&mut self, error: RequestError) {
        let pending = self.take_unanswered();
        fail_all(&self.peer, pending, error);
    }

    /// Takes the keys that have no answer yet, to be asked for in another way.
    pub(super) fn take_unanswered(&mut self) -> Vec<Pending> {
        self.unanswered = 0;
        mem::take(&mut self.pending).into_iter().flatten().collect()
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
