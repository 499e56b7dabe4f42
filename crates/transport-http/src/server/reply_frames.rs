//! The frames of one answer.

use bytes::Bytes;
use peercache_groupcache::{Error, ErrorKind, PeerReply};

use crate::wire::{error_codes, frame, reply_meta};

/// The limits of a request that its answer keeps to.
#[derive(Clone, Copy)]
pub(super) struct RequestLimits {
    /// The longest value that the client takes, in bytes.
    pub(super) max_value_bytes: u64,
    /// Whether the client said how long its callers wait.
    pub(super) has_deadline: bool,
}

/// Writes the frames and the header before the value of an answer, and returns the value, which is
/// to be sent next. An answer without a value is written whole.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    index: u16,
    outcome: Result<PeerReply, Error>,
    limits: RequestLimits,
) -> Bytes {
    let reply = match outcome {
        Ok(reply) => reply,
        Err(error) => return refuse(out, index, &error, limits),
    };
    let Some(value) = reply.value else {
        // Without these facts it would be one that may not be cached.
        frame::write_life(out, index, &reply.meta);
        return refuse(out, index, &Error::new(ErrorKind::NotFound), limits);
    };
    if value.len() as u64 > limits.max_value_bytes.min(u32::MAX.into()) {
        return refuse(out, index, &Error::new(ErrorKind::ValueTooLarge), limits);
    }
    if !reply_meta::is_default(&reply.meta) {
        frame::write_life(out, index, &reply.meta);
    }
    out.extend(frame::value_header(index, value.len() as u32));
    value
}

fn refuse(out: &mut Vec<u8>, index: u16, error: &Error, limits: RequestLimits) -> Bytes {
    let (code, _) = error_codes::code_and_word(error_codes::kind_for(limits.has_deadline, error.kind()));
    out.extend(frame::error(index, &error_codes::payload(code, &error_codes::text_of(error))));
    Bytes::new()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::{frame::HEADER_BYTES, reply_meta::FIELDS_BYTES};

    fn sent(outcome: Result<PeerReply, Error>) -> Vec<u8> {
        let mut head = Vec::new();
        let value = write_head(&mut head, 7, outcome, RequestLimits { max_value_bytes: 4, has_deadline: false });
        [&head[..], &value].concat()
    }

    #[test]
    fn a_value_that_was_just_loaded_and_does_not_expire_has_no_facts_before_it() {
        assert_eq!(sent(Ok(PeerReply::new("v".into()))), [0x11, 0, 0, 7, 0, 0, 0, 1, b'v']);
    }

    #[test]
    fn the_facts_go_before_their_value() {
        let mut reply = PeerReply::new("v".into());
        reply.meta.remaining = Some(Duration::from_millis(258));
        let golden = [
            &[0x81, 0, 0, 7, 0, 0, 0, 17, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &[0x11, 0, 0, 7, 0, 0, 0, 1, b'v'],
        ];
        assert_eq!(sent(Ok(reply)), golden.concat());
    }

    #[test]
    fn a_not_found_has_facts_only_if_it_may_be_cached() {
        let error = [&[0x12, 0, 0, 7, 0, 0, 0, 10, 1][..], b"not found"].concat();
        assert_eq!(sent(Err(Error::new(ErrorKind::NotFound))), error);
        let cached = sent(Ok(PeerReply::not_found()));
        assert_eq!((cached[0], &cached[HEADER_BYTES + FIELDS_BYTES..]), (0x81, &error[..]));
    }

    #[test]
    fn a_value_longer_than_the_client_takes_is_not_sent() {
        let sent = sent(Ok(PeerReply::new("12345".into())));
        assert_eq!((sent[0], sent[HEADER_BYTES]), (0x12, 5));
    }
}
