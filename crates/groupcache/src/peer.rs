//! Other members as a group asks them, and the traits that a transport implements.

pub(crate) mod reply_meta;
pub(crate) mod served_group;
pub(crate) mod update;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    error::{BoxError, BuildError, Error},
    key::Key,
    limits::Limits,
    loader::chain::LoadChain,
    members::member::Member,
    peer::{
        reply_meta::ReplyMeta,
        update::{Ack, PeerUpdate},
    },
};

/// Another member, as a group asks it for values and sends it updates. A transport implements this;
/// one `Peer` serves all groups.
pub trait Peer: Send + Sync + 'static {
    /// Asks the member for a value and returns at once; the answer goes to `reply`, from any
    /// thread.
    ///
    /// No caller's deadline cancels a fetch, so the transport bounds it: by the peer's silence and
    /// by [`PeerRequest::load_timeout`].
    fn get(&self, request: PeerRequest, reply: Reply);

    /// Asks the member for many values of one group, all on the same terms, and returns at once.
    /// Each answer goes to its reply as soon as it is there: a slow key holds back no other.
    ///
    /// Defaults to a [`get`](Peer::get) for each.
    fn get_many(&self, requests: Vec<(PeerRequest, Reply)>) {
        requests.into_iter().for_each(|(request, reply)| self.get(request, reply));
    }

    /// Opens a connection, if the transport has such: the member has come into force as one of a
    /// new list, and will be asked soon. Called within a tokio runtime or without; returns at once.
    ///
    /// Defaults to nothing.
    fn connect_ahead(&self) {}

    /// Asks the member for a sign of life, which costs it next to nothing, and returns at once. It
    /// is sent about once a second while the member is down. After `timeout` nothing waits for it
    /// any more.
    ///
    /// Defaults to [`PeerError::NotCarried`]: the member counts as up again after a pause, and the
    /// next request finds out.
    fn probe(&self, timeout: Duration, reply: Reply<()>) {
        let _ = timeout;
        reply.send(Err(PeerError::NotCarried));
    }

    /// Sends the member an update and returns at once; its acknowledgement goes to `reply`. After
    /// `timeout` nothing waits for one any more.
    ///
    /// Defaults to [`PeerError::NotCarried`]: a member that gets no updates. The caller who makes
    /// the update is given its name.
    fn update(&self, update: PeerUpdate, timeout: Duration, reply: Reply<Ack>) {
        let _ = (update, timeout);
        reply.send(Err(PeerError::NotCarried));
    }
}

/// Turns a member into a peer. A transport implements this.
pub trait Connect: Send + Sync + 'static {
    /// Makes the peer of a member. It need not be reachable yet, and nothing is sent.
    ///
    /// # Errors
    /// A member that the transport can never reach, with the reason in words for the person who
    /// wrote the list.
    fn connect(&self, member: &Member) -> Result<Arc<dyn Peer>, BoxError>;

    /// Checks a list as a whole, this node's own entry included, before it is taken. The default
    /// takes every list.
    ///
    /// # Errors
    /// A list that must not be in force, such as one that needs a secret.
    fn check(&self, members: &[Member]) -> Result<(), BuildError> {
        let _ = members;
        Ok(())
    }
}

/// A request for one value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerRequest {
    /// The group's name.
    pub group: Arc<str>,
    /// The key.
    pub key: Key,
    /// The longest time that the owner's load may take. After it no answer can be expected any
    /// more.
    pub load_timeout: Duration,
    /// The longest value that the group takes, in bytes.
    pub max_value_bytes: usize,
    /// The terms on which the value is asked for.
    pub terms: Terms,
}

impl PeerRequest {
    /// A request with the [default limits](Limits::DEFAULT) of a group.
    pub fn new(group: impl Into<Arc<str>>, key: impl Into<Key>) -> Self {
        PeerRequest {
            group: group.into(),
            key: key.into(),
            load_timeout: Limits::DEFAULT.load_timeout,
            max_value_bytes: Limits::DEFAULT.max_value_bytes,
            terms: Terms::new(),
        }
    }
}

/// The terms on which a value is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Terms {
    /// The time for which the callers go on waiting; `None` is without end. The owner starts no
    /// load for callers that are gone; a load that has started is finished.
    pub timeout: Option<Duration>,
    /// Whether the value must be within its time to live and not due for a refresh: the member that
    /// asks has such a value already.
    pub fresh: bool,
    /// The loads, at the member that asks and at others, whose loaders wait for the value. A loader
    /// that asks for one of them would wait for itself, and gets an error.
    pub chain: LoadChain,
}

impl Terms {
    /// Terms without a deadline, on which a stale value is answered, too.
    pub fn new() -> Self {
        Terms::default()
    }

    /// The same terms for callers who wait this long.
    #[must_use]
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same terms, of these loads.
    #[must_use]
    pub fn chain(mut self, chain: LoadChain) -> Self {
        self.chain = chain;
        self
    }

    /// The same terms, for a fresh value only or for any.
    #[must_use]
    pub fn fresh(mut self, fresh: bool) -> Self {
        self.fresh = fresh;
        self
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
    #[must_use]
    pub fn meta(mut self, meta: ReplyMeta) -> Self {
        self.meta = meta;
        self
    }
}

/// The reason why a peer gave no value or acknowledged no update.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The owner answered, with an error: not found, a failed loader, overload. The error is the
    /// answer; nothing is loaded here.
    #[error(transparent)]
    Answered(Error),
    /// The peer could not be understood: garbage, an answer that was broken off, an unknown group.
    /// The value is loaded here and kept only briefly. It says nothing of other requests.
    #[error("{0}")]
    Failed(#[source] BoxError),
    /// The peer is not there: its port is closed, no way leads to it, or somebody else answers in
    /// its place. It is down at once, and the next in line is asked.
    #[error("{0}")]
    Unreachable(#[source] BoxError),
    /// The peer gave no sign of life for as long as it may be silent, on any connection. It is down
    /// at once, and the next in line is asked.
    #[error("{0}")]
    Silent(#[source] BoxError),
    /// The peer's protocol cannot carry the request: a key that would not arrive unchanged, or an
    /// update. A value is loaded here; of an update the caller is told. The peer is not at fault.
    #[error("the peer's dialect cannot carry this")]
    NotCarried,
}

impl PeerError {
    /// A failure of the peer or of the way to it.
    pub fn failed(cause: impl Into<BoxError>) -> Self {
        PeerError::Failed(cause.into())
    }

    /// Whether the peer failed, in whatever way, so that it is not known what it did.
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, PeerError::Failed(_) | PeerError::Unreachable(_) | PeerError::Silent(_))
    }
}

/// Takes the answer to one [`Peer::get`] or [`Peer::update`]. Dropping it unanswered is a
/// [`PeerError::Failed`].
#[must_use = "dropping a reply reports the peer as failed"]
pub struct Reply<T: 'static = PeerReply> {
    sink: Option<Box<Sink<T>>>,
}

type Sink<T> = dyn FnOnce(Result<T, PeerError>) + Send;

impl<T> Reply<T> {
    /// A reply that passes the answer to `sink`, exactly once. Useful to a transport's own tests.
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
