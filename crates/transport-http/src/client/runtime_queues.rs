//! The queues of one peer, one for each runtime that asks it.
//!
//! A worker is a task of the runtime of the caller that started it, and lives only while somebody
//! drives that runtime. So no caller of another runtime waits for it, and its connections take no
//! places of theirs: each queue has the pool's limits for itself.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::runtime::{Handle, Id};

use crate::client::{
    open_files::{Closing, IdleConnections},
    peer_state::PeerState,
    queue::{RequestQueue, StartWorker},
    sweep::SweepTime,
};

/// The queues of one peer.
pub(super) struct RuntimeQueues {
    peer: Arc<PeerState>,
    start_worker: StartWorker,
    queues: RwLock<Queues>,
}

#[derive(Default)]
struct Queues {
    /// The queues by their runtimes, of which there are few. Those of ended runtimes are dropped
    /// when others come. An id that a new runtime has from an ended one brings it the queue, too.
    by_runtime: Vec<(Id, Arc<RequestQueue>)>,
    sweep: SweepTime,
}

impl RuntimeQueues {
    pub(super) fn new(peer: Arc<PeerState>, start_worker: StartWorker) -> Self {
        RuntimeQueues { peer, start_worker, queues: RwLock::default() }
    }

    pub(super) fn peer(&self) -> &Arc<PeerState> {
        &self.peer
    }

    /// The queue of this runtime.
    pub(super) fn of(&self, runtime: &Handle) -> Arc<RequestQueue> {
        let id = runtime.id();
        let known = self.queues.read().unwrap_or_else(PoisonError::into_inner).of(id);
        known.unwrap_or_else(|| self.add(id))
    }

    fn add(&self, runtime: Id) -> Arc<RequestQueue> {
        let queue = Arc::new(RequestQueue::new(self.peer.clone(), self.start_worker));
        let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = queues.of(runtime) {
            return other;
        }
        let ended = queues.take_ended();
        queues.by_runtime.push((runtime, queue.clone()));
        drop(queues);
        drop(ended);
        queue
    }
}

impl Queues {
    fn of(&self, runtime: Id) -> Option<Arc<RequestQueue>> {
        self.by_runtime.iter().find(|(id, _)| *id == runtime).map(|(_, queue)| queue.clone())
    }

    /// Takes out the queues of ended runtimes, if it is time.
    fn take_ended(&mut self) -> Vec<(Id, Arc<RequestQueue>)> {
        if !self.sweep.is_due(self.by_runtime.len()) {
            return Vec::new();
        }
        let (ended, alive) = self.by_runtime.drain(..).partition(|(_, queue)| queue.has_ended());
        self.by_runtime = alive;
        self.sweep.swept(self.by_runtime.len());
        ended
    }
}

impl IdleConnections for RuntimeQueues {
    fn close_idle(&self) -> Vec<Closing> {
        let queues: Vec<_> = {
            let queues = self.queues.read().unwrap_or_else(PoisonError::into_inner);
            queues.by_runtime.iter().map(|(_, queue)| queue.clone()).collect()
        };
        queues.iter().flat_map(|queue| queue.close_idle()).collect()
    }
}
