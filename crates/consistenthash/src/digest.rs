//! The fingerprint of a placement: 64 bits that are equal where all keys are placed alike.

use xxhash_rust::xxh3::Xxh3;

/// The version of this crate's placement: which key goes where, and how a digest is computed.
///
/// It is part of every [digest](crate::Table::digest). It goes up when a release would give any key
/// another owner, so that members on either side of the release see that they disagree.
pub const VERSION: u32 = 1;

/// An xxh3 digest of a list of fields.
///
/// Numbers go in as little-endian, strings behind their length. So the same fields give the same
/// digest on every machine, and two different lists of fields never look alike.
pub(crate) struct Digester(Xxh3);

impl Digester {
    /// Starts a digest of one kind of placement.
    pub(crate) fn new(kind: &str) -> Self {
        Digester(Xxh3::new()).number(VERSION.into()).text(kind)
    }

    pub(crate) fn number(mut self, number: u64) -> Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    pub(crate) fn text(self, text: &str) -> Self {
        let mut this = self.number(text.len() as u64);
        this.0.update(text.as_bytes());
        this
    }

    pub(crate) fn texts<'a>(self, texts: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let this = self.number(texts.len() as u64);
        texts.fold(this, Digester::text)
    }

    pub(crate) fn finish(self) -> u64 {
        self.0.digest()
    }
}
