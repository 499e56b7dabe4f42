use std::{future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, header::EXPECT},
};
use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// A body up to here may be waited for on every connection; there is less room for larger ones.
const SMALL_BODY_BYTES: usize = 4 << 10;
/// How long a larger one waits for room.
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a body may take to arrive, that wait included.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// How much is read and thrown away of a body that is refused: many clients look for an answer when they have sent all.
const DISCARDED_BYTES_MAX: usize = 128 << 20;

/// Reads the bodies of requests up to a limit. Those that are not small have as much room together as one of the
/// longest, so that a crowd that sends long ones does not cost more memory than one who does.
#[derive(Clone)]
pub struct Bodies {
    body_bytes_max: usize,
    /// In bytes.
    room: Arc<Semaphore>,
}

/// A body that was read, and its room, which others have again when it is dropped.
pub struct Held {
    pub bytes: Bytes,
    pub room: Option<OwnedSemaphorePermit>,
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    TooLong,
    TooSlow,
    NoRoom,
    Broken,
}

impl Bodies {
    /// Bodies of at most so many bytes.
    pub fn new(body_bytes_max: usize) -> Self {
        Bodies { body_bytes_max, room: Arc::new(Semaphore::new(body_bytes_max)) }
    }

    /// The whole body, unless it is too long. Of one that says so nothing is kept, and of one that does not say no more
    /// than fits.
    pub async fn read(&self, headers: &HeaderMap, mut body: Body) -> Result<Held, Unread> {
        let announced = body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if announced.is_some_and(|bytes| bytes > self.body_bytes_max) {
            discard(headers, body);
            return Err(Unread::TooLong);
        }
        let read = timeout(BODY_TIMEOUT, self.gather(announced, &mut body)).await.unwrap_or(Err(Unread::TooSlow));
        if let Err(Unread::TooLong | Unread::NoRoom) = read {
            tokio::spawn(read_away(body));
        }
        read
    }

    async fn gather(&self, announced: Option<usize>, body: &mut Body) -> Result<Held, Unread> {
        let (mut held, mut room) = (BytesMut::new(), None);
        while let Some(piece) = next_piece(body).await {
            let piece = piece.map_err(|_| Unread::Broken)?;
            let held_bytes = held.len() + piece.len();
            if held_bytes > self.body_bytes_max {
                return Err(Unread::TooLong);
            }
            if held_bytes > SMALL_BODY_BYTES && room.is_none() {
                // All that it may need at once: two who wait for each other's rest would wait for ever.
                room = Some(self.room_of(announced.unwrap_or(self.body_bytes_max)).await?);
                held.reserve(announced.unwrap_or(0).saturating_sub(held.len()));
            }
            held.extend_from_slice(&piece);
        }
        Ok(Held { bytes: held.freeze(), room })
    }

    async fn room_of(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Unread> {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = timeout(ROOM_TIMEOUT, self.room.clone().acquire_many_owned(permits)).await;
        room.ok().and_then(Result::ok).ok_or(Unread::NoRoom)
    }
}

/// Has a body that nobody wants read away while its sender is answered, unless the sender waits for a word before it
/// sends it.
pub fn discard(headers: &HeaderMap, body: Body) {
    if !headers.contains_key(EXPECT) {
        tokio::spawn(read_away(body));
    }
}

async fn read_away(mut body: Body) {
    let mut read_bytes = 0;
    let all = async {
        while let Some(Ok(piece)) = next_piece(&mut body).await
            && read_bytes < DISCARDED_BYTES_MAX
        {
            read_bytes += piece.len();
        }
    };
    // Whoever is slower than that is cut off.
    let _ = timeout(BODY_TIMEOUT, all).await;
}

/// What comes next of a body, without trailers.
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
        sync::atomic::{AtomicUsize, Ordering},
        task::{Context, Poll},
    };

    use http_body::SizeHint;

    use super::*;

    /// Pieces of a kilobyte, and how many were taken.
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

    /// How long what was read is, and of how many pieces a look was taken.
    async fn read(bodies: &Bodies, kilobytes: usize, announced: bool) -> (Result<usize, Unread>, usize) {
        let taken = Arc::default();
        let body = Body::new(Kilobytes { left: kilobytes, announced, taken: Arc::clone(&taken) });
        let read = bodies.read(&HeaderMap::new(), body).await.map(|held| held.bytes.len());
        (read, taken.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn the_limit_is_inside() {
        let bodies = Bodies::new(10 << 10);
        for announced in [true, false] {
            assert_eq!(read(&bodies, 10, announced).await, (Ok(10 << 10), 10));
            assert_eq!(read(&bodies, 0, announced).await, (Ok(0), 0));
        }
    }

    #[tokio::test]
    async fn of_what_is_too_long_no_more_is_kept_than_fits_and_the_rest_is_read_away() {
        let bodies = Bodies::new(10 << 10);
        for (announced, kept) in [(true, 0), (false, 11)] {
            let taken = Arc::default();
            let body = Body::new(Kilobytes { left: 1_000_000, announced, taken: Arc::clone(&taken) });
            assert_eq!(bodies.read(&HeaderMap::new(), body).await.err(), Some(Unread::TooLong));
            assert_eq!(taken.load(Ordering::Relaxed), kept);
            // The other end of it is dropped when enough is read.
            while Arc::strong_count(&taken) > 1 {
                tokio::task::yield_now().await;
            }
            let discarded = (taken.load(Ordering::Relaxed) - kept) << 10;
            assert!((DISCARDED_BYTES_MAX..DISCARDED_BYTES_MAX + (2 << 10)).contains(&discarded), "{discarded}");
        }
    }

    #[tokio::test]
    async fn who_waits_for_a_word_before_sending_too_much_is_not_made_to_send() {
        let taken = Arc::default();
        let body = Body::new(Kilobytes { left: 11, announced: true, taken: Arc::clone(&taken) });
        let headers = HeaderMap::from_iter([(EXPECT, "100-continue".parse().unwrap())]);
        assert_eq!(Bodies::new(10 << 10).read(&headers, body).await.err(), Some(Unread::TooLong));
        assert_eq!((taken.load(Ordering::Relaxed), Arc::strong_count(&taken)), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_the_longest_takes_all_the_room_and_small_ones_need_none() {
        let bodies = Bodies::new(10 << 10);
        let held = bodies.read(&HeaderMap::new(), vec![0; 10 << 10].into()).await.ok().unwrap();
        assert_eq!(read(&bodies, 5, true).await.0, Err(Unread::NoRoom));
        assert_eq!(read(&bodies, 4, false).await.0, Ok(4 << 10));
        drop(held);
        assert_eq!(read(&bodies, 5, true).await.0, Ok(5 << 10));
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_nothing_is_not_waited_for_for_ever() {
        struct Silence;

        impl http_body::Body for Silence {
            type Data = Bytes;
            type Error = Infallible;

            fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
                Poll::Pending
            }
        }

        let read = Bodies::new(1).read(&HeaderMap::new(), Body::new(Silence)).await;
        assert_eq!(read.err(), Some(Unread::TooSlow));
    }
}
