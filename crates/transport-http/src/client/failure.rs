use std::time::Duration;

use peercache_groupcache::BoxError;

/// Why a peer counts as failed, in words for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("did not answer within {0:?}")]
    TooLate(Duration),
    #[error("was silent for {0:?}")]
    Silent(Duration),
    #[error("was silent or out of reach to others while this one waited its turn")]
    SilentMeanwhile,
    /// There is no connection, for a reason on its side or on the way there.
    #[error("cannot be reached: {0}")]
    Connect(#[source] BoxError),
    #[error("cannot be asked: {0}")]
    Send(#[source] BoxError),
    /// The connection was there and ended before an answer began: a stale one, or a server that gives up on a path.
    #[error("closed the connection instead of answering: {0}")]
    Closed(#[source] BoxError),
    #[error("broke off its answer: {0}")]
    BrokeOff(#[source] BoxError),
    #[error("answered {0}")]
    Status(http::StatusCode),
    /// The native path is not there: a Go peer, or a node of another age.
    #[error("does not know the native exchange (answered {0})")]
    PathUnknown(http::StatusCode),
    #[error("has no such group: {0}")]
    UnknownGroup(String),
    #[error("is this node itself; the peer list names this node twice, in different words")]
    Myself,
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
    pub(super) fn garbage(what: impl Into<BoxError>) -> Self {
        Failure::Garbage(what.into())
    }
}
