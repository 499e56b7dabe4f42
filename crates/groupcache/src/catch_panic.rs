//! A panic of a user's code, turned into an error.

use std::{
    any::Any,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
};

use crate::error::{Error, ErrorKind};

/// Runs `work`; a panic becomes an error that says whose it was.
///
/// Unwind safety is asserted: all that the panic left half done is dropped and not looked at again.
pub(crate) fn caught<T>(who: &str, work: impl FnOnce() -> T) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let message = format!("{who} panicked: {}", text_of(panic.as_ref()));
        Error::with_message(ErrorKind::LoadFailed, message)
    })
}

/// Awaits a load; a panic at any poll becomes an error.
pub(crate) async fn caught_loading<T>(mut load: Pin<Box<dyn Future<Output = T> + Send>>) -> Result<T, Error> {
    poll_fn(|cx| match caught("the loader", || load.as_mut().poll(cx)) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => std::task::Poll::Ready(Err(panic)),
    })
    .await
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
