//! A response body of text made from bytes, without a copy of the bytes.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

/// The most bytes of a value that are made into text at a time.
const PIECE_BYTES_MAX: usize = 64 << 10;
const REPLACEMENT: &str = "\u{FFFD}";

/// A sentence with bytes in it, of which those that are not UTF-8 are replaced.
///
/// The text is made while it is sent, so that a thousand slow readers of a long value share one
/// copy of it.
pub struct Text {
    parts: Vec<Bytes>,
    left_bytes: u64,
}

impl Text {
    /// Makes a text of these parts, one after the other.
    ///
    /// Each part is decoded by itself: half a character at its end is not completed by the next.
    pub fn new(mut parts: Vec<Bytes>) -> Self {
        let left_bytes = parts.iter().map(|part| shown_bytes(part)).sum();
        parts.reverse();
        Text { parts, left_bytes }
    }
}

/// The length of a part as text.
fn shown_bytes(part: &[u8]) -> u64 {
    let replaced = |invalid: &[u8]| if invalid.is_empty() { 0 } else { REPLACEMENT.len() };
    part.utf8_chunks().map(|chunk| (chunk.valid().len() + replaced(chunk.invalid())) as u64).sum()
}

/// Takes the next piece of `part`, as text. Text that is valid is not copied.
fn next_piece(part: &mut Bytes) -> Bytes {
    let head = &part[..part.len().min(PIECE_BYTES_MAX)];
    match std::str::from_utf8(head) {
        Ok(_) => part.split_to(head.len()),
        Err(error) if error.valid_up_to() > 0 => part.split_to(error.valid_up_to()),
        Err(_) => replaced_piece(part),
    }
}

/// Takes the next piece of a `part` that begins with something invalid.
fn replaced_piece(part: &mut Bytes) -> Bytes {
    let mut text = String::new();
    let mut taken_bytes = 0;
    for chunk in part.utf8_chunks() {
        let chunk_bytes = chunk.valid().len() + chunk.invalid().len();
        if taken_bytes > 0 && taken_bytes + chunk_bytes > PIECE_BYTES_MAX {
            break;
        }
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push_str(REPLACEMENT);
        }
        taken_bytes += chunk_bytes;
    }
    part.advance(taken_bytes);
    text.into()
}

impl Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while let Some(part) = self.parts.last_mut() {
            if part.is_empty() {
                self.parts.pop();
                continue;
            }
            let piece = next_piece(part);
            self.left_bytes -= piece.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.left_bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use super::*;

    /// Reads the whole body, and returns it with the length that was announced.
    async fn read(parts: Vec<Bytes>) -> (Vec<u8>, u64) {
        let mut body = pin!(Text::new(parts));
        let announced = body.size_hint().exact().unwrap();
        let mut got = Vec::new();
        while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            got.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        assert!(body.is_end_stream());
        (got, announced)
    }

    async fn assert_lossy(part: Vec<u8>, what: &str) {
        let expected = String::from_utf8_lossy(&part).into_owned();
        let (got, announced) = read(vec![part.into()]).await;
        assert!(got == expected.as_bytes(), "{what}");
        assert_eq!(announced, expected.len() as u64, "{what}");
    }

    #[tokio::test]
    async fn parts_follow_each_other() {
        let (got, announced) = read(vec!["你儿子".into(), Bytes::new(), "张三".into()]).await;
        assert_eq!((got.as_slice(), announced), ("你儿子张三".as_bytes(), 15));
    }

    #[tokio::test]
    async fn long_text_and_bytes_become_lossy_utf8() {
        assert_lossy("长".repeat(PIECE_BYTES_MAX).into(), "text over many pieces").await;
        assert_lossy(vec![0xFF; 3 * PIECE_BYTES_MAX], "nothing but invalid bytes").await;
        assert_lossy("长".as_bytes()[..2].to_vec(), "half a character").await;
        let mut mixed = b"\xFF".to_vec();
        mixed.extend("长".repeat(PIECE_BYTES_MAX).bytes());
        mixed.push(0xE9);
        assert_lossy(mixed, "an invalid byte, a long text, half a character").await;
    }

    #[tokio::test]
    async fn any_bytes_become_lossy_utf8() {
        let seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut state = seed;
        for round in 0..50 {
            // Bytes of a few kinds only, so that valid and broken sequences of every length occur.
            let kinds = [0x41, 0x80, 0xBF, 0xC3, 0xE9, 0x95, 0xBF, 0xF0, 0x9F, 0xFF];
            let part = (0..2 * PIECE_BYTES_MAX + round)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    kinds[(state >> 33) as usize % kinds.len()]
                })
                .collect();
            assert_lossy(part, &format!("seed {seed:#x}, round {round}")).await;
        }
    }
}
