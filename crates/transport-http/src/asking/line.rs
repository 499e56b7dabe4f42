use std::{error::Error as StdError, future::Future, io, pin::Pin};

use bytes::Bytes;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use peercache_groupcache::BoxError;

use super::failure::Failure;

/// One HTTP request and its answer: all that a peer needs of an HTTP client. Redirects, proxies and cookies are none
/// of its business, and neither is time, which the peer keeps itself.
pub(super) trait Exchange: Send + Sync + 'static {
    /// Resolves when the answer's head is there. The body comes in pieces.
    fn send(&self, request: http::Request<Bytes>) -> Sent;
}

pub(super) type Sent = Pin<Box<dyn Future<Output = Result<http::Response<AnswerBody>, Failure>> + Send>>;
pub(super) type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;

impl Exchange for reqwest::Client {
    fn send(&self, request: http::Request<Bytes>) -> Sent {
        let client = self.clone();
        Box::pin(async move {
            let request = reqwest::Request::try_from(request).map_err(failure)?;
            let answer: http::Response<reqwest::Body> = client.execute(request).await.map_err(failure)?.into();
            Ok(answer.map(|body| body.map_err(|error| error.without_url().into()).boxed_unsync()))
        })
    }
}

/// The URL is left out: it holds the key, which can be long and is nobody's business in a log.
fn failure(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    match !error.is_connect() && was_closed(&error) {
        true => Failure::Closed(chained(&error)),
        false => Failure::Send(chained(&error)),
    }
}

/// Whether the connection ended before an answer began.
fn was_closed(error: &(dyn StdError + 'static)) -> bool {
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
fn chained(error: &dyn StdError) -> BoxError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text.into()
}
