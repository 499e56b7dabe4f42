//! Any bytes, read as the client and the server read what the other side sends.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use crate::{
    wire::decoder::{Decoder, FrameError},
    wire::frame::Frame,
    wire::identity::{Answerer, Asker, HEADER},
    wire::{get_request, update},
};

const MAX_KEY_BYTES: usize = 512;
const MAX_VALUE_BYTES: usize = 4 * 1024;

/// Reads bytes as answers, as a request and as an update. The first byte gives the size of the
/// pieces in which answers come.
///
/// # Panics
/// When the result depends on the pieces, or is more than came.
pub fn read_as_both_sides(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let bytes = Bytes::copy_from_slice(bytes);
    let whole = read_answers(&bytes, bytes.len());
    assert_eq!(whole, read_answers(&bytes, 1 + usize::from(*cut)), "it depends on the pieces");
    if let Some(request) = get_request::read(bytes.clone(), MAX_KEY_BYTES) {
        let key_bytes: usize = request.keys.iter().map(|(key, _)| key.len()).sum();
        assert!(key_bytes + request.group.len() <= bytes.len(), "more was read than came");
    }
    update::read(bytes, MAX_KEY_BYTES);
}

/// Reads bytes as the identity header of a request and of an answer, one header a line.
///
/// # Panics
/// When a header that was read is not the same after it is written and read again.
pub fn read_identity(bytes: &[u8]) {
    let values = bytes.split(|&byte| byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let headers = HeaderMap::from_iter(values.take(3).map(|value| (HEADER, value)));
    let alone = |value| HeaderMap::from_iter([(HEADER, value)]);
    if let Some(asker) = Asker::read(&headers) {
        assert_eq!(Asker::read(&alone(asker.header())), Some(asker), "a request says something else");
    }
    if let Some(answerer) = Answerer::read(&headers) {
        assert_eq!(Answerer::read(&alone(answerer.header())), Some(answerer), "an answer says something else");
    }
}

/// Reads answers that come in pieces of this many bytes: their frames, and whether they ended with
/// one.
fn read_answers(bytes: &Bytes, piece_bytes: usize) -> (Vec<Frame>, Result<bool, FrameError>) {
    let mut decoder = Decoder::of_answers(MAX_VALUE_BYTES);
    let (mut frames, mut rest) = (Vec::new(), bytes.clone());
    while !rest.is_empty() {
        let mut piece = rest.split_to(piece_bytes.min(rest.len()));
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, Ok(decoder.is_between_frames()))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::wire::frame::{header, kind};

    /// The number of changed headers for each of the corpus, unless the environment says another.
    const HEADERS: usize = 20_000;

    fn count_from(variable: &str, default: usize) -> usize {
        std::env::var(variable).map_or(default, |count| count.parse().unwrap())
    }

    #[test]
    fn the_corpus_of_headers_is_read() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/identity");
        let files: Vec<_> = fs::read_dir(corpus).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
        assert!(files.len() >= 4, "{} files", files.len());
        let headers = count_from("PEERCACHE_FUZZ_HEADERS", HEADERS);
        let seed = rand_seed();
        println!("seed {seed:#x}");
        let mut random = Random(seed);
        for file in &files {
            read_identity(file);
            // Some bytes changed, in each of many ways.
            for _ in 0..headers {
                let mut changed = file.clone();
                for _ in 0..=random.next() % 3 {
                    let at = random.next() as usize % changed.len();
                    changed[at] = random.next() as u8;
                }
                read_identity(&changed);
            }
        }
    }

    #[test]
    fn the_corpus_is_read() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/frames");
        let files: Vec<_> = fs::read_dir(corpus).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(files.len() >= 10, "{} files", files.len());
        files.iter().for_each(|file| read_as_both_sides(&fs::read(file).unwrap()));
    }

    /// The number of frames, unless the environment says another.
    const FRAMES: usize = 1_000_000;

    #[test]
    fn a_million_frames_are_read() {
        let frames = count_from("PEERCACHE_FUZZ_FRAMES", FRAMES);
        let seed = rand_seed();
        println!("seed {seed:#x}");
        let (mut random, mut bytes) = (Random(seed), Vec::new());
        let mut made = 0;
        while made < frames {
            bytes.clear();
            bytes.push(random.below(256) as u8);
            let count = 1 + random.below(12);
            (0..count).for_each(|nth| random.frame(nth, &mut bytes));
            if random.below(4) == 0 {
                random.damage(&mut bytes);
            }
            read_as_both_sides(&bytes);
            made += count;
        }
    }

    fn rand_seed() -> u64 {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(0) | 1
    }

    /// Xorshift64*.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }

        fn below(&mut self, bound: usize) -> usize {
            (self.next() >> 33) as usize % bound
        }

        /// Writes a frame that is good, more often than not, at this place of a request, an update
        /// or an answer.
        fn frame(&mut self, nth: usize, out: &mut Vec<u8>) {
            const KINDS: [(u8, usize); 13] = [
                (kind::ASK, 9),
                (kind::GROUP, 12),
                (kind::KEY, 8),
                (kind::UPDATE, 14),
                (kind::MISSED, 5),
                (kind::SET, 24),
                (kind::VALUE, 40),
                (kind::ERROR, 9),
                (kind::ACK, 24),
                (kind::WORKING, 0),
                (kind::LIFE, 25),
                (kind::TERMS, 5),
                (0x90, 3),
            ];
            let (kind, usual) = match (nth, self.below(3)) {
                (0, 0) => KINDS[0],
                (0, 1) => KINDS[3],
                (1, 0 | 1) => KINDS[1],
                (_, 0 | 1) => KINDS[self.below(KINDS.len())],
                _ => (self.below(256) as u8, self.below(64)),
            };
            let bytes = match self.below(16) {
                0 => self.below(2 * usual + 2),
                _ => usual,
            };
            let claimed = match self.below(32) {
                0 => self.next() as u32,
                1 => self.below(8_000) as u32,
                _ => bytes as u32,
            };
            let index = match self.below(8) {
                0 => self.next() as u16,
                _ => nth.saturating_sub(2) as u16,
            };
            out.extend(header(kind, index, claimed));
            (0..bytes).for_each(|_| out.push(self.next() as u8));
        }

        /// Changes some bytes, and perhaps cuts the end off.
        fn damage(&mut self, bytes: &mut Vec<u8>) {
            for _ in 0..1 + self.below(3) {
                let place = self.below(bytes.len());
                bytes[place] = self.next() as u8;
            }
            if self.below(2) == 0 {
                bytes.truncate(1 + self.below(bytes.len()));
            }
        }
    }
}
