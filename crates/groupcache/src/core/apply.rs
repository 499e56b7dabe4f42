//! An update applied at this node: one that a peer has sent, or this node's part of its own.
//!
//! # A set that arrives late is refused
//!
//! A set may be held up on its way, in the socket buffer of a frozen owner. It must not overwrite a
//! later one.
//!
//! ```text
//! sender A                      the owner                        sender C
//!                               gives A a stamp
//!                               is frozen
//! sends v1, waits for 1 s
//! reports the owner as missed
//!                               wakes up
//!                                                                sends v2
//!                               stores v2
//!                               reads v1: too late by its stamp
//! ```
//!
//! So the owner gives a stamp of its own clock with the acknowledgement of the first round. The set
//! carries the stamp back, with the time for which its sender waits, and the owner takes no value
//! after that.

use std::time::Duration;

use tokio::{runtime::Handle, time::Instant};

use crate::{
    cache::entry::{Entry, Origin},
    cache::expiry::Expiry,
    cache::stored::Stored,
    catch_panic::caught,
    clock::millis,
    core::state::GroupState,
    error::{Error, ErrorKind},
    key::Key,
    members::undelivered::Removal,
    members::view::View,
    peer::update::{Ack, Change, PeerUpdate, SetValue, Stamp},
    store::set_order::{SetOrder, Turn},
    value::Value,
};

/// The times of an update for which its stamp may come back: the wait for the value, and the rounds
/// before it.
const STAMP_LIFE: u32 = 4;

impl<V: Value> GroupState<V> {
    /// Applies an update that a peer has sent.
    pub(crate) fn apply(&self, update: PeerUpdate, runtime: &Handle) -> Result<Ack, Error> {
        let view = self.members.view();
        let now_ms = self.clock.exact_ms();
        let stamp = Stamp { incarnation: self.members.incarnation(), count: self.store.set_order().stamp(now_ms) };
        let has_same_ring = update.ring == view.digest();
        let (removal, set) = match update.change {
            Change::Remove(keys) => (Removal::Keys(keys.into()), None),
            Change::Clear => (Removal::All, None),
            Change::Set(set) => (Removal::key(set.key.clone()), Some(set)),
        };
        // Before anything is removed here, as at the sender: `broadcast.rs` draws the race.
        self.queue_for_missed(&view, &update.missed, &removal, runtime);
        if let Some(set) = set {
            self.apply_set(set, has_same_ring, stamp.incarnation)?;
            return Ok(Ack::new(view.digest(), stamp));
        }
        // All but the missed have acknowledged the first round. Under one ring, the sender's list
        // has the same members as ours.
        if has_same_ring && update.second.is_some_and(|second| is_in_time(second.stamp, second.within, stamp)) {
            let delivered = view.remotes().filter(|remote| !update.missed.contains(&remote.name));
            delivered.for_each(|remote| remote.drop_delivered(&self.name, &removal, Instant::now()));
        }
        if update.age.is_zero() {
            self.apply_removal(&removal);
        } else {
            self.apply_late_removal(&removal, update.age, now_ms);
        }
        Ok(Ack::new(view.digest(), stamp))
    }

    /// Queues the update for members that have missed it. This node then delivers it too, and asks
    /// none of them for these keys before.
    fn queue_for_missed(&self, view: &View, missed: &[String], removal: &Removal, runtime: &Handle) {
        let missed = view.remotes().filter(|remote| missed.contains(&remote.name));
        missed.for_each(|remote| remote.queue(&self.name, removal, runtime));
    }

    /// Stores a value that a peer has set.
    ///
    /// Under another ring this node may not be the key's owner. Then it removes the key instead,
    /// and its acknowledgement, which has its own ring, tells the sender so.
    fn apply_set(&self, set: SetValue, has_same_ring: bool, incarnation: u64) -> Result<(), Error> {
        let SetValue { key, value, ttl, stamp, within } = set;
        let late = || Error::with_message(ErrorKind::LoadFailed, "the value came too late to be taken");
        if stamp.incarnation != incarnation {
            return Err(late());
        }
        let value = caught("the decoder", || V::decode(value))?;
        let value = value.map_err(|cause| Error::with_source(ErrorKind::Codec, cause))?;
        let weight = self.weigh(&key, &value)?;
        if !self.store.fits_with_expiry(weight) {
            return Err(Error::with_message(ErrorKind::ValueTooLarge, "the value is larger than its owner's budget"));
        }
        if !has_same_ring {
            self.apply_removal(&Removal::key(key));
            return Ok(());
        }
        let stored = caught("the value", || Stored::new(key.as_bytes(), Some(value)))?;
        // Under the lock of the key, and after all that may take time: a value that is slow to
        // decode must not come after its sender has given it up.
        let turn = || {
            let now_ms = self.clock.exact_ms();
            let age_ms = SetOrder::age_ms(stamp.count, now_ms);
            if age_ms.is_none_or(|ms| Duration::from_millis(ms) >= within) {
                return Turn::Forgotten;
            }
            self.store.set_order().take_turn(&key, stamp.count, self.oldest_stamp_ms(now_ms))
        };
        match self.store_set(&key, stored, ttl, weight, turn)? {
            // A later change of the key came first, or this one has come before.
            Turn::Latest | Turn::Superseded => Ok(()),
            Turn::Forgotten => Err(late()),
        }
    }

    /// The time before which no set that may still come has its stamp from.
    fn oldest_stamp_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(millis(self.settings.update_timeout.saturating_mul(STAMP_LIFE)))
    }

    /// Stores a value that was set, if it is its `turn`. Loads and fetches of the key that are in
    /// flight do not replace it. A value that would not be cached if it were loaded is not kept
    /// either: the key is removed, and that is an error.
    pub(crate) fn store_set(
        &self,
        key: &Key,
        stored: Stored<V>,
        ttl: Option<Duration>,
        weight: usize,
        turn: impl FnOnce() -> Turn,
    ) -> Result<Turn, Error> {
        self.count_update();
        let now_ms = self.clock.exact_ms();
        let expiry = self.settings.expiry_policy.of_loaded(key, ttl, now_ms);
        let kept = expiry.filter(|expiry| self.admits(weight, *expiry));
        let in_demand = false;
        let entry = Entry { stored, origin: Origin::Set, expiry: kept.unwrap_or(Expiry::never(now_ms)), in_demand };
        let place = || self.place_of_loaded(key, kept?, now_ms);
        let turn = self.store.set(key, weight, entry, place, turn);
        self.set_alarm();
        if expiry.is_some() && kept.is_none() && turn != Turn::Forgotten {
            let message = "the value would evict most others and is not kept, its key is removed";
            return Err(Error::with_message(ErrorKind::ValueTooLarge, message));
        }
        Ok(turn)
    }

    /// The turn of a value that this node sets for a key of its own, now.
    pub(crate) fn turn_now(&self, key: &Key) -> Turn {
        let now_ms = self.clock.exact_ms();
        let order = self.store.set_order();
        order.take_turn(key, order.stamp(now_ms), self.oldest_stamp_ms(now_ms))
    }

    /// Removes these keys here. Gets that wait for a load or a fetch of one retry.
    pub(crate) fn apply_removal(&self, removal: &Removal) {
        self.count_update();
        match removal {
            Removal::Keys(keys) => keys.iter().for_each(|key| self.store.remove(key)),
            Removal::All => self.store.clear(),
        }
    }

    /// Removes these keys because of an update that was made `age` ago and is delivered only now. A
    /// value that was set since is newer, and stays.
    fn apply_late_removal(&self, removal: &Removal, age: Duration, now_ms: u64) {
        self.count_update();
        let age_ms = millis(age);
        match removal {
            Removal::Keys(keys) => keys.iter().for_each(|key| self.store.remove_late(key, age_ms, now_ms)),
            Removal::All => self.store.clear_late(age_ms, now_ms),
        }
    }

    /// Counts an update, for the statistics and for members that are in no list now.
    fn count_update(&self) {
        self.counters.updates.count();
        self.members.count_update();
    }
}

/// Whether the sender of what carries our own `stamp` still waits, at the time of the stamp `now`.
fn is_in_time(stamp: Stamp, within: Duration, now: Stamp) -> bool {
    let now_ms = SetOrder::ms(now.count);
    let age_ms = SetOrder::age_ms(stamp.count, now_ms);
    stamp.incarnation == now.incarnation && age_ms.is_some_and(|ms| Duration::from_millis(ms) < within)
}
