//! The frames of the native protocol: a header of eight bytes, then the payload. They are named as
//! in `docs/wire.md`.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use peercache_groupcache::{Ack, LoadChain, ReplyMeta, SecondRound, Stamp, Terms};

use crate::wire::{millis, reply_meta};

pub(crate) const HEADER_BYTES: usize = 8;

/// The bytes that say more of the second round of a set, behind the other fields of an `UPDATE`.
pub(crate) const SECOND_ROUND_BYTES: usize = 20;

/// The longest name of a member in a `MISSED`, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 1024;

pub(crate) mod kind {
    pub(crate) const ASK: u8 = 0x01;
    pub(crate) const GROUP: u8 = 0x02;
    pub(crate) const KEY: u8 = 0x03;
    pub(crate) const UPDATE: u8 = 0x04;
    pub(crate) const MISSED: u8 = 0x05;
    pub(crate) const SET: u8 = 0x06;
    pub(crate) const VALUE: u8 = 0x11;
    pub(crate) const ERROR: u8 = 0x12;
    pub(crate) const ACK: u8 = 0x13;
    pub(crate) const WORKING: u8 = 0x80;
    pub(crate) const LIFE: u8 = 0x81;
    pub(crate) const TERMS: u8 = 0x82;
}

/// One frame. `index` is the index of its key in the batch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Frame {
    /// Opens a request for values.
    Ask(Ask),
    /// The group of the keys that follow, and the longest value that the client takes.
    Group { max_value_bytes: u64, name: Bytes },
    /// A key that is asked for, or that changes.
    Key { index: u16, key: Bytes },
    /// Opens an update: see [`crate::wire::update`].
    Update { change: u8, ring: u64, age: Duration, second: Option<SecondRound> },
    /// A member that could not be reached with the update.
    Missed { name: Bytes },
    /// The time in which a value may be taken, and that for which it may be answered.
    Set { stamp: Stamp, within: Duration, ttl: Option<Duration> },
    /// The value of a key.
    Value { index: u16, value: Bytes },
    /// The reason why there is no value: see [`crate::wire::error_codes`].
    Error { index: u16, code: u8, text: Bytes },
    /// The acknowledgement that an update is made.
    Ack(Ack),
    /// A heartbeat: the load is in flight.
    Working,
    /// The facts that go with the answer that follows.
    Life { index: u16, meta: ReplyMeta },
    /// The terms of the key that follows, where they are not those of the whole request.
    Terms { index: u16, terms: Terms },
}

/// The header of a frame.
pub(crate) fn header(kind: u8, index: u16, payload_bytes: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let mut out = &mut header[..];
    out.put_u8(kind);
    out.put_u8(0);
    out.put_u16(index);
    out.put_u32(payload_bytes);
    header
}

/// The opening of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// The longest silence that the client tolerates, in milliseconds.
    pub(crate) silence_ms: u32,
    /// The terms of the keys that have none of their own.
    pub(crate) terms: Terms,
}

/// The bytes of terms that always are there. Behind them are the hashes of the loads that wait.
const TERMS_BYTES: usize = 4 + 1;

/// The bytes of an `ASK` without such loads. One of the first release has the first four.
const ASK_BYTES: usize = 4 + TERMS_BYTES;

/// The bytes of these terms.
fn terms_bytes(terms: Terms) -> usize {
    let hashes = terms.chain.hashes().count();
    TERMS_BYTES + if hashes > 0 { 1 + 8 * hashes } else { 0 }
}

/// The flag for a fresh value.
const FRESH: u8 = 1;

/// The most loads that are told of.
const MAX_CHAIN: usize = 4;

impl Ask {
    fn write(self, out: &mut Vec<u8>) {
        out.extend(header(kind::ASK, 0, (4 + terms_bytes(self.terms)) as u32));
        out.put_u32(self.silence_ms);
        put_terms(out, self.terms);
    }

    /// Reads the fields; `None` when even the oldest one is cut short. Newer ones may be absent.
    pub(crate) fn read(mut payload: impl Buf) -> Option<Self> {
        let silence_ms = payload.try_get_u32().ok()?;
        Some(Ask { silence_ms, terms: read_terms(payload).unwrap_or_default() })
    }
}

fn put_terms(out: &mut Vec<u8>, terms: Terms) {
    out.put_u32(millis::of_bound(terms.timeout));
    out.put_u8(if terms.fresh { FRESH } else { 0 });
    if !terms.chain.is_empty() {
        out.put_u8(terms.chain.hashes().count() as u8);
        terms.chain.hashes().for_each(|hash| out.put_u64(hash));
    }
}

/// Reads the fields of a `TERMS`; `None` when one is cut short.
pub(crate) fn read_terms(mut payload: impl Buf) -> Option<Terms> {
    let timeout = payload.try_get_u32().ok()?;
    let flags = payload.try_get_u8().ok()?;
    let hashes = usize::from(payload.try_get_u8().unwrap_or(0)).min(MAX_CHAIN);
    let chain = LoadChain::from_hashes(std::iter::from_fn(|| payload.try_get_u64().ok()).take(hashes));
    Some(Terms::new().timeout(millis::to_bound(timeout)).fresh(flags & FRESH != 0).chain(chain))
}

/// The most keys of one batch. Their number fits an index easily, and one request makes a node hold
/// little at once.
pub(crate) const MAX_KEYS: usize = 1024;

/// The most bytes that the keys of one batch have together. A single key may be as long as a key
/// may be.
///
/// It bounds the keys of an update, too.
pub(crate) const MAX_KEYS_BYTES: usize = 64 * 1024;

/// The number of these keys, given by their lengths, that go into the next batch: one at least, if
/// there is one.
pub(crate) fn keys_of_one_batch(lengths: impl IntoIterator<Item = usize>) -> usize {
    let mut bytes = 0_usize;
    let fits = |(nth, length): &(usize, usize)| {
        bytes = bytes.saturating_add(*length);
        *nth == 0 || (*nth < MAX_KEYS && bytes <= MAX_KEYS_BYTES)
    };
    lengths.into_iter().enumerate().take_while(fits).count()
}

/// The body of a request. The caller has checked the lengths of the keys.
pub(crate) fn request<'a>(
    ask: Ask,
    max_value_bytes: u64,
    group: &str,
    keys: impl ExactSizeIterator<Item = (&'a [u8], Terms)>,
) -> Bytes {
    /// The size of a short key with its header.
    const KEY_BYTES: usize = HEADER_BYTES + 40;
    let mut body = Vec::with_capacity(2 * HEADER_BYTES + ASK_BYTES + 8 + group.len() + keys.len() * KEY_BYTES);
    ask.write(&mut body);
    write_group(&mut body, max_value_bytes, group);
    for (index, (key, terms)) in (0..).zip(keys) {
        if terms != ask.terms {
            body.extend(header(kind::TERMS, index, terms_bytes(terms) as u32));
            put_terms(&mut body, terms);
        }
        write_key(&mut body, index, key);
    }
    body.into()
}

pub(crate) fn write_group(out: &mut Vec<u8>, max_value_bytes: u64, group: &str) {
    out.extend(header(kind::GROUP, 0, 8 + group.len() as u32));
    out.put_u64(max_value_bytes);
    out.extend(group.as_bytes());
}

pub(crate) fn write_keys<'a>(out: &mut Vec<u8>, keys: impl IntoIterator<Item = &'a [u8]>) {
    for (index, key) in (0..).zip(keys) {
        write_key(out, index, key);
    }
}

fn write_key(out: &mut Vec<u8>, index: u16, key: &[u8]) {
    out.extend(header(kind::KEY, index, key.len() as u32));
    out.extend(key);
}

/// The longest request, in bytes: the keys, and ample room for the frames before them.
pub(crate) fn max_request_bytes(max_key_bytes: usize) -> usize {
    const MAX_OVERHEAD_BYTES: usize = 4 * 1024 + MAX_KEYS * (2 * HEADER_BYTES + 8);
    max_key_bytes.max(MAX_KEYS_BYTES).saturating_add(MAX_OVERHEAD_BYTES)
}

pub(crate) fn value_header(index: u16, value_bytes: u32) -> [u8; HEADER_BYTES] {
    header(kind::VALUE, index, value_bytes)
}

pub(crate) fn error(index: u16, payload: &[u8]) -> Bytes {
    [&header(kind::ERROR, index, payload.len() as u32)[..], payload].concat().into()
}

pub(crate) fn write_life(out: &mut Vec<u8>, index: u16, meta: &ReplyMeta) {
    out.extend(header(kind::LIFE, index, reply_meta::written_bytes(meta) as u32));
    reply_meta::write(meta, out);
}

pub(crate) fn ack(ack: &Ack) -> Bytes {
    let mut frame = Vec::with_capacity(HEADER_BYTES + 24);
    frame.extend(header(kind::ACK, 0, 24));
    frame.put_u64(ack.ring);
    frame.put_u64(ack.stamp.incarnation);
    frame.put_u64(ack.stamp.count);
    frame.into()
}

pub(crate) fn working() -> Bytes {
    Bytes::from_static(&[kind::WORKING, 0, 0, 0, 0, 0, 0, 0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{decoder::tests::read, reply_meta::tests::meta};

    fn ask() -> Ask {
        Ask { silence_ms: 1_000, terms: Terms::new() }
    }

    fn on<'a>(terms: Terms, keys: &'a [&'a [u8]]) -> impl ExactSizeIterator<Item = (&'a [u8], Terms)> {
        keys.iter().map(move |key| (*key, terms))
    }

    #[test]
    fn a_request_on_the_wire() {
        let wire = request(ask(), 33_554_432, "g", on(Terms::new(), &[b"k\xff"]));
        let golden = [
            &[0x01, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0x03, 0xe8, 0xff, 0xff, 0xff, 0xff, 0][..],
            &[0x02, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0x02, 0, 0, 0, b'g'],
            &[0x03, 0, 0, 0, 0, 0, 0, 2, b'k', 0xff],
        ];
        assert_eq!(wire, golden.concat());
        let frames = [
            Frame::Ask(ask()),
            Frame::Group { max_value_bytes: 33_554_432, name: "g".into() },
            Frame::Key { index: 0, key: Bytes::from_static(b"k\xff") },
        ];
        assert_eq!(read(&[&wire]), Ok((frames.into(), true)));
    }

    #[test]
    fn a_request_for_many_keys_in_a_hurry_on_the_wire() {
        let terms = Terms::new().timeout(Some(Duration::from_millis(250))).fresh(true);
        let ask = Ask { terms, ..ask() };
        let wire = request(ask, 1, "g", on(terms, &[b"k", b"", b"l"]));
        let golden = [
            &[0x01, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0x03, 0xe8, 0, 0, 0, 0xfa, 1][..],
            &[0x02, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, b'g'],
            &[0x03, 0, 0, 0, 0, 0, 0, 1, b'k'],
            &[0x03, 0, 0, 1, 0, 0, 0, 0],
            &[0x03, 0, 0, 2, 0, 0, 0, 1, b'l'],
        ];
        assert_eq!(wire, golden.concat());
        assert_eq!(read(&[&wire]).unwrap().0[0], Frame::Ask(ask));
    }

    #[test]
    fn a_key_on_terms_of_its_own_on_the_wire() {
        let hurried = Terms::new().timeout(Some(Duration::from_millis(250))).fresh(true);
        let wire = request(ask(), 1, "g", [(&b"k"[..], Terms::new()), (b"l", hurried)].into_iter());
        let golden = [
            &[0x01, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0x03, 0xe8, 0xff, 0xff, 0xff, 0xff, 0][..],
            &[0x02, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, b'g'],
            &[0x03, 0, 0, 0, 0, 0, 0, 1, b'k'],
            &[0x82, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0xfa, 1],
            &[0x03, 0, 0, 1, 0, 0, 0, 1, b'l'],
        ];
        assert_eq!(wire, golden.concat());
        assert_eq!(read(&[&wire]).unwrap().0[3], Frame::Terms { index: 1, terms: hurried });
    }

    #[test]
    fn loads_that_wait_on_the_wire() {
        let chain = LoadChain::from_hashes([0x0102_0304_0506_0708, 9]);
        let terms = Terms::new().chain(chain);
        let wire = request(ask(), 1, "g", [(&b"k"[..], terms)].into_iter());
        let golden = [
            &[0x01, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0x03, 0xe8, 0xff, 0xff, 0xff, 0xff, 0][..],
            &[0x02, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, b'g'],
            &[0x82, 0, 0, 0, 0, 0, 0, 22, 0xff, 0xff, 0xff, 0xff, 0, 2],
            &[1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 9],
            &[0x03, 0, 0, 0, 0, 0, 0, 1, b'k'],
        ];
        assert_eq!(wire, golden.concat());
        assert_eq!(read(&[&wire]).unwrap().0[2], Frame::Terms { index: 0, terms });
        // No more than there may be are read, and no more than there are.
        for (count, found) in [(0, 0), (2, 2), (4, 4), (5, 4), (255, 4)] {
            let fields = [&[0xff, 0xff, 0xff, 0xff, 0, count][..], &[7; 40]].concat();
            assert_eq!(read_terms(&fields[..]).unwrap().chain.hashes().count(), found, "{count}");
        }
        assert!(read_terms(&[0xff, 0xff, 0xff, 0xff, 0, 4, 7][..]).unwrap().chain.is_empty());
    }

    #[test]
    fn an_ask_of_the_first_release_says_nothing_of_deadlines() {
        let wire = [&header(kind::ASK, 0, 4)[..], &[0, 0, 0x03, 0xe8]].concat();
        assert_eq!(read(&[&wire]).unwrap().0, [Frame::Ask(ask())]);
    }

    #[test]
    fn an_answer_on_the_wire() {
        let wire = [&working()[..], &value_header(0, 1), b"v", &error(513, b"\x02no")].concat();
        let golden = [
            &[0x80, 0, 0, 0, 0, 0, 0, 0][..],
            &[0x11, 0, 0, 0, 0, 0, 0, 1, b'v'],
            &[0x12, 0, 2, 1, 0, 0, 0, 3, 2, b'n', b'o'],
        ];
        assert_eq!(wire, golden.concat());
        let frames = [
            Frame::Working,
            Frame::Value { index: 0, value: "v".into() },
            Frame::Error { index: 513, code: 2, text: "no".into() },
        ];
        assert_eq!(read(&[&wire]), Ok((frames.into(), true)));
    }

    #[test]
    fn the_facts_of_an_answer_on_the_wire() {
        let meta = meta(|meta| {
            (meta.stale, meta.remaining, meta.age) = (true, Some(Duration::ZERO), Duration::from_millis(1_500));
            meta.ring = Some(0x0123_4567_89ab_cdef);
        });
        let mut wire = Vec::new();
        write_life(&mut wire, 2, &meta);
        let golden = [
            &[0x81, 0, 0, 2, 0, 0, 0, 17][..],
            &[3, 0, 0, 0, 0, 0, 0, 0x05, 0xdc, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef],
        ];
        assert_eq!(wire, golden.concat());
        assert_eq!(read(&[&wire]).unwrap().0, [Frame::Life { index: 2, meta }]);
    }

    #[test]
    fn the_facts_with_a_rate_on_the_wire() {
        let meta = meta(|meta| meta.minute_qps = Some(1.5));
        let mut wire = Vec::new();
        write_life(&mut wire, 2, &meta);
        let golden = [
            &[0x81, 0, 0, 2, 0, 0, 0, 25][..],
            &[4, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x3f, 0xf8, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(wire, golden.concat());
        assert_eq!(read(&[&wire]).unwrap().0, [Frame::Life { index: 2, meta }]);
    }

    #[test]
    fn an_acknowledgement_on_the_wire() {
        let made = Ack::new(1, Stamp { incarnation: 2, count: 3 });
        let golden = [
            &[0x13, 0, 0, 0, 0, 0, 0, 24][..],
            &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3],
        ];
        assert_eq!(ack(&made), golden.concat());
        assert_eq!(read(&[&ack(&made)]).unwrap().0, [Frame::Ack(made)]);
    }

    #[test]
    fn keys_are_split_by_number_and_by_bytes() {
        let fit = |count: usize, length: usize| keys_of_one_batch(std::iter::repeat_n(length, count));
        assert_eq!([fit(0, 1), fit(1_024, 1), fit(1_025, 1), fit(1_025, 0)], [0, 1_024, 1_024, 1_024]);
        assert_eq!([fit(9, 16_384), fit(9, 16_385), fit(9, 65_536), fit(9, 65_537)], [4, 3, 1, 1]);
    }
}
