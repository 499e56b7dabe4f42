//! A head timeout: a connection ends when the next request does not come, or its head drips.

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

/// A connection whose reads fail when a request is not there in time.
///
/// The first byte of a new connection has as long as a head has from its first byte. Between two
/// requests there is a time of its own. While a request is answered nothing is measured here.
pub(super) struct HeadTimeout<T> {
    io: T,
    connection: Arc<Connection>,
    head_timeout: Duration,
    idle_timeout: Duration,
    /// The wait that the timer measures: the time at which the connection became idle.
    idle_since: Option<u64>,
    /// Whether a part of a head has come in that wait.
    has_begun: bool,
    timer: Pin<Box<Sleep>>,
    has_timed_out: bool,
}

impl<T> HeadTimeout<T> {
    /// Wraps a new connection.
    pub(super) fn new(io: T, head_timeout: Duration, idle_timeout: Duration, connection: Arc<Connection>) -> Self {
        let timer = Box::pin(sleep_until(Instant::now() + head_timeout));
        let idle_since = connection.idle_since();
        HeadTimeout {
            io,
            connection,
            head_timeout,
            idle_timeout,
            idle_since,
            has_begun: false,
            timer,
            has_timed_out: false,
        }
    }

    pub(super) fn into_inner(self) -> T {
        self.io
    }

    /// Whether its time was over before a request had come.
    pub(super) fn has_timed_out(&self) -> bool {
        self.has_timed_out
    }

    /// Records that bytes have come.
    fn read(&mut self) {
        let Some(idle_since) = self.connection.idle_since() else { return };
        if self.idle_since != Some(idle_since) || !self.has_begun {
            self.measure(idle_since, self.head_timeout);
            self.has_begun = true;
        }
    }

    /// Waits for bytes, or for the end of the time.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(idle_since) = self.connection.idle_since() else { return Poll::Pending };
        if self.idle_since != Some(idle_since) {
            self.measure(idle_since, self.idle_timeout);
            self.has_begun = false;
        }
        self.timer.as_mut().poll(cx).map(|()| {
            self.has_timed_out = true;
            Err(io::Error::new(io::ErrorKind::TimedOut, "no request came in time"))
        })
    }

    fn measure(&mut self, idle_since: u64, time: Duration) {
        self.idle_since = Some(idle_since);
        self.timer.as_mut().reset(Instant::now() + time);
    }
}

impl<T: Read + Unpin> Read for HeadTimeout<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(done) => {
                self.read();
                Poll::Ready(done)
            }
            Poll::Pending => self.wait(cx),
        }
    }
}

impl<T: Write + Unpin> Write for HeadTimeout<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
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

    use hyper::rt::ReadBuf;
    use hyper_util::rt::TokioIo;
    use tokio::{
        io::{AsyncWriteExt, DuplexStream, duplex},
        time::advance,
    };

    use super::*;
    use crate::server::connection::Admission;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(75);
    const MOMENT: Duration = Duration::from_millis(10);

    fn pipe() -> (HeadTimeout<TokioIo<DuplexStream>>, DuplexStream, Arc<Connection>) {
        let (ours, theirs) = duplex(64);
        let connection = Connection::new(Admission::new(), None);
        (HeadTimeout::new(TokioIo::new(ours), HEAD, IDLE, connection.clone()), theirs, connection)
    }

    /// Reads once; `None` if it would wait.
    async fn read(io: &mut HeadTimeout<TokioIo<DuplexStream>>) -> Option<io::Result<()>> {
        poll_fn(|cx| {
            let mut bytes = [0; 64];
            let mut buf = ReadBuf::new(&mut bytes);
            Poll::Ready(match Pin::new(&mut *io).poll_read(cx, buf.unfilled()) {
                Poll::Ready(done) => Some(done),
                Poll::Pending => None,
            })
        })
        .await
    }

    async fn is_waiting(io: &mut HeadTimeout<TokioIo<DuplexStream>>) -> bool {
        read(io).await.is_none()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_byte_has_as_long_as_a_head() {
        let (mut io, _client, _) = pipe();
        assert!(is_waiting(&mut io).await);
        advance(HEAD - MOMENT).await;
        assert!(is_waiting(&mut io).await);
        advance(2 * MOMENT).await;
        assert!(read(&mut io).await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_drips_ends_in_time_after_its_first_byte() {
        let (mut io, mut client, _) = pipe();
        advance(HEAD / 2).await;
        for _ in 0..9 {
            client.write_all(b"x").await.unwrap();
            assert!(read(&mut io).await.unwrap().is_ok());
            assert!(is_waiting(&mut io).await);
            advance(HEAD / 9).await;
        }
        advance(MOMENT).await;
        assert!(read(&mut io).await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn between_two_requests_it_may_be_idle_and_the_next_head_has_its_own_time() {
        let (mut io, mut client, connection) = pipe();
        for _ in 0..2 {
            client.write_all(b"head").await.unwrap();
            assert!(read(&mut io).await.unwrap().is_ok());
            let request = connection.begin_request();
            advance(2 * IDLE).await;
            assert!(is_waiting(&mut io).await, "a request that is answered is not idle");
            drop(request);
            assert!(is_waiting(&mut io).await);
            advance(IDLE - MOMENT).await;
            assert!(is_waiting(&mut io).await);
        }
        client.write_all(b"x").await.unwrap();
        assert!(read(&mut io).await.unwrap().is_ok());
        advance(HEAD - MOMENT).await;
        assert!(is_waiting(&mut io).await);
        advance(2 * MOMENT).await;
        assert!(read(&mut io).await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_in_its_time() {
        let (mut io, _client, connection) = pipe();
        advance(MOMENT).await;
        drop(connection.begin_request());
        assert!(is_waiting(&mut io).await);
        advance(IDLE + MOMENT).await;
        assert!(read(&mut io).await.unwrap().is_err());
    }
}
