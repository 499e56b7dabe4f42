//! Traces: requests in the order in which they were made.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use ruzstd::decoding::StreamingDecoder;

use crate::capacity::Unit;

/// Requests in the order in which they were made.
pub struct Trace {
    /// The name: the file's name without its endings, or the workload's.
    pub name: String,
    /// Keys are numbered in the order of their first appearance.
    requests: Vec<u32>,
    /// The size that each request has, in bytes of key and value; empty where the trace does not
    /// say.
    sizes: Vec<u32>,
    /// The trace's own keys, by their numbers.
    keys: Vec<u64>,
}

/// One request of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Position in the trace.
    pub position: usize,
    /// The number of its key.
    pub key: u32,
    /// The part of a capacity that its entry takes; at least 1.
    pub weight: u64,
}

/// A kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Records {
    /// 8 bytes: the key.
    Unit,
    /// 12 bytes: the key, and a size in 4 bytes.
    Sized,
}

/// Reason why a file is no trace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file cannot be opened or read to its end.
    #[error("cannot read {file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// Reason why not.
        source: std::io::Error,
    },
    /// It ends with `.zst` and does not unpack.
    #[error("cannot unpack {file}: it is damaged, cut short, or no zstd file ({why})")]
    Packed {
        /// The file.
        file: String,
        /// Reason why not.
        why: String,
    },
    /// There is nothing in it.
    #[error("{file} holds no requests")]
    Empty {
        /// The file.
        file: String,
    },
    /// It does not end with a whole record.
    #[error("{file} has {bytes} bytes, which is no whole number of {record}-byte records{hint}")]
    Length {
        /// The file.
        file: String,
        /// The bytes it has, unpacked.
        bytes: usize,
        /// The bytes of a record.
        record: usize,
        /// The other way to read it.
        hint: &'static str,
    },
    /// It has more requests than we read.
    #[error("{file} holds more than {MAX_REQUESTS} requests")]
    TooLong {
        /// The file.
        file: String,
    },
}

/// More would take more memory than a small machine has, and more time than anybody waits.
const MAX_REQUESTS: usize = 1 << 28;

impl Records {
    /// The bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Records::Unit => 8,
            Records::Sized => 12,
        }
    }
}

impl Trace {
    /// Reads a file, packed if its name ends with `.zst`.
    ///
    /// A file does not say what its records are. Where that is not given, a capacity in bytes wants
    /// sizes and so sized records; one in entries takes unit records if the length allows it, and
    /// else sized ones, whose sizes then do not count.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn read(path: &Path, records: Option<Records>, unit: Unit) -> Result<Self, TraceError> {
        let file = path.display().to_string();
        let bytes = unpacked(path, &file)?;
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let name = name.trim_end_matches(".zst").trim_end_matches(".bin");
        Self::from_bytes(name, &file, &bytes, records, unit)
    }

    fn from_bytes(
        name: &str,
        file: &str,
        bytes: &[u8],
        records: Option<Records>,
        unit: Unit,
    ) -> Result<Self, TraceError> {
        let records = records.unwrap_or_else(|| guess(bytes.len(), unit));
        let record = records.bytes();
        if bytes.is_empty() {
            return Err(TraceError::Empty { file: file.to_owned() });
        }
        if !bytes.len().is_multiple_of(record) {
            let hint = hint(bytes.len(), records, unit);
            return Err(TraceError::Length { file: file.to_owned(), bytes: bytes.len(), record, hint });
        }
        if bytes.len() / record > MAX_REQUESTS {
            return Err(TraceError::TooLong { file: file.to_owned() });
        }
        let read = bytes.chunks_exact(record).map(|record| {
            let (key, size) = record.split_at(8);
            let size = size.try_into().map_or(0, u32::from_le_bytes);
            (u64::from_le_bytes(key.try_into().expect("a record begins with 8 bytes")), size)
        });
        Ok(match records {
            Records::Unit => Self::new(name, read.map(|(key, _)| key)),
            Records::Sized => Self::sized(name, read),
        })
    }

    /// A trace of these keys, without sizes.
    pub fn new(name: &str, keys: impl IntoIterator<Item = u64>) -> Self {
        let mut trace = Self::sized(name, keys.into_iter().map(|key| (key, 0)));
        trace.sizes = Vec::new();
        trace
    }

    /// A trace of keys and sizes.
    pub fn sized(name: &str, requests: impl IntoIterator<Item = (u64, u32)>) -> Self {
        let mut trace = Trace { name: name.to_owned(), requests: Vec::new(), sizes: Vec::new(), keys: Vec::new() };
        let mut numbers: HashMap<u64, u32> = HashMap::new();
        for (key, size) in requests {
            let next = u32::try_from(trace.keys.len()).expect("a trace has fewer requests than 2^32");
            let number = *numbers.entry(key).or_insert(next);
            if number == next {
                trace.keys.push(key);
            }
            trace.requests.push(number);
            trace.sizes.push(size);
        }
        trace
    }

    /// The number of requests.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether requests have sizes.
    pub fn is_sized(&self) -> bool {
        !self.sizes.is_empty()
    }

    /// The number of different keys.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// The key of this number, as bytes: the 8 of the trace.
    pub fn key(&self, number: u32) -> [u8; 8] {
        self.keys[number as usize].to_le_bytes()
    }

    /// The request at a position, weighed in a unit. What has no size, or size 0, weighs 1.
    pub fn request(&self, position: usize, unit: Unit) -> Request {
        let size = match unit {
            Unit::Entries => 1,
            Unit::Bytes => self.sizes.get(position).map_or(1, |size| u64::from(*size).max(1)),
        };
        Request { position, key: self.requests[position], weight: size }
    }

    /// The weight of all keys together, each as it was when it was last asked for: a cache of this
    /// capacity holds everything.
    pub fn weight(&self, unit: Unit) -> u64 {
        let mut weights = vec![0; self.keys.len()];
        for position in 0..self.len() {
            let request = self.request(position, unit);
            weights[request.key as usize] = request.weight;
        }
        weights.into_iter().sum()
    }

    /// Whether the length of a file of unit records would have fit sized ones as well, so that it
    /// was read by a rule and not by its looks.
    pub fn could_be_sized(&self) -> bool {
        !self.is_sized() && (self.len() * Records::Unit.bytes()).is_multiple_of(Records::Sized.bytes())
    }
}

fn guess(bytes: usize, unit: Unit) -> Records {
    match unit {
        Unit::Bytes => Records::Sized,
        Unit::Entries if !bytes.is_multiple_of(8) && bytes.is_multiple_of(12) => Records::Sized,
        Unit::Entries => Records::Unit,
    }
}

fn hint(bytes: usize, records: Records, unit: Unit) -> &'static str {
    match (records, unit) {
        (Records::Sized, Unit::Bytes) if bytes.is_multiple_of(8) => {
            "; it may be a unit trace, which says no sizes: ask with --entries"
        }
        (Records::Unit, _) if bytes.is_multiple_of(12) => "; it may be a sized trace",
        (Records::Unit, _) => ", nor of 12-byte ones: it is cut short, or no trace",
        _ => ": it is cut short, or no trace",
    }
}

fn unpacked(path: &Path, file: &str) -> Result<Vec<u8>, TraceError> {
    let io = |source| TraceError::Io { file: file.to_owned(), source };
    let opened = File::open(path).map_err(io)?;
    if opened.metadata().map_err(io)?.is_dir() {
        return Err(io(std::io::ErrorKind::IsADirectory.into()));
    }
    let mut reader = BufReader::new(opened);
    let mut bytes = Vec::new();
    // One more than is allowed, so that too much is noticed, and no small file unpacks to more than
    // that.
    let bytes_max = MAX_REQUESTS as u64 * Records::Sized.bytes() as u64 + 1;
    if path.extension().is_none_or(|ending| ending != "zst") {
        reader.take(bytes_max).read_to_end(&mut bytes).map_err(io)?;
        return Ok(bytes);
    }
    let packed = |why: String| TraceError::Packed { file: file.to_owned(), why };
    // A file is one frame or several, one after another.
    loop {
        let left = bytes_max - bytes.len() as u64;
        let decoder = StreamingDecoder::new(&mut reader).map_err(|error| packed(error.to_string()))?;
        decoder.take(left).read_to_end(&mut bytes).map_err(|error| packed(error.to_string()))?;
        let at_end = std::io::BufRead::fill_buf(&mut reader).map_err(io)?.is_empty();
        if at_end || bytes.len() as u64 == bytes_max {
            return Ok(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], records: Option<Records>, unit: Unit) -> Result<Trace, String> {
        Trace::from_bytes("t", "t.bin", bytes, records, unit).map_err(|error| error.to_string())
    }

    fn unit(keys: &[u64]) -> Vec<u8> {
        keys.iter().flat_map(|key| key.to_le_bytes()).collect()
    }

    fn sized(requests: &[(u64, u32)]) -> Vec<u8> {
        requests.iter().flat_map(|(key, size)| [&key.to_le_bytes()[..], &size.to_le_bytes()].concat()).collect()
    }

    #[test]
    fn keys_are_numbered_as_they_appear() {
        let trace = read(&unit(&[7, 9, 7, u64::MAX]), None, Unit::Entries).unwrap();
        let numbers: Vec<u32> = (0..4).map(|position| trace.request(position, Unit::Entries).key).collect();
        assert_eq!((numbers, trace.keys()), (vec![0, 1, 0, 2], 3));
        assert_eq!(trace.key(2), [255; 8]);
    }

    #[test]
    fn sizes_count_where_bytes_are_counted() {
        let trace = read(&sized(&[(1, 500), (2, 0)]), None, Unit::Bytes).unwrap();
        let weights = |unit| [0, 1].map(|position| trace.request(position, unit).weight);
        assert_eq!((weights(Unit::Bytes), weights(Unit::Entries)), ([500, 1], [1, 1]));
    }

    #[test]
    fn what_all_keys_weigh_takes_the_last_size_of_each() {
        let trace = read(&sized(&[(1, 500), (2, 10), (1, 400)]), None, Unit::Bytes).unwrap();
        assert_eq!((trace.weight(Unit::Bytes), trace.weight(Unit::Entries)), (410, 2));
    }

    #[test]
    fn a_length_that_fits_sized_records_alone_is_a_sized_trace() {
        let trace = read(&sized(&[(1, 500)]), None, Unit::Entries).unwrap();
        assert!(trace.is_sized());
    }

    #[test]
    fn a_length_that_fits_both_is_told_apart_by_the_unit() {
        let bytes = sized(&[(1, 500), (2, 500)]);
        let trace = read(&bytes, None, Unit::Entries).unwrap();
        assert_eq!((trace.len(), trace.could_be_sized()), (3, true));
        assert_eq!(read(&bytes, None, Unit::Bytes).unwrap().len(), 2);
        assert_eq!(read(&bytes, Some(Records::Sized), Unit::Entries).unwrap().len(), 2);
    }

    #[test]
    fn a_length_that_fits_neither_is_refused() {
        for (unit, record) in [(Unit::Entries, "8-byte"), (Unit::Bytes, "12-byte")] {
            let sentence = read(&[0; 13], None, unit).err().unwrap();
            assert!(sentence.contains(record) && sentence.contains("cut short"), "{sentence}");
        }
    }

    #[test]
    fn a_unit_trace_by_bytes_is_refused_with_what_to_write() {
        let sentence = read(&unit(&[1, 2]), None, Unit::Bytes).err().unwrap();
        assert!(sentence.contains("--entries"), "{sentence}");
    }

    #[test]
    fn no_requests_are_refused() {
        assert_eq!(read(&[], None, Unit::Entries).err().unwrap(), "t.bin holds no requests");
    }

    #[test]
    fn a_file_that_is_no_zstd_is_refused_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.bin.zst");
        std::fs::write(&path, unit(&[1, 2])).unwrap();
        let sentence = Trace::read(&path, None, Unit::Entries).err().unwrap().to_string();
        assert!(sentence.contains("cannot unpack"), "{sentence}");
    }

    /// `printf '\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0' | zstd`, zstd 1.5.
    const PACKED: &[u8] = include_bytes!("../tests/data/two.bin.zst");

    fn packed(bytes: &[u8]) -> Result<Trace, TraceError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("two.bin.zst");
        std::fs::write(&path, bytes).unwrap();
        Trace::read(&path, None, Unit::Entries)
    }

    #[test]
    fn a_packed_file_is_unpacked_and_named_without_its_endings() {
        let trace = packed(PACKED).unwrap();
        assert_eq!((trace.name.as_str(), trace.key(0), trace.len()), ("two", 1_u64.to_le_bytes(), 2));
    }

    #[test]
    fn two_frames_are_one_file() {
        assert_eq!(packed(&[PACKED, PACKED].concat()).unwrap().len(), 4);
    }

    #[test]
    fn a_packed_file_that_is_cut_short_is_refused() {
        for end in 1..PACKED.len() {
            assert!(packed(&PACKED[..end]).is_err(), "the first {end} bytes");
        }
    }
}
