//! The changes that a member has missed, kept until it can be told.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use crate::{
    key::Key,
    members::Remote,
    peer::update::{Ack, Change, PeerUpdate},
    peer::{PeerError, Reply},
};

/// What is to be forgotten.
#[derive(Clone, Debug)]
pub(crate) enum Removal {
    Keys(Arc<[Key]>),
    All,
}

/// What a member is owed, by group. It is not asked for these keys until it has been told, for what it has may be what was
/// removed.
///
/// Bounded: a group with too many keys owes it one "forget everything" instead.
#[derive(Default)]
pub(crate) struct Undelivered {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Stays until it has been told.
    owed: BTreeMap<Arc<str>, PendingUpdates>,
    /// Whether a task is telling it.
    telling: bool,
}

/// What one group owes.
#[derive(Clone, Default)]
struct PendingUpdates {
    /// Since when.
    keys: BTreeMap<Key, Instant>,
    key_bytes: usize,
    /// Everything, since then. There are no keys then.
    all: Option<Instant>,
    /// Grows whenever something is added, so that nothing is crossed off that was added while the rest was told.
    additions: u64,
}

/// The most that a group owes one member. Beyond, it owes everything.
const KEYS_MAX: usize = 4_096;
const KEY_BYTES_MAX: usize = 1 << 20;

/// How long between two attempts: twice as long after each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a member may take to acknowledge.
const TELL_TIMEOUT: Duration = Duration::from_secs(1);

impl Removal {
    pub(crate) fn change(&self) -> Change {
        match self {
            Removal::Keys(keys) => Change::Remove(keys.to_vec()),
            Removal::All => Change::Clear,
        }
    }
}

impl Undelivered {
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().owed.is_empty()
    }

    pub(crate) fn add(&self, group: &Arc<str>, removal: &Removal) {
        if matches!(removal, Removal::Keys(keys) if keys.is_empty()) {
            return;
        }
        self.lock().owed.entry(group.clone()).or_default().add(removal, Instant::now());
    }

    /// Crosses off what has been told in another way.
    pub(crate) fn settle(&self, group: &str, removal: &Removal) {
        let mut state = self.lock();
        let Some(debt) = state.owed.get_mut(group) else { return };
        debt.settle(removal);
        if debt.all.is_none() && debt.keys.is_empty() {
            state.owed.remove(group);
        }
    }

    fn owes(&self, group: &str, key: &[u8]) -> bool {
        self.lock().owed.get(group).is_some_and(|debt| debt.all.is_some() || debt.keys.contains_key(key))
    }

    /// What to tell now. `None` when nothing is owed, which ends the telling.
    fn next(&self) -> Option<BTreeMap<Arc<str>, PendingUpdates>> {
        let mut state = self.lock();
        state.telling = !state.owed.is_empty();
        state.telling.then(|| state.owed.clone())
    }

    /// Crosses off a group, unless more has come.
    fn told(&self, group: &str, additions: u64) {
        let mut state = self.lock();
        if state.owed.get(group).is_some_and(|debt| debt.additions == additions) {
            state.owed.remove(group);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingUpdates {
    fn add(&mut self, removal: &Removal, now: Instant) {
        self.additions += 1;
        match removal {
            Removal::Keys(keys) if self.all.is_none() => {
                for key in keys.iter() {
                    self.key_bytes += if self.keys.insert(key.clone(), now).is_none() { key.len() } else { 0 };
                }
                if self.keys.len() > KEYS_MAX || self.key_bytes > KEY_BYTES_MAX {
                    self.owe_all(now);
                }
            }
            Removal::Keys(_) | Removal::All => self.owe_all(now),
        }
    }

    fn settle(&mut self, removal: &Removal) {
        match removal {
            Removal::All => *self = PendingUpdates { additions: self.additions, ..PendingUpdates::default() },
            Removal::Keys(keys) => {
                for key in keys.iter() {
                    self.key_bytes -= if self.keys.remove(key).is_some() { key.len() } else { 0 };
                }
            }
        }
    }

    fn owe_all(&mut self, now: Instant) {
        (self.keys, self.key_bytes, self.all) = (BTreeMap::new(), 0, Some(now));
    }

    /// What to tell, and since when it is owed: what was owed at one moment in one go.
    fn changes(&self) -> Vec<(Instant, Change)> {
        if let Some(since) = self.all {
            return vec![(since, Change::Clear)];
        }
        let mut by_time: BTreeMap<Instant, Vec<Key>> = BTreeMap::new();
        self.keys.iter().for_each(|(key, since)| by_time.entry(*since).or_default().push(key.clone()));
        by_time.into_iter().map(|(since, keys)| (since, Change::Remove(keys))).collect()
    }
}

impl Remote {
    /// Whether it has missed a change to this key. If so, it is being told.
    pub(crate) fn has_undelivered(self: &Arc<Self>, group: &str, key: &[u8], runtime: &Handle) -> bool {
        let owed = self.backlog.owes(group, key);
        if owed {
            self.catch_up(runtime);
        }
        owed
    }

    /// Keeps a change for it, and goes on trying to tell it.
    pub(crate) fn owe(self: &Arc<Self>, group: &Arc<str>, removal: &Removal, runtime: &Handle) {
        self.backlog.add(group, removal);
        self.catch_up(runtime);
    }

    /// Tells it of a change.
    pub(crate) async fn tell(&self, update: PeerUpdate, bound: Duration) -> Result<Ack, PeerError> {
        let (answered, answer) = oneshot::channel();
        // Nobody may be there any more to hear it.
        self.peer.update(update, bound, Reply::new(move |ack| drop(answered.send(ack))));
        match timeout(bound, answer).await {
            Ok(Ok(ack)) => ack,
            Ok(Err(_)) => Err(PeerError::failed("the transport dropped the change")),
            Err(_) => Err(PeerError::failed(format!("no acknowledgement within {bound:?}"))),
        }
    }

    /// Sees to it that it is being told of what it is owed, if that is anything.
    pub(crate) fn catch_up(self: &Arc<Self>, runtime: &Handle) {
        let mut state = self.backlog.lock();
        if !state.owed.is_empty() && !mem::replace(&mut state.telling, true) {
            let telling = Telling { remote: Arc::downgrade(self), ended: false };
            runtime.spawn(telling.go_on());
        }
    }

    /// One attempt, all groups side by side. Whether all have been told.
    async fn tell_owed(&self, owed: BTreeMap<Arc<str>, PendingUpdates>) -> bool {
        let told = join_all(owed.iter().map(|(group, debt)| self.tell_debt(group, debt))).await;
        told.into_iter().all(|told| told)
    }

    async fn tell_debt(&self, group: &Arc<str>, debt: &PendingUpdates) -> bool {
        for (since, change) in debt.changes() {
            // Never zero: what is told now was made before.
            let age = since.elapsed().max(Duration::from_millis(1));
            match self.tell(PeerUpdate::new(group.clone(), 0, change).age(age), TELL_TIMEOUT).await {
                // Who cannot be told at all, or refuses to hear, is not told by trying.
                Ok(_) | Err(PeerError::NotCarried | PeerError::Answered(_)) => {}
                Err(PeerError::Failed(cause)) => {
                    tracing::debug!(member = self.name, %group, %cause, "has missed a change and cannot be told yet");
                    return false;
                }
            }
        }
        self.backlog.told(group, debt.additions);
        true
    }
}

/// The task that tells a member. However it ends, another can be started.
struct Telling {
    remote: Weak<Remote>,
    /// Whether it ended of itself: then another may be under way by now.
    ended: bool,
}

impl Telling {
    async fn go_on(mut self) {
        let mut pause = FIRST_PAUSE;
        while let Some(remote) = self.remote.upgrade() {
            let Some(owed) = remote.backlog.next() else {
                self.ended = true;
                return;
            };
            if remote.tell_owed(owed).await {
                pause = FIRST_PAUSE;
                continue;
            }
            // Not held meanwhile: a member that leaves the list is not told any more.
            drop(remote);
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        if !self.ended
            && let Some(remote) = self.remote.upgrade()
        {
            remote.backlog.lock().telling = false;
        }
    }
}
