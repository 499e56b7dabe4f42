//! The order of values that are set for one key: a set that comes late, or twice, changes nothing.
//!
//! # A set that is sent twice must not bring an older value back
//!
//! ```text
//! sender A                      the owner                        sender C
//! sends v1
//!                               stores v1
//! the connection closes,
//! sends v1 again
//!                                                                sends v2
//!                               stores v2, acknowledges it
//!                               reads v1 again: older by its stamp
//! ```
//!
//! Each set carries a stamp that its owner gave it, and no two stamps are equal. The owner
//! remembers the latest stamp for which a key was set, also if it was removed since, for as long as
//! a set with an older one may come.

use std::collections::{BTreeMap, HashMap};

use ahash::RandomState;

use crate::{
    key::Key,
    sync::{AtomicU64, Mutex, Ordering, lock},
};

/// The bits of a stamp below its milliseconds: they number the stamps of one millisecond.
const COUNT_BITS: u32 = 20;

/// The most keys that are remembered. Beyond it the oldest are forgotten, and sets from before them
/// are refused as late.
const MAX_KEYS: usize = 4_096;

/// Orders the sets of a group's keys at the node that owns them.
pub(crate) struct SetOrder {
    last_stamp: AtomicU64,
    latest: Mutex<Latest>,
}

#[derive(Default)]
struct Latest {
    stamps: HashMap<Key, u64, RandomState>,
    by_stamp: BTreeMap<u64, Key>,
    /// No set with an older stamp is taken.
    floor: u64,
}

/// The place of a set in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is the latest set of its key.
    Latest,
    /// The key was set since it got its stamp, perhaps by this very set.
    Superseded,
    /// It is not known any more what was set since.
    Forgotten,
}

impl SetOrder {
    pub(crate) fn new(hasher: RandomState) -> Self {
        let latest = Latest { stamps: HashMap::with_hasher(hasher), ..Latest::default() };
        SetOrder { last_stamp: AtomicU64::new(0), latest: Mutex::new(latest) }
    }

    /// A stamp of this moment, later than all before it.
    pub(crate) fn stamp(&self, now_ms: u64) -> u64 {
        let now = now_ms << COUNT_BITS;
        let next = |last: u64| Some(now.max(last + 1));
        let last = self.last_stamp.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        last.map_or(now, |last| now.max(last + 1))
    }

    /// The time at which a stamp was given.
    pub(crate) fn ms(stamp: u64) -> u64 {
        stamp >> COUNT_BITS
    }

    /// The time since a stamp was given, in milliseconds; `None` if it has not been given yet.
    pub(crate) fn age_ms(stamp: u64, now_ms: u64) -> Option<u64> {
        now_ms.checked_sub(SetOrder::ms(stamp))
    }

    /// Takes the turn of a set with this stamp. Called under the lock of the key. Stamps from
    /// before `oldest_ms` are forgotten: no set may carry one any more.
    pub(crate) fn take_turn(&self, key: &Key, stamp: u64, oldest_ms: u64) -> Turn {
        let mut latest = lock(&self.latest);
        let turn = match latest.stamps.get(key) {
            Some(&other) if stamp <= other => Turn::Superseded,
            None if stamp <= latest.floor => Turn::Forgotten,
            _ => {
                latest.insert(key.clone(), stamp);
                Turn::Latest
            }
        };
        let forgotten = latest.forget(oldest_ms << COUNT_BITS);
        drop(latest);
        drop(forgotten);
        turn
    }
}

impl Latest {
    fn insert(&mut self, key: Key, stamp: u64) {
        if let Some(before) = self.stamps.insert(key.clone(), stamp) {
            self.by_stamp.remove(&before);
        }
        self.by_stamp.insert(stamp, key);
    }

    fn forget(&mut self, oldest: u64) -> Vec<Key> {
        let mut forgotten = Vec::new();
        while let Some(first) = self.by_stamp.first_entry() {
            let is_over = *first.key() < oldest;
            if !is_over && self.stamps.len() <= MAX_KEYS {
                break;
            }
            let (stamp, key) = first.remove_entry();
            self.stamps.remove(&key);
            self.floor = self.floor.max(stamp);
            forgotten.push(key);
        }
        forgotten
    }
}

#[cfg(all(test, not(peercache_loom)))]
mod tests {
    use super::*;

    fn order() -> SetOrder {
        SetOrder::new(RandomState::new())
    }

    #[test]
    fn no_two_stamps_are_equal_and_none_goes_back() {
        let order = order();
        let stamps = [5, 5, 5, 4, 6].map(|now_ms| order.stamp(now_ms));
        assert!(stamps.is_sorted_by(|one, other| one < other), "{stamps:?}");
        assert_eq!(SetOrder::age_ms(stamps[4], 10), Some(4));
        assert_eq!(SetOrder::age_ms(stamps[4], 5), None);
    }

    #[test]
    fn a_set_that_comes_again_or_late_is_superseded() {
        let (order, key) = (order(), Key::from("key"));
        let [first, second] = [order.stamp(1), order.stamp(1)];
        let take = |stamp| order.take_turn(&key, stamp, 0);
        assert_eq!(
            [first, second, first, second].map(take),
            [Turn::Latest, Turn::Latest, Turn::Superseded, Turn::Superseded]
        );
        assert_eq!(order.take_turn(&Key::from("other"), first, 0), Turn::Latest);
    }

    #[test]
    fn what_is_forgotten_is_refused_rather_than_taken_twice() {
        let order = order();
        let stamps: Vec<u64> = (0..=MAX_KEYS as u64).map(|_| order.stamp(1)).collect();
        for (nth, stamp) in stamps.iter().enumerate() {
            order.take_turn(&Key::from(nth.to_string()), *stamp, 0);
        }
        assert_eq!(lock(&order.latest).stamps.len(), MAX_KEYS);
        assert_eq!(order.take_turn(&Key::from("0"), stamps[0] - 1, 0), Turn::Forgotten);
        let newer = order.stamp(1);
        assert_eq!(order.take_turn(&Key::from("0"), newer, 100), Turn::Latest);
        assert!(lock(&order.latest).stamps.is_empty(), "they are too old to come");
    }
}
