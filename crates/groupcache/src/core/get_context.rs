//! The terms of one get: who asks, how fresh the value must be, until when.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    cache::entry::{Freshness, Requester},
    loader::chain::LoadChain,
    peer::Terms,
};

/// The terms of a get, which every step after a miss is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GetContext {
    pub(crate) requester: Requester,
    pub(crate) freshness: Freshness,
    /// The time at which the caller stops waiting. Nothing is started after it.
    pub(crate) deadline: Option<Instant>,
    /// Whether a load may wait for a permit. One that takes work off a peer that has too much may
    /// not.
    pub(crate) may_queue: bool,
    /// The loads at other members that wait for it.
    pub(crate) chain: LoadChain,
}

impl GetContext {
    fn new(requester: Requester, freshness: Freshness, deadline: Option<Instant>) -> Self {
        GetContext { requester, freshness, deadline, may_queue: true, chain: LoadChain::default() }
    }

    /// The terms of a caller at this node.
    pub(crate) fn for_caller(timeout: Option<Duration>) -> Self {
        GetContext::new(Requester::Local, Freshness::AllowStale, deadline(timeout))
    }

    /// The terms that a peer asks on.
    pub(crate) fn for_peer(terms: Terms) -> Self {
        let freshness = if terms.fresh { Freshness::FreshOnly } else { Freshness::AllowStale };
        GetContext { chain: terms.chain, ..GetContext::new(Requester::Peer, freshness, deadline(terms.timeout)) }
    }

    /// The terms of a refresh in the background, which `requester` caused and nobody waits for.
    pub(crate) fn for_refresh(requester: Requester) -> Self {
        GetContext::new(requester, Freshness::FreshOnly, None)
    }

    /// The same terms, for a load that begins at once or not at all.
    pub(crate) fn without_queue(self) -> Self {
        GetContext { may_queue: false, ..self }
    }

    /// Whether the caller has stopped waiting.
    pub(crate) fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Whether it is over for a peer, which is told the remaining time in whole milliseconds.
    pub(crate) fn is_over_at_peer(&self) -> bool {
        const ROUNDING: Duration = Duration::from_millis(2);
        self.deadline.is_some_and(|deadline| deadline <= Instant::now() + ROUNDING)
    }
}

/// The end of a timeout that begins now; `None` beyond what a clock can say.
fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}
