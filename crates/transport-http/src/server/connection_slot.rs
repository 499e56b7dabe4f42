use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use tokio::{sync::Notify, time::Instant};

/// One connection's place at a server: whether the connection is idle, which is to say that it waits for a request,
/// and may be asked to leave for somebody who has one.
pub(super) struct Seat {
    door: Arc<Door>,
    /// When it last became idle, in microseconds since the server opened; [`BUSY`] while a request is answered.
    idle_since: AtomicU64,
    /// What it wrote is not taken yet, although the answer may have ended for whoever made it.
    is_stalled: AtomicBool,
    leave: Notify,
}

const BUSY: u64 = u64::MAX;

/// Where a connection waits for a seat when all are taken.
pub(super) struct Door {
    opened: Instant,
    someone_waits: AtomicBool,
    seat_became_idle: Notify,
}

/// A request is being answered. Dropping it makes the seat idle.
pub(super) struct Busy(Arc<Seat>);

impl Seat {
    pub(super) fn new(door: Arc<Door>) -> Arc<Self> {
        let idle_since = AtomicU64::new(door.now());
        Arc::new(Seat { door, idle_since, is_stalled: AtomicBool::new(false), leave: Notify::new() })
    }

    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.idle_since.store(BUSY, Ordering::SeqCst);
        Busy(self.clone())
    }

    pub(super) fn stall(&self) {
        self.is_stalled.store(true, Ordering::SeqCst);
    }

    pub(super) fn flow(&self) {
        self.is_stalled.store(false, Ordering::SeqCst);
        self.door.tell();
    }

    /// Since when it is idle; `None` if it is not.
    pub(super) fn idle_since(&self) -> Option<u64> {
        let idle_since = self.idle_since.load(Ordering::SeqCst);
        (idle_since != BUSY && !self.is_stalled.load(Ordering::SeqCst)).then_some(idle_since)
    }

    pub(super) fn ask_to_leave(&self) {
        self.leave.notify_one();
    }

    /// Resolves when the connection is to be closed. Polled by the task that serves the connection, so no request
    /// begins between the look and the end.
    pub(super) async fn is_to_leave(&self) {
        loop {
            self.leave.notified().await;
            if self.idle_since().is_some() {
                return;
            }
        }
    }
}

impl Door {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Door {
            opened: Instant::now(),
            someone_waits: AtomicBool::new(false),
            seat_became_idle: Notify::new(),
        })
    }

    /// To be set before one looks for an idle seat, so that one that becomes idle later is told of.
    pub(super) fn someone_waits(&self, waits: bool) {
        self.someone_waits.store(waits, Ordering::SeqCst);
    }

    pub(super) async fn seat_became_idle(&self) {
        self.seat_became_idle.notified().await;
    }

    fn tell(&self) {
        if self.someone_waits.load(Ordering::SeqCst) {
            self.seat_became_idle.notify_one();
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(BUSY - 1)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.door.now(), Ordering::SeqCst);
        self.0.door.tell();
    }
}

/// The body of an answer, which keeps the seat busy.
pub(super) struct SeatedBody<B> {
    body: B,
    _busy: Busy,
}

impl<B> SeatedBody<B> {
    pub(super) fn new(body: B, busy: Busy) -> Self {
        SeatedBody { body, _busy: busy }
    }
}

impl<B: Body + Unpin> Body for SeatedBody<B> {
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
    async fn a_seat_is_idle_between_requests() {
        let seat = Seat::new(Door::new());
        assert_eq!(seat.idle_since(), Some(0));
        let busy = seat.begin();
        assert_eq!(seat.idle_since(), None);
        tokio::time::advance(std::time::Duration::from_micros(5)).await;
        drop(busy);
        assert_eq!(seat.idle_since(), Some(5));
    }

    #[tokio::test]
    async fn a_seat_whose_answer_is_not_taken_yet_is_not_idle() {
        let seat = Seat::new(Door::new());
        seat.stall();
        assert_eq!(seat.idle_since(), None);
        seat.flow();
        assert!(seat.idle_since().is_some());
    }
}
