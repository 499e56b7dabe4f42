//! Doubly linked lists of slots. The links lie beside the entries, wherever those are kept.

/// The slot number that stands for no slot.
pub(crate) const NIL: u32 = u32::MAX;

/// The links of an entry in its list, and its weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    prev: u32,
    next: u32,
    /// The bytes that the entry is charged.
    pub(crate) weight: u32,
}

/// Access to the node of each slot, which a list needs to follow and to change its links.
pub(crate) trait Nodes {
    fn node(&self, slot: u32) -> &Node;

    fn node_mut(&mut self, slot: u32) -> &mut Node;
}

/// The two ends of a list, and the sum of its entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    front: u32,
    back: u32,
    pub(crate) len: usize,
    pub(crate) bytes: usize,
}

impl Node {
    /// A node on no list.
    pub(crate) fn unlinked(weight: u32) -> Self {
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

    /// The last slot, if there is one.
    pub(crate) fn last(&self) -> Option<u32> {
        some(self.back)
    }

    pub(crate) fn push_front(&mut self, nodes: &mut impl Nodes, slot: u32) {
        let front = self.front;
        self.link(nodes, slot, NIL, front);
    }

    pub(crate) fn push_back(&mut self, nodes: &mut impl Nodes, slot: u32) {
        let back = self.back;
        self.link(nodes, slot, back, NIL);
    }

    pub(crate) fn unlink(&mut self, nodes: &mut impl Nodes, slot: u32) {
        let Node { prev, next, weight } = *nodes.node(slot);
        self.join(nodes, prev, next);
        self.len -= 1;
        self.bytes -= weight as usize;
    }

    /// Mends the list after a node of it was copied to slot `to`: its neighbours point there.
    pub(crate) fn renumber(&mut self, nodes: &mut impl Nodes, to: u32) {
        let Node { prev, next, .. } = *nodes.node(to);
        match prev {
            NIL => self.front = to,
            prev => nodes.node_mut(prev).next = to,
        }
        match next {
            NIL => self.back = to,
            next => nodes.node_mut(next).prev = to,
        }
    }

    /// The slots from front to back.
    pub(crate) fn iter(self, nodes: &impl Nodes) -> impl Iterator<Item = u32> {
        std::iter::successors(some(self.front), |&slot| some(nodes.node(slot).next))
    }

    fn link(&mut self, nodes: &mut impl Nodes, slot: u32, prev: u32, next: u32) {
        let node = nodes.node_mut(slot);
        (node.prev, node.next) = (prev, next);
        self.len += 1;
        self.bytes += node.weight as usize;
        self.join(nodes, prev, slot);
        self.join(nodes, slot, next);
    }

    /// Makes two slots neighbours. [`NIL`] stands for the end on its side.
    fn join(&mut self, nodes: &mut impl Nodes, left: u32, right: u32) {
        match left {
            NIL => self.front = right,
            left => nodes.node_mut(left).next = right,
        }
        match right {
            NIL => self.back = left,
            right => nodes.node_mut(right).prev = left,
        }
    }
}

fn some(slot: u32) -> Option<u32> {
    Some(slot).filter(|&slot| slot != NIL)
}
