//! The memory of a segment's entries: slots in small chunks, known by their numbers.
//!
//! Chunks rather than one vector, so that the memory grows by some kilobytes and not by half of
//! itself. When entries have left, those of the last chunk move into the gaps (see
//! [`Slab::last_if_sparse`]), so that the memory shrinks as well.

use std::array;

use crate::segment::list::{List, NIL, Node, Nodes};

/// The slots of a chunk: some kilobytes, so that an allocation is rare and little is left over.
const CHUNK: usize = 64;

/// Gaps are closed when there are more than one to this many entries, and a chunk beyond that.
const ENTRIES_PER_GAP: usize = 8;

pub(crate) struct Slab<E> {
    chunks: Vec<Box<Chunk<E>>>,
    /// The slots that hold nothing.
    gaps: List,
    len: usize,
}

/// A chunk of slots, aligned to a cache line for entries that fill one.
#[repr(align(64))]
struct Chunk<E> {
    entries: [Option<E>; CHUNK],
    nodes: [Node; CHUNK],
}

/// The memory of a slot with its node, in bytes.
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

    /// The entry in a slot.
    ///
    /// # Panics
    /// If the slot is empty. [`insert`](Self::insert) gives its number, [`take`](Self::take) ends
    /// it.
    #[inline]
    pub(crate) fn entry(&self, slot: u32) -> &E {
        let (chunk, place) = position(slot);
        self.chunks[chunk].entries[place].as_ref().expect("the slot of a number in use holds an entry")
    }

    pub(crate) fn entry_mut(&mut self, slot: u32) -> &mut E {
        let (chunk, place) = position(slot);
        self.chunks[chunk].entries[place].as_mut().expect("the slot of a number in use holds an entry")
    }

    /// Puts an entry into a slot. It is on no list yet.
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
        chunk.nodes[place] = Node::unlinked(weight);
        self.len += 1;
        slot
    }

    /// Takes the entry out of a slot, which must be on no list any more.
    pub(crate) fn take(&mut self, slot: u32) -> E {
        let (chunk, place) = position(slot);
        let entry = self.chunks[chunk].entries[place].take().expect("the slot of a number in use holds an entry");
        self.len -= 1;
        self.push_gap(slot);
        entry
    }

    /// The highest slot in use, if there are too many gaps below it and it should move.
    ///
    /// The caller asks after each [`take`](Self::take). That costs at most one move for each entry
    /// taken, and a chunk that has become empty is given back.
    pub(crate) fn last_if_sparse(&mut self) -> Option<u32> {
        while self.chunks.len() * CHUNK - self.len > CHUNK + self.len / ENTRIES_PER_GAP {
            let base = (self.chunks.len() - 1) * CHUNK;
            let last = &self.chunks.last()?.entries;
            match last.iter().rposition(Option::is_some) {
                Some(place) => return Some((base + place) as u32),
                None => self.give_back_last(),
            }
        }
        None
    }

    /// Moves the entry of the [last slot](Self::last_if_sparse) into a gap of a lower chunk, and
    /// keeps its position in `list`.
    pub(crate) fn move_down(&mut self, slot: u32, list: &mut List) -> u32 {
        let mut gaps = self.gaps;
        let last = position(slot).0;
        // There are more gaps than a chunk has slots, so some gap is in a lower chunk. Those of the
        // last chunk go to the end.
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
        let chunk = Chunk { entries: array::from_fn(|_| None), nodes: array::from_fn(|_| Node::unlinked(0)) };
        self.chunks.push(Box::new(chunk));
        for place in (0..CHUNK).rev() {
            self.push_gap((base + place) as u32);
        }
    }

    /// Makes a slot a gap. The newest gap is filled first, unless it is in the last chunk, which is
    /// to become empty.
    fn push_gap(&mut self, slot: u32) {
        let mut gaps = self.gaps;
        *self.node_mut(slot) = Node::unlinked(0);
        if position(slot).0 + 1 == self.chunks.len() && self.chunks.len() > 1 {
            gaps.push_back(self, slot);
        } else {
            gaps.push_front(self, slot);
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

impl<E> Nodes for Slab<E> {
    fn node(&self, slot: u32) -> &Node {
        let (chunk, place) = position(slot);
        &self.chunks[chunk].nodes[place]
    }

    fn node_mut(&mut self, slot: u32) -> &mut Node {
        let (chunk, place) = position(slot);
        &mut self.chunks[chunk].nodes[place]
    }
}

/// The chunk of a slot, and its place there.
fn position(slot: u32) -> (usize, usize) {
    (slot as usize / CHUNK, slot as usize % CHUNK)
}
