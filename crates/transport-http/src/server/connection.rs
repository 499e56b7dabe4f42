//! One connection as the server counts it: idle, or with a request in flight.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
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
    /// The time since which the client does not take what is written to it, in microseconds since
    /// the server started; [`NEVER`] if it does. The answer may have ended for its handler.
    stalled_since: AtomicU64,
    /// The bytes that the client has taken.
    written: AtomicU64,
    /// The time at which the client has read too slowly for too long, in microseconds since the
    /// server started; [`NEVER`] if it keeps pace.
    behind_at: AtomicU64,
    /// Whether it ends even while a request is answered.
    is_cut: AtomicBool,
    /// The address of the client, where it has one.
    address: Option<IpAddr>,
    close: Notify,
}

/// The address of a client, which requests carry as an extension where a [`Server`](crate::Server)
/// serves them over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

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

/// The lag of a client that does not read what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// It has this long to read some of it.
    In(Duration),
    /// It has been too slow for this long.
    Since(Duration),
}

const BUSY: u64 = u64::MAX;
const NEVER: u64 = u64::MAX;

/// The wait of one new connection while all are taken.
pub(super) struct Admission {
    started: Instant,
    is_waiting: AtomicBool,
    changed: Notify,
}

/// A request that is being answered. Dropping it makes the connection idle.
pub(super) struct ActiveRequest(Arc<Connection>);

impl Connection {
    pub(super) fn new(admission: Arc<Admission>, address: Option<IpAddr>) -> Arc<Self> {
        let idle_since = AtomicU64::new(admission.now());
        Arc::new(Connection {
            admission,
            idle_since,
            stalled_since: AtomicU64::new(NEVER),
            written: AtomicU64::new(0),
            behind_at: AtomicU64::new(NEVER),
            is_cut: AtomicBool::new(false),
            address,
            close: Notify::new(),
        })
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    pub(super) fn begin_request(self: &Arc<Self>) -> ActiveRequest {
        self.idle_since.store(BUSY, Ordering::SeqCst);
        ActiveRequest(self.clone())
    }

    /// Records that the client does not take what is written to it, and that it falls behind if it
    /// takes nothing for this time.
    pub(super) fn write_stalled(&self, allowance: Duration) {
        let (now, allowance_us) = (self.admission.now(), u64::try_from(allowance.as_micros()).unwrap_or(NEVER));
        self.behind_at.fetch_min(now.saturating_add(allowance_us), Ordering::SeqCst);
        self.stalled_since.store(now, Ordering::SeqCst);
        self.admission.notify();
    }

    /// Records that the client has taken bytes again, and whether it keeps pace.
    pub(super) fn write_resumed(&self, keeps_pace: bool) {
        if keeps_pace {
            self.behind_at.store(NEVER, Ordering::SeqCst);
        }
        self.stalled_since.store(NEVER, Ordering::SeqCst);
        self.admission.notify();
    }

    /// Counts bytes that the client has taken.
    pub(super) fn count_written(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The bytes that the client has taken so far.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// The time for which the client has not taken what is written to it; `None` if it does.
    pub(super) fn stalled_for(&self) -> Option<Duration> {
        let since = self.stalled_since.load(Ordering::SeqCst);
        (since != NEVER).then(|| Duration::from_micros(self.admission.now().saturating_sub(since)))
    }

    /// The time until the client has read too slowly for too long, and for how long it has;
    /// `None` if it reads what it is sent.
    pub(super) fn behind(&self) -> Option<Behind> {
        let at = self.behind_at.load(Ordering::SeqCst);
        let now = self.admission.now();
        let is_stalled = at != NEVER && self.stalled_for().is_some();
        is_stalled.then(|| match at.checked_sub(now) {
            Some(left) if left > 0 => Behind::In(Duration::from_micros(left)),
            _ => Behind::Since(Duration::from_micros(now - at)),
        })
    }

    /// The time since which it is idle; `None` if it is not.
    pub(super) fn idle_since(&self) -> Option<u64> {
        let idle_since = self.idle_since.load(Ordering::SeqCst);
        (idle_since != BUSY && self.stalled_for().is_none()).then_some(idle_since)
    }

    pub(super) fn ask_to_close(&self) {
        self.close.notify_one();
    }

    /// Ends it though its client still reads.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        self.close.notify_one();
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::SeqCst)
    }

    /// Resolves when the connection was cut, or asked to close and is idle. Polled by the task that
    /// serves the connection, so no request begins between the check and the end.
    pub(super) async fn must_close(&self) {
        loop {
            self.close.notified().await;
            if self.is_cut() || self.idle_since().is_some() {
                return;
            }
        }
    }
}

impl Admission {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Admission { started: Instant::now(), is_waiting: AtomicBool::new(false), changed: Notify::new() })
    }

    /// Says whether a new connection waits. To be set before the look for an idle one, so that one
    /// that becomes idle later is reported.
    pub(super) fn set_waiting(&self, is_waiting: bool) {
        self.is_waiting.store(is_waiting, Ordering::SeqCst);
    }

    /// Resolves when a connection has become idle, or its client reads no more.
    pub(super) async fn connection_changed(&self) {
        self.changed.notified().await;
    }

    fn notify(&self) {
        if self.is_waiting.load(Ordering::SeqCst) {
            self.changed.notify_one();
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
        let connection = Connection::new(Admission::new(), None);
        assert_eq!(connection.idle_since(), Some(0));
        let active = connection.begin_request();
        assert_eq!(connection.idle_since(), None);
        tokio::time::advance(Duration::from_micros(5)).await;
        drop(active);
        assert_eq!(connection.idle_since(), Some(5));
    }

    #[tokio::test]
    async fn a_connection_whose_answer_is_not_taken_yet_is_not_idle() {
        let connection = Connection::new(Admission::new(), None);
        connection.write_stalled(Duration::from_secs(10));
        assert_eq!(connection.idle_since(), None);
        connection.write_resumed(true);
        assert!(connection.idle_since().is_some());
    }
}
