//! One peer as requests to it see it: its name, the pool's settings and the protocol it
//! understands.

use std::{
    mem::{Discriminant, discriminant},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use peercache_groupcache::{Member, PeerError, PeerRequest};
use tokio::time::Instant;

use crate::{
    auth::credentials::{Impostor, Session},
    auth::log_limit::LogLimit,
    client::config::PoolConfig,
    client::failure::{Failure, PeerFailure, RequestError},
    client::protocol_state::ProtocolState,
};

/// One peer, without the requests to it.
pub(super) struct PeerState {
    /// The name by which the member list knows it.
    pub(super) name: Arc<str>,
    /// The URL at which it is reached.
    pub(super) address: Arc<str>,
    /// The facts that are remembered of it between signed requests.
    pub(super) session: Session,
    pub(super) config: Arc<PoolConfig>,
    pub(super) protocol: ProtocolState,
    /// The number of times that it was heard.
    heard: AtomicU64,
    /// The time at which it was last heard, in milliseconds after `began`.
    heard_ms: AtomicU64,
    began: Instant,
    /// The reasons why its answers are not believed.
    impostor_log: LogLimit<Discriminant<Impostor>>,
}

impl PeerState {
    pub(super) fn new(member: &Member, config: Arc<PoolConfig>) -> Self {
        let protocol = ProtocolState::new(config.dialect);
        PeerState {
            name: member.name.as_str().into(),
            address: member.address.as_str().into(),
            session: config.credentials.session(),
            config,
            protocol,
            heard: AtomicU64::new(0),
            heard_ms: AtomicU64::new(0),
            began: Instant::now(),
            impostor_log: LogLimit::default(),
        }
    }

    /// Records that the peer was heard: the head of an answer came, or a piece of it.
    pub(super) fn hear(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
        self.heard_ms.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether it was heard, on any connection, since an exchange that has been silent for this
    /// long was last heard.
    pub(super) fn was_heard_during(&self, silence: Duration) -> bool {
        /// Times are whole milliseconds.
        const ROUNDING: Duration = Duration::from_millis(2);
        let heard = Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
        self.heard() > 0 && heard + silence > self.began.elapsed() + ROUNDING
    }

    /// The number of times that the peer was heard, on any connection. While it stays the same the
    /// peer is silent.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// The longest time that a fetch may take: the load, and as long as the peer may be silent.
    pub(super) fn fetch_timeout(&self, request: &PeerRequest) -> Duration {
        request.load_timeout.saturating_add(self.config.peer_timeout)
    }

    /// The error that the engine gets.
    pub(super) fn error(&self, error: RequestError) -> PeerError {
        match error {
            RequestError::Failed(failure) => self.failed(failure),
            RequestError::NotCarried => PeerError::NotCarried,
            RequestError::Answered(error) => PeerError::Answered(error),
        }
    }

    /// A failure as the engine gets it, which wants to know what it says of the peer's health.
    pub(super) fn failed(&self, failure: Failure) -> PeerError {
        let kind = failure.kind();
        kind(Box::new(self.failure(failure)))
    }

    /// The failure with this peer's name. An answer that is not believed is counted, and logged
    /// once a minute for each reason.
    pub(super) fn failure(&self, failure: Failure) -> PeerFailure {
        match &failure {
            Failure::IsSelf if self.is_impostor_due(&Impostor::IsSelf) => {
                tracing::error!(
                    peer = %self.name,
                    "this peer is this node itself: it is in the peer list under two names"
                );
            }
            Failure::Impostor(reason) if self.is_impostor_due(reason) => {
                tracing::warn!(
                    peer = %self.name, address = %self.address, %reason,
                    "what answers at this peer's address is not believed; its keys are loaded here"
                );
            }
            _ => {}
        }
        PeerFailure { peer: self.name.clone(), failure }
    }

    fn is_impostor_due(&self, impostor: &Impostor) -> bool {
        self.config.membership.trust_counters().count_impostor();
        self.impostor_log.is_due(discriminant(impostor))
    }
}
