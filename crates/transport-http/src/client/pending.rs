//! A key that is asked for and has no answer yet, and the count of them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use peercache_groupcache::{PeerError, PeerReply, PeerRequest, Reply, Terms};
use tokio::time::Instant;

use crate::client::{failure::RequestError, peer_state::PeerState};

/// Counts the keys that one peer is asked for, and bounds them.
pub(super) struct PendingCount {
    pending: AtomicUsize,
    max: usize,
}

/// Counts one key until it is dropped.
pub(super) struct Counted(Arc<PendingCount>);

impl PendingCount {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(PendingCount { pending: AtomicUsize::new(0), max })
    }

    /// Counts one more key; `None` when there are too many.
    pub(super) fn count(self: &Arc<Self>) -> Option<Counted> {
        let one_more = |pending| (pending < self.max).then_some(pending + 1);
        self.pending.fetch_update(Relaxed, Relaxed, one_more).ok().map(|_| Counted(self.clone()))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Relaxed);
    }
}

/// A key that is asked for, and where its answer goes.
pub(super) struct Pending {
    // Before the reply, so that a caller who gets an answer finds the key counted out.
    counted: Counted,
    reply: Reply,
    pub(super) request: PeerRequest,
    pub(super) since: Instant,
    /// Whether the key is asked for by itself, since a request for several was not understood.
    pub(super) send_alone: bool,
}

impl Pending {
    pub(super) fn new(request: PeerRequest, reply: Reply, since: Instant, counted: Counted) -> Self {
        Pending { counted, reply, request, since, send_alone: false }
    }

    /// Whether both can be asked for in one batch.
    pub(super) fn can_share_batch(&self, other: &Pending) -> bool {
        let bounds = |pending: &Pending| (pending.request.load_timeout, pending.request.max_value_bytes);
        !self.send_alone && !other.send_alone && bounds(self) == bounds(other)
    }

    /// The terms for callers who have waited since the key was asked for.
    pub(super) fn terms(&self) -> Terms {
        let mut terms = self.request.terms;
        terms.timeout = terms.timeout.map(|timeout| timeout.saturating_sub(self.since.elapsed()));
        terms
    }

    /// Gives the answer.
    pub(super) fn answer(self, answer: Result<PeerReply, PeerError>) {
        drop(self.counted);
        self.reply.send(answer);
    }
}

/// Answers all of these keys with the same error.
pub(super) fn fail_all(peer: &PeerState, pending: Vec<Pending>, error: RequestError) {
    // All are counted out before the first answer: its caller may ask for as many again.
    let (counted, replies): (Vec<Counted>, Vec<Reply>) = pending.into_iter().map(Pending::into_parts).unzip();
    drop(counted);
    let replies = replies.into_iter();
    match error {
        RequestError::NotCarried => replies.for_each(|reply| reply.send(Err(PeerError::NotCarried))),
        RequestError::Answered(error) => replies.for_each(|reply| reply.send(Err(PeerError::Answered(error.clone())))),
        RequestError::Failed(failure) => {
            let failure = Arc::new(peer.failure(failure));
            replies.for_each(|reply| reply.send(Err(PeerError::failed(failure.clone()))));
        }
    }
}

impl Pending {
    fn into_parts(self) -> (Counted, Reply) {
        (self.counted, self.reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_counts_itself_out_before_its_caller_is_answered() {
        let count = PendingCount::new(1);
        let pending = |count: &Arc<PendingCount>| {
            let (counted, count) = (count.count().expect("no other key is pending"), count.clone());
            let reply = Reply::new(move |_| assert!(count.count().is_some(), "the key is still counted"));
            Pending::new(PeerRequest::new("g", "k"), reply, Instant::now(), counted)
        };
        let first = pending(&count);
        assert!(count.count().is_none());
        first.answer(Err(PeerError::NotCarried));
        drop(pending(&count));
        assert_eq!(count.pending.load(Relaxed), 0);
    }
}
