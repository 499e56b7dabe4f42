//! Values on their way out of the cache.

use crate::cache::stored::Stored;

/// Entries that have left the cache, to be dropped when no lock is held: a value's drop may take
/// its time. Most changes discard one entry or none, which costs no allocation.
pub(crate) struct Discarded<V> {
    first: Option<Stored<V>>,
    rest: Vec<Stored<V>>,
}

impl<V> Discarded<V> {
    pub(super) fn push(&mut self, stored: Stored<V>) {
        match self.first {
            None => self.first = Some(stored),
            Some(_) => self.rest.push(stored),
        }
    }
}

impl<V> Default for Discarded<V> {
    fn default() -> Self {
        Discarded { first: None, rest: Vec::new() }
    }
}
