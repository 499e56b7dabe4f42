//! Other members, as a group asks them, and the traits that a transport implements.

pub(crate) mod reply_meta;
pub(crate) mod served_group;
pub(crate) mod update;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    error::{BoxError, Error},
    key::Key,
    peer::{
        reply_meta::ReplyMeta,
        update::{Ack, PeerUpdate},
    },
    settings::Limits,
};

/// Another member, as a group asks it for values and tells it of changes. A transport implements this; one `Peer` serves
/// all groups.
pub trait Peer: Send + Sync + 'static {
    /// Asks the member for a value and returns at once; the answer goes to `reply`, from any thread.
    ///
    /// Nobody's deadline cancels a fetch, so the transport bounds it: by the peer's silence and by
    /// [`PeerRequest::load_timeout`].
    fn get(&self, request: PeerRequest, reply: Reply);

    /// Asks the member for many values of one group, all on the same terms, and returns at once. Each answer goes to its
    /// reply as soon as it is there: a slow key holds back no other.
    ///
    /// Defaults to a [`get`](Peer::get) for each.
    fn get_many(&self, requests: Vec<(PeerRequest, Reply)>) {
        requests.into_iter().for_each(|(request, reply)| self.get(request, reply));
    }

    /// The member has come into force as one of a new list, and will be asked soon: a transport may open a connection now.
    /// Called within a tokio runtime or without; returns at once.
    ///
    /// Defaults to nothing.
    fn warm(&self) {}

    /// Tells the member of a change and returns at once; its acknowledgement goes to `reply`. After `timeout` there is no use
    /// in one any more.
    ///
    /// Defaults to [`PeerError::NotCarried`]: a member that cannot be told, which is reported by name to whoever made the
    /// change.
    fn update(&self, update: PeerUpdate, timeout: Duration, reply: Reply<Ack>) {
        let _ = (update, timeout);
        reply.send(Err(PeerError::NotCarried));
    }
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
    /// On what terms it is asked.
    pub terms: Terms,
}

/// What an asker says beside the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Terms {
    /// How long the callers who wait for the answer will go on waiting, which keeps the owner from starting a load for callers that are
    /// gone; a load that has started is finished. `None` is as long as it takes.
    pub timeout: Option<Duration>,
    /// Whether only a value will do that is within its time to live and not due to be renewed: the asker has a late or a stale one
    /// already and wants better.
    pub fresh: bool,
}

impl Terms {
    /// No deadline, and a stale value will do.
    pub fn new() -> Self {
        Terms::default()
    }

    /// With callers who wait so long.
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether only a fresh value will do.
    pub fn fresh(mut self, fresh: bool) -> Self {
        self.fresh = fresh;
        self
    }
}

impl PeerRequest {
    /// A request with the group's default bounds: a load of 30 s, a value of 32 MiB.
    pub fn new(group: impl Into<Arc<str>>, key: impl Into<Key>) -> Self {
        PeerRequest {
            group: group.into(),
            key: key.into(),
            load_timeout: Limits::DEFAULT.load_timeout,
            value_bytes_max: Limits::DEFAULT.max_value_bytes,
            terms: Terms::new(),
        }
    }
}

/// Carries an owner's answer: the value, or that there is none, and the facts that go with it.
///
/// A "not found" that its owner does not keep travels as [`PeerError::Answered`] instead.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PeerReply {
    /// The encoded value; `None` is a "not found" that may be cached. It may be a slice of a larger
    /// buffer: a cached value is copied.
    pub value: Option<Bytes>,
    /// The age of the answer, and how long it holds.
    pub meta: ReplyMeta,
}

impl PeerReply {
    /// A value that was loaded just now and does not expire.
    pub fn new(value: Bytes) -> Self {
        PeerReply { value: Some(value), meta: ReplyMeta::default() }
    }

    /// A "not found" that may be cached, as long as it is not evicted.
    pub fn not_found() -> Self {
        PeerReply { value: None, meta: ReplyMeta::default() }
    }

    /// The same answer with these facts.
    pub fn meta(mut self, meta: ReplyMeta) -> Self {
        self.meta = meta;
        self
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
    /// The peer's dialect cannot carry this: a key that would not arrive unchanged, or a change. A value is loaded here, a change
    /// is reported as not told; the peer is not at fault.
    #[error("the peer's dialect cannot carry this")]
    NotCarried,
}

impl PeerError {
    /// A failure of the peer or of the way to it.
    pub fn failed(cause: impl Into<BoxError>) -> Self {
        PeerError::Failed(cause.into())
    }
}

/// Where the answer to one [`Peer::get`] or [`Peer::update`] goes. Dropping it unanswered is a [`PeerError::Failed`].
#[must_use = "dropping a reply reports the peer as failed"]
pub struct Reply<T: 'static = PeerReply> {
    sink: Option<Box<Sink<T>>>,
}

type Sink<T> = dyn FnOnce(Result<T, PeerError>) + Send;

impl<T> Reply<T> {
    /// A reply that hands the answer to `sink`, exactly once. Useful to a transport's own tests.
    pub fn new(sink: impl FnOnce(Result<T, PeerError>) + Send + 'static) -> Self {
        Reply { sink: Some(Box::new(sink)) }
    }

    /// Gives the answer.
    pub fn send(mut self, answer: Result<T, PeerError>) {
        if let Some(sink) = self.sink.take() {
            sink(answer);
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink(Err(PeerError::failed("the transport dropped the request")));
        }
    }
}

impl<T> std::fmt::Debug for Reply<T> {
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
        drop(Reply::<PeerReply>::new(move |answer| tx.send(answer).expect("the test is listening")));
        assert!(matches!(rx.recv(), Ok(Err(PeerError::Failed(_)))));
    }
}
