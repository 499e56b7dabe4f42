//! Request bodies: how long they may be and take, and how much memory they share.

use std::{future::poll_fn, pin::Pin, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, header::EXPECT},
};
use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame};
use peercache::{ArrivingBytes, BodyShare, ClientAddress};
use tokio::time::timeout;

/// A body up to this length needs no budget, so that every connection can have one.
const SMALL_BODY_BYTES: usize = 4 << 10;

/// The time that a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// The most bytes read and thrown away of a refused body. Many clients look for a response only
/// when they have sent all.
const DISCARDED_BYTES_MAX: usize = 128 << 20;

/// Reads the bodies of requests up to a limit.
///
/// All bodies that are not small share a budget of one of the longest, so that many long bodies
/// cost no more memory than one. They take it as they come: one that drips holds what it has sent,
/// and is cut off when others need the room.
#[derive(Clone)]
pub struct Bodies {
    body_bytes_max: usize,
    arriving: ArrivingBytes,
}

/// A body that was read, and its share of the budget, which is free again when it is dropped.
pub struct WholeBody {
    pub bytes: Bytes,
    pub share: BodyShare,
}

/// The reason why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    TooLong,
    TooSlow,
    NoBudget,
    Broken,
}

impl Bodies {
    /// Makes a reader of bodies of at most `body_bytes_max` bytes.
    pub fn new(body_bytes_max: usize) -> Self {
        Bodies { body_bytes_max, arriving: ArrivingBytes::new(body_bytes_max) }
    }

    /// Reads the whole body, unless it is too long.
    ///
    /// A body that announces too great a length is not read at all, and of others no more than
    /// fits.
    pub async fn read(
        &self,
        headers: &HeaderMap,
        from: Option<ClientAddress>,
        mut body: Body,
    ) -> Result<WholeBody, Unread> {
        let announced = body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if announced.is_some_and(|bytes| bytes > self.body_bytes_max) {
            discard(headers, body);
            return Err(Unread::TooLong);
        }
        let share = self.arriving.begin(from.map(|ClientAddress(address)| address));
        let collecting = collect(share, self.body_bytes_max, announced, &mut body);
        let read = timeout(BODY_TIMEOUT, collecting).await.unwrap_or(Err(Unread::TooSlow));
        if let Err(Unread::TooLong | Unread::NoBudget) = read {
            tokio::spawn(read_and_discard(body));
        }
        read
    }
}

async fn collect(
    mut share: BodyShare,
    body_bytes_max: usize,
    announced: Option<usize>,
    body: &mut Body,
) -> Result<WholeBody, Unread> {
    let mut bytes = BytesMut::new();
    loop {
        let piece = tokio::select! {
            piece = next_piece(body) => piece,
            () = share.cut_off() => return Err(Unread::NoBudget),
        };
        let Some(piece) = piece else { break };
        let piece = piece.map_err(|_| Unread::Broken)?;
        let length = bytes.len() + piece.len();
        if length > body_bytes_max {
            return Err(Unread::TooLong);
        }
        let counted = length.saturating_sub(SMALL_BODY_BYTES).min(piece.len());
        if counted > 0 {
            share.grow(counted).await.map_err(|_| Unread::NoBudget)?;
        }
        if bytes.is_empty() {
            // A claim is believed as far as one piece; the buffer doubles from there.
            bytes.reserve(announced.unwrap_or(0).min(2 * piece.len()));
        }
        bytes.extend_from_slice(&piece);
    }
    share.arrived();
    Ok(WholeBody { bytes: bytes.freeze(), share })
}

/// Reads a refused body and throws it away, in a task, while its sender is answered.
///
/// A sender that waits for `100 Continue` sends no body, and there is nothing to read.
pub fn discard(headers: &HeaderMap, body: Body) {
    if !headers.contains_key(EXPECT) {
        tokio::spawn(read_and_discard(body));
    }
}

async fn read_and_discard(mut body: Body) {
    let mut read_bytes = 0;
    let all = async {
        while let Some(Ok(piece)) = next_piece(&mut body).await
            && read_bytes < DISCARDED_BYTES_MAX
        {
            read_bytes += piece.len();
        }
    };
    // A sender slower than that is cut off.
    let _ = timeout(BODY_TIMEOUT, all).await;
}

/// The next piece of a body, without trailers.
async fn next_piece(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?.map(Frame::into_data) {
            Ok(Ok(piece)) => return Some(Ok(piece)),
            Ok(Err(_trailers)) => {}
            Err(error) => return Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Poll},
    };

    use http_body::SizeHint;

    use super::*;

    /// A body of pieces of a kilobyte, which counts the pieces taken.
    struct Kilobytes {
        left: usize,
        announced: bool,
        taken: Arc<AtomicUsize>,
    }

    impl http_body::Body for Kilobytes {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.left == 0 {
                return Poll::Ready(None);
            }
            self.left -= 1;
            self.taken.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 1024])))))
        }

        fn size_hint(&self) -> SizeHint {
            if self.announced { SizeHint::with_exact(self.left as u64 * 1024) } else { SizeHint::new() }
        }
    }

    /// Reads a body, and returns the length read and the number of pieces taken.
    async fn read(bodies: &Bodies, kilobytes: usize, announced: bool) -> (Result<usize, Unread>, usize) {
        let taken = Arc::default();
        let body = Body::new(Kilobytes { left: kilobytes, announced, taken: Arc::clone(&taken) });
        let read = bodies.read(&HeaderMap::new(), None, body).await.map(|body| body.bytes.len());
        (read, taken.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_body_as_long_as_the_limit_is_read() {
        let bodies = Bodies::new(10 << 10);
        for announced in [true, false] {
            assert_eq!(read(&bodies, 10, announced).await, (Ok(10 << 10), 10));
            assert_eq!(read(&bodies, 0, announced).await, (Ok(0), 0));
        }
    }

    #[tokio::test]
    async fn of_a_body_too_long_no_more_is_kept_than_fits_and_the_rest_is_discarded() {
        let bodies = Bodies::new(10 << 10);
        for (announced, kept) in [(true, 0), (false, 11)] {
            let taken = Arc::default();
            let body = Body::new(Kilobytes { left: 1_000_000, announced, taken: Arc::clone(&taken) });
            assert_eq!(bodies.read(&HeaderMap::new(), None, body).await.err(), Some(Unread::TooLong));
            assert_eq!(taken.load(Ordering::Relaxed), kept);
            // The body is dropped when enough of it was read.
            while Arc::strong_count(&taken) > 1 {
                tokio::task::yield_now().await;
            }
            let discarded = (taken.load(Ordering::Relaxed) - kept) << 10;
            assert!((DISCARDED_BYTES_MAX..DISCARDED_BYTES_MAX + (2 << 10)).contains(&discarded), "{discarded}");
        }
    }

    #[tokio::test]
    async fn a_sender_that_waits_for_100_continue_need_not_send_a_refused_body() {
        let taken = Arc::default();
        let body = Body::new(Kilobytes { left: 11, announced: true, taken: Arc::clone(&taken) });
        let headers = HeaderMap::from_iter([(EXPECT, "100-continue".parse().unwrap())]);
        assert_eq!(Bodies::new(10 << 10).read(&headers, None, body).await.err(), Some(Unread::TooLong));
        assert_eq!((taken.load(Ordering::Relaxed), Arc::strong_count(&taken)), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn long_ones_share_the_budget_and_small_ones_need_none() {
        let bodies = Bodies::new(10 << 10);
        let longest = bodies.read(&HeaderMap::new(), None, vec![0; 10 << 10].into()).await.ok().unwrap();
        // The first four kilobytes of each need none.
        assert_eq!(read(&bodies, 9, true).await.0, Err(Unread::NoBudget));
        assert_eq!(read(&bodies, 8, true).await.0, Ok(8 << 10));
        assert_eq!(read(&bodies, 4, false).await.0, Ok(4 << 10));
        drop(longest);
        assert_eq!(read(&bodies, 9, true).await.0, Ok(9 << 10));
    }

    /// A body of the pieces that a test gives it.
    struct Dripping(tokio::sync::mpsc::Receiver<Bytes>);

    impl http_body::Body for Dripping {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        }
    }

    /// Three clients that dripped a chunked body took the whole budget three times over, and most
    /// others had none.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_keeps_no_other_from_being_read() {
        let bodies = Bodies::new(32 << 20);
        let (senders, dripping): (Vec<_>, Vec<_>) = (0..3)
            .map(|_| {
                let (sender, receiver) = tokio::sync::mpsc::channel(1);
                let (bodies, body) = (bodies.clone(), Body::new(Dripping(receiver)));
                let read = async move { bodies.read(&HeaderMap::new(), None, body).await.map(|body| body.bytes) };
                (sender, tokio::spawn(read))
            })
            .unzip();
        for _ in 0..5 {
            for sender in &senders {
                sender.send(Bytes::from_static(&[b'x'; 2_000])).await.unwrap();
            }
            for _ in 0..6 {
                assert_eq!(read(&bodies, 5, false).await.0, Ok(5 << 10));
            }
        }
        drop(senders);
        for dripped in dripping {
            assert_eq!(dripped.await.unwrap().ok().map(|bytes| bytes.len()), Some(10_000));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_sends_nothing_is_not_waited_for_for_ever() {
        struct Silence;

        impl http_body::Body for Silence {
            type Data = Bytes;
            type Error = Infallible;

            fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
                Poll::Pending
            }
        }

        let read = Bodies::new(1).read(&HeaderMap::new(), None, Body::new(Silence)).await;
        assert_eq!(read.err(), Some(Unread::TooSlow));
    }
}
