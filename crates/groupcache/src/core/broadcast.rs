//! A change, made on every member.
//!
//! Two rounds over all members: all are told, then all are told again. After the first round nothing that was loaded before is held
//! anywhere, nor can it come from a load that was under way; but a member that was told early may have fetched it from one that was
//! told late, and the second round takes that away. What a member has loaded it may give to others, what it has fetched it may not: so there is no
//! third. With both rounds acknowledged by all, under one ring, no member answers with what was there before.
//!
//! Whoever cannot be told is named, and owed the change: by this node, and by all whom the second round tells of it.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::runtime::Handle;

use crate::{
    Bytes,
    cache::entry::{Entry, Origin},
    cache::stored::Stored,
    core::Core,
    core::catch_panic::caught,
    error::{Error, ErrorKind},
    key::Key,
    loader::Loaded,
    members::undelivered::Removal,
    members::{Owner, Remote, View},
    peer::PeerError,
    peer::update::{Ack, Change, Missed, PeerUpdate, SetValue, Stamp, UpdateError},
    value::Value,
};

/// How often a change is begun anew because the member list changed while it was made.
const ATTEMPTS_MAX: usize = 3;

/// Time is counted in whole milliseconds at both ends of a set; so much of its window is given up for that.
const ROUNDING: Duration = Duration::from_millis(2);

/// A value for one key, with what its members have to know.
struct NewValue<V> {
    key: Key,
    stored: Stored<V>,
    encoded: Bytes,
    ttl: Option<Duration>,
    weight: usize,
}

/// Who has a new value.
#[derive(PartialEq, Eq)]
enum Holder {
    Nobody,
    Us,
    Member(String),
}

impl Holder {
    fn is(&self, remote: &Remote) -> bool {
        matches!(self, Holder::Member(name) if *name == remote.name)
    }
}

/// A member, as far as it has been told.
struct MemberProgress {
    remote: Arc<Remote>,
    /// Of the first round, and when it came.
    ack: Option<(Ack, u64)>,
    missed: Option<Missed>,
    /// Whether it may have values that it should not have.
    owed: bool,
    /// Whether the change is kept for it.
    kept: bool,
}

impl<V: Value> Core<V> {
    pub(crate) async fn remove(self: &Arc<Self>, keys: Vec<Key>) -> Result<(), UpdateError> {
        if keys.is_empty() {
            return Ok(());
        }
        if keys.iter().any(|key| key.len() > self.settings.limits.max_key_bytes) {
            return Err(Error::new(ErrorKind::KeyTooLong).into());
        }
        self.broadcast(Removal::Keys(keys.into()), None).await
    }

    pub(crate) async fn clear(self: &Arc<Self>) -> Result<(), UpdateError> {
        self.broadcast(Removal::All, None).await
    }

    pub(crate) async fn set(self: &Arc<Self>, key: Key, loaded: Loaded<V>) -> Result<(), UpdateError> {
        let Loaded { value, ttl } = loaded;
        if key.len() > self.settings.limits.max_key_bytes {
            return Err(Error::new(ErrorKind::KeyTooLong).into());
        }
        let weight = self.weigh(&key, &value)?;
        if !self.store.fits_with_end(weight) {
            return Err(
                Error::with_message(ErrorKind::ValueTooLarge, "the value is larger than the group's budget").into()
            );
        }
        let encoded = caught("the encoder", || value.encode())?;
        let encoded = encoded.map_err(|cause| Error::with_source(ErrorKind::Codec, cause))?;
        let stored = caught("the value", || Stored::new(key.as_bytes(), Some(value)))?;
        let new = NewValue { key: key.clone(), stored, encoded, ttl, weight };
        self.broadcast(Removal::Keys([key].into()), Some(new)).await
    }

    /// In a task of its own, so that a change that has begun is made whatever becomes of its caller.
    async fn broadcast(self: &Arc<Self>, removal: Removal, new: Option<NewValue<V>>) -> Result<(), UpdateError> {
        let runtime = Handle::try_current().map_err(|_| Error::new(ErrorKind::NoRuntime))?;
        self.clock.start(&runtime);
        let core = self.clone();
        let spreading = runtime.clone().spawn(async move {
            for _ in 0..ATTEMPTS_MAX {
                let view = core.members.view();
                let outcome = core.attempt(&view, &removal, new.as_ref(), &runtime).await;
                // The very list, not one like it: a member that left and returned is another one to us.
                if Arc::ptr_eq(&core.members.view(), &view) {
                    return outcome;
                }
            }
            core.members.view().remotes().for_each(|remote| remote.owe(&core.name, &removal, &runtime));
            let why = "the member list changed each time".to_owned();
            let missed = |remote: &Arc<Remote>| Missed { member: remote.name.clone(), why: why.clone() };
            Err(UpdateError::Missed(core.members.view().remotes().map(missed).collect()))
        });
        let dropped = |_| Error::with_message(ErrorKind::LoadFailed, "the runtime went down while the change was made");
        spreading.await.map_err(dropped)?
    }

    async fn attempt(
        &self,
        view: &View,
        removal: &Removal,
        new: Option<&NewValue<V>>,
        runtime: &Handle,
    ) -> Result<(), UpdateError> {
        let mut members: Vec<MemberProgress> = view.remotes().map(MemberProgress::not_yet).collect();
        let holder = match new {
            None => {
                self.first_round(&mut members, view, removal, None).await;
                Holder::Nobody
            }
            Some(new) => {
                // The owner of a new value keeps the old one until it has the new: else readers would see, in between, what the
                // origin holds. It is told of nothing, for its stamp and its ring.
                self.first_round(&mut members, view, removal, Some(view.owner_name(&new.key))).await;
                let holder = self.give_to_owner(new, view, &mut members).await?;
                if holder == Holder::Nobody {
                    // The value is nowhere. Then the old one is to be nowhere either.
                    self.owe(&mut members, removal, runtime);
                    self.first_round(&mut members, view, removal, None).await;
                }
                holder
            }
        };
        // First what is owed, then what is forgotten: a get that departs anew must not ask a member that was not told.
        self.owe(&mut members, removal, runtime);
        // The holder of a new value is not told to forget it again.
        if holder != Holder::Us {
            self.forget(removal);
        }
        self.settle(&members, removal);
        self.round(&mut members, view, true, |told| (!holder.is(&told.remote)).then(|| removal.change())).await;
        self.owe(&mut members, removal, runtime);
        let missed: Vec<Missed> = members.into_iter().filter_map(|told| told.missed).collect();
        if missed.is_empty() { Ok(()) } else { Err(UpdateError::Missed(missed)) }
    }

    /// All are told, and so are we, but for the one who keeps what it has for now.
    async fn first_round(&self, members: &mut [MemberProgress], view: &View, removal: &Removal, keeper: Option<&str>) {
        if keeper != Some(self.members.self_name()) {
            self.forget(removal);
        }
        let nothing = || Change::Remove(Vec::new());
        let change =
            |told: &MemberProgress| if keeper == Some(&told.remote.name) { nothing() } else { removal.change() };
        self.round(members, view, false, |told| Some(change(told))).await;
    }

    /// Keeps the change for those who may have what they should not have, once for each.
    fn owe(&self, members: &mut [MemberProgress], removal: &Removal, runtime: &Handle) {
        for told in members.iter_mut().filter(|told| told.owed && !told.kept) {
            told.remote.owe(&self.name, removal, runtime);
            told.kept = true;
        }
    }

    /// Who has made this change is owed no older one of the same keys.
    fn settle(&self, members: &[MemberProgress], removal: &Removal) {
        let told = members.iter().filter(|told| told.missed.is_none());
        told.for_each(|told| told.remote.backlog.settle(&self.name, removal));
    }

    /// Tells all side by side who have not failed before, and whom there is something to tell.
    async fn round(
        &self,
        members: &mut [MemberProgress],
        view: &View,
        second: bool,
        what: impl Fn(&MemberProgress) -> Option<Change>,
    ) {
        let missed = names_of_missed(members);
        let tell = members.iter_mut().filter(|told| !told.owed).filter_map(|told| {
            let update = PeerUpdate::new(self.name.clone(), view.digest(), what(told)?);
            let update = update.missed(missed.clone()).second(second);
            Some(async move {
                let answer = told.remote.tell(update, self.settings.update_timeout).await;
                told.hear(answer, view.digest(), self.clock.exact_ms());
            })
        });
        join_all(tell).await;
    }

    /// The value goes to its owner.
    async fn give_to_owner(
        &self,
        new: &NewValue<V>,
        view: &View,
        members: &mut [MemberProgress],
    ) -> Result<Holder, Error> {
        let Owner::Remote(owner) = view.owner(new.key.as_bytes()) else {
            self.hold(&new.key, new.stored.clone(), new.ttl, new.weight);
            return Ok(Holder::Us);
        };
        let missed = names_of_missed(members);
        let told = members.iter_mut().find(|told| told.remote.name == owner.name);
        let told = told.expect("the owner is in the list");
        let Some((ack, heard_ms)) = told.ack.filter(|_| told.missed.is_none()) else { return Ok(Holder::Nobody) };
        // After this the owner is given up, and from then on must not take the value: it may have been set again by then.
        let waited = Duration::from_millis(self.clock.exact_ms() - heard_ms);
        let within = (waited + self.settings.update_timeout).saturating_sub(ROUNDING);
        let set = SetValue::new(new.key.clone(), new.encoded.clone(), new.ttl, ack.stamp, within);
        // The second round passes the owner by, so it is told here of those who were missed in the first.
        let update = PeerUpdate::new(self.name.clone(), view.digest(), Change::Set(set)).missed(missed);
        match owner.tell(update, self.settings.update_timeout).await {
            Err(PeerError::Answered(error)) if error.kind() == ErrorKind::ValueTooLarge => Err(error),
            answer => {
                told.hear(answer, view.digest(), self.clock.exact_ms());
                Ok(if told.missed.is_none() { Holder::Member(owner.name.clone()) } else { Holder::Nobody })
            }
        }
    }

    /// Makes a change that a peer tells of.
    pub(crate) fn make(&self, update: PeerUpdate, runtime: &Handle) -> Result<Ack, Error> {
        let view = self.members.view();
        let stamp = Stamp { incarnation: self.members.incarnation(), ms: self.clock.exact_ms() };
        // What is owed first, as at the sender.
        let owe = |removal: &Removal| {
            let missed = view.remotes().filter(|remote| update.missed.contains(&remote.name));
            missed.for_each(|remote| remote.owe(&self.name, removal, runtime));
        };
        let removal = match update.change {
            Change::Remove(keys) => Removal::Keys(keys.into()),
            Change::Clear => Removal::All,
            Change::Set(set) => {
                owe(&Removal::Keys([set.key.clone()].into()));
                self.take(set, update.ring == view.digest(), stamp)?;
                return Ok(Ack::new(view.digest(), stamp));
            }
        };
        owe(&removal);
        // Under one ring, the teller's members are ours.
        if update.second && update.ring == view.digest() {
            let told = view.remotes().filter(|remote| !update.missed.contains(&remote.name));
            told.for_each(|remote| remote.backlog.settle(&self.name, &removal));
        }
        if update.age.is_zero() {
            self.forget(&removal)
        } else {
            self.forget_late(&removal, update.age, stamp.ms)
        }
        Ok(Ack::new(view.digest(), stamp))
    }

    /// Holds a value that a peer has set, or forgets the key if we are not its owner: the sender sees by our ring that we are not.
    fn take(&self, set: SetValue, agreed: bool, now: Stamp) -> Result<(), Error> {
        let SetValue { key, value, ttl, stamp, within } = set;
        let late = now.ms.checked_sub(stamp.ms).is_none_or(|ms| Duration::from_millis(ms) >= within);
        if stamp.incarnation != now.incarnation || late {
            return Err(Error::with_message(ErrorKind::LoadFailed, "the value came too late to be taken"));
        }
        let value = caught("the decoder", || V::decode(value))?;
        let value = value.map_err(|cause| Error::with_source(ErrorKind::Codec, cause))?;
        let weight = self.weigh(&key, &value)?;
        if !self.store.fits_with_end(weight) {
            return Err(Error::with_message(ErrorKind::ValueTooLarge, "the value is larger than its owner's budget"));
        }
        if !agreed {
            self.forget(&Removal::Keys([key].into()));
            return Ok(());
        }
        let stored = caught("the value", || Stored::new(key.as_bytes(), Some(value)))?;
        self.hold(&key, stored, ttl, weight);
        Ok(())
    }

    fn hold(&self, key: &Key, stored: Stored<V>, ttl: Option<Duration>, weight: usize) {
        self.counters.updates.count();
        self.members.note_change();
        let now_ms = self.clock.exact_ms();
        match self.settings.expiry_policy.of_loaded(key, ttl, now_ms) {
            None => self.store.remove(key),
            Some(expiry) => {
                let entry = Entry { stored, origin: Origin::Set, expiry, in_demand: false };
                self.store.set(key, weight, entry, || self.place_of_loaded(key, expiry, now_ms));
            }
        }
    }

    /// What is told long after it was made: what was set since is newer.
    fn forget_late(&self, removal: &Removal, age: Duration, now_ms: u64) {
        self.counters.updates.count();
        self.members.note_change();
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        match removal {
            Removal::Keys(keys) => keys.iter().for_each(|key| self.store.remove_late(key, age_ms, now_ms)),
            Removal::All => self.store.clear_late(age_ms, now_ms),
        }
    }

    fn forget(&self, removal: &Removal) {
        self.counters.updates.count();
        self.members.note_change();
        match removal {
            Removal::Keys(keys) => keys.iter().for_each(|key| self.store.remove(key)),
            Removal::All => self.store.clear(),
        }
    }
}

/// Who may have what they should not have.
fn names_of_missed(members: &[MemberProgress]) -> Vec<String> {
    members.iter().filter(|told| told.owed).map(|told| told.remote.name.clone()).collect()
}

impl MemberProgress {
    fn not_yet(remote: &Arc<Remote>) -> Self {
        MemberProgress { remote: remote.clone(), ack: None, missed: None, owed: false, kept: false }
    }

    fn hear(&mut self, answer: Result<Ack, PeerError>, digest: u64, now_ms: u64) {
        let why = match answer {
            Ok(ack) => {
                self.ack = Some((ack, now_ms));
                // It has made the change, but may know members that we do not, and they have not.
                (ack.ring != digest).then(|| "it has another member list".to_owned())
            }
            Err(error) => {
                self.owed = matches!(error, PeerError::Failed(_));
                Some(error.to_string())
            }
        };
        if let Some(why) = why {
            self.missed.get_or_insert(Missed { member: self.remote.name.clone(), why });
        }
    }
}
