use std::{future::poll_fn, task::Poll, time::Duration};

use bytes::Bytes;
use peercache_groupcache::BoxError;
use tokio::time::timeout;

use crate::wire::gather::Gather;
use crate::{client::connection::Line, client::failure::Failure};

/// The body of an answer, piece by piece; a pause that is too long is a failure.
pub(super) struct Chunks<'a> {
    line: &'a mut dyn Line,
    silence_max: Duration,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(line: &'a mut dyn Line, silence_max: Duration) -> Self {
        Chunks { line, silence_max }
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        self.next_or_wait(|| ()).await
    }

    /// As [`next`](Chunks::next), with something to be done before it is waited for.
    pub(super) async fn next_or_wait(&mut self, before_waiting: impl FnOnce()) -> Result<Option<Bytes>, Failure> {
        if let Poll::Ready(piece) = poll_fn(|cx| Poll::Ready(self.line.poll_piece(cx))).await {
            return read(piece);
        }
        before_waiting();
        let piece = timeout(self.silence_max, poll_fn(|cx| self.line.poll_piece(cx))).await;
        read(piece.map_err(|_| Failure::Silent(self.silence_max))?)
    }

    /// The whole body, which has at most so many bytes.
    pub(super) async fn collect(&mut self, bytes_max: usize) -> Result<Bytes, Failure> {
        let claimed = self.line.bytes_left();
        if claimed.is_some_and(|claimed| claimed > bytes_max as u64) {
            return Err(Failure::TooLong(bytes_max));
        }
        let mut gather = Gather::new(claimed.map(|claimed| claimed as usize), bytes_max);
        while let Some(piece) = self.next().await? {
            gather.push(piece).map_err(|_| Failure::TooLong(bytes_max))?;
        }
        Ok(gather.finish())
    }

    /// The beginning of a body, of at most so many bytes. The rest is left.
    pub(super) async fn head(&mut self, bytes_max: usize) -> Result<Bytes, Failure> {
        let mut head = Vec::new();
        while head.len() < bytes_max {
            let Some(piece) = self.next().await? else {
                break;
            };
            head.extend_from_slice(&piece[..piece.len().min(bytes_max - head.len())]);
        }
        Ok(head.into())
    }
}

fn read(piece: Option<Result<Bytes, BoxError>>) -> Result<Option<Bytes>, Failure> {
    piece.transpose().map_err(Failure::BrokeOff)
}

/// Reads what little may follow an answer, so that the line can carry another; with something to be done before it is
/// waited for. Whatever is wrong by now is wrong with the connection only, and that ends by itself.
pub(super) async fn finish(line: &mut dyn Line, silence_max: Duration, mut before_waiting: impl FnMut()) {
    /// The end of a chunked body comes with the answer or right after it.
    const PIECES_MAX: usize = 4;
    let mut chunks = Chunks::new(line, silence_max);
    for _ in 0..PIECES_MAX {
        let Ok(Some(_)) = chunks.next_or_wait(&mut before_waiting).await else {
            return;
        };
    }
}
