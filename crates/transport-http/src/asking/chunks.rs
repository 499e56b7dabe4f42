use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::{exchange::AnswerBody, failure::Failure};
use crate::gather::Gather;

/// The body of an answer, piece by piece; a pause that is too long is a failure.
pub(super) struct Chunks {
    body: AnswerBody,
    silence_max: Duration,
}

impl Chunks {
    pub(super) fn new(body: AnswerBody, silence_max: Duration) -> Self {
        Chunks { body, silence_max }
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = timeout(self.silence_max, self.body.frame()).await;
            match frame.map_err(|_| Failure::Silent(self.silence_max))? {
                None => return Ok(None),
                Some(Err(error)) => return Err(Failure::BrokeOff(error)),
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        return Ok(Some(piece));
                    }
                }
            }
        }
    }

    /// The whole body, which has at most so many bytes.
    pub(super) async fn collect(&mut self, bytes_max: usize) -> Result<Bytes, Failure> {
        let claimed = self.body.size_hint().exact();
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

    /// Reads what little may follow an answer, so that the connection can serve again. Whatever is wrong by now is
    /// wrong with the connection only, and that ends by itself.
    pub(super) async fn finish(mut self) {
        /// The end of a chunked body comes with the answer or right after it.
        const PIECES_MAX: usize = 4;
        for _ in 0..PIECES_MAX {
            let Ok(Some(_)) = self.next().await else {
                return;
            };
        }
    }
}
