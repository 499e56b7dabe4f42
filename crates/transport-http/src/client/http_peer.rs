//! One member over HTTP: the peer that the engine holds.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use peercache_groupcache::{Ack, Member, Peer, PeerError, PeerRequest, PeerUpdate, Reply};
use tokio::{runtime::Handle, time::Instant};

use crate::client::{
    config::PoolConfig,
    failure::{Failure, RequestError},
    open_files::IdleConnections,
    peer_state::PeerState,
    probe,
    queue_state::PendingUpdate,
    runtime_queues::RuntimeQueues,
    worker,
};

/// One member, asked over HTTP.
pub(super) struct HttpPeer {
    config: Arc<PoolConfig>,
    queues: Arc<RuntimeQueues>,
}

impl HttpPeer {
    pub(super) fn new(member: &Member, config: Arc<PoolConfig>) -> Self {
        let state = Arc::new(PeerState::new(member, config.clone()));
        let queues = Arc::new(RuntimeQueues::new(state, worker::start));
        let idle: Weak<RuntimeQueues> = Arc::downgrade(&queues);
        config.open_files.add(idle as Weak<dyn IdleConnections>);
        HttpPeer { config, queues }
    }

    fn carries(&self, request: &PeerRequest) -> bool {
        request.key.len() <= self.config.max_key_bytes
    }

    /// The error of a request outside every runtime.
    fn no_runtime(&self) -> PeerError {
        self.queues.peer().error(RequestError::Failed(Failure::NoRuntime))
    }
}

impl Peer for HttpPeer {
    fn get(&self, request: PeerRequest, reply: Reply) {
        if !self.carries(&request) {
            return reply.send(Err(PeerError::NotCarried));
        }
        match Handle::try_current() {
            Ok(runtime) => self.queues.of(&runtime).fetch(request, reply),
            Err(_) => reply.send(Err(self.no_runtime())),
        }
    }

    fn get_many(&self, requests: Vec<(PeerRequest, Reply)>) {
        // With a key that is longer than the peer takes, all of them would be refused.
        let (carried, long): (Vec<_>, Vec<_>) = requests.into_iter().partition(|(request, _)| self.carries(request));
        match Handle::try_current() {
            Ok(runtime) => self.queues.of(&runtime).fetch_many(carried),
            Err(_) => carried.into_iter().for_each(|(_, reply)| reply.send(Err(self.no_runtime()))),
        }
        long.into_iter().for_each(|(_, reply)| reply.send(Err(PeerError::NotCarried)));
    }

    fn connect_ahead(&self) {
        if let Ok(runtime) = Handle::try_current() {
            self.queues.of(&runtime).connect_ahead(&runtime);
        }
    }

    fn probe(&self, timeout: Duration, reply: Reply<()>) {
        match Handle::try_current() {
            Ok(runtime) => {
                let peer = self.queues.peer().clone();
                runtime.spawn(async move { reply.send(probe::probe_health(&peer, timeout).await) });
            }
            Err(_) => reply.send(Err(self.no_runtime())),
        }
    }

    fn update(&self, update: PeerUpdate, timeout: Duration, reply: Reply<Ack>) {
        match Handle::try_current() {
            Ok(runtime) => {
                self.queues.of(&runtime).update(PendingUpdate { update, timeout, since: Instant::now(), reply });
            }
            Err(_) => reply.send(Err(self.no_runtime())),
        }
    }
}
