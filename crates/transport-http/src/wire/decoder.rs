//! The decoder of frames, from bytes that come in pieces of any size.

use std::time::Duration;

use bytes::{Buf, Bytes, TryGetError};
use peercache_groupcache::{Ack, SecondRound, Stamp};

use crate::{
    wire::error_codes::MAX_TEXT_BYTES,
    wire::frame::{Ask, Frame, HEADER_BYTES, MAX_NAME_BYTES, SECOND_ROUND_BYTES, kind, read_terms},
    wire::gather::Gather,
    wire::{millis, reply_meta},
};

/// The first kind of frame that is skipped if it is unknown; an unknown kind below is an error.
const SKIPPABLE_FROM: u8 = 0x80;

/// The longest frame that is skipped, in bytes.
const MAX_SKIPPED_BYTES: usize = 64 * 1024;

/// The longest frame of fixed fields, in bytes. A later version may add fields up to that.
const MAX_FIELDS_BYTES: usize = 64;

/// The longest `GROUP` frame, in bytes: a field, then the name.
const MAX_GROUP_BYTES: usize = 8 + 255;

/// The reason why bytes are no frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of the unknown kind {0:#04x}")]
    Unknown(u8),
    #[error("a frame of {bytes} bytes, {max} are allowed")]
    TooLong { bytes: usize, max: usize },
    #[error("a frame too short for its kind {0:#04x}")]
    TooShort(u8),
}

/// Reads frames from a stream that comes in pieces of any size.
#[derive(Debug)]
pub(crate) struct Decoder {
    max_key_bytes: usize,
    max_value_bytes: usize,
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    payload: Payload,
}

#[derive(Debug)]
enum Payload {
    /// The header is not complete yet.
    None,
    Kept {
        bytes: usize,
        gather: Gather,
    },
    Skipped {
        left: usize,
    },
}

impl Decoder {
    /// A decoder of requests, with keys of at most this many bytes.
    pub(crate) fn of_requests(max_key_bytes: usize) -> Self {
        Decoder::new(max_key_bytes, 0)
    }

    /// A decoder of updates, with keys and values of at most this many bytes.
    pub(crate) fn of_updates(max_key_bytes: usize, max_value_bytes: usize) -> Self {
        Decoder::new(max_key_bytes, max_value_bytes)
    }

    /// A decoder of answers, with values of at most this many bytes.
    pub(crate) fn of_answers(max_value_bytes: usize) -> Self {
        Decoder::new(0, max_value_bytes)
    }

    fn new(max_key_bytes: usize, max_value_bytes: usize) -> Self {
        let header = [0; HEADER_BYTES];
        Decoder { max_key_bytes, max_value_bytes, header, header_filled: 0, payload: Payload::None }
    }

    /// Takes bytes off `input` up to the end of a frame, and returns the frame. `None` means that
    /// all of `input` is taken and more is needed. After an error the rest of the stream has no
    /// meaning.
    pub(crate) fn next(&mut self, input: &mut Bytes) -> Result<Option<Frame>, FrameError> {
        loop {
            if matches!(self.payload, Payload::None) && !self.read_header(input)? {
                return Ok(None);
            }
            if !self.read_payload(input) {
                return Ok(None);
            }
            self.header_filled = 0;
            if let Payload::Kept { gather, .. } = std::mem::replace(&mut self.payload, Payload::None) {
                return self.frame(gather.finish()).map(Some);
            }
        }
    }

    /// Whether the stream may end here.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.header_filled == 0
    }

    /// Whether the header is complete now.
    fn read_header(&mut self, input: &mut Bytes) -> Result<bool, FrameError> {
        let taken = input.len().min(HEADER_BYTES - self.header_filled);
        input.copy_to_slice(&mut self.header[self.header_filled..self.header_filled + taken]);
        self.header_filled += taken;
        if self.header_filled < HEADER_BYTES {
            return Ok(false);
        }
        let (kind, bytes) = (self.header[0], (&self.header[4..]).get_u32() as usize);
        let (kept, max) = match self.max_payload_bytes(kind) {
            Some(max) => (true, max),
            None if kind >= SKIPPABLE_FROM => (false, MAX_SKIPPED_BYTES),
            None => return Err(FrameError::Unknown(kind)),
        };
        if bytes > max {
            return Err(FrameError::TooLong { bytes, max });
        }
        self.payload = if kept {
            Payload::Kept { bytes, gather: Gather::new(Some(bytes), bytes) }
        } else {
            Payload::Skipped { left: bytes }
        };
        Ok(true)
    }

    /// The longest payload of a known kind of frame.
    fn max_payload_bytes(&self, kind: u8) -> Option<usize> {
        match kind {
            kind::ASK | kind::UPDATE | kind::SET | kind::ACK | kind::LIFE | kind::TERMS => Some(MAX_FIELDS_BYTES),
            kind::MISSED => Some(MAX_NAME_BYTES),
            kind::GROUP => Some(MAX_GROUP_BYTES),
            kind::KEY => Some(self.max_key_bytes),
            kind::VALUE => Some(self.max_value_bytes),
            kind::ERROR => Some(1 + MAX_TEXT_BYTES),
            kind::WORKING => Some(0),
            _ => None,
        }
    }

    /// Whether the payload is complete now.
    fn read_payload(&mut self, input: &mut Bytes) -> bool {
        match &mut self.payload {
            Payload::None => false,
            Payload::Skipped { left } => {
                let taken = input.len().min(*left);
                input.advance(taken);
                *left -= taken;
                *left == 0
            }
            Payload::Kept { bytes, gather } => {
                let taken = input.len().min(*bytes - gather.len());
                gather.push(input.split_to(taken)).expect("no more is taken than the frame has");
                gather.len() == *bytes
            }
        }
    }

    fn frame(&self, mut payload: Bytes) -> Result<Frame, FrameError> {
        let kind = self.header[0];
        let index = (&self.header[2..]).get_u16();
        let too_short = |_| FrameError::TooShort(kind);
        Ok(match kind {
            kind::ASK => Frame::Ask(Ask::read(payload).ok_or(FrameError::TooShort(kind))?),
            kind::GROUP => Frame::Group { max_value_bytes: payload.try_get_u64().map_err(too_short)?, name: payload },
            kind::KEY => Frame::Key { index, key: payload },
            kind::VALUE => Frame::Value { index, value: payload },
            kind::ERROR => Frame::Error { index, code: payload.try_get_u8().map_err(too_short)?, text: payload },
            kind::UPDATE => Frame::Update {
                change: payload.try_get_u8().map_err(too_short)?,
                ring: payload.try_get_u64().map_err(too_short)?,
                age: Duration::from_millis(payload.try_get_u32().map_err(too_short)?.into()),
                second: second_round(&mut payload).map_err(too_short)?,
            },
            kind::MISSED => Frame::Missed { name: payload },
            kind::SET => Frame::Set {
                stamp: stamp(&mut payload).map_err(too_short)?,
                within: Duration::from_millis(payload.try_get_u32().map_err(too_short)?.into()),
                ttl: millis::to_bound(payload.try_get_u32().map_err(too_short)?),
            },
            kind::ACK => {
                let ring = payload.try_get_u64().map_err(too_short)?;
                Frame::Ack(Ack::new(ring, stamp(&mut payload).map_err(too_short)?))
            }
            kind::LIFE => Frame::Life { index, meta: reply_meta::read(payload).ok_or(FrameError::TooShort(kind))? },
            kind::TERMS => Frame::Terms { index, terms: read_terms(payload).ok_or(FrameError::TooShort(kind))? },
            _ => Frame::Working,
        })
    }
}

/// The second round of a set, of which an earlier release says nothing more: it is none then.
fn second_round(payload: &mut Bytes) -> Result<Option<SecondRound>, TryGetError> {
    let is_second = payload.try_get_u8()? & 1 == 1;
    if !is_second || payload.remaining() < SECOND_ROUND_BYTES {
        return Ok(None);
    }
    let (stamp, within_ms) = (stamp(payload)?, payload.try_get_u32()?);
    Ok(Some(SecondRound { stamp, within: Duration::from_millis(within_ms.into()) }))
}

fn stamp(payload: &mut Bytes) -> Result<Stamp, TryGetError> {
    Ok(Stamp { incarnation: payload.try_get_u64()?, count: payload.try_get_u64()? })
}

#[cfg(test)]
pub(crate) mod tests {
    use peercache_groupcache::{ReplyMeta, Terms};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::frame::{ack, error, header, request, value_header, working, write_life};

    /// Reads all frames of a stream that comes in these pieces, and whether it ended between
    /// frames.
    pub(crate) fn read(pieces: &[&[u8]]) -> Result<(Vec<Frame>, bool), FrameError> {
        let mut decoder = Decoder::new(100, 100);
        let mut frames = Vec::new();
        for piece in pieces {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(frame) = decoder.next(&mut input)? {
                frames.push(frame);
            }
            assert!(input.is_empty(), "bytes were left over");
        }
        Ok((frames, decoder.is_between_frames()))
    }

    fn value(index: u16, value: &'static str) -> Vec<u8> {
        [&value_header(index, value.len() as u32)[..], value.as_bytes()].concat()
    }

    #[test]
    fn an_unknown_frame_is_skipped_or_refused_by_its_high_bit() {
        let wire = [&header(0xee, 0, 3)[..], b"new", &value(0, "v")].concat();
        assert_eq!(read(&[&wire]).unwrap().0, [Frame::Value { index: 0, value: "v".into() }]);
        assert_eq!(read(&[&header(0x7f, 0, 0)]), Err(FrameError::Unknown(0x7f)));
    }

    #[test]
    fn fields_that_a_later_version_adds_are_skipped() {
        let mut fields = vec![0; MAX_FIELDS_BYTES];
        for kind in [kind::ASK, kind::UPDATE, kind::SET, kind::ACK, kind::LIFE, kind::TERMS] {
            let (frames, whole) = read(&[&header(kind, 0, MAX_FIELDS_BYTES as u32), &fields]).unwrap();
            assert_eq!((frames.len(), whole), (1, true), "{kind:#x}");
        }
        fields.push(0);
        let too_long = FrameError::TooLong { bytes: fields.len(), max: MAX_FIELDS_BYTES };
        assert_eq!(read(&[&header(kind::LIFE, 0, fields.len() as u32)]), Err(too_long));
    }

    #[test]
    fn a_frame_that_claims_too_much_is_refused_before_it_comes() {
        assert_eq!(read(&[&value_header(0, 101)]), Err(FrameError::TooLong { bytes: 101, max: 100 }));
        assert_eq!(read(&[&header(0xff, 0, u32::MAX)]), Err(FrameError::TooLong { bytes: 0xffff_ffff, max: 65_536 }));
    }

    #[test]
    fn a_frame_without_its_fields_is_refused() {
        for (kind, bytes) in [
            (kind::ASK, 4),
            (kind::GROUP, 8),
            (kind::UPDATE, 14),
            (kind::SET, 24),
            (kind::ERROR, 1),
            (kind::ACK, 24),
            (kind::LIFE, 17),
            (kind::TERMS, 5),
        ] {
            let of = |bytes: usize| read(&[&header(kind, 0, bytes as u32), &vec![0; bytes]]);
            assert_eq!(of(bytes - 1), Err(FrameError::TooShort(kind)));
            of(bytes).unwrap();
        }
    }

    #[test]
    fn a_stream_cut_within_a_frame_is_noticed() {
        let wire = value(0, "value");
        let cut_short: Vec<bool> = (1..wire.len()).map(|end| read(&[&wire[..end]]).unwrap().1).collect();
        assert_eq!(cut_short, vec![false; wire.len() - 1]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_refused(bytes: Vec<u8>) {
            let _ = read(&[&bytes]);
        }

        #[test]
        fn any_payload_is_read_or_refused(
            kind in prop_oneof![0x01_u8..0x20, 0x80_u8..0x90, any::<u8>()],
            index: u16, payload in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let wire = [&header(kind, index, payload.len() as u32)[..], &payload].concat();
            if let Ok((frames, whole)) = read(&[&wire]) {
                prop_assert!(whole && frames.len() <= 1);
            }
        }

        #[test]
        fn any_split_gives_the_same_frames(cuts in prop::collection::vec(0_usize..180, 0..12)) {
            let ask = Ask { silence_ms: 7, terms: Terms::new().fresh(true) };
            let keys = [(&b"key"[..], ask.terms), (b"more", Terms::new())];
            let made = Ack::new(1, Stamp { incarnation: 2, count: 3 });
            let mut life = Vec::new();
            write_life(&mut life, 3, &ReplyMeta::default());
            let request = request(ask, 9, "grp", keys.into_iter());
            let answers = [&working()[..], &header(0x90, 1, 2), b"xx", &life, &value(3, "val"), &error(0, b"\x01")];
            let wire = [&request[..], &answers.concat(), &ack(&made)].concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(wire.len())).chain([0, wire.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&pieces), read(&[&wire]));
        }
    }
}
