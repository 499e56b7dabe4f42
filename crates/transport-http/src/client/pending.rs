//! A key that is asked for and has no answer yet, and the count of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use peercache_groupcache::{PeerError, PeerReply, PeerRequest, Reply, Terms};
use tokio::time::Instant;

use crate::{
    client::failure::{Failure, RequestError},
    client::peer_state::PeerState,
    share,
};

/// The bounds that are alike for all keys of one request: the load's time, and the value's length.
pub(super) type Bounds = (Duration, usize);

/// The time of a fetch that has none, as long as a clock can tell.
const WITHOUT_END: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Counts the keys that one peer is asked for, and bounds them.
pub(super) struct PendingCount {
    pending: AtomicUsize,
    max: usize,
}

/// Counts those of one group, which gets a share.
pub(super) struct GroupCount {
    pending: AtomicUsize,
    all: Arc<PendingCount>,
}

/// Counts one key until it is dropped.
pub(super) struct Counted(Arc<GroupCount>);

impl PendingCount {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(PendingCount { pending: AtomicUsize::new(0), max })
    }
}

impl GroupCount {
    pub(super) fn new(all: Arc<PendingCount>) -> Self {
        GroupCount { pending: AtomicUsize::new(0), all }
    }

    /// Counts one more key; `None` when there are too many. To be called by one at a time.
    pub(super) fn count(self: &Arc<Self>) -> Option<Counted> {
        let (own, all) = (self.pending.load(Relaxed), self.all.pending.load(Relaxed));
        share::may_take(own, all, self.all.max).then(|| {
            self.pending.fetch_add(1, Relaxed);
            self.all.pending.fetch_add(1, Relaxed);
            Counted(self.clone())
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Relaxed);
        self.0.all.pending.fetch_sub(1, Relaxed);
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
    /// Whether it was asked for already, and its load was waited for.
    pub(super) is_loading: bool,
    /// The time at which its fetch ends; `None` before it has had a connection.
    deadline: Option<Instant>,
}

impl Pending {
    pub(super) fn new(request: PeerRequest, reply: Reply, since: Instant, counted: Counted) -> Self {
        Pending { counted, reply, request, since, send_alone: false, is_loading: false, deadline: None }
    }

    /// Whether both can be asked for in one batch.
    pub(super) fn can_share_batch(&self, other: &Pending) -> bool {
        let is_alike = self.is_loading == other.is_loading && self.bounds() == other.bounds();
        is_alike && !self.send_alone && !other.send_alone
    }

    pub(super) fn bounds(&self) -> Bounds {
        (self.request.load_timeout, self.request.max_value_bytes)
    }

    /// The time at which its fetch ends, which begins now unless it has begun before.
    pub(super) fn begin(&mut self, peer: &PeerState, now: Instant) -> Instant {
        *self.deadline.get_or_insert_with(|| {
            let end = now.checked_add(peer.fetch_timeout(&self.request));
            end.unwrap_or_else(|| now + WITHOUT_END)
        })
    }

    /// Whether its fetch, or before that the wait for a connection, has taken too long.
    pub(super) fn is_over(&self, peer: &PeerState, now: Instant) -> bool {
        match self.deadline {
            Some(deadline) => now >= deadline,
            None => now.duration_since(self.since) > peer.fetch_timeout(&self.request),
        }
    }

    /// Whether it has been asked for.
    pub(super) fn has_begun(&self) -> bool {
        self.deadline.is_some()
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
            let kind = failure.kind();
            let failure = Arc::new(peer.failure(failure));
            replies.for_each(|reply| reply.send(Err(kind(Box::new(failure.clone())))));
        }
    }
}

/// Fails keys whose time is over: the peer's, or if they never had a connection, ours.
pub(super) fn fail_overdue(peer: &PeerState, pending: Vec<Pending>) {
    let (begun, others): (Vec<_>, Vec<_>) = pending.into_iter().partition(Pending::has_begun);
    if let Some(first) = begun.first() {
        let too_late = Failure::TooLate(peer.fetch_timeout(&first.request));
        fail_all(peer, begun, too_late.into());
    }
    if !others.is_empty() {
        fail_all(peer, others, RequestError::overloaded());
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
        let count = Arc::new(GroupCount::new(PendingCount::new(1)));
        let pending = |count: &Arc<GroupCount>| {
            let (counted, count) = (count.count().expect("no other key is pending"), count.clone());
            let reply = Reply::new(move |_| assert!(count.count().is_some(), "the key is still counted"));
            Pending::new(PeerRequest::new("g", "k"), reply, Instant::now(), counted)
        };
        let first = pending(&count);
        assert!(count.count().is_none());
        first.answer(Err(PeerError::NotCarried));
        drop(pending(&count));
        assert_eq!((count.pending.load(Relaxed), count.all.pending.load(Relaxed)), (0, 0));
    }

    #[test]
    fn a_group_that_waits_leaves_places_to_others() {
        let all = PendingCount::new(100);
        let [one, other] = [(); 2].map(|()| Arc::new(GroupCount::new(all.clone())));
        let held: Vec<_> = std::iter::from_fn(|| one.count()).collect();
        assert_eq!(held.len(), 75);
        assert!(one.count().is_none() && other.count().is_some());
    }
}
