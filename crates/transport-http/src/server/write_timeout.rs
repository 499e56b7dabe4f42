//! A write timeout: a connection fails when the other side does not take what is written to it.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::server::connection::Connection;

/// The rate, in bytes a second, below which a client that reads counts as one that does not.
const MIN_RATE: f64 = 128.0 * 1024.0;

/// A connection that fails when the other side does not take what is written to it.
///
/// Waiting uses up the allowance, which is one timeout; bytes that are taken give it back at
/// [`MIN_RATE`]. So neither a reader that has stopped nor one that reads too slowly holds the
/// connection for ever. Time in which nothing is written does not count.
pub(super) struct WriteTimeout<T> {
    io: T,
    connection: Arc<Connection>,
    timeout: Duration,
    allowance: Duration,
    waiting_since: Option<Instant>,
    /// Ends the wait. Kept from one wait to the next.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T> WriteTimeout<T> {
    pub(super) fn new(io: T, timeout: Duration, connection: Arc<Connection>) -> Self {
        WriteTimeout { io, connection, timeout, allowance: timeout, waiting_since: None, timer: None }
    }

    pub(super) fn into_inner(self) -> T {
        self.io
    }

    /// Keeps the account of a write.
    fn account(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Pending => self.wait(cx),
            Poll::Ready(Ok(bytes)) => {
                if let Some(since) = self.waiting_since.take() {
                    self.connection.write_resumed();
                    let earned = Duration::from_secs_f64(bytes as f64 / MIN_RATE);
                    self.allowance = (self.allowance.saturating_sub(since.elapsed()) + earned).min(self.timeout);
                }
                written
            }
            Poll::Ready(Err(_)) => written,
        }
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.waiting_since.is_none() {
            let since = Instant::now();
            let end = since + self.allowance;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(end),
                None => self.timer = Some(Box::pin(sleep_until(end))),
            }
            self.waiting_since = Some(since);
            self.connection.write_stalled();
        }
        let timer = self.timer.as_mut().expect("a wait sets the timer");
        timer.as_mut().poll(cx).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the other side does not read")))
    }
}

impl<T: Read + Unpin> Read for WriteTimeout<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for WriteTimeout<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.account(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.account(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;
    use crate::server::connection::Admission;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn pipe(room: usize) -> (WriteTimeout<TokioIo<DuplexStream>>, DuplexStream) {
        let (ours, theirs) = duplex(room);
        (WriteTimeout::new(TokioIo::new(ours), TIMEOUT, Connection::new(Admission::new())), theirs)
    }

    async fn write(io: &mut WriteTimeout<TokioIo<DuplexStream>>, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| Pin::new(&mut *io).poll_write(cx, bytes)).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_has_stopped_is_given_up() {
        let (mut io, _theirs) = pipe(10);
        assert_eq!(write(&mut io, &[0; 20]).await.unwrap(), 10);
        let start = Instant::now();
        assert_eq!(write(&mut io, &[0; 20]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_is_too_slow_is_given_up_too() {
        let (mut io, mut theirs) = pipe(10);
        tokio::spawn(async move {
            let mut byte = [0; 1];
            while theirs.read_exact(&mut byte).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
        });
        let start = Instant::now();
        while write(&mut io, &[0; 10]).await.is_ok() {}
        assert!(start.elapsed() < 5 * TIMEOUT, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_keeps_pace_is_served_for_hours() {
        let (mut io, mut theirs) = pipe(128 * 1024);
        tokio::spawn(async move {
            let mut bytes = vec![0; 128 * 1024];
            while theirs.read_exact(&mut bytes).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(7_200) {
            write(&mut io, &[0; 128 * 1024]).await.expect("the reader keeps pace");
        }
    }
}
