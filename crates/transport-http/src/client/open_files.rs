//! The limit of open files: idle connections make room for a new one.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use crate::client::sweep::SweepTime;

/// The longest wait for connections to close. The workers of a runtime that nobody drives do not.
const MAX_WAIT: Duration = Duration::from_millis(100);

/// The time between two lines of the log.
const BETWEEN: Duration = Duration::from_secs(60);

/// Idle connections to one peer.
pub(super) trait IdleConnections: Send + Sync {
    /// Has them closed. Returns the ends of them.
    fn close_idle(&self) -> Vec<Closing>;
}

/// Resolves when a connection is closed.
pub(super) type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The connections of all peers of a pool, to be closed when files run out.
#[derive(Default)]
pub(super) struct OpenFiles {
    peers: Mutex<Peers>,
    /// The time of the last line in the log.
    logged: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Peers {
    peers: Vec<Weak<dyn IdleConnections>>,
    sweep: SweepTime,
}

impl OpenFiles {
    /// Adds a peer, which is forgotten when it is dropped.
    pub(super) fn add(&self, peer: Weak<dyn IdleConnections>) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.sweep.is_due(peers.peers.len()) {
            peers.peers.retain(|peer| peer.strong_count() > 0);
            let left = peers.peers.len();
            peers.sweep.swept(left);
        }
        peers.peers.push(peer);
    }

    /// Closes all idle connections of the pool, and waits until they are. Returns whether there
    /// were any.
    pub(super) async fn close_idle(&self) -> bool {
        let peers: Vec<Arc<dyn IdleConnections>> = {
            let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            peers.peers.iter().filter_map(Weak::upgrade).collect()
        };
        let closing: Vec<_> = peers.iter().flat_map(|peer| peer.close_idle()).collect();
        drop(peers);
        if self.is_due() {
            tracing::warn!(
                closed = closing.len(),
                "the limit of open files is reached; idle connections to peers are closed"
            );
        }
        let (until, mut has_closed) = (Instant::now() + MAX_WAIT, false);
        for closed in closing {
            has_closed |= timeout_at(until, closed).await.is_ok();
        }
        has_closed
    }

    fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = logged.is_none_or(|last| now.duration_since(last) >= BETWEEN);
        if is_due {
            *logged = Some(now);
        }
        is_due
    }
}
