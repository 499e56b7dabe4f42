//! One connection as the server counts it: idle, or with a request in flight.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use tokio::{sync::Notify, time::Instant};

/// One connection of a server: whether it is idle, which is to say that it waits for a request, and
/// may be closed for another connection.
pub(super) struct Connection {
    admission: Arc<Admission>,
    /// The time at which it last became idle, in microseconds since the server started; [`BUSY`]
    /// while a request is answered.
    idle_since: AtomicU64,
    /// Whether the client has not taken all bytes yet. The answer may have ended for its handler.
    is_write_stalled: AtomicBool,
    close: Notify,
}

/// The connection of a request as far as it says who asks. Requests carry it as an extension.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Origin {
    /// Whether only this machine can reach the listener.
    pub(super) is_local: bool,
    /// The address of the client, where it has one.
    pub(super) address: Option<IpAddr>,
    /// Whether the client has shown a certificate of the members' authority.
    pub(super) has_certificate: bool,
}

const BUSY: u64 = u64::MAX;

/// The wait of one new connection while all are taken.
pub(super) struct Admission {
    started: Instant,
    is_waiting: AtomicBool,
    connection_became_idle: Notify,
}

/// A request that is being answered. Dropping it makes the connection idle.
pub(super) struct ActiveRequest(Arc<Connection>);

impl Connection {
    pub(super) fn new(admission: Arc<Admission>) -> Arc<Self> {
        let idle_since = AtomicU64::new(admission.now());
        Arc::new(Connection { admission, idle_since, is_write_stalled: AtomicBool::new(false), close: Notify::new() })
    }

    pub(super) fn begin_request(self: &Arc<Self>) -> ActiveRequest {
        self.idle_since.store(BUSY, Ordering::SeqCst);
        ActiveRequest(self.clone())
    }

    /// Records that the client does not take what is written to it.
    pub(super) fn write_stalled(&self) {
        self.is_write_stalled.store(true, Ordering::SeqCst);
    }

    /// Records that the client has taken bytes again.
    pub(super) fn write_resumed(&self) {
        self.is_write_stalled.store(false, Ordering::SeqCst);
        self.admission.notify();
    }

    /// The time since which it is idle; `None` if it is not.
    pub(super) fn idle_since(&self) -> Option<u64> {
        let idle_since = self.idle_since.load(Ordering::SeqCst);
        (idle_since != BUSY && !self.is_write_stalled.load(Ordering::SeqCst)).then_some(idle_since)
    }

    pub(super) fn ask_to_close(&self) {
        self.close.notify_one();
    }

    /// Resolves when the connection was asked to close and is idle. Polled by the task that serves
    /// the connection, so no request begins between the check and the end.
    pub(super) async fn must_close(&self) {
        loop {
            self.close.notified().await;
            if self.idle_since().is_some() {
                return;
            }
        }
    }
}

impl Admission {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Admission {
            started: Instant::now(),
            is_waiting: AtomicBool::new(false),
            connection_became_idle: Notify::new(),
        })
    }

    /// Says whether a new connection waits. To be set before the look for an idle one, so that one
    /// that becomes idle later is reported.
    pub(super) fn set_waiting(&self, is_waiting: bool) {
        self.is_waiting.store(is_waiting, Ordering::SeqCst);
    }

    pub(super) async fn connection_became_idle(&self) {
        self.connection_became_idle.notified().await;
    }

    fn notify(&self) {
        if self.is_waiting.load(Ordering::SeqCst) {
            self.connection_became_idle.notify_one();
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(BUSY - 1)
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.admission.now(), Ordering::SeqCst);
        self.0.admission.notify();
    }
}

/// The body of an answer, which keeps its request active.
pub(super) struct ActiveBody<B> {
    body: B,
    _request: ActiveRequest,
}

impl<B> ActiveBody<B> {
    pub(super) fn new(body: B, request: ActiveRequest) -> Self {
        ActiveBody { body, _request: request }
    }
}

impl<B: Body + Unpin> Body for ActiveBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
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
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_between_requests() {
        let connection = Connection::new(Admission::new());
        assert_eq!(connection.idle_since(), Some(0));
        let active = connection.begin_request();
        assert_eq!(connection.idle_since(), None);
        tokio::time::advance(std::time::Duration::from_micros(5)).await;
        drop(active);
        assert_eq!(connection.idle_since(), Some(5));
    }

    #[tokio::test]
    async fn a_connection_whose_answer_is_not_taken_yet_is_not_idle() {
        let connection = Connection::new(Admission::new());
        connection.write_stalled();
        assert_eq!(connection.idle_since(), None);
        connection.write_resumed();
        assert!(connection.idle_since().is_some());
    }
}
