use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use peercache_groupcache::{BoxError, Error, ErrorKind, Peer, PeerError, PeerReply, PeerRequest, Reply};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
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
    /// How often a fetch found the peer silent or out of reach.
    silences: AtomicU64,
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
            silences: AtomicU64::new(0),
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
    // The peer's time begins when it is asked: that our own connections are taken is no fault of its.
    let _connection = match peer.connection(bound).await {
        Ok(connection) => connection,
        Err(error) => return reply.send(Err(error)),
    };
    match timeout(bound, peer.ask(&request)).await {
        Err(_) => reply.send(Err(peer.failed(Failure::TooLate(bound)))),
        Ok(Err(no_answer)) => reply.send(Err(peer.error(no_answer))),
        Ok(Ok(answer)) => {
            reply.send(answer.outcome.map_err(PeerError::Answered));
            answer.rest.finish().await;
        }
    }
}

impl Shared {
    /// A turn to ask. Who waits too long for one is answered as overload, which is our own; who waits while others
    /// find the peer silent need not find it out again.
    async fn connection(&self, bound: Duration) -> Result<SemaphorePermit<'_>, PeerError> {
        if let Ok(connection) = self.connections.try_acquire() {
            return Ok(connection);
        }
        let silences = self.silences.load(Ordering::Relaxed);
        let Ok(connection) = timeout(bound, self.connections.acquire()).await else {
            return Err(PeerError::Answered(Error::new(ErrorKind::Overloaded)));
        };
        match self.silences.load(Ordering::Relaxed) == silences {
            true => Ok(connection.expect("the semaphore is never closed")),
            false => Err(self.failed(Failure::SilentMeanwhile)),
        }
    }

    /// Asks in the manner that the peer knows, or finds it out.
    async fn ask(&self, request: &PeerRequest) -> Result<Answer, NoAnswer> {
        if !self.is_asked_natively() {
            return plain::ask(self, request).await;
        }
        match self.ask_natively(request).await {
            Err(NoAnswer::Failed(Failure::PathUnknown(status))) => {
                tracing::debug!(peer = self.name, %status, "no native exchange there; asking plainly for a while");
                self.ask_plainly_for_a_while();
                plain::ask(self, request).await
            }
            // Either the connection was a stale one, or the server gives up on paths that it does not know, as
            // golang's does when it is mounted at the root. A GET is harmless, and its answer tells which.
            Err(NoAnswer::Failed(Failure::Closed(why))) => self.ask_plainly_instead(request, why).await,
            answer => answer,
        }
    }

    /// Asks natively; once more if one of ours closed the connection, which was a stale one then.
    async fn ask_natively(&self, request: &PeerRequest) -> Result<Answer, NoAnswer> {
        match native::ask(self, request).await {
            Err(NoAnswer::Failed(Failure::Closed(_))) if *self.manner() == Manner::Natively => {
                native::ask(self, request).await
            }
            answer => answer,
        }
    }

    /// Asks a peer plainly that closed the connection at the native path.
    async fn ask_plainly_instead(&self, request: &PeerRequest, closed: BoxError) -> Result<Answer, NoAnswer> {
        match plain::ask(self, request).await {
            // The key is not at fault: natively it would have been carried.
            Err(NoAnswer::KeyNotCarried) => Err(Failure::Closed(closed).into()),
            Err(failed) => Err(failed),
            Ok(answer) => {
                if *self.manner() == Manner::Unknown {
                    self.ask_plainly_for_a_while();
                }
                Ok(answer)
            }
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
        if matches!(failure, Failure::Silent(_) | Failure::Send(_)) {
            self.silences.fetch_add(1, Ordering::Relaxed);
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
