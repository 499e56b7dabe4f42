//! Gathers a body or a payload that arrives in pieces, without trust in the length it claims.

use bytes::Bytes;

/// Puts together a body or a payload that arrives in pieces.
///
/// A length that the other side claims is believed only as far as bytes have come, so a false claim
/// costs no memory. One piece is kept as it is, without a copy; many are copied into one buffer of
/// their size.
#[derive(Debug)]
pub(crate) struct Gather {
    claimed: usize,
    max_bytes: usize,
    pieces: Pieces,
}

#[derive(Debug)]
enum Pieces {
    One(Bytes),
    Many(Vec<u8>),
}

/// More bytes came than may come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// The bytes that are reserved on a claim alone, before any come. A thousand hostile connections
/// may make such claims.
const FIRST_BYTES: usize = 8 * 1024;

impl Gather {
    /// Takes at most `max_bytes` bytes, of which `claimed` are announced. Without a claim anything
    /// up to `max_bytes` may come.
    pub(crate) fn new(claimed: Option<usize>, max_bytes: usize) -> Self {
        Gather { claimed: claimed.unwrap_or(max_bytes).min(max_bytes), max_bytes, pieces: Pieces::One(Bytes::new()) }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.pieces {
            Pieces::One(piece) => piece.len(),
            Pieces::Many(bytes) => bytes.len(),
        }
    }

    pub(crate) fn push(&mut self, piece: Bytes) -> Result<(), TooLong> {
        if piece.len() > self.max_bytes - self.len() {
            return Err(TooLong);
        }
        match &mut self.pieces {
            Pieces::One(first) if first.is_empty() => *first = piece,
            Pieces::One(first) => {
                let mut bytes = Vec::new();
                append(&mut bytes, first, self.claimed);
                append(&mut bytes, &piece, self.claimed);
                self.pieces = Pieces::Many(bytes);
            }
            Pieces::Many(bytes) => append(bytes, &piece, self.claimed),
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Bytes {
        match self.pieces {
            Pieces::One(piece) => piece,
            Pieces::Many(mut bytes) => {
                bytes.shrink_to_fit();
                bytes.into()
            }
        }
    }
}

/// Appends to a buffer that doubles when it is full, but not beyond the claim, so that a true claim
/// ends in a full buffer. A claim of which a sixteenth has come is believed: pages that are not
/// written to cost nothing, and each buffer that is outgrown may stay with the allocator.
fn append(bytes: &mut Vec<u8>, piece: &[u8], claimed: usize) {
    let needed = bytes.len() + piece.len();
    if needed > bytes.capacity() {
        let doubled = (2 * needed).max(FIRST_BYTES).min(claimed);
        let roomy = if claimed / 16 <= needed { claimed } else { doubled };
        bytes.reserve_exact(roomy.max(needed) - bytes.len());
    }
    bytes.extend_from_slice(piece);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(claimed: impl Into<Option<usize>>, pieces: &[&'static [u8]]) -> Gather {
        let mut gather = Gather::new(claimed.into(), 1 << 30);
        for piece in pieces {
            gather.push(Bytes::from_static(piece)).unwrap();
        }
        gather
    }

    fn capacity(gather: &Gather) -> usize {
        match &gather.pieces {
            Pieces::One(_) => 0,
            Pieces::Many(bytes) => bytes.capacity(),
        }
    }

    #[test]
    fn one_piece_is_not_copied() {
        let piece = Bytes::from(vec![1; 10]);
        let mut gather = Gather::new(Some(10), 10);
        gather.push(piece.clone()).unwrap();
        assert_eq!(gather.finish().as_ptr(), piece.as_ptr());
    }

    #[test]
    fn a_true_claim_ends_in_a_full_buffer() {
        const PIECE: &[u8] = &[7; 50_000];
        let gather = gathered(200_000, &[PIECE; 4]);
        assert_eq!((gather.len(), capacity(&gather)), (200_000, 200_000));
    }

    #[test]
    fn a_false_claim_costs_no_memory() {
        assert!(capacity(&gathered(1 << 30, &[b"a", b"b"])) <= FIRST_BYTES);
    }

    #[test]
    fn without_a_claim_the_buffer_doubles() {
        const PIECE: &[u8] = &[7; 50_000];
        let mut gather = gathered(None, &[PIECE; 6]);
        assert_eq!((gather.len(), capacity(&gather)), (300_000, 300_000));
        gather.push(Bytes::from_static(PIECE)).unwrap();
        assert_eq!((gather.len(), capacity(&gather)), (350_000, 700_000));
    }

    #[test]
    fn more_than_the_bound_is_refused() {
        let mut gather = Gather::new(None, 3);
        assert_eq!(gather.push(Bytes::from_static(b"abc")), Ok(()));
        assert_eq!(gather.push(Bytes::from_static(b"d")), Err(TooLong));
    }
}
