//! A connection to one peer: all that this crate needs of an HTTP client.

use std::{
    error::Error as StdError,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use peercache_groupcache::BoxError;

use crate::client::failure::Failure;

/// The time for which an idle connection is kept. A server of ours closes it after 10 s; with less
/// than that no request meets the end.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(8);

/// The idle connections to one peer that are kept, each with its worker. They are fewer than may be
/// in flight: some dozens carry a steady load, and those of a storm would fill the peer for seconds
/// after it.
pub(super) const MAX_IDLE: usize = 32;

/// A connection to one peer, for one HTTP request after another. It opens itself when it has to.
///
/// It follows no redirect and keeps no time: its user does.
pub(super) trait Connection: Send {
    /// Opens the connection if it is not open, so that a request need not wait for that.
    fn connect_ahead(&mut self) -> Step<'_, ()>;

    /// Sends a request, whose URI is a path, and resolves when the answer's head is there. The
    /// unread rest of the answer before is given up.
    fn send(&mut self, request: http::Request<Bytes>) -> Step<'_, http::response::Parts>;

    /// The next piece of the answer; `None` at its end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>>;

    /// The bytes of the answer that are to come, where its head says so.
    fn remaining_bytes(&self) -> Option<u64>;

    /// Whether the last request found the connection open, so that it may have been a stale one.
    fn was_reused(&self) -> bool;

    /// Polls until the other side has closed the connection, where that can be known.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// One step of a request.
pub(super) type Step<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// Makes connections to the members of one pool.
pub(super) trait Connector: Send + Sync + 'static {
    /// A connection to the member at this URL, not open yet.
    fn connection(&self, address: &Arc<str>) -> Box<dyn Connection>;
}

/// Whether the connection ended before an answer began.
pub(super) fn was_closed(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let hyper = error.downcast_ref::<hyper::Error>();
        if hyper.is_some_and(|error| error.is_incomplete_message() || error.is_canceled()) {
            return true;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
            return matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof);
        }
        cause = error.source();
    }
    false
}

/// The error with its causes in one line: "error sending request" alone tells nothing.
pub(super) fn chained(error: &dyn StdError) -> BoxError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text.into()
}
