//! A list of keys, for policies that keep them in an order.

/// Keys in an order: the list that LRU, FIFO and their relatives are made of. Keys are small
/// numbers, each in the list at most once.
///
/// An index stands for a key; the one after the last key is the list's two ends.
pub(crate) struct Order {
    newer: Vec<u32>,
    older: Vec<u32>,
    len: usize,
}

/// Marks a key that is in no list.
const ABSENT: u32 = u32::MAX;

impl Order {
    /// An empty list for keys below `keys`.
    pub(crate) fn new(keys: usize) -> Self {
        let ends = u32::try_from(keys).expect("traces have fewer keys than 2^32");
        let mut order = Order { newer: vec![ABSENT; keys + 1], older: vec![ABSENT; keys + 1], len: 0 };
        order.newer[keys] = ends;
        order.older[keys] = ends;
        order
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn contains(&self, key: u32) -> bool {
        self.newer[key as usize] != ABSENT
    }

    /// Puts a key that is not in the list at its new end.
    pub(crate) fn push(&mut self, key: u32) {
        debug_assert!(!self.contains(key));
        let ends = self.ends();
        let newest = self.older[ends as usize];
        self.link(newest, key);
        self.link(key, ends);
        self.len += 1;
    }

    /// The key at the old end.
    pub(crate) fn oldest(&self) -> Option<u32> {
        self.newer_than(self.ends())
    }

    /// The next one towards the new end.
    pub(crate) fn newer_than(&self, key: u32) -> Option<u32> {
        let newer = self.newer[key as usize];
        (newer != self.ends()).then_some(newer)
    }

    pub(crate) fn pop_oldest(&mut self) -> Option<u32> {
        let oldest = self.oldest()?;
        self.remove(oldest);
        Some(oldest)
    }

    /// Takes out a key that is in the list.
    pub(crate) fn remove(&mut self, key: u32) {
        debug_assert!(self.contains(key));
        let (older, newer) = (self.older[key as usize], self.newer[key as usize]);
        self.link(older, newer);
        self.newer[key as usize] = ABSENT;
        self.older[key as usize] = ABSENT;
        self.len -= 1;
    }

    fn ends(&self) -> u32 {
        (self.newer.len() - 1) as u32
    }

    fn link(&mut self, older: u32, newer: u32) {
        self.newer[older as usize] = newer;
        self.older[newer as usize] = older;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oldest_first(order: &Order) -> Vec<u32> {
        std::iter::successors(order.oldest(), |key| order.newer_than(*key)).collect()
    }

    #[test]
    fn keys_come_out_as_they_went_in() {
        let mut order = Order::new(4);
        [2, 0, 3, 1].into_iter().for_each(|key| order.push(key));
        order.remove(3);
        assert_eq!(oldest_first(&order), [2, 0, 1]);
        assert_eq!((order.pop_oldest(), order.len(), order.contains(3)), (Some(2), 2, false));
    }

    #[test]
    fn an_emptied_list_is_as_good_as_new() {
        let mut order = Order::new(1);
        for _ in 0..2 {
            order.push(0);
            assert_eq!((order.pop_oldest(), order.pop_oldest()), (Some(0), None));
        }
    }
}
