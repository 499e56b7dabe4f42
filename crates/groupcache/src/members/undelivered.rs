//! Updates that a member has missed: which keys they remove, and how many are remembered.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;

use crate::{key::Key, peer::update::Change};

/// The keys of a group that an update removes. A set removes its key from all but the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    key_bytes: usize,
}

/// Updates of one group that one member has missed.
#[derive(Clone, Default)]
pub(crate) struct PendingUpdates {
    /// The time at which everything was removed.
    all: Option<Instant>,
    /// The keys to remove, each with the time of its latest removal, which is after `all`.
    keys: BTreeMap<Key, Instant>,
    key_bytes: usize,
}

/// One change to send, and the time at which it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) since: Instant,
    pub(crate) removal: Removal,
}

/// The most keys of a group that are remembered for one member; the removal of more becomes one of
/// everything.
const MAX_KEYS: usize = 4_096;
/// The most bytes of keys, in the same way.
const MAX_KEY_BYTES: usize = 1 << 20;
/// The most bytes of keys of all groups. The group that brings the next one gives its own up.
const MAX_MEMBER_BYTES: usize = 8 << 20;
/// The most keys of one change.
const MAX_CHANGE_KEYS: usize = 1_024;

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

    /// The number of changes of a group that the member has missed.
    pub(crate) fn len_of(&self, group: &str) -> usize {
        self.by_group.get(group).map_or(0, |pending| pending.keys.len() + usize::from(pending.all.is_some()))
    }

    /// The number of changes of all groups that the member has missed.
    pub(crate) fn len(&self) -> usize {
        self.by_group.keys().map(|group| self.len_of(group)).sum()
    }

    pub(crate) fn add(&mut self, group: &Arc<str>, removal: &Removal, now: Instant) {
        if matches!(removal, Removal::Keys(keys) if keys.is_empty()) {
            return;
        }
        self.change(group, |pending, others_bytes| {
            pending.add(removal, now);
            if others_bytes + pending.key_bytes > MAX_MEMBER_BYTES {
                pending.remove_all(now);
            }
        });
    }

    /// Drops what was missed of these keys before `began`: the member has acknowledged an update of
    /// them that began then. What it has missed since is newer, and stays.
    pub(crate) fn drop_delivered(&mut self, group: &Arc<str>, removal: &Removal, began: Instant) {
        self.change(group, |pending, _| pending.drop_until(removal, |since| since <= began));
    }

    /// Everything to send now: the changes of each group, in the order of their times.
    pub(crate) fn to_send(&self) -> Vec<(Arc<str>, Vec<Pending>)> {
        self.by_group.iter().map(|(group, pending)| (group.clone(), pending.changes())).collect()
    }

    /// Drops a change that the member has acknowledged as [`to_send`](Self::to_send) gave it. A key
    /// that it has missed again since stays.
    pub(crate) fn drop_sent(&mut self, group: &Arc<str>, sent: &Pending) {
        self.change(group, |pending, _| pending.drop_until(&sent.removal, |since| since <= sent.since));
    }

    /// Changes what is pending for a group. `change` is told the bytes of the other groups.
    fn change(&mut self, group: &Arc<str>, change: impl FnOnce(&mut PendingUpdates, usize)) {
        let mut pending = self.by_group.remove(group).unwrap_or_default();
        self.key_bytes -= pending.key_bytes;
        change(&mut pending, self.key_bytes);
        self.key_bytes += pending.key_bytes;
        if !pending.is_empty() {
            self.by_group.insert(group.clone(), pending);
        }
    }
}

impl PendingUpdates {
    /// The changes to send: keys that were removed at one moment are one change.
    fn changes(&self) -> Vec<Pending> {
        let mut by_time: BTreeMap<Instant, Vec<Key>> = BTreeMap::new();
        self.keys.iter().for_each(|(key, since)| by_time.entry(*since).or_default().push(key.clone()));
        let all = self.all.map(|since| Pending { since, removal: Removal::All });
        let keys = by_time.iter().flat_map(|(since, keys)| {
            keys.chunks(MAX_CHANGE_KEYS).map(|keys| Pending { since: *since, removal: Removal::Keys(keys.into()) })
        });
        all.into_iter().chain(keys).collect()
    }

    fn is_empty(&self) -> bool {
        self.all.is_none() && self.keys.is_empty()
    }

    fn add(&mut self, removal: &Removal, now: Instant) {
        match removal {
            Removal::Keys(keys) => {
                for key in keys.iter() {
                    self.key_bytes += if self.keys.insert(key.clone(), now).is_none() { key.len() } else { 0 };
                }
                if self.keys.len() > MAX_KEYS || self.key_bytes > MAX_KEY_BYTES {
                    self.remove_all(now);
                }
            }
            Removal::All => self.remove_all(now),
        }
    }

    fn remove_all(&mut self, now: Instant) {
        *self = PendingUpdates { all: Some(now), ..PendingUpdates::default() };
    }

    /// Drops what is pending of these keys, if it is from a time that `is_over`.
    fn drop_until(&mut self, removal: &Removal, is_over: impl Fn(Instant) -> bool) {
        match removal {
            Removal::All => {
                self.all = self.all.filter(|since| !is_over(*since));
                self.keys.retain(|_, since| !is_over(*since));
            }
            Removal::Keys(keys) => {
                for key in keys.iter() {
                    if self.keys.get(key).is_some_and(|since| is_over(*since)) {
                        self.keys.remove(key);
                    }
                }
            }
        }
        self.key_bytes = self.keys.keys().map(Key::len).sum();
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

    fn later() -> Instant {
        Instant::now() + std::time::Duration::from_secs(1)
    }

    /// The changes of the only group, without their times.
    fn changes(undelivered: &Undelivered) -> Vec<Change> {
        let groups = undelivered.to_send();
        groups.iter().flat_map(|(_, pending)| pending).map(|pending| pending.removal.change()).collect()
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
        undelivered.drop_delivered(&group(), &one(&long), later());
        assert!(undelivered.is_empty());
        undelivered.add(&group(), &one("short"), Instant::now());
        undelivered.drop_delivered(&group(), &one("other"), later());
        assert_eq!(changes(&undelivered), vec![Change::Remove(vec![Key::from("short")])]);
    }

    #[test]
    fn an_update_that_comes_while_others_are_sent_stays() {
        let mut undelivered = Undelivered::default();
        let now = Instant::now();
        undelivered.add(&group(), &Removal::Keys(["a".into(), "b".into()].into()), now);
        let sent = undelivered.to_send();
        undelivered.add(&group(), &one("a"), later());
        undelivered.drop_sent(&group(), &sent[0].1[0]);
        assert_eq!(changes(&undelivered), vec![Change::Remove(vec![Key::from("a")])], "exactly what was sent is gone");
        let sent = undelivered.to_send();
        undelivered.drop_sent(&group(), &sent[0].1[0]);
        assert!(undelivered.is_empty());
    }

    #[test]
    fn what_is_missed_after_a_change_began_is_newer_than_that() {
        let mut undelivered = Undelivered::default();
        let began = Instant::now();
        undelivered.add(&group(), &one("a"), later());
        undelivered.drop_delivered(&group(), &one("a"), began);
        undelivered.drop_delivered(&group(), &Removal::All, began);
        assert!(undelivered.contains("group", b"a"));
        undelivered.drop_delivered(&group(), &Removal::All, later() + std::time::Duration::from_secs(1));
        assert!(undelivered.is_empty());
    }

    #[test]
    fn keys_that_come_after_everything_do_not_make_it_newer() {
        let mut undelivered = Undelivered::default();
        undelivered.add(&group(), &Removal::All, Instant::now());
        let sent = undelivered.to_send();
        undelivered.add(&group(), &one("a"), later());
        undelivered.drop_sent(&group(), &sent[0].1[0]);
        assert_eq!(changes(&undelivered), vec![Change::Remove(vec![Key::from("a")])], "the group is cleared once");
    }

    #[test]
    fn many_groups_together_are_bounded_too() {
        let mut undelivered = Undelivered::default();
        let long = "k".repeat(MAX_KEY_BYTES);
        for nth in 0..20 {
            undelivered.add(&format!("group {nth}").into(), &one(&long), Instant::now());
        }
        let groups = undelivered.to_send();
        let cleared = groups.iter().filter(|(_, pending)| matches!(pending[0].removal, Removal::All)).count();
        assert_eq!((groups.len(), cleared, undelivered.key_bytes), (20, 12, MAX_MEMBER_BYTES));
    }
}
