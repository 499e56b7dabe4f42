use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use peercache_groupcache::{Ack, Error, ErrorKind, Peer, PeerError, PeerRequest, PeerUpdate, Reply};
use tokio::time::Instant;

use crate::{
    client::batch::Asked,
    client::failure::Failure,
    client::pool::Site,
    client::queue::{Dispatcher, Telling},
};
use crate::{dialect::Dialect, wire::identity_header::Greeting};

/// How long a peer that does not know the native exchange is asked plainly before it is tried again: it may have been
/// replaced by a newer node meanwhile, and trying costs one short round trip.
const PLAIN_FOR: Duration = Duration::from_secs(30);

/// One member, asked over HTTP.
pub(super) struct HttpPeer {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) site: Arc<Site>,
    manner: Mutex<Manner>,
    pub(super) dispatcher: Dispatcher,
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
            name: name.into(),
            manner: Mutex::new(Manner::Unknown),
            dispatcher: Dispatcher::new(),
            told_of_self: AtomicBool::new(false),
            site,
        };
        HttpPeer { shared: Arc::new(shared) }
    }

    fn carries(&self, request: &PeerRequest) -> bool {
        request.key.len() <= self.shared.site.key_bytes_max
    }
}

impl Peer for HttpPeer {
    fn get(&self, request: PeerRequest, reply: Reply) {
        match self.carries(&request) {
            true => self.shared.ask_one(Asked::new(request, reply, Instant::now())),
            false => reply.send(Err(PeerError::NotCarried)),
        }
    }

    fn get_many(&self, requests: Vec<(PeerRequest, Reply)>) {
        let since = Instant::now();
        // With a key that is longer than the peer takes, all of them would be refused.
        let (carried, long): (Vec<_>, Vec<_>) = requests.into_iter().partition(|(request, _)| self.carries(request));
        self.shared.ask(carried.into_iter().map(|(request, reply)| Asked::new(request, reply, since)).collect());
        long.into_iter().for_each(|(_, reply)| reply.send(Err(PeerError::NotCarried)));
    }

    fn warm(&self) {
        self.shared.warm();
    }

    fn update(&self, update: PeerUpdate, timeout: Duration, reply: Reply<Ack>) {
        self.shared.tell(Telling { update, within: timeout, since: Instant::now(), reply });
    }
}

pub(super) fn overloaded() -> NoAnswer {
    NoAnswer::Answered(Error::new(ErrorKind::Overloaded))
}

impl Shared {
    /// How long a fetch may take: the load, and as long as the peer may be silent.
    pub(super) fn fetch_bound(&self, request: &PeerRequest) -> Duration {
        request.load_timeout.saturating_add(self.site.peer_timeout)
    }

    /// It closed the connection at the native path and answered a GET.
    pub(super) fn closes_on_native_paths(&self) {
        if *self.manner() == Manner::Unknown {
            self.ask_plainly_for_a_while();
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
            _ if self.site.plain_gets => false,
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
            tracing::error!(peer = %self.name, "this peer is this node itself: it is in the peer list under two names");
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
    peer: Arc<str>,
    #[source]
    failure: Failure,
}
