//! Keys that are asked for together.

use std::{mem, sync::Arc, time::Duration};

use peercache_groupcache::{PeerError, PeerRequest, Reply, Terms};
use tokio::time::Instant;

use crate::wire::frame::{self, Ask};
use crate::{
    client::get_native::Outcome,
    client::peer::{NoAnswer, Shared},
};

/// A key that is asked for, and where its answer goes.
pub(super) struct Asked {
    pub(super) request: PeerRequest,
    pub(super) reply: Reply,
    pub(super) since: Instant,
    /// Whether it is asked for by itself, since a request for several was not understood.
    pub(super) alone: bool,
}

/// Keys of one group that are asked for together.
pub(super) struct Exchange {
    peer: Arc<Shared>,
    /// What has an answer is gone.
    asked: Vec<Option<Asked>>,
    unanswered: usize,
    value_bytes: usize,
}

/// How many bits of a timeout are told of keys that are asked for together. They are loaded together if they are on the
/// same terms, and callers who were told the same timeout seldom have the same number of milliseconds left.
const TIMEOUT_BITS: u32 = 4;

impl Asked {
    pub(super) fn new(request: PeerRequest, reply: Reply, since: Instant) -> Self {
        Asked { request, reply, since, alone: false }
    }

    /// Whether both can be asked for in one exchange.
    pub(super) fn goes_with(&self, other: &Asked) -> bool {
        let bounds = |asked: &Asked| (asked.request.load_timeout, asked.request.value_bytes_max);
        !self.alone && !other.alone && bounds(self) == bounds(other)
    }

    /// What it is asked for on, of those who have waited since it was.
    pub(super) fn terms(&self) -> Terms {
        let mut terms = self.request.terms;
        terms.timeout = terms.timeout.map(|timeout| timeout.saturating_sub(self.since.elapsed()));
        terms
    }
}

impl Exchange {
    /// Of at least one key.
    pub(super) fn new(peer: Arc<Shared>, asked: impl Iterator<Item = Asked>) -> Self {
        let asked: Vec<_> = asked.map(Some).collect();
        Exchange { peer, unanswered: asked.len(), asked, value_bytes: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    /// How many bytes of values came for how many keys.
    pub(super) fn brought(&self) -> (usize, usize) {
        (self.value_bytes, self.len() - self.unanswered)
    }

    pub(super) fn is_answered(&self) -> bool {
        self.unanswered == 0
    }

    /// The request of a key that has no answer yet.
    pub(super) fn first(&self) -> Option<&PeerRequest> {
        self.asked.iter().flatten().next().map(|asked| &asked.request)
    }

    /// The only key of the exchange, unless it has several.
    pub(super) fn only(&self) -> Option<&PeerRequest> {
        if self.len() == 1 { self.first() } else { None }
    }

    /// The body of a request for its keys, none of which is answered yet, and the longest value that is taken.
    pub(super) fn body(&self, silence_max: Duration) -> (bytes::Bytes, usize) {
        let asked = || self.asked.iter().flatten();
        let first = self.first().expect("what is sent is not answered");
        let (group, value_bytes_max) = (&first.group, first.value_bytes_max);
        let alike = asked().all(|asked| asked.request.terms == Terms::new());
        let terms: Vec<Terms> = match (alike, self.len()) {
            (true, count) => vec![Terms::new(); count],
            (false, 1) => asked().map(Asked::terms).collect(),
            (false, _) => asked().map(|asked| rounded(asked.terms())).collect(),
        };
        // The bound is checked when the pool is built to fit in 32 bits.
        let ask = Ask { silence_ms: silence_max.as_millis() as u32, terms: loosest(&terms) };
        let keys: Vec<(&[u8], Terms)> = asked().map(|asked| asked.request.key.as_bytes()).zip(terms).collect();
        (frame::request(ask, value_bytes_max as u64, group, keys.into_iter()), value_bytes_max)
    }

    /// Gives the answer to a key. `false` when it was not asked for or has its answer.
    pub(super) fn answer(&mut self, index: usize, outcome: Outcome) -> bool {
        let Some(asked) = self.asked.get_mut(index).and_then(Option::take) else {
            return false;
        };
        self.unanswered -= 1;
        self.peer.dispatcher.answered(1);
        asked.reply.send(match outcome {
            Ok(Ok(reply)) => {
                self.value_bytes += reply.value.as_ref().map_or(0, bytes::Bytes::len);
                Ok(reply)
            }
            Ok(Err(error)) => Err(PeerError::Answered(error)),
            Err(failure) => Err(self.peer.failed(failure)),
        });
        true
    }

    /// Tells all who have no answer yet that there will be none.
    pub(super) fn fail(&mut self, no_answer: NoAnswer) {
        let asked = self.take_unanswered();
        self.peer.dispatcher.answered(asked.len());
        refuse(&self.peer, asked, no_answer);
    }

    /// Those that have no answer yet, to be asked for otherwise. They still count as asked for.
    pub(super) fn take_unanswered(&mut self) -> Vec<Asked> {
        self.unanswered = 0;
        mem::take(&mut self.asked).into_iter().flatten().collect()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.peer.dispatcher.answered(self.unanswered);
    }
}

/// Tells them that there will be no answer.
pub(super) fn refuse(peer: &Shared, asked: Vec<Asked>, no_answer: NoAnswer) {
    let replies = asked.into_iter().map(|asked| asked.reply);
    match no_answer {
        NoAnswer::NotCarried => replies.for_each(|reply| reply.send(Err(PeerError::NotCarried))),
        NoAnswer::Answered(error) => replies.for_each(|reply| reply.send(Err(PeerError::Answered(error.clone())))),
        NoAnswer::Failed(failure) => {
            let failure = Arc::new(peer.blame(failure));
            replies.for_each(|reply| reply.send(Err(PeerError::failed(failure.clone()))));
        }
    }
}

/// The terms that no key has looser ones than: a peer that does not know terms of keys makes all of these.
fn loosest(terms: &[Terms]) -> Terms {
    let timeout = terms.iter().map(|terms| terms.timeout).reduce(|one, other| Some(one?.max(other?))).flatten();
    Terms::new().timeout(timeout).fresh(terms.iter().all(|terms| terms.fresh))
}

/// With less precision, and never more time.
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
    fn the_loosest_terms_are_nobodys_loss() {
        assert_eq!(loosest(&[within(7), within(9).fresh(true)]), within(9));
        assert_eq!(loosest(&[within(7).fresh(true), Terms::new().fresh(true)]), Terms::new().fresh(true));
    }
}
