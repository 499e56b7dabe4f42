//! Doubly linked lists of slots, whose links lie in the slab.

use crate::segment::slab::{NIL, Slab};

/// What a list keeps beside an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    prev: u32,
    next: u32,
    /// What the entry is charged, in bytes.
    pub(crate) weight: u32,
}

/// A list's ends, and what its entries weigh together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    front: u32,
    back: u32,
    pub(crate) len: usize,
    pub(crate) bytes: usize,
}

impl Node {
    pub(crate) fn alone(weight: u32) -> Self {
        Node { prev: NIL, next: NIL, weight }
    }
}

impl Default for List {
    fn default() -> Self {
        List { front: NIL, back: NIL, len: 0, bytes: 0 }
    }
}

impl List {
    pub(crate) fn is_empty(&self) -> bool {
        self.front == NIL
    }

    /// The first slot, [`NIL`] if there is none.
    pub(crate) fn front(&self) -> u32 {
        self.front
    }

    pub(crate) fn back(&self) -> u32 {
        self.back
    }

    pub(crate) fn push_front<E>(&mut self, slab: &mut Slab<E>, slot: u32) {
        let front = self.front;
        self.link(slab, slot, NIL, front);
    }

    pub(crate) fn push_back<E>(&mut self, slab: &mut Slab<E>, slot: u32) {
        let back = self.back;
        self.link(slab, slot, back, NIL);
    }

    pub(crate) fn unlink<E>(&mut self, slab: &mut Slab<E>, slot: u32) {
        let Node { prev, next, weight } = *slab.node(slot);
        self.join(slab, prev, next);
        self.len -= 1;
        self.bytes -= weight as usize;
    }

    /// What is in slot `to` by now was in another, with the same neighbours.
    pub(crate) fn renumber<E>(&mut self, slab: &mut Slab<E>, to: u32) {
        let Node { prev, next, .. } = *slab.node(to);
        match prev {
            NIL => self.front = to,
            prev => slab.node_mut(prev).next = to,
        }
        match next {
            NIL => self.back = to,
            next => slab.node_mut(next).prev = to,
        }
    }

    /// The slots from front to back.
    pub(crate) fn iter<E>(self, slab: &Slab<E>) -> impl Iterator<Item = u32> {
        let after = |slot: u32| Some(slot).filter(|&slot| slot != NIL);
        std::iter::successors(after(self.front), move |&slot| after(slab.node(slot).next))
    }

    fn link<E>(&mut self, slab: &mut Slab<E>, slot: u32, prev: u32, next: u32) {
        let node = slab.node_mut(slot);
        (node.prev, node.next) = (prev, next);
        self.len += 1;
        self.bytes += node.weight as usize;
        self.join(slab, prev, slot);
        self.join(slab, slot, next);
    }

    fn join<E>(&mut self, slab: &mut Slab<E>, left: u32, right: u32) {
        match left {
            NIL => self.front = right,
            left => slab.node_mut(left).next = right,
        }
        match right {
            NIL => self.back = left,
            right => slab.node_mut(right).prev = left,
        }
    }
}
