use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{BoxError, Error, Key};

/// Another member, as a group asks it for a value. A transport implements this; one `Peer` serves all groups.
pub trait Peer: Send + Sync + 'static {
    /// Asks the member for a value and returns at once; the answer goes to `reply`, from any thread.
    ///
    /// Nobody's deadline cancels a fetch, so the transport bounds it: by the peer's silence and by
    /// [`PeerRequest::load_timeout`].
    fn get(&self, request: PeerRequest, reply: Reply);
}

/// Turns a member's name into a peer. A transport implements this.
pub trait Connect: Send + Sync + 'static {
    /// The peer behind `name`. It need not be reachable yet, and nothing is sent.
    ///
    /// # Errors
    /// A name that the transport can never reach, with the reason in words for the person who wrote the list.
    fn connect(&self, name: &str) -> Result<Arc<dyn Peer>, BoxError>;
}

/// What a peer is asked for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerRequest {
    /// The group's name.
    pub group: Arc<str>,
    /// The key.
    pub key: Key,
    /// How long the owner's load may take before an answer cannot be expected any more.
    pub load_timeout: Duration,
    /// The longest value that the group takes.
    pub value_bytes_max: usize,
}

impl PeerRequest {
    /// A request with the group's default bounds: a load of 30 s, a value of 32 MiB.
    pub fn new(group: impl Into<Arc<str>>, key: impl Into<Key>) -> Self {
        PeerRequest {
            group: group.into(),
            key: key.into(),
            load_timeout: crate::builder::LOAD_TIMEOUT,
            value_bytes_max: crate::builder::VALUE_BYTES_MAX,
        }
    }
}

/// A value as a peer sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerReply {
    /// The encoded value. It may be a slice of a larger buffer: what is cached is copied.
    pub value: Bytes,
}

impl PeerReply {
    /// The reply that carries this value.
    pub fn new(value: Bytes) -> Self {
        PeerReply { value }
    }
}

/// Why a peer gave no value, which decides what happens next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The owner answered, with an error: not found, its loader failed, overload. That is the answer; nothing is
    /// loaded here.
    #[error(transparent)]
    Answered(Error),
    /// The peer could not be asked or understood: no connection, silence, garbage, an unknown group. The value is
    /// loaded here and kept only briefly.
    #[error("{0}")]
    Failed(#[source] BoxError),
    /// The peer's dialect cannot carry this key unchanged. The value is loaded here; the peer is not at fault.
    #[error("the peer's dialect cannot carry this key")]
    KeyNotCarried,
}

impl PeerError {
    /// A failure of the peer or of the way to it.
    pub fn failed(cause: impl Into<BoxError>) -> Self {
        PeerError::Failed(cause.into())
    }
}

/// Where the answer to one [`Peer::get`] goes. Dropping it unanswered is a [`PeerError::Failed`].
#[must_use = "dropping a reply reports the peer as failed"]
pub struct Reply {
    sink: Option<Box<Sink>>,
}

type Sink = dyn FnOnce(Result<PeerReply, PeerError>) + Send;

impl Reply {
    /// A reply that hands the answer to `sink`, exactly once. Useful to a transport's own tests.
    pub fn new(sink: impl FnOnce(Result<PeerReply, PeerError>) + Send + 'static) -> Self {
        Reply { sink: Some(Box::new(sink)) }
    }

    /// Gives the answer.
    pub fn send(mut self, answer: Result<PeerReply, PeerError>) {
        if let Some(sink) = self.sink.take() {
            sink(answer);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink(Err(PeerError::failed("the transport dropped the request")));
        }
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").field("answered", &self.sink.is_none()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_dropped_reply_is_a_failed_peer() {
        let (tx, rx) = mpsc::channel();
        drop(Reply::new(move |answer| tx.send(answer).expect("the test is listening")));
        assert!(matches!(rx.recv(), Ok(Err(PeerError::Failed(_)))));
    }
}
