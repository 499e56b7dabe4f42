//! A read timeout: a body fails when it does not arrive in time.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use peercache_groupcache::BoxError;
use tokio::time::{Instant, Sleep, sleep_until};

/// A body that fails when it is not complete in time, counted from its reader's first wait.
pub(super) struct ReadTimeout<B> {
    body: B,
    timeout: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<B> ReadTimeout<B> {
    pub(super) fn new(body: B, timeout: Duration) -> Self {
        ReadTimeout { body, timeout, deadline: None }
    }
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin> Body for ReadTimeout<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let end = Instant::now() + self.timeout;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep_until(end)));
        deadline.as_mut().poll(cx).map(|()| Some(Err("the body took too long to arrive".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::BodyExt;

    use super::*;

    /// One byte every second, for ever.
    struct Drip(Pin<Box<Sleep>>);

    impl Body for Drip {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            std::task::ready!(self.0.as_mut().poll(cx));
            self.0.as_mut().reset(Instant::now() + Duration::from_secs(1));
            Poll::Ready(Some(Ok(Frame::data("x".into()))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_ends() {
        let start = Instant::now();
        let body = ReadTimeout::new(Drip(Box::pin(sleep_until(start))), Duration::from_secs(10));
        assert_eq!(body.collect().await.unwrap_err().to_string(), "the body took too long to arrive");
        assert_eq!(start.elapsed().as_secs(), 10);
    }
}
