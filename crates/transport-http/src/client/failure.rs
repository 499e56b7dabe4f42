//! The ways in which a request to a peer ends without an answer.

use std::{sync::Arc, time::Duration};

use peercache_groupcache::{BoxError, Error, ErrorKind, PeerError};

use crate::auth::credentials::Impostor;

/// The reason why a request brought no value and no acknowledgement.
#[derive(Debug)]
pub(super) enum RequestError {
    /// The peer's protocol cannot carry the request. The peer is not at fault.
    NotCarried,
    /// The owner answered with an error, or we do so in its place. The peer is not at fault.
    Answered(Error),
    /// The peer failed.
    Failed(Failure),
}

impl RequestError {
    /// The overload of this node: it asks the peer for as many keys as it may. It goes to the
    /// engine in the form of an owner's, which is no final answer either: the group may load here.
    pub(super) fn overloaded() -> Self {
        RequestError::Answered(Error::new(ErrorKind::Overloaded))
    }
}

impl From<Failure> for RequestError {
    fn from(failure: Failure) -> Self {
        RequestError::Failed(failure)
    }
}

/// The reason why a peer counts as failed, in words for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("did not answer within {0:?}")]
    TooLate(Duration),
    /// The time of every key of an exchange is over, and each has failed for itself.
    #[error("did not answer in time")]
    GivenUp,
    #[error("was silent for {0:?}")]
    Silent(Duration),
    /// One connection of several stood still.
    #[error("stalled for {0:?} on one connection, and was heard on others")]
    Stalled(Duration),
    #[error("was silent or out of reach to others while this one waited its turn")]
    SilentMeanwhile,
    /// There is no connection, for a reason on its side or on the way there.
    #[error("cannot be reached: {0}")]
    Connect(#[source] BoxError),
    #[error("cannot be reached: the connection took too long")]
    ConnectTooLong,
    #[error("cannot be asked: {0}")]
    Send(#[source] BoxError),
    /// The connection was open and ended before an answer began: a stale one, or a server that
    /// closes it on an unknown path, as golang's does.
    #[error("closed the connection instead of answering: {0}")]
    Closed(#[source] BoxError),
    #[error("broke off its answer: {0}")]
    BrokeOff(#[source] BoxError),
    #[error("answered {0}")]
    Status(http::StatusCode),
    /// Somebody answered who is not the member that was asked.
    #[error("is not believed: {0}")]
    Impostor(#[source] Impostor),
    #[error("has no such group: {0}")]
    UnknownGroup(String),
    #[error("is this node itself; the peer list names this node twice, in different words")]
    IsSelf,
    #[error("sent more than {0} bytes")]
    TooLong(usize),
    #[error("sent what is not an answer: {0}")]
    Garbage(#[source] BoxError),
    #[error("sent a body coded as {0:?}, unasked")]
    Coded(String),
    #[error("is told of more changes at once than it can take")]
    TooManyUpdates,
    #[error("cannot be asked outside a tokio runtime")]
    NoRuntime,
}

impl Failure {
    /// The kind of failure that it is to the engine: whether the peer is not there, or silent, or
    /// the failure concerns one request.
    pub(super) fn kind(&self) -> fn(BoxError) -> PeerError {
        match self {
            Failure::Connect(_) | Failure::Impostor(_) => PeerError::Unreachable,
            Failure::Silent(_) | Failure::SilentMeanwhile | Failure::ConnectTooLong => PeerError::Silent,
            _ => PeerError::Failed,
        }
    }

    pub(super) fn garbage(what: impl Into<BoxError>) -> Self {
        Failure::Garbage(what.into())
    }
}

impl From<Impostor> for Failure {
    fn from(impostor: Impostor) -> Self {
        match impostor {
            Impostor::IsSelf => Failure::IsSelf,
            impostor => Failure::Impostor(impostor),
        }
    }
}

/// A failure, with the name of the peer that failed.
#[derive(Debug, thiserror::Error)]
#[error("peer {peer} {failure}")]
pub(super) struct PeerFailure {
    pub(super) peer: Arc<str>,
    #[source]
    pub(super) failure: Failure,
}
