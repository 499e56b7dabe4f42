//! One peer as requests to it see it: its name, the pool's settings and the protocol it
//! understands.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use peercache_groupcache::{Member, PeerError, PeerRequest};

use crate::{
    auth::credentials::Session,
    client::config::PoolConfig,
    client::failure::{Failure, PeerFailure, RequestError},
    client::protocol_state::{Event, ProtocolState},
    wire::identity_header::Identity,
};

/// One peer, without the requests to it.
pub(super) struct PeerState {
    /// The name by which the member list knows it.
    pub(super) name: Arc<str>,
    /// The URL at which it is reached.
    pub(super) address: Arc<str>,
    /// What is remembered of it between signed requests.
    pub(super) session: Session,
    pub(super) config: Arc<PoolConfig>,
    pub(super) protocol: ProtocolState,
    /// Whether the log says already that this peer is this node itself.
    reported_self: AtomicBool,
}

impl PeerState {
    pub(super) fn new(member: &Member, config: Arc<PoolConfig>) -> Self {
        let protocol = ProtocolState::new(&config);
        PeerState {
            name: member.name.as_str().into(),
            address: member.address.as_str().into(),
            session: Session::default(),
            config,
            protocol,
            reported_self: AtomicBool::new(false),
        }
    }

    /// The longest time that a fetch may take: the load, and as long as the peer may be silent.
    pub(super) fn fetch_timeout(&self, request: &PeerRequest) -> Duration {
        request.load_timeout.saturating_add(self.config.peer_timeout)
    }

    /// Learns from the identity that an answer had, or had not.
    ///
    /// # Errors
    /// An answer from this node itself.
    pub(super) fn observe_identity(&self, identity: Option<Identity>) -> Result<(), Failure> {
        match identity {
            Some(identity) if self.config.identity.is(identity) => return Err(Failure::IsSelf),
            Some(_) => self.protocol.observe(Event::Identified),
            None => self.protocol.observe(Event::NotIdentified),
        }
        Ok(())
    }

    /// The error that the engine gets.
    pub(super) fn error(&self, error: RequestError) -> PeerError {
        match error {
            RequestError::Failed(failure) => PeerError::failed(self.failure(failure)),
            RequestError::NotCarried => PeerError::NotCarried,
            RequestError::Answered(error) => PeerError::Answered(error),
        }
    }

    /// The failure with this peer's name. The first time that the peer is this node itself is
    /// logged.
    pub(super) fn failure(&self, failure: Failure) -> PeerFailure {
        if matches!(failure, Failure::IsSelf) && !self.reported_self.swap(true, Ordering::Relaxed) {
            tracing::error!(peer = %self.name, "this peer is this node itself: it is in the peer list under two names");
        }
        PeerFailure { peer: self.name.clone(), failure }
    }
}
