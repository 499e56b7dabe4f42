//! An update made on every member: the sender's side. `apply.rs` is the receiver's.
//!
//! An update is a remove, a clear or a set. It is sent to all members in two rounds, and between
//! them a set gives its value to the key's owner. [`Broadcast::try_once`] has the steps in their
//! order. Once both rounds are acknowledged by all, under one member list, no member answers with
//! an older value. A member that cannot be reached is reported by name. The update is queued for
//! it, here and at every member that learns of the miss from what it is sent next.
//!
//! Three races decide the order. In each, v1 is the old value.
//!
//! # Two rounds: a member may fetch from one that gets the update later
//!
//! ```text
//! sender                 B, a member                       C, the owner, has v1
//! round one to B, C
//!                        removes its copy of v1
//!                        a get misses and asks C
//!                                                          answers with v1
//!                                                          removes v1
//!                        caches the copy of v1
//! round two to B, C
//!                        removes the copy again
//! ```
//!
//! After round one no member has v1 as its own, and no load that was in flight can bring it back.
//! What is left are copies. A peer is never answered with a copy, so nobody can make another one,
//! and there is no third round.
//!
//! # Queued first, removed second: a get must not ask a member that was missed
//!
//! ```text
//! sender                                                   B, the owner, has v1
//! round one: B does not acknowledge
//! round two: a get of the key is detached, and retries
//! nothing is queued for B, so the get asks it
//!                                                          answers with v1
//! queues the update for B
//! reports that B was missed
//! caches a copy of v1
//! ```
//!
//! So the update is queued for B before round two removes anything here. A get that retries finds
//! it queued, and loads the key here.
//!
//! # The owner has the old value until it has the new one: readers must not see the origin's
//!
//! ```text
//! sender                 the owner, has v1
//! sets v2, round one
//!                        removes v1
//!                        a get loads v0: a set does not write the origin
//! sends v2
//!                        stores v2
//! ```
//!
//! A reader would see v1, v0, v2. So round one has no keys for the owner, and asks only for its
//! stamp and its ring. It gets v2 when all others have removed v1, and only if it has the sender's
//! ring. Round two passes it by: it would remove v2.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::{runtime::Handle, time::Instant};

use crate::{
    cache::stored::Stored,
    carrier::TimedWatch,
    catch_panic::caught,
    core::state::GroupState,
    error::{Error, ErrorKind},
    key::Key,
    loader::Loaded,
    members::remote::Remote,
    members::undelivered::Removal,
    members::view::{Owner, View},
    peer::PeerError,
    peer::update::{Ack, Change, Missed, PeerUpdate, SecondRound, SetValue, UpdateError},
    value::Value,
};

/// The most tries of an update. It is tried again if the member list changed meanwhile.
const MAX_TRIES: usize = 3;

/// The part of a set's time that is given up, because both ends count it in whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);

impl<V: Value> GroupState<V> {
    /// Removes these keys on every member.
    pub(crate) async fn remove(self: &Arc<Self>, keys: Vec<Key>) -> Result<(), UpdateError> {
        if keys.is_empty() {
            return Ok(());
        }
        if keys.iter().any(|key| key.len() > self.settings.limits.max_key_bytes) {
            return Err(Error::new(ErrorKind::KeyTooLong).into());
        }
        self.broadcast(Removal::Keys(keys.into()), None).await
    }

    /// Removes all keys on every member.
    pub(crate) async fn clear(self: &Arc<Self>) -> Result<(), UpdateError> {
        self.broadcast(Removal::All, None).await
    }

    /// Gives the value to the key's owner, and removes the key from all others.
    pub(crate) async fn set(self: &Arc<Self>, key: Key, loaded: Loaded<V>) -> Result<(), UpdateError> {
        let new = self.new_value(key, loaded)?;
        self.broadcast(Removal::key(new.key.clone()), Some(new)).await
    }

    fn new_value(&self, key: Key, loaded: Loaded<V>) -> Result<NewValue<V>, Error> {
        let Loaded { value, ttl } = loaded;
        if key.len() > self.settings.limits.max_key_bytes {
            return Err(Error::new(ErrorKind::KeyTooLong));
        }
        let weight = self.weigh(&key, &value)?;
        if !self.store.fits_with_expiry(weight) {
            return Err(Error::with_message(ErrorKind::ValueTooLarge, "the value is larger than the group's budget"));
        }
        let encoded = caught("the encoder", || value.encode())?;
        let encoded = encoded.map_err(|cause| Error::with_source(ErrorKind::Codec, cause))?;
        let stored = caught("the value", || Stored::new(key.as_bytes(), Some(value)))?;
        Ok(NewValue { key, stored, encoded, ttl, weight })
    }

    /// The time from a member's stamp on in which it may take what is sent to it now. It counts
    /// from the stamp, which is older than `acked_ms`: the member refuses too early rather than too
    /// late.
    fn in_time_since(&self, acked_ms: u64) -> Duration {
        let waited = Duration::from_millis(self.clock.exact_ms() - acked_ms);
        (waited + self.settings.update_timeout).saturating_sub(ROUNDING)
    }

    /// Makes the update in a task of its own: one that has begun is finished, even if the caller
    /// leaves. If the task's runtime falls silent it is made again, in the caller's.
    async fn broadcast(self: &Arc<Self>, removal: Removal, new: Option<NewValue<V>>) -> Result<(), UpdateError> {
        loop {
            let place = self.place()?;
            let runtime = place.runtime().clone();
            self.clock.start(&runtime);
            let broadcast = Broadcast {
                state: self.clone(),
                removal: removal.clone(),
                new: new.clone(),
                runtime: runtime.clone(),
                began: Instant::now(),
            };
            let carrier = &place.workplace.carrier;
            let mut task = runtime.spawn(broadcast.run());
            let is_foreign = carrier.id() != place.caller;
            let mut watch = Some(carrier.clone()).filter(|_| is_foreign).and_then(TimedWatch::new);
            let made = poll_fn(|cx| match (Pin::new(&mut task).poll(cx), &mut watch) {
                (Poll::Ready(made), _) => Poll::Ready(Some(made)),
                (Poll::Pending, Some(watch)) => watch.poll_silent(cx).map(|()| None),
                (Poll::Pending, None) => Poll::Pending,
            });
            match made.await {
                Some(Ok(result)) => return result,
                Some(Err(dropped)) if dropped.is_cancelled() && is_foreign && !carrier.is_there() => {}
                Some(Err(_)) => {
                    let message = "the change was broken off: its runtime went down, or it panicked";
                    return Err(Error::with_message(ErrorKind::LoadFailed, message).into());
                }
                None => self.counters.silent_runtimes.count(),
            }
        }
    }
}

/// An update that this node makes on every member.
struct Broadcast<V> {
    state: Arc<GroupState<V>>,
    /// The keys to remove. For a set it is the one key, and its owner gets the value instead.
    removal: Removal,
    /// The value of a set.
    new: Option<NewValue<V>>,
    runtime: Handle,
    /// The time before which it has reached nobody.
    began: Instant,
}

/// A value that is set: as this node stores it, and as it is sent.
#[derive(Clone)]
struct NewValue<V> {
    key: Key,
    stored: Stored<V>,
    encoded: Bytes,
    ttl: Option<Duration>,
    weight: usize,
}

impl<V: Value> Broadcast<V> {
    async fn run(self) -> Result<(), UpdateError> {
        let members = &self.state.members;
        for _ in 0..MAX_TRIES {
            let view = members.view();
            let result = self.try_once(&view).await;
            // The very same list, not an equal one: a member that left and returned may have missed
            // the update.
            if Arc::ptr_eq(&members.view(), &view) {
                return result;
            }
        }
        let view = members.view();
        view.remotes().for_each(|remote| remote.queue(&self.state.name, &self.removal, &self.runtime));
        let why = "the member list changed each time".to_owned();
        let missed = |remote: &Arc<Remote>| Missed { member: remote.name.clone(), why: why.clone() };
        Err(UpdateError::Missed(view.remotes().map(missed).collect()))
    }

    /// Makes the update under one member list. The file's first lines draw the races that decide
    /// the order.
    async fn try_once(&self, view: &View) -> Result<(), UpdateError> {
        let mut rounds = Rounds::new(self, view);
        let owner = self.new.as_ref().map(|new| view.owner_name(&new.key));

        rounds.first(owner).await;
        let sent = match &self.new {
            None => Ok(false),
            Some(new) => rounds.send_value(new).await,
        };
        let holder = if matches!(sent, Ok(true)) { owner } else { None };
        if self.new.is_some() && holder.is_none() {
            // No member has the value. The old one, which its owner kept, must go then too.
            rounds.queue_for_unreached();
            rounds.first(None).await;
        }
        rounds.queue_for_unreached();
        rounds.second(holder).await;
        rounds.queue_for_unreached();
        sent?;
        rounds.result()
    }
}

/// One try under one member list, with the progress of each member.
struct Rounds<'a, V> {
    broadcast: &'a Broadcast<V>,
    view: &'a View,
    members: Vec<MemberProgress>,
}

impl<'a, V: Value> Rounds<'a, V> {
    fn new(broadcast: &'a Broadcast<V>, view: &'a View) -> Self {
        Rounds { broadcast, view, members: view.remotes().map(MemberProgress::new).collect() }
    }

    /// Removes the keys here and at all members, except at `keeper`: that one keeps the old value
    /// for now.
    async fn first(&mut self, keeper: Option<&str>) {
        let Broadcast { state, removal, .. } = self.broadcast;
        if keeper != Some(state.members.self_name()) {
            state.apply_removal(removal);
        }
        let no_keys = || Change::Remove(Vec::new());
        let change = |remote: &Remote| if keeper == Some(&remote.name) { no_keys() } else { removal.change() };
        self.send(|progress| Some((change(&progress.remote), None))).await;
    }

    /// Removes the keys again, here and at all members, except at `holder`: that one has the new
    /// value.
    async fn second(&mut self, holder: Option<&str>) {
        let Broadcast { state, removal, .. } = self.broadcast;
        if holder != Some(state.members.self_name()) {
            state.apply_removal(removal);
        }
        self.drop_delivered();
        let second = |progress: &MemberProgress| {
            let (ack, acked_ms) = progress.ack.filter(|_| holder.is_some())?;
            Some(SecondRound { stamp: ack.stamp, within: state.in_time_since(acked_ms) })
        };
        let change = |progress: &MemberProgress| {
            (holder != Some(&progress.remote.name)).then(|| (removal.change(), second(progress)))
        };
        self.send(change).await;
    }

    /// Gives the value to its owner. Returns whether the owner has taken it; an error if it does
    /// not keep it.
    async fn send_value(&mut self, new: &NewValue<V>) -> Result<bool, Error> {
        let Broadcast { state, .. } = self.broadcast;
        let Owner::Remote(owner) = self.view.owner(new.key.as_bytes()) else {
            let turn = || state.turn_now(&new.key);
            return state.store_set(&new.key, new.stored.clone(), new.ttl, new.weight, turn).map(|_| true);
        };
        let unreached = self.unreached();
        let progress = self.members.iter_mut().find(|progress| progress.remote.name == owner.name);
        let progress = progress.expect("the owner is in the list");
        let Some((ack, acked_ms)) = progress.ack.filter(|_| progress.missed.is_none()) else { return Ok(false) };

        // The owner must not take the value after our wait.
        let (update_timeout, within) = (state.settings.update_timeout, state.in_time_since(acked_ms));
        let set = SetValue::new(new.key.clone(), new.encoded.clone(), new.ttl, ack.stamp, within);
        // The second round passes the owner by, so it learns here of the members that the first did
        // not reach.
        let update = PeerUpdate::new(state.name.clone(), self.view.digest(), Change::Set(set)).missed(unreached);
        match owner.send(update, update_timeout).await {
            Err(PeerError::Answered(error)) if error.kind() == ErrorKind::ValueTooLarge => Err(error),
            answer => {
                progress.record_ack(answer, self.view.digest(), state.clock.exact_ms());
                Ok(progress.missed.is_none())
            }
        }
    }

    /// Queues the update for members that may still have the old value, once for each.
    fn queue_for_unreached(&mut self) {
        let Broadcast { state, removal, runtime, .. } = self.broadcast;
        for progress in self.members.iter_mut().filter(|progress| progress.is_unreached && !progress.is_queued) {
            progress.remote.queue(&state.name, removal, runtime);
            progress.is_queued = true;
        }
    }

    /// Drops older undelivered updates of the same keys, for members that have acknowledged this
    /// one.
    fn drop_delivered(&self) {
        let Broadcast { state, removal, began, .. } = self.broadcast;
        let acknowledged = self.members.iter().filter(|progress| progress.missed.is_none());
        acknowledged.for_each(|progress| progress.remote.drop_delivered(&state.name, removal, *began));
    }

    /// Sends each member its change, to all side by side, and awaits their acknowledgements.
    /// Members that could not be reached before are left out.
    async fn send(&mut self, change: impl Fn(&MemberProgress) -> Option<(Change, Option<SecondRound>)>) {
        let unreached = self.unreached();
        let (state, view) = (&self.broadcast.state, self.view);
        let reached = self.members.iter_mut().filter(|progress| !progress.is_unreached);
        let sending = reached.filter_map(|progress| {
            let (change, second) = change(progress)?;
            let update = PeerUpdate::new(state.name.clone(), view.digest(), change);
            let update = update.missed(unreached.clone()).second(second);
            if progress.remote.is_known_absent() {
                // It is told at once, as all are, and named; only the wait for it is saved.
                progress.remote.send_unawaited(update, state.settings.update_timeout);
                let absent = Err(PeerError::failed("it has not answered a moment ago"));
                progress.record_ack(absent, view.digest(), state.clock.exact_ms());
                return None;
            }
            Some(async move {
                let answer = progress.remote.send(update, state.settings.update_timeout).await;
                progress.record_ack(answer, view.digest(), state.clock.exact_ms());
            })
        });
        join_all(sending).await;
    }

    /// The names of members that may still have the old value.
    fn unreached(&self) -> Vec<String> {
        let unreached = self.members.iter().filter(|progress| progress.is_unreached);
        unreached.map(|progress| progress.remote.name.clone()).collect()
    }

    fn result(self) -> Result<(), UpdateError> {
        let missed: Vec<Missed> = self.members.into_iter().filter_map(|progress| progress.missed).collect();
        if missed.is_empty() { Ok(()) } else { Err(UpdateError::Missed(missed)) }
    }
}

/// A member's progress in one try.
struct MemberProgress {
    remote: Arc<Remote>,
    /// Its latest acknowledgement, and when it came.
    ack: Option<(Ack, u64)>,
    /// The report that it was missed, with the first reason.
    missed: Option<Missed>,
    /// Whether it could not be reached, so that it may still have the old value.
    is_unreached: bool,
    /// Whether the update is queued for it.
    is_queued: bool,
}

impl MemberProgress {
    fn new(remote: &Arc<Remote>) -> Self {
        MemberProgress { remote: remote.clone(), ack: None, missed: None, is_unreached: false, is_queued: false }
    }

    fn record_ack(&mut self, answer: Result<Ack, PeerError>, digest: u64, now_ms: u64) {
        let why = match answer {
            Ok(ack) => {
                self.ack = Some((ack, now_ms));
                // It has applied the update. But it may know members that are not in our list, and
                // they have missed it.
                (ack.ring != digest).then(|| "it has another member list".to_owned())
            }
            Err(error) => {
                // A member that refuses, or cannot take updates at all, is not sent this one again.
                self.is_unreached = error.is_failure();
                Some(error.to_string())
            }
        };
        if let Some(why) = why {
            self.missed.get_or_insert(Missed { member: self.remote.name.clone(), why });
        }
    }
}
