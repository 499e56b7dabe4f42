//! The body of an answer, read within bounds.

use std::{future::poll_fn, task::Poll, time::Duration};

use bytes::Bytes;
use peercache_groupcache::BoxError;
use tokio::time::timeout;

use crate::{client::connection::Connection, client::failure::Failure, wire::gather::Gather};

/// The body of an answer, piece by piece; a pause that is too long is a failure.
pub(super) struct ResponseBody<'a> {
    connection: &'a mut dyn Connection,
    max_silence: Duration,
}

impl<'a> ResponseBody<'a> {
    pub(super) fn new(connection: &'a mut dyn Connection, max_silence: Duration) -> Self {
        ResponseBody { connection, max_silence }
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        self.next_or_wait(|| ()).await
    }

    /// The next piece, as [`next`](ResponseBody::next). If it is not there yet, `before_waiting` is
    /// called first.
    pub(super) async fn next_or_wait(&mut self, before_waiting: impl FnOnce()) -> Result<Option<Bytes>, Failure> {
        if let Poll::Ready(piece) = poll_fn(|cx| Poll::Ready(self.connection.poll_piece(cx))).await {
            return read(piece);
        }
        before_waiting();
        let piece = timeout(self.max_silence, poll_fn(|cx| self.connection.poll_piece(cx))).await;
        read(piece.map_err(|_| Failure::Silent(self.max_silence))?)
    }

    /// The whole body; a longer one is a failure.
    pub(super) async fn collect(&mut self, max_bytes: usize) -> Result<Bytes, Failure> {
        let claimed = self.connection.remaining_bytes();
        if claimed.is_some_and(|claimed| claimed > max_bytes as u64) {
            return Err(Failure::TooLong(max_bytes));
        }
        let mut gather = Gather::new(claimed.map(|claimed| claimed as usize), max_bytes);
        while let Some(piece) = self.next().await? {
            gather.push(piece).map_err(|_| Failure::TooLong(max_bytes))?;
        }
        Ok(gather.finish())
    }

    /// The beginning of the body, of at most `max_bytes`. The rest is not read.
    pub(super) async fn start(&mut self, max_bytes: usize) -> Result<Bytes, Failure> {
        let mut start = Vec::new();
        while start.len() < max_bytes {
            let Some(piece) = self.next().await? else {
                break;
            };
            start.extend_from_slice(&piece[..piece.len().min(max_bytes - start.len())]);
        }
        Ok(start.into())
    }
}

fn read(piece: Option<Result<Bytes, BoxError>>) -> Result<Option<Bytes>, Failure> {
    piece.transpose().map_err(Failure::BrokeOff)
}

/// Reads the little that may follow an answer, so that the connection can be used again.
/// `before_waiting` is called before each wait. An error by now concerns the connection alone, and
/// that ends by itself.
pub(super) async fn drain(connection: &mut dyn Connection, max_silence: Duration, mut before_waiting: impl FnMut()) {
    /// The end of a chunked body comes with the answer or right after it.
    const MAX_PIECES: usize = 4;
    let mut body = ResponseBody::new(connection, max_silence);
    for _ in 0..MAX_PIECES {
        let Ok(Some(_)) = body.next_or_wait(&mut before_waiting).await else {
            return;
        };
    }
}
