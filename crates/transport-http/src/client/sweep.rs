//! The time at which a table that grows is looked through for entries of no use.

/// The length below which no table is looked through.
const MIN_LEN: usize = 64;

/// Says for one table when it is due: each time that it has doubled. So the entries of no use are
/// never more than the others, or [`MIN_LEN`], and a new entry costs one look on average.
#[derive(Debug)]
pub(super) struct SweepTime {
    next_len: usize,
}

impl Default for SweepTime {
    fn default() -> Self {
        SweepTime { next_len: MIN_LEN }
    }
}

impl SweepTime {
    /// Whether a table of this length is due.
    pub(super) fn is_due(&self, len: usize) -> bool {
        len >= self.next_len
    }

    /// Records that this many entries were left.
    pub(super) fn swept(&mut self, len: usize) {
        self.next_len = (2 * len).max(MIN_LEN);
    }
}
