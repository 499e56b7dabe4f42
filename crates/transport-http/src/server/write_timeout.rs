//! A write timeout: a connection fails when the other side does not take what is written to it.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::server::connection::Connection;

/// The rate, in bytes a second, below which a client that reads falls behind.
pub(super) const MIN_RATE: f64 = 128.0 * 1024.0;

/// The times of the timeout for which a client may take nothing at all. The system takes bytes for
/// it by the megabyte, so that one who reads 100 KiB a second seems to have stopped for some tens
/// of seconds.
const PATIENCE: u32 = 6;

/// The timer of a connection that fails when the other side does not take what is written to it.
///
/// Waiting uses up the allowance, which is one timeout; bytes that are taken give it back at
/// [`MIN_RATE`]. A client whose allowance is used up has fallen behind: it is served as long as
/// nobody needs its place. One that takes nothing for [`PATIENCE`] times the timeout is cut off in
/// any case. Time in which nothing is written does not count.
pub(super) struct WriteTimeout {
    connection: Arc<Connection>,
    timeout: Duration,
    allowance: Duration,
    waiting_since: Option<Instant>,
    /// Ends the wait. Kept from one wait to the next.
    timer: Option<Pin<Box<Sleep>>>,
}

impl WriteTimeout {
    pub(super) fn new(timeout: Duration, connection: Arc<Connection>) -> Self {
        WriteTimeout { connection, timeout, allowance: timeout, waiting_since: None, timer: None }
    }

    /// Keeps the account of a write.
    pub(super) fn account(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Pending => self.wait(cx),
            Poll::Ready(Ok(bytes)) => {
                self.connection.count_written(bytes);
                if let Some(since) = self.waiting_since.take() {
                    let earned = Duration::from_secs_f64(bytes as f64 / MIN_RATE);
                    self.allowance = (self.allowance.saturating_sub(since.elapsed()) + earned).min(self.timeout);
                    self.connection.write_resumed(self.allowance > self.timeout / 2);
                }
                written
            }
            Poll::Ready(Err(_)) => written,
        }
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.waiting_since.is_none() {
            let since = Instant::now();
            let end = since + self.timeout.saturating_mul(PATIENCE);
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(end),
                None => self.timer = Some(Box::pin(sleep_until(end))),
            }
            self.waiting_since = Some(since);
            self.connection.write_stalled(self.allowance);
        }
        let timer = self.timer.as_mut().expect("a wait sets the timer");
        timer.as_mut().poll(cx).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the other side does not read")))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use hyper::rt::Write;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;
    use crate::server::connection::{Admission, Behind};

    const TIMEOUT: Duration = Duration::from_secs(10);

    type Io = (TokioIo<DuplexStream>, WriteTimeout);

    fn pipe(room: usize) -> (Io, DuplexStream) {
        let (ours, theirs) = duplex(room);
        let timeout = WriteTimeout::new(TIMEOUT, Connection::new(Admission::new(), None));
        ((TokioIo::new(ours), timeout), theirs)
    }

    async fn write((io, timeout): &mut Io, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| {
            let written = Pin::new(&mut *io).poll_write(cx, bytes);
            timeout.account(cx, written)
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_has_stopped_is_given_up() {
        let (mut io, _theirs) = pipe(10);
        assert_eq!(write(&mut io, &[0; 20]).await.unwrap(), 10);
        let start = Instant::now();
        assert_eq!(write(&mut io, &[0; 20]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(matches!(io.1.connection.behind(), Some(Behind::Since(time)) if time == 5 * TIMEOUT));
        assert_eq!(start.elapsed(), 6 * TIMEOUT);
    }

    /// Writes for a minute to a reader of so many bytes a second.
    async fn writes_for_a_minute(rate: usize) -> Option<Behind> {
        let (mut io, mut theirs) = pipe(128 * 1024);
        let reader = tokio::spawn(async move {
            let mut bytes = vec![0; rate];
            while theirs.read_exact(&mut bytes).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) {
            write(&mut io, &[0; 128 * 1024]).await.expect("it is served");
        }
        // What is written now waits.
        let _ = futures_util::FutureExt::now_or_never(write(&mut io, &[0; 256 * 1024]));
        let _ = futures_util::FutureExt::now_or_never(write(&mut io, &[0; 256 * 1024]));
        reader.abort();
        io.1.connection.behind()
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_is_too_slow_falls_behind_and_is_served() {
        assert!(matches!(writes_for_a_minute(100 * 1024).await, Some(Behind::Since(_))));
        assert!(matches!(writes_for_a_minute(200 * 1024).await, Some(Behind::In(_))));
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
