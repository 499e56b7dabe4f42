use std::{
    error::Error as StdError,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use peercache_groupcache::BoxError;

use crate::client::failure::Failure;

/// A way to one peer that carries one HTTP exchange after another: all that we need of an HTTP client. Redirects, proxies
/// and cookies are none of its business, and neither is time, which whoever holds it keeps.
pub(super) trait Line: Send {
    /// Opens a connection if none is open, so that a request need not wait for one.
    fn warm(&mut self) -> Step<'_, ()>;

    /// Sends a request, whose URI is a path, and resolves when the answer's head is there. What has not been read of the
    /// answer before is given up.
    fn send(&mut self, request: http::Request<Bytes>) -> Step<'_, http::response::Parts>;

    /// The next piece of the answer; `None` at its end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>>;

    /// How many bytes of the answer are to come, where its head says so.
    fn bytes_left(&self) -> Option<u64>;

    /// Whether what was sent last found its connection open, so that it may have been a stale one.
    fn was_kept(&self) -> bool;

    /// Ready when the other side has closed the connection. A line that does not know is never ready.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

pub(super) type Step<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// Makes lines to the members of one pool.
pub(super) trait Lines: Send + Sync + 'static {
    /// A line to the member of this name, not connected yet.
    fn line(&self, name: &Arc<str>) -> Box<dyn Line>;
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

/// The error's causes in one line: "error sending request" alone tells nothing.
pub(super) fn chained(error: &dyn StdError) -> BoxError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text.into()
}
