//! One member over HTTP: the peer that the engine holds.

use std::{sync::Arc, time::Duration};

use peercache_groupcache::{Ack, Member, Peer, PeerError, PeerRequest, PeerUpdate, Reply};
use tokio::time::Instant;

use crate::client::{
    config::PoolConfig,
    peer_state::PeerState,
    queue::{PendingUpdate, RequestQueue},
    worker,
};

/// One member, asked over HTTP.
pub(super) struct HttpPeer {
    config: Arc<PoolConfig>,
    queue: Arc<RequestQueue>,
}

impl HttpPeer {
    pub(super) fn new(member: &Member, config: Arc<PoolConfig>) -> Self {
        let state = Arc::new(PeerState::new(member, config.clone()));
        HttpPeer { config, queue: Arc::new(RequestQueue::new(state, worker::start)) }
    }

    fn carries(&self, request: &PeerRequest) -> bool {
        request.key.len() <= self.config.max_key_bytes
    }
}

impl Peer for HttpPeer {
    fn get(&self, request: PeerRequest, reply: Reply) {
        if self.carries(&request) {
            self.queue.fetch(request, reply);
        } else {
            reply.send(Err(PeerError::NotCarried));
        }
    }

    fn get_many(&self, requests: Vec<(PeerRequest, Reply)>) {
        // With a key that is longer than the peer takes, all of them would be refused.
        let (carried, long): (Vec<_>, Vec<_>) = requests.into_iter().partition(|(request, _)| self.carries(request));
        self.queue.fetch_many(carried);
        long.into_iter().for_each(|(_, reply)| reply.send(Err(PeerError::NotCarried)));
    }

    fn connect_ahead(&self) {
        self.queue.connect_ahead();
    }

    fn update(&self, update: PeerUpdate, timeout: Duration, reply: Reply<Ack>) {
        self.queue.update(PendingUpdate { update, timeout, since: Instant::now(), reply });
    }
}
