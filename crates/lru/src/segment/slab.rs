//! Where entries lie: in slots of small chunks, strung on lists by their slots' numbers.
//!
//! Chunks rather than one vector, so that the memory grows by some kilobytes and not by half of itself. When entries have left, those of the
//! last chunk move into the gaps (see [`Slab::last_if_sparse`]), so that it shrinks as well.

use std::array;

use crate::segment::list::{List, Node};

/// A slot's number that stands for none.
pub(crate) const NIL: u32 = u32::MAX;

/// Some kilobytes, so that an allocation is rare and little is left over.
const CHUNK: usize = 64;

/// More gaps than this share of the entries, and a chunk, are closed.
const GAPS: usize = 8;

pub(crate) struct Slab<E> {
    chunks: Vec<Box<Chunk<E>>>,
    /// The slots that hold nothing.
    gaps: List,
    len: usize,
}

/// On a cache line's bound, for entries of a cache line.
#[repr(align(64))]
struct Chunk<E> {
    entries: [Option<E>; CHUNK],
    nodes: [Node; CHUNK],
}

/// What a slot takes of memory, with its node.
pub(crate) const fn slot_bytes<E>() -> usize {
    size_of::<Chunk<E>>().div_ceil(CHUNK)
}

impl<E> Slab<E> {
    pub(crate) fn new() -> Self {
        Slab { chunks: Vec::new(), gaps: List::default(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// # Panics
    /// Where there is no such slot; every number is one that [`insert`](Self::insert) gave and [`take`](Self::take) did not take.
    #[inline]
    pub(crate) fn entry(&self, slot: u32) -> &E {
        let (chunk, place) = position(slot);
        self.chunks[chunk].entries[place].as_ref().expect("the slot of a number in use holds an entry")
    }

    pub(crate) fn entry_mut(&mut self, slot: u32) -> &mut E {
        let (chunk, place) = position(slot);
        self.chunks[chunk].entries[place].as_mut().expect("the slot of a number in use holds an entry")
    }

    pub(crate) fn node(&self, slot: u32) -> &Node {
        let (chunk, place) = position(slot);
        &self.chunks[chunk].nodes[place]
    }

    pub(crate) fn node_mut(&mut self, slot: u32) -> &mut Node {
        let (chunk, place) = position(slot);
        &mut self.chunks[chunk].nodes[place]
    }

    /// Puts an entry into a slot, which is on no list yet.
    pub(crate) fn insert(&mut self, entry: E, weight: u32) -> u32 {
        if self.gaps.is_empty() {
            self.grow();
        }
        let mut gaps = self.gaps;
        let slot = gaps.front();
        gaps.unlink(self, slot);
        self.gaps = gaps;
        let (chunk, place) = position(slot);
        let chunk = &mut self.chunks[chunk];
        chunk.entries[place] = Some(entry);
        chunk.nodes[place] = Node::alone(weight);
        self.len += 1;
        slot
    }

    /// Takes the entry out of a slot that is on no list any more.
    pub(crate) fn take(&mut self, slot: u32) -> E {
        let (chunk, place) = position(slot);
        let entry = self.chunks[chunk].entries[place].take().expect("the slot of a number in use holds an entry");
        self.len -= 1;
        self.push_gap(slot);
        entry
    }

    /// The highest slot in use, if there are so many gaps below it that it should move. Asked after [`take`](Self::take) until it is `None`,
    /// it costs at most a move for each entry taken, and a chunk that is empty is given back.
    pub(crate) fn last_if_sparse(&mut self) -> Option<u32> {
        while self.chunks.len() * CHUNK - self.len > CHUNK + self.len / GAPS {
            let base = (self.chunks.len() - 1) * CHUNK;
            let last = &self.chunks.last()?.entries;
            match last.iter().rposition(Option::is_some) {
                Some(place) => return Some((base + place) as u32),
                None => self.give_back_last(),
            }
        }
        None
    }

    /// Moves the entry of the [last slot](Self::last_if_sparse) into a gap of a lower chunk, with its place on its list.
    pub(crate) fn move_down(&mut self, slot: u32, list: &mut List) -> u32 {
        let mut gaps = self.gaps;
        let last = position(slot).0;
        // There are more gaps than a chunk has slots, so one of the first is in a lower chunk; those in the last go to the end.
        while position(gaps.front()).0 >= last {
            let gap = gaps.front();
            gaps.unlink(self, gap);
            gaps.push_back(self, gap);
        }
        let to = gaps.front();
        gaps.unlink(self, to);
        self.gaps = gaps;
        let ((from_chunk, from_place), (to_chunk, to_place)) = (position(slot), position(to));
        let entry = self.chunks[from_chunk].entries[from_place].take();
        self.chunks[to_chunk].entries[to_place] = entry;
        *self.node_mut(to) = *self.node(slot);
        list.renumber(self, to);
        self.push_gap(slot);
        to
    }

    fn grow(&mut self) {
        let base = self.chunks.len() * CHUNK;
        assert!(base + CHUNK <= NIL as usize, "a segment holds fewer than 2^32 entries");
        let chunk = Chunk { entries: array::from_fn(|_| None), nodes: array::from_fn(|_| Node::alone(0)) };
        self.chunks.push(Box::new(chunk));
        for place in (0..CHUNK).rev() {
            self.push_gap((base + place) as u32);
        }
    }

    /// Gaps of lower chunks in front, roughly: what is taken last is filled first, unless it is in the last chunk, which is to become empty.
    fn push_gap(&mut self, slot: u32) {
        let mut gaps = self.gaps;
        *self.node_mut(slot) = Node::alone(0);
        if position(slot).0 + 1 == self.chunks.len() && self.chunks.len() > 1 {
            gaps.push_back(self, slot)
        } else {
            gaps.push_front(self, slot)
        }
        self.gaps = gaps;
    }

    fn give_back_last(&mut self) {
        let base = (self.chunks.len() - 1) * CHUNK;
        let mut gaps = self.gaps;
        (0..CHUNK).for_each(|place| gaps.unlink(self, (base + place) as u32));
        self.gaps = gaps;
        self.chunks.pop();
    }
}

fn position(slot: u32) -> (usize, usize) {
    (slot as usize / CHUNK, slot as usize % CHUNK)
}
