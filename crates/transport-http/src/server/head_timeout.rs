//! A head timeout: a connection ends when the next request does not come, or its head drips.

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

/// The timer of a connection whose reads fail when a request is not there in time.
///
/// The first byte of a new connection has as long as a head has from its first byte. Between two
/// requests there is a time of its own. While a request is answered nothing is measured here.
pub(super) struct HeadTimeout {
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

impl HeadTimeout {
    /// Measures a new connection.
    pub(super) fn new(head_timeout: Duration, idle_timeout: Duration, connection: Arc<Connection>) -> Self {
        let timer = Box::pin(sleep_until(Instant::now() + head_timeout));
        let idle_since = connection.idle_since();
        HeadTimeout {
            connection,
            head_timeout,
            idle_timeout,
            idle_since,
            has_begun: false,
            timer,
            has_timed_out: false,
        }
    }

    /// Whether its time was over before a request had come.
    pub(super) fn has_timed_out(&self) -> bool {
        self.has_timed_out
    }

    /// Keeps the account of a read.
    pub(super) fn account(&mut self, cx: &mut Context<'_>, read: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        match read {
            Poll::Ready(done) => {
                self.bytes_came();
                Poll::Ready(done)
            }
            Poll::Pending => self.wait(cx),
        }
    }

    fn bytes_came(&mut self) {
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use hyper::rt::{Read, ReadBuf};
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

    type Io = (TokioIo<DuplexStream>, HeadTimeout);

    fn pipe() -> (Io, DuplexStream, Arc<Connection>) {
        let (ours, theirs) = duplex(64);
        let connection = Connection::new(Admission::new(), None);
        ((TokioIo::new(ours), HeadTimeout::new(HEAD, IDLE, connection.clone())), theirs, connection)
    }

    /// Reads once; `None` if it would wait.
    async fn read((io, timeout): &mut Io) -> Option<io::Result<()>> {
        poll_fn(|cx| {
            let mut bytes = [0; 64];
            let mut buf = ReadBuf::new(&mut bytes);
            let polled = Pin::new(&mut *io).poll_read(cx, buf.unfilled());
            Poll::Ready(match timeout.account(cx, polled) {
                Poll::Ready(done) => Some(done),
                Poll::Pending => None,
            })
        })
        .await
    }

    async fn is_waiting(io: &mut Io) -> bool {
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
