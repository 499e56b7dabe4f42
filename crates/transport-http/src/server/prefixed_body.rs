//! A body of two parts, of which a large second one is not copied.

use std::{
    convert::Infallible,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The longest value, in bytes, that is copied behind its prefix: one write and one piece are
/// cheaper than the copy.
pub(super) const MAX_COPIED_BYTES: usize = 4 * 1024;

/// A body of a known length: a prefix and a value.
pub(super) struct PrefixedBody {
    first: Bytes,
    second: Bytes,
}

impl PrefixedBody {
    pub(super) fn new(prefix: &[u8], value: Bytes) -> Self {
        if value.len() <= MAX_COPIED_BYTES {
            PrefixedBody { first: [prefix, &value].concat().into(), second: Bytes::new() }
        } else {
            PrefixedBody { first: Bytes::copy_from_slice(prefix), second: value }
        }
    }
}

impl Body for PrefixedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = mem::take(&mut self.second);
        let piece = mem::replace(&mut self.first, next);
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.first.len() + self.second.len()) as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_large_value_is_not_copied() {
        let value = Bytes::from(vec![1; MAX_COPIED_BYTES + 1]);
        let mut body = PrefixedBody::new(b"prefix", value.clone());
        assert_eq!(body.size_hint().exact(), Some(6 + value.len() as u64));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "prefix");
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().as_ptr(), value.as_ptr());
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_small_value_goes_with_its_prefix() {
        let mut body = PrefixedBody::new(b"prefix", "value".into());
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "prefixvalue");
        assert!(body.is_end_stream());
    }
}
