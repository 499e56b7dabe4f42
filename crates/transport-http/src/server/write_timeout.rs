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

use crate::server::connection_slot::Seat;

/// Who takes less than this, in bytes a second, over longer than the timeout, is as bad as who takes nothing.
const RATE_MIN: f64 = 128.0 * 1024.0;

/// A connection that fails when the other side does not take what is written to it.
///
/// Waiting uses up patience, of which there is one timeout; bytes taken give it back at [`RATE_MIN`]. So neither a
/// reader that has stopped nor one that sips holds the connection for ever, and time in which nothing is written does
/// not count.
pub(super) struct Stall<T> {
    io: T,
    seat: Arc<Seat>,
    timeout: Duration,
    patience: Duration,
    waiting: Option<Waiting>,
    /// Kept from one wait to the next.
    alarm: Option<Pin<Box<Sleep>>>,
}

struct Waiting {
    since: Instant,
}

impl<T> Stall<T> {
    pub(super) fn new(io: T, timeout: Duration, seat: Arc<Seat>) -> Self {
        Stall { io, seat, timeout, patience: timeout, waiting: None, alarm: None }
    }

    pub(super) fn into_inner(self) -> T {
        self.io
    }

    /// Judges what a write came to.
    fn watch(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Pending => self.wait(cx),
            Poll::Ready(Ok(bytes)) => {
                if let Some(Waiting { since }) = self.waiting.take() {
                    self.seat.flow();
                    let earned = Duration::from_secs_f64(bytes as f64 / RATE_MIN);
                    self.patience = (self.patience.saturating_sub(since.elapsed()) + earned).min(self.timeout);
                }
                written
            }
            Poll::Ready(Err(_)) => written,
        }
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.waiting.is_none() {
            let since = Instant::now();
            let end = since + self.patience;
            match &mut self.alarm {
                Some(alarm) => alarm.as_mut().reset(end),
                None => self.alarm = Some(Box::pin(sleep_until(end))),
            }
            self.waiting = Some(Waiting { since });
            self.seat.stall();
        }
        let alarm = self.alarm.as_mut().expect("a wait sets the alarm");
        alarm.as_mut().poll(cx).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the other side does not read")))
    }
}

impl<T: Read + Unpin> Read for Stall<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for Stall<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
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
    use crate::server::connection_slot::Door;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn pipe(room: usize) -> (Stall<TokioIo<DuplexStream>>, DuplexStream) {
        let (ours, theirs) = duplex(room);
        (Stall::new(TokioIo::new(ours), TIMEOUT, Seat::new(Door::new())), theirs)
    }

    async fn write(io: &mut Stall<TokioIo<DuplexStream>>, bytes: &[u8]) -> io::Result<usize> {
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
    async fn a_reader_that_sips_is_given_up_too() {
        let (mut io, mut theirs) = pipe(10);
        tokio::spawn(async move {
            let mut sip = [0; 1];
            while theirs.read_exact(&mut sip).await.is_ok() {
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
            let mut gulp = vec![0; 128 * 1024];
            while theirs.read_exact(&mut gulp).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(7_200) {
            write(&mut io, &[0; 128 * 1024]).await.expect("the reader keeps pace");
        }
    }
}
