//! Many keys, asked in few exchanges.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use http::StatusCode;
use peercache_groupcache::{PeerError, PeerRequest, Reply};
use tokio::time::{Instant, timeout};

use super::{
    chunks::Chunks,
    failure::Failure,
    native::{self, Outcome},
    peer::{self, NoAnswer, Shared, left},
    plain,
};
use crate::frame;

/// Keys of one group that are asked for together, and where their answers go.
pub(super) struct Exchange {
    requests: Vec<PeerRequest>,
    /// Of those that have no answer yet.
    replies: Vec<Option<Reply>>,
    unanswered: usize,
    since: Instant,
}

/// The requests, split into as many exchanges as it takes.
pub(super) fn exchanges(requests: Vec<(PeerRequest, Reply)>) -> impl Iterator<Item = Exchange> {
    let mut counts = Vec::new();
    let mut rest = &requests[..];
    while let Some((first, _)) = rest.first() {
        let alike = rest.iter().map(|(request, _)| request).take_while(|request| go_together(first, request));
        let count = frame::keys_of_one_exchange(alike.map(|request| request.key.len()));
        counts.push(count);
        rest = &rest[count..];
    }
    let since = Instant::now();
    let mut requests = requests.into_iter();
    counts.into_iter().map(move |count| Exchange::new(requests.by_ref().take(count), since))
}

fn go_together(one: &PeerRequest, other: &PeerRequest) -> bool {
    let terms = |request: &PeerRequest| (request.terms, request.load_timeout, request.value_bytes_max);
    one.group == other.group && terms(one) == terms(other)
}

/// Fetches what an exchange asks for, from beginning to end.
pub(super) async fn fetch(peer: &Shared, mut exchange: Exchange) {
    if !peer.is_asked_natively() {
        return fetch_one_by_one(peer, exchange).await;
    }
    let bound = peer.fetch_bound(&exchange.requests[0]);
    let failure = match fetch_together(peer, &mut exchange, bound).await {
        Ok(rest) => return rest.finish().await,
        Err(NoAnswer::Failed(failure)) => failure,
        Err(no_answer) => return exchange.fail(peer, no_answer),
    };
    match failure {
        Failure::PathUnknown(status) => {
            tracing::debug!(peer = peer.name, %status, "no native exchange there; asking plainly for a while");
            peer.ask_plainly_for_a_while();
        }
        // The server may have given up on the path, as golang's does when it is mounted at the root.
        Failure::Closed(_) => match timeout(bound, plain::find_out(peer)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => peer.ask_plainly_for_a_while(),
            Ok(Err(failure)) => return exchange.fail(peer, failure.into()),
            Err(_) => return exchange.fail(peer, Failure::TooLate(bound).into()),
        },
        // One of ours from when there was one key to an exchange.
        Failure::Status(StatusCode::BAD_REQUEST) => {}
        failure => return exchange.fail(peer, failure.into()),
    }
    fetch_one_by_one(peer, exchange).await;
}

async fn fetch_together(peer: &Shared, exchange: &mut Exchange, bound: Duration) -> Result<Chunks, NoAnswer> {
    let _connection = peer.connection(bound).await?;
    let asked = timeout(bound, async {
        match native::ask_many(peer, exchange).await {
            // A stale connection: no answer had begun.
            Err(NoAnswer::Failed(Failure::Closed(_))) if peer.is_ours() => native::ask_many(peer, exchange).await,
            asked => asked,
        }
    });
    asked.await.unwrap_or_else(|_| Err(Failure::TooLate(bound).into()))
}

/// Fetches each key that has no answer yet by itself, as many at once as there are connections.
async fn fetch_one_by_one(peer: &Shared, exchange: Exchange) {
    let since = exchange.since;
    let asked = exchange.requests.into_iter().zip(exchange.replies);
    let unanswered = asked.filter_map(|(request, reply)| Some((request, reply?)));
    let fetch = |(request, reply)| peer::fetch(peer, request, since, reply);
    stream::iter(unanswered).for_each_concurrent(peer.site.connections_max, fetch).await;
}

impl Exchange {
    fn new(asked: impl Iterator<Item = (PeerRequest, Reply)>, since: Instant) -> Self {
        let (requests, replies): (Vec<_>, Vec<_>) = asked.map(|(request, reply)| (request, Some(reply))).unzip();
        Exchange { unanswered: requests.len(), requests, replies, since }
    }

    /// What all of its requests have in common, now.
    pub(super) fn request(&self) -> PeerRequest {
        let mut request = self.requests[0].clone();
        request.terms.timeout = left(request.terms.timeout, self.since);
        request
    }

    pub(super) fn keys(&self) -> Vec<&[u8]> {
        self.requests.iter().map(|request| request.key.as_bytes()).collect()
    }

    pub(super) fn is_answered(&self) -> bool {
        self.unanswered == 0
    }

    /// Gives the answer to a key. `false` when it was not asked for or has its answer.
    pub(super) fn answer(&mut self, peer: &Shared, index: usize, outcome: Outcome) -> bool {
        let Some(reply) = self.replies.get_mut(index).and_then(Option::take) else {
            return false;
        };
        self.unanswered -= 1;
        reply.send(match outcome {
            Ok(answer) => answer.map_err(PeerError::Answered),
            Err(failure) => Err(peer.failed(failure)),
        });
        true
    }

    /// Tells all who have no answer yet that there will be none.
    pub(super) fn fail(&mut self, peer: &Shared, no_answer: NoAnswer) {
        self.unanswered = 0;
        let replies = self.replies.iter_mut().filter_map(Option::take);
        match no_answer {
            NoAnswer::NotCarried => replies.for_each(|reply| reply.send(Err(PeerError::NotCarried))),
            NoAnswer::Answered(error) => replies.for_each(|reply| reply.send(Err(PeerError::Answered(error.clone())))),
            NoAnswer::Failed(failure) => {
                let failure = Arc::new(peer.blame(failure));
                replies.for_each(|reply| reply.send(Err(PeerError::failed(failure.clone()))));
            }
        }
    }
}
