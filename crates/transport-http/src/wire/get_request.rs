//! The body of a native get.

use bytes::Bytes;
use peercache_groupcache::Terms;

use crate::{
    wire::decoder::Decoder,
    wire::frame::{Ask, Frame, MAX_KEYS},
};

/// A native get.
#[derive(Debug, PartialEq)]
pub(crate) struct GetRequest {
    pub(crate) ask: Ask,
    pub(crate) max_value_bytes: u64,
    pub(crate) group: Bytes,
    /// The keys, at least one. They are slices of the request's body.
    pub(crate) keys: Vec<(Bytes, Terms)>,
}

/// Reads a body: `ASK`, `GROUP`, then at least one `KEY`, counted from 0, each perhaps behind its
/// own `TERMS`. `None` when it is no request.
pub(crate) fn read(mut body: Bytes, max_key_bytes: usize) -> Option<GetRequest> {
    let mut decoder = Decoder::of_requests(max_key_bytes);
    let mut next = || decoder.next(&mut body).ok();
    let (Frame::Ask(ask), Frame::Group { max_value_bytes, name: group }) = (next()??, next()??) else {
        return None;
    };
    let mut keys = Vec::new();
    let mut own_terms = None;
    while let Some(frame) = next()? {
        match frame {
            Frame::Key { index, key } if usize::from(index) == keys.len() && keys.len() < MAX_KEYS => {
                keys.push((key, own_terms.take().unwrap_or(ask.terms)));
            }
            Frame::Terms { index, terms } if usize::from(index) == keys.len() && own_terms.is_none() => {
                own_terms = Some(terms);
            }
            _ => return None,
        }
    }
    let ended = !keys.is_empty() && own_terms.is_none() && decoder.is_between_frames() && body.is_empty();
    ended.then_some(GetRequest { ask, max_value_bytes, group, keys })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::frame;

    const ASK: &[u8] = &[1, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 7];
    const GROUP: &[u8] = &[2, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 9, b'g'];
    const TERMS: &[u8] = &[0x82, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0];
    const KEY: &[u8] = &[3, 0, 0, 0, 0, 0, 0, 1, b'k'];

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let ask = Ask { silence_ms: 7, terms: Terms::new() };
        let hurried = Terms::new().timeout(Some(Duration::from_millis(3)));
        let keys = [(&b"a"[..], Terms::new()), (b"", hurried), (b"b", Terms::new().fresh(true))];
        let request = read(frame::request(ask, 9, "g", keys.into_iter()), 1).unwrap();
        assert_eq!((request.ask, request.max_value_bytes, &request.group[..]), (ask, 9, &b"g"[..]));
        assert_eq!(request.keys, keys.map(|(key, terms)| (Bytes::copy_from_slice(key), terms)));
    }

    #[test]
    fn terms_belong_to_the_key_behind_them() {
        let is_request = |frames: &[&[u8]]| read(frames.concat().into(), 1).is_some();
        assert!(is_request(&[ASK, GROUP, KEY]) && is_request(&[ASK, GROUP, TERMS, KEY]));
        for frames in
            [&[ASK, GROUP][..], &[ASK, GROUP, TERMS], &[ASK, GROUP, KEY, TERMS], &[ASK, GROUP, TERMS, TERMS, KEY]]
        {
            assert!(!is_request(frames), "{frames:?}");
        }
    }
}
