use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use peercache_groupcache::{
    Ack, BoxError, Error, ErrorKind, Peer, PeerError, PeerReply, PeerRequest, PeerUpdate, Reply,
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use super::{
    chunks::Chunks,
    failure::Failure,
    many::{self, Exchange},
    native, plain,
    pool::Site,
    tell,
};
use crate::{Dialect, greeting::Greeting};

/// How long a peer that does not know the native exchange is asked plainly before it is tried again: it may have been
/// replaced by a newer node meanwhile, and trying costs one short round trip.
const PLAIN_FOR: Duration = Duration::from_secs(30);

/// How many changes one peer is told at once. They are short; a few connections carry many.
const UPDATE_CONNECTIONS_MAX: usize = 16;

/// How many changes for one peer may be under way or waiting. One too many fails at once: they come faster than the
/// peer can be told.
const UPDATES_MAX: usize = 1_024;

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
    /// Changes under way or waiting.
    updates: Arc<Semaphore>,
    /// Changes under way. They do not queue behind fetches.
    pub(super) update_connections: Semaphore,
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
    NotCarried,
    /// It is the owner's answer, or our own, and not the peer's fault.
    Answered(Error),
    Failed(Failure),
}

impl HttpPeer {
    pub(super) fn new(name: &str, site: Arc<Site>) -> Self {
        let shared = Shared {
            name: name.to_owned(),
            manner: Mutex::new(Manner::Unknown),
            fetches: Arc::new(Semaphore::new(site.fetches_max)),
            connections: Semaphore::new(site.connections_max),
            updates: Arc::new(Semaphore::new(UPDATES_MAX)),
            update_connections: Semaphore::new(UPDATE_CONNECTIONS_MAX),
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
            return reply.send(Err(self.shared.error(overloaded())));
        };
        let (peer, since) = (self.shared.clone(), Instant::now());
        runtime.spawn(async move {
            fetch(&peer, request, since, reply).await;
            drop(place);
        });
    }

    fn get_many(&self, requests: Vec<(PeerRequest, Reply)>) {
        // With a key that is longer than the peer takes, all of them would be refused.
        let fits = |(request, _): &(PeerRequest, Reply)| request.key.len() <= self.shared.site.key_bytes_max;
        let (requests, long): (Vec<_>, Vec<_>) = requests.into_iter().partition(fits);
        long.into_iter().for_each(|(request, reply)| self.get(request, reply));
        let exchanges = many::exchanges(requests);
        if Handle::try_current().is_err() {
            return exchanges.for_each(|mut exchange| exchange.fail(&self.shared, Failure::NoRuntime.into()));
        }
        exchanges.for_each(|exchange| self.fetch_many(exchange));
    }

    fn update(&self, update: PeerUpdate, timeout: Duration, reply: Reply<Ack>) {
        let Ok(runtime) = Handle::try_current() else {
            return reply.send(Err(self.shared.failed(Failure::NoRuntime)));
        };
        let Ok(place) = self.shared.updates.clone().try_acquire_owned() else {
            return reply.send(Err(self.shared.failed(Failure::TooManyUpdates)));
        };
        let peer = self.shared.clone();
        runtime.spawn(async move {
            reply.send(tell::tell(&peer, update, timeout).await.map_err(|untold| peer.error(untold)));
            drop(place);
        });
    }
}

impl HttpPeer {
    fn fetch_many(&self, mut exchange: Exchange) {
        match self.shared.fetches.clone().try_acquire_owned() {
            Err(_) => exchange.fail(&self.shared, overloaded()),
            Ok(place) => {
                let peer = self.shared.clone();
                tokio::spawn(async move {
                    many::fetch(&peer, exchange).await;
                    drop(place);
                });
            }
        }
    }
}

/// One fetch from beginning to end, for callers who have waited since then. It belongs to none of them.
pub(super) async fn fetch(peer: &Shared, mut request: PeerRequest, since: Instant, reply: Reply) {
    let bound = peer.fetch_bound(&request);
    // The peer's time begins when it is asked: that our own connections are taken is no fault of its.
    let _connection = match peer.connection(bound).await {
        Ok(connection) => connection,
        Err(no_answer) => return reply.send(Err(peer.error(no_answer))),
    };
    request.terms.timeout = left(request.terms.timeout, since);
    match timeout(bound, peer.ask(&request)).await {
        Err(_) => reply.send(Err(peer.failed(Failure::TooLate(bound)))),
        Ok(Err(no_answer)) => reply.send(Err(peer.error(no_answer))),
        Ok(Ok(answer)) => {
            reply.send(answer.outcome.map_err(PeerError::Answered));
            answer.rest.finish().await;
        }
    }
}

/// How much longer callers wait who have waited since then.
pub(super) fn left(timeout: Option<Duration>, since: Instant) -> Option<Duration> {
    timeout.map(|timeout| timeout.saturating_sub(since.elapsed()))
}

fn overloaded() -> NoAnswer {
    NoAnswer::Answered(Error::new(ErrorKind::Overloaded))
}

impl Shared {
    /// How long a fetch may take: the load, and as long as the peer may be silent.
    pub(super) fn fetch_bound(&self, request: &PeerRequest) -> Duration {
        request.load_timeout.saturating_add(self.site.peer_timeout)
    }

    /// A turn to ask. Who waits too long for one is answered as overload, which is our own; who waits while others
    /// find the peer silent need not find it out again.
    pub(super) async fn connection(&self, bound: Duration) -> Result<SemaphorePermit<'_>, NoAnswer> {
        if let Ok(connection) = self.connections.try_acquire() {
            return Ok(connection);
        }
        let silences = self.silences.load(Ordering::Relaxed);
        let Ok(connection) = timeout(bound, self.connections.acquire()).await else {
            return Err(overloaded());
        };
        match self.silences.load(Ordering::Relaxed) == silences {
            true => Ok(connection.expect("the semaphore is never closed")),
            false => Err(Failure::SilentMeanwhile.into()),
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
            Err(NoAnswer::Failed(Failure::Closed(_))) if self.is_ours() => native::ask(self, request).await,
            answer => answer,
        }
    }

    /// Asks a peer plainly that closed the connection at the native path.
    async fn ask_plainly_instead(&self, request: &PeerRequest, closed: BoxError) -> Result<Answer, NoAnswer> {
        match plain::ask(self, request).await {
            // The key is not at fault: natively it would have been carried.
            Err(NoAnswer::NotCarried) => Err(Failure::Closed(closed).into()),
            Err(failed) => Err(failed),
            Ok(answer) => {
                if *self.manner() == Manner::Unknown {
                    self.ask_plainly_for_a_while();
                }
                Ok(answer)
            }
        }
    }

    pub(super) fn ask_plainly_for_a_while(&self) {
        *self.manner() = Manner::PlainlyUntil(Instant::now() + PLAIN_FOR);
    }

    /// Whether it greeted us when it was last heard of.
    pub(super) fn is_ours(&self) -> bool {
        *self.manner() == Manner::Natively
    }

    /// Whether there is reason to think that it does not know our paths.
    pub(super) fn may_be_foreign(&self) -> bool {
        !self.is_ours() && !self.is_asked_natively()
    }

    pub(super) fn is_asked_natively(&self) -> bool {
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

    pub(super) fn error(&self, no_answer: NoAnswer) -> PeerError {
        match no_answer {
            NoAnswer::Failed(failure) => self.failed(failure),
            NoAnswer::NotCarried => PeerError::NotCarried,
            NoAnswer::Answered(error) => PeerError::Answered(error),
        }
    }

    pub(super) fn failed(&self, failure: Failure) -> PeerError {
        PeerError::failed(self.blame(failure))
    }

    /// The failure with the peer's name, after what is to be learnt from it.
    pub(super) fn blame(&self, failure: Failure) -> PeerFailure {
        if matches!(failure, Failure::Myself) && !self.told_of_self.swap(true, Ordering::Relaxed) {
            tracing::error!(peer = self.name, "this peer is this node itself: it is in the peer list under two names");
        }
        if matches!(failure, Failure::Silent(_) | Failure::Send(_)) {
            self.silences.fetch_add(1, Ordering::Relaxed);
        }
        PeerFailure { peer: self.name.clone(), failure }
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
pub(super) struct PeerFailure {
    peer: String,
    #[source]
    failure: Failure,
}
