//! The lives of the entries that end; those of the others are but a time of birth.

use std::collections::BTreeSet;

use crate::life::Life;

/// By slot, and in the order in which they end.
#[derive(Default)]
pub(super) struct Ends {
    by_time: BTreeSet<(u64, u32)>,
    /// In chunks, so that nothing is spent where no entry ends. Of use only where an entry that ends is.
    lives: Vec<Option<Box<[Life; CHUNK]>>>,
}

const CHUNK: usize = 64;

/// What an end costs, in bytes: the life, and the time and slot with a B-tree's share of empty places.
pub(super) const END_BYTES: usize = size_of::<Life>() + 32;

impl Ends {
    /// Notes the life of the entry that has come into `slot`, if it ends.
    pub(super) fn insert(&mut self, slot: u32, life: Life) {
        let Some(ends_ms) = life.ends_ms() else { return };
        self.by_time.insert((ends_ms, slot));
        let (chunk, place) = position(slot);
        if self.lives.len() <= chunk {
            self.lives.resize_with(chunk + 1, || None);
        }
        self.lives[chunk].get_or_insert_with(|| Box::new([Life::endless(0); CHUNK]))[place] = life;
    }

    /// Forgets the life of what was in `slot`.
    pub(super) fn remove(&mut self, slot: u32, life: Life) {
        let Some(ends_ms) = life.ends_ms() else { return };
        self.by_time.remove(&(ends_ms, slot));
        if self.by_time.is_empty() {
            *self = Ends::default();
        }
    }

    /// What was in one slot is in another now.
    pub(super) fn moved(&mut self, from: u32, to: u32) {
        let life = self.life(from);
        let ends = life.and_then(|life| life.ends_ms()).is_some_and(|ends_ms| self.by_time.remove(&(ends_ms, from)));
        if let Some(life) = life.filter(|_| ends) {
            self.insert(to, life);
        }
    }

    /// The life of the entry in a slot, if it ends.
    pub(super) fn life(&self, slot: u32) -> Option<Life> {
        let (chunk, place) = position(slot);
        self.lives.get(chunk)?.as_ref().map(|lives| lives[place])
    }

    /// When the first one ends, and where it is.
    pub(super) fn first(&self) -> Option<(u64, u32)> {
        self.by_time.first().copied()
    }
}

fn position(slot: u32) -> (usize, usize) {
    (slot as usize / CHUNK, slot as usize % CHUNK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_moves_with_its_entry() {
        let mut ends = Ends::default();
        let life = Life::plain(100, 50);
        ends.insert(700, life);
        ends.moved(700, 3);
        assert_eq!((ends.first(), ends.life(3)), (Some((150, 3)), Some(life)));
        ends.moved(64, 5);
        assert_eq!(ends.first(), Some((150, 3)), "what has no end has none elsewhere");
        ends.remove(3, life);
        assert!(ends.first().is_none() && ends.lives.is_empty());
    }
}
