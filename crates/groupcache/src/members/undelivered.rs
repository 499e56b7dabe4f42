//! Updates that a member has missed: which keys they remove, and how many are remembered.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;

use crate::{key::Key, peer::update::Change};

/// The keys of a group that an update removes. A set removes its key from all but the owner.
#[derive(Clone, Debug)]
pub(crate) enum Removal {
    Keys(Arc<[Key]>),
    All,
}

/// Updates that one member has missed, by group.
///
/// Bounded: a group with too many keys has one removal of everything instead.
#[derive(Default)]
pub(crate) struct Undelivered {
    by_group: BTreeMap<Arc<str>, PendingUpdates>,
}

/// Updates of one group that one member has missed.
#[derive(Clone, Default)]
pub(crate) struct PendingUpdates {
    /// The keys to remove, each with the time of its latest removal.
    keys: BTreeMap<Key, Instant>,
    key_bytes: usize,
    /// The time at which everything was removed; `keys` is empty then.
    all: Option<Instant>,
    /// Grows with every addition, so that none is taken for delivered that came while the others
    /// were being sent.
    additions: u64,
}

/// The most keys of a group that are remembered for one member; the removal of more becomes one of
/// everything.
const MAX_KEYS: usize = 4_096;
/// The most bytes of keys, in the same way.
const MAX_KEY_BYTES: usize = 1 << 20;

impl Removal {
    /// The removal of one key.
    pub(crate) fn key(key: Key) -> Self {
        Removal::Keys([key].into())
    }

    /// The same, as it is sent to a peer.
    pub(crate) fn change(&self) -> Change {
        match self {
            Removal::Keys(keys) => Change::Remove(keys.to_vec()),
            Removal::All => Change::Clear,
        }
    }
}

impl Undelivered {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_group.is_empty()
    }

    /// Whether the member has missed an update of this key.
    pub(crate) fn contains(&self, group: &str, key: &[u8]) -> bool {
        self.by_group.get(group).is_some_and(|pending| pending.all.is_some() || pending.keys.contains_key(key))
    }

    pub(crate) fn add(&mut self, group: &Arc<str>, removal: &Removal, now: Instant) {
        if matches!(removal, Removal::Keys(keys) if keys.is_empty()) {
            return;
        }
        self.by_group.entry(group.clone()).or_default().add(removal, now);
    }

    /// Drops these keys: the member has acknowledged a newer update of them.
    pub(crate) fn drop_delivered(&mut self, group: &str, removal: &Removal) {
        let Some(pending) = self.by_group.get_mut(group) else { return };
        pending.drop_delivered(removal);
        if pending.is_empty() {
            self.by_group.remove(group);
        }
    }

    /// Everything to send now, group by group.
    pub(crate) fn to_send(&self) -> Vec<(Arc<str>, PendingUpdates)> {
        self.by_group.iter().map(|(group, pending)| (group.clone(), pending.clone())).collect()
    }

    /// Drops a group's updates, which the member has acknowledged as [`to_send`](Self::to_send)
    /// gave them. Keeps them if one was added since: all are then sent again.
    pub(crate) fn drop_sent(&mut self, group: &str, sent: &PendingUpdates) {
        if self.by_group.get(group).is_some_and(|pending| pending.additions == sent.additions) {
            self.by_group.remove(group);
        }
    }
}

impl PendingUpdates {
    /// The changes to send, with the time of each: keys that were removed at one moment are one
    /// change.
    pub(crate) fn changes(&self) -> Vec<(Instant, Change)> {
        if let Some(since) = self.all {
            return vec![(since, Change::Clear)];
        }
        let mut by_time: BTreeMap<Instant, Vec<Key>> = BTreeMap::new();
        self.keys.iter().for_each(|(key, since)| by_time.entry(*since).or_default().push(key.clone()));
        by_time.into_iter().map(|(since, keys)| (since, Change::Remove(keys))).collect()
    }

    fn is_empty(&self) -> bool {
        self.all.is_none() && self.keys.is_empty()
    }

    fn add(&mut self, removal: &Removal, now: Instant) {
        self.additions += 1;
        match removal {
            Removal::Keys(keys) if self.all.is_none() => {
                for key in keys.iter() {
                    self.key_bytes += if self.keys.insert(key.clone(), now).is_none() { key.len() } else { 0 };
                }
                if self.keys.len() > MAX_KEYS || self.key_bytes > MAX_KEY_BYTES {
                    self.remove_all(now);
                }
            }
            Removal::Keys(_) | Removal::All => self.remove_all(now),
        }
    }

    fn remove_all(&mut self, now: Instant) {
        (self.keys, self.key_bytes, self.all) = (BTreeMap::new(), 0, Some(now));
    }

    fn drop_delivered(&mut self, removal: &Removal) {
        match removal {
            Removal::All => *self = PendingUpdates { additions: self.additions, ..PendingUpdates::default() },
            Removal::Keys(keys) => {
                for key in keys.iter() {
                    self.key_bytes -= if self.keys.remove(key).is_some() { key.len() } else { 0 };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> Arc<str> {
        "group".into()
    }

    fn one(key: &str) -> Removal {
        Removal::key(Key::from(key))
    }

    /// The changes of the only group, without their times.
    fn changes(undelivered: &Undelivered) -> Vec<Change> {
        let groups = undelivered.to_send();
        groups.iter().flat_map(|(_, pending)| pending.changes()).map(|(_, change)| change).collect()
    }

    #[test]
    fn keys_are_grouped_by_the_time_of_their_latest_removal() {
        let (first, second) = (Instant::now(), Instant::now() + std::time::Duration::from_secs(1));
        let mut undelivered = Undelivered::default();
        undelivered.add(&group(), &one("a"), first);
        undelivered.add(&group(), &one("b"), first);
        undelivered.add(&group(), &one("a"), second);
        let expected = vec![Change::Remove(vec![Key::from("b")]), Change::Remove(vec![Key::from("a")])];
        assert_eq!(changes(&undelivered), expected);
    }

    #[test]
    fn too_many_keys_become_everything() {
        let mut undelivered = Undelivered::default();
        for nth in 0..MAX_KEYS {
            undelivered.add(&group(), &one(&nth.to_string()), Instant::now());
        }
        assert!(!undelivered.contains("group", b"another"));
        undelivered.add(&group(), &one("another"), Instant::now());
        assert_eq!(changes(&undelivered), vec![Change::Clear]);
        assert!(undelivered.contains("group", b"never removed"));
    }

    #[test]
    fn too_many_bytes_of_keys_become_everything() {
        let long = "k".repeat(MAX_KEY_BYTES);
        let mut undelivered = Undelivered::default();
        undelivered.add(&group(), &one(&long), Instant::now());
        // The same key again is no more bytes.
        undelivered.add(&group(), &one(&long), Instant::now());
        assert!(matches!(changes(&undelivered)[..], [Change::Remove(_)]));
        undelivered.add(&group(), &one("one byte more"), Instant::now());
        assert_eq!(changes(&undelivered), vec![Change::Clear]);
    }

    #[test]
    fn keys_that_are_dropped_as_delivered_make_room_for_others() {
        let long = "k".repeat(MAX_KEY_BYTES);
        let mut undelivered = Undelivered::default();
        undelivered.add(&group(), &one(&long), Instant::now());
        undelivered.add(&group(), &Removal::Keys([].into()), Instant::now());
        undelivered.drop_delivered("group", &one(&long));
        assert!(undelivered.is_empty());
        undelivered.add(&group(), &one("short"), Instant::now());
        undelivered.drop_delivered("group", &one("other"));
        assert_eq!(changes(&undelivered), vec![Change::Remove(vec![Key::from("short")])]);
    }

    #[test]
    fn an_update_that_comes_while_others_are_sent_stays() {
        let mut undelivered = Undelivered::default();
        undelivered.add(&group(), &one("a"), Instant::now());
        let sent = undelivered.to_send();
        undelivered.add(&group(), &one("a"), Instant::now());
        undelivered.drop_sent("group", &sent[0].1);
        assert!(undelivered.contains("group", b"a"));
        let sent = undelivered.to_send();
        undelivered.drop_sent("group", &sent[0].1);
        assert!(undelivered.is_empty());
    }

    #[test]
    fn an_update_that_comes_while_a_clear_is_acknowledged_otherwise_stays() {
        let mut undelivered = Undelivered::default();
        undelivered.add(&group(), &one("a"), Instant::now());
        let sent = undelivered.to_send();
        undelivered.add(&group(), &one("b"), Instant::now());
        undelivered.drop_delivered("group", &one("a"));
        undelivered.drop_sent("group", &sent[0].1);
        assert_eq!(changes(&undelivered), vec![Change::Remove(vec![Key::from("b")])]);
    }
}
