//! The frames of a native exchange, as docs/wire.md specifies them: a header of eight bytes, then the payload.

use bytes::{Buf, BufMut, Bytes};

use crate::{answer::TEXT_BYTES_MAX, gather::Gather};

pub(crate) const HEADER_BYTES: usize = 8;

/// From here on a frame that is not known is passed over; below, it is an error.
const SKIPPABLE_FROM: u8 = 0x80;

/// The longest frame that is passed over, in bytes.
const SKIPPED_BYTES_MAX: usize = 64 * 1024;

/// The most bytes of an `ASK` that a later version may send.
const ASK_BYTES_MAX: usize = 64;

/// The longest name of a group, in bytes, and what comes before it.
const GROUP_BYTES_MAX: usize = 8 + 255;

mod kind {
    pub(super) const ASK: u8 = 0x01;
    pub(super) const GROUP: u8 = 0x02;
    pub(super) const KEY: u8 = 0x03;
    pub(super) const VALUE: u8 = 0x11;
    pub(super) const ERROR: u8 = 0x12;
    pub(super) const WORKING: u8 = 0x80;
}

/// One frame. `index` says which key of the exchange it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Opens a request: how long the asker bears silence, in milliseconds.
    Ask { silence_ms: u32 },
    /// The group of the keys that follow, and the longest value that the asker takes.
    Group { value_bytes_max: u64, name: Bytes },
    /// A key that is asked for.
    Key { index: u16, key: Bytes },
    /// The value of a key.
    Value { index: u16, value: Bytes },
    /// Why there is no value: see [`crate::answer`].
    Error { index: u16, code: u8, text: Bytes },
    /// Nothing yet, but the load is under way.
    Working,
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

/// The body of a request for one key. The lengths were checked by whoever took the key in.
pub(crate) fn request(silence_ms: u32, value_bytes_max: u64, group: &str, key: &[u8]) -> Bytes {
    let mut body = Vec::with_capacity(3 * HEADER_BYTES + 4 + 8 + group.len() + key.len());
    body.extend(header(kind::ASK, 0, 4));
    body.put_u32(silence_ms);
    body.extend(header(kind::GROUP, 0, 8 + group.len() as u32));
    body.put_u64(value_bytes_max);
    body.extend(group.as_bytes());
    body.extend(header(kind::KEY, 0, key.len() as u32));
    body.extend(key);
    body.into()
}

/// How many bytes a request for one key may have: the key, and ample room for what comes before it.
pub(crate) fn request_bytes_max(key_bytes_max: usize) -> usize {
    const OVERHEAD_BYTES_MAX: usize = 4 * 1024;
    key_bytes_max.saturating_add(OVERHEAD_BYTES_MAX)
}

pub(crate) fn value_header(index: u16, value_bytes: u32) -> [u8; HEADER_BYTES] {
    header(kind::VALUE, index, value_bytes)
}

pub(crate) fn error(index: u16, payload: &[u8]) -> Bytes {
    [&header(kind::ERROR, index, payload.len() as u32)[..], payload].concat().into()
}

pub(crate) fn working() -> Bytes {
    Bytes::from_static(&[kind::WORKING, 0, 0, 0, 0, 0, 0, 0])
}

/// Bytes that are no frames, with what is wrong.
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
    key_bytes_max: usize,
    value_bytes_max: usize,
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
    /// Reads the frames of requests, with keys of at most so many bytes.
    pub(crate) fn of_requests(key_bytes_max: usize) -> Self {
        Decoder::new(key_bytes_max, 0)
    }

    /// Reads the frames of answers, with values of at most so many bytes.
    pub(crate) fn of_answers(value_bytes_max: usize) -> Self {
        Decoder::new(0, value_bytes_max)
    }

    fn new(key_bytes_max: usize, value_bytes_max: usize) -> Self {
        let header = [0; HEADER_BYTES];
        Decoder { key_bytes_max, value_bytes_max, header, header_filled: 0, payload: Payload::None }
    }

    /// Takes bytes off `input` up to the end of a frame, and gives the frame. `None` means that all of `input` is
    /// taken and more is needed. After an error the stream has no meaning any more.
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
        let (kept, max) = match self.payload_bytes_max(kind) {
            Some(max) => (true, max),
            None if kind >= SKIPPABLE_FROM => (false, SKIPPED_BYTES_MAX),
            None => return Err(FrameError::Unknown(kind)),
        };
        if bytes > max {
            return Err(FrameError::TooLong { bytes, max });
        }
        self.payload = match kept {
            true => Payload::Kept { bytes, gather: Gather::new(Some(bytes), bytes) },
            false => Payload::Skipped { left: bytes },
        };
        Ok(true)
    }

    /// The most bytes of a frame that is known.
    fn payload_bytes_max(&self, kind: u8) -> Option<usize> {
        match kind {
            kind::ASK => Some(ASK_BYTES_MAX),
            kind::GROUP => Some(GROUP_BYTES_MAX),
            kind::KEY => Some(self.key_bytes_max),
            kind::VALUE => Some(self.value_bytes_max),
            kind::ERROR => Some(1 + TEXT_BYTES_MAX),
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
            kind::ASK => Frame::Ask { silence_ms: payload.try_get_u32().map_err(too_short)? },
            kind::GROUP => Frame::Group { value_bytes_max: payload.try_get_u64().map_err(too_short)?, name: payload },
            kind::KEY => Frame::Key { index, key: payload },
            kind::VALUE => Frame::Value { index, value: payload },
            kind::ERROR => Frame::Error { index, code: payload.try_get_u8().map_err(too_short)?, text: payload },
            _ => Frame::Working,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All frames of a stream that comes in these pieces, and whether it ended between frames.
    fn read(pieces: &[&[u8]]) -> Result<(Vec<Frame>, bool), FrameError> {
        let mut decoder = Decoder::new(100, 100);
        let mut frames = Vec::new();
        for piece in pieces {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(frame) = decoder.next(&mut input)? {
                frames.push(frame);
            }
            assert!(input.is_empty(), "bytes were left lying");
        }
        Ok((frames, decoder.is_between_frames()))
    }

    fn value(index: u16, value: &'static str) -> Vec<u8> {
        [&value_header(index, value.len() as u32)[..], value.as_bytes()].concat()
    }

    #[test]
    fn a_request_on_the_wire() {
        let wire = request(1_000, 33_554_432, "g", b"k\xff");
        let golden = [
            &[0x01, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0x03, 0xe8][..],
            &[0x02, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0x02, 0, 0, 0, b'g'],
            &[0x03, 0, 0, 0, 0, 0, 0, 2, b'k', 0xff],
        ];
        assert_eq!(wire, golden.concat());
        let frames = [
            Frame::Ask { silence_ms: 1_000 },
            Frame::Group { value_bytes_max: 33_554_432, name: "g".into() },
            Frame::Key { index: 0, key: Bytes::from_static(b"k\xff") },
        ];
        assert_eq!(read(&[&wire]), Ok((frames.into(), true)));
    }

    #[test]
    fn an_answer_on_the_wire() {
        let wire = [&working()[..], &value(0, "v"), &error(513, b"\x02no")].concat();
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
    fn an_unknown_frame_is_passed_over_or_refused_by_its_high_bit() {
        let wire = [&header(0xee, 0, 3)[..], b"new", &value(0, "v")].concat();
        assert_eq!(read(&[&wire]).unwrap().0, [Frame::Value { index: 0, value: "v".into() }]);
        assert_eq!(read(&[&header(0x7f, 0, 0)]), Err(FrameError::Unknown(0x7f)));
    }

    #[test]
    fn what_a_later_version_adds_to_an_ask_is_passed_over() {
        let wire = [&header(kind::ASK, 0, 6)[..], &[0, 0, 0, 9, 1, 2]].concat();
        assert_eq!(read(&[&wire]).unwrap().0, [Frame::Ask { silence_ms: 9 }]);
    }

    #[test]
    fn a_frame_that_claims_too_much_is_refused_before_it_comes() {
        assert_eq!(read(&[&value_header(0, 101)]), Err(FrameError::TooLong { bytes: 101, max: 100 }));
        assert_eq!(read(&[&header(0xff, 0, u32::MAX)]), Err(FrameError::TooLong { bytes: 0xffff_ffff, max: 65_536 }));
    }

    #[test]
    fn a_frame_without_its_fields_is_refused() {
        assert_eq!(read(&[&header(kind::ERROR, 0, 0)]), Err(FrameError::TooShort(kind::ERROR)));
        assert_eq!(read(&[&header(kind::GROUP, 0, 7), &[0; 7]]), Err(FrameError::TooShort(kind::GROUP)));
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
        fn any_payload_is_read_or_refused(kind: u8, index: u16, payload in prop::collection::vec(any::<u8>(), 0..120)) {
            let wire = [&header(kind, index, payload.len() as u32)[..], &payload].concat();
            if let Ok((frames, whole)) = read(&[&wire]) {
                prop_assert!(whole && frames.len() <= 1);
            }
        }

        #[test]
        fn any_split_gives_the_same_frames(cuts in prop::collection::vec(0_usize..80, 0..12)) {
            let wire = [&request(7, 9, "grp", b"key")[..], &working(), &header(0x90, 1, 2), b"xx", &value(3, "val"), &error(0, b"\x01")].concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(wire.len())).chain([0, wire.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&pieces), read(&[&wire]));
        }
    }
}
