//! What leaves the cache on its way out.

use crate::cache::stored::Stored;

/// What left the cache; to be dropped when no lock is held, for a value's drop may take its time. Most changes have one entry leave or none,
/// which costs no allocation.
pub(crate) struct Discarded<V> {
    first: Option<Stored<V>>,
    rest: Vec<Stored<V>>,
}

impl<V> Discarded<V> {
    pub(super) fn push(&mut self, left: Stored<V>) {
        match self.first {
            None => self.first = Some(left),
            Some(_) => self.rest.push(left),
        }
    }
}

impl<V> Default for Discarded<V> {
    fn default() -> Self {
        Discarded { first: None, rest: Vec::new() }
    }
}
