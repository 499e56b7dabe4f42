use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use peercache_groupcache::{Error, ErrorKind, Peer, PeerError, PeerReply, PeerRequest, Reply};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::{chunks::Chunks, failure::Failure, native, plain, pool::Site};
use crate::{Dialect, greeting::Greeting};

/// How long a peer that does not know the native exchange is asked plainly before it is tried again: it may have been
/// replaced by a newer node meanwhile, and trying costs one short round trip.
const PLAIN_FOR: Duration = Duration::from_secs(30);

/// One member, asked over HTTP.
pub(super) struct HttpPeer {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) name: String,
    pub(super) site: Arc<Site>,
    manner: Mutex<Manner>,
    /// Fetches under way or waiting.
    fetches: Arc<Semaphore>,
    /// Fetches under way.
    connections: Semaphore,
    told_of_self: AtomicBool,
}

/// What is known of how the peer wants to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// As the pool's dialect says.
    Unknown,
    /// It greeted us as one of ours.
    Natively,
    /// It did not know the native exchange.
    PlainlyUntil(Instant),
}

/// A peer's answer, and the rest of the body that it came in.
pub(super) struct Answer {
    pub(super) outcome: Result<PeerReply, Error>,
    pub(super) rest: Chunks,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    KeyNotCarried,
    Failed(Failure),
}

impl HttpPeer {
    pub(super) fn new(name: &str, site: Arc<Site>) -> Self {
        let shared = Shared {
            name: name.to_owned(),
            manner: Mutex::new(Manner::Unknown),
            fetches: Arc::new(Semaphore::new(site.fetches_max)),
            connections: Semaphore::new(site.connections_max),
            told_of_self: AtomicBool::new(false),
            site,
        };
        HttpPeer { shared: Arc::new(shared) }
    }
}

impl Peer for HttpPeer {
    fn get(&self, request: PeerRequest, reply: Reply) {
        let Ok(runtime) = Handle::try_current() else {
            return reply.send(Err(self.shared.failed(Failure::NoRuntime)));
        };
        let Ok(place) = self.shared.fetches.clone().try_acquire_owned() else {
            return reply.send(Err(PeerError::Answered(Error::new(ErrorKind::Overloaded))));
        };
        runtime.spawn(fetch(self.shared.clone(), request, reply, place));
    }
}

/// One fetch from beginning to end. It belongs to no caller.
async fn fetch(peer: Arc<Shared>, request: PeerRequest, reply: Reply, _place: OwnedSemaphorePermit) {
    let bound = request.load_timeout.saturating_add(peer.site.peer_timeout);
    let asked = async {
        let connection = peer.connections.acquire().await.expect("the semaphore is never closed");
        (peer.ask(&request).await, connection)
    };
    match timeout(bound, asked).await {
        Err(_) => reply.send(Err(peer.failed(Failure::TooLate(bound)))),
        Ok((Err(no_answer), _)) => reply.send(Err(peer.error(no_answer))),
        Ok((Ok(answer), _connection)) => {
            reply.send(answer.outcome.map_err(PeerError::Answered));
            answer.rest.finish().await;
        }
    }
}

impl Shared {
    /// Asks in the manner that the peer knows, or finds it out.
    async fn ask(&self, request: &PeerRequest) -> Result<Answer, NoAnswer> {
        if !self.is_asked_natively() {
            return plain::ask(self, request).await;
        }
        match native::ask(self, request).await {
            Err(NoAnswer::Failed(Failure::PathUnknown(status))) => {
                tracing::debug!(peer = self.name, %status, "no native exchange there; asking plainly for a while");
                self.ask_plainly_for_a_while();
                plain::ask(self, request).await
            }
            // Either the connection was a stale one, or the server gives up on paths that it does not know, as
            // golang's does when it is mounted at the root. A GET is harmless, and its answer tells which.
            Err(NoAnswer::Failed(Failure::Closed(_))) => {
                let answer = plain::ask(self, request).await?;
                if *self.manner() == Manner::Unknown {
                    self.ask_plainly_for_a_while();
                }
                Ok(answer)
            }
            answer => answer,
        }
    }

    fn ask_plainly_for_a_while(&self) {
        *self.manner() = Manner::PlainlyUntil(Instant::now() + PLAIN_FOR);
    }

    fn is_asked_natively(&self) -> bool {
        match *self.manner() {
            Manner::Natively => true,
            Manner::PlainlyUntil(end) if Instant::now() < end => false,
            Manner::PlainlyUntil(_) | Manner::Unknown => self.site.dialect == Dialect::Native,
        }
    }

    /// Learns from an answer's head, and refuses an answer from ourselves.
    pub(super) fn meet(&self, greeting: Option<Greeting>) -> Result<(), Failure> {
        if greeting.is_some_and(|greeting| greeting.node == self.site.node_id) {
            return Err(Failure::Myself);
        }
        let mut manner = self.manner();
        match (*manner, greeting) {
            // A peer that greets but turned the native path down is not to be asked twice each time.
            (Manner::PlainlyUntil(end), _) if Instant::now() < end => {}
            (_, Some(_)) => *manner = Manner::Natively,
            // It stopped being one of ours.
            (_, None) => *manner = Manner::Unknown,
        }
        Ok(())
    }

    fn manner(&self) -> std::sync::MutexGuard<'_, Manner> {
        self.manner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, no_answer: NoAnswer) -> PeerError {
        match no_answer {
            NoAnswer::KeyNotCarried => PeerError::KeyNotCarried,
            NoAnswer::Failed(failure) => self.failed(failure),
        }
    }

    fn failed(&self, failure: Failure) -> PeerError {
        if matches!(failure, Failure::Myself) && !self.told_of_self.swap(true, Ordering::Relaxed) {
            tracing::error!(peer = self.name, "this peer is this node itself: it is in the peer list under two names");
        }
        PeerError::failed(PeerFailure { peer: self.name.clone(), failure })
    }
}

impl From<Failure> for NoAnswer {
    fn from(failure: Failure) -> Self {
        NoAnswer::Failed(failure)
    }
}

/// A failure, with the name of who failed.
#[derive(Debug, thiserror::Error)]
#[error("peer {peer} {failure}")]
struct PeerFailure {
    peer: String,
    #[source]
    failure: Failure,
}
