use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use peercache_singleflight::Join;
use tokio::runtime::Handle;

use crate::{
    Answer, Error, ErrorKind, Groups, HotAdmission, Key, Members, Stats, Value,
    cache::{Cache, Hit, Reader},
    clock::Clock,
    flight::{FlightKey, Outcome, Passenger, Pilot, Table},
    loader::DynLoader,
    members::{Owner, Rehome},
    permit::{Permit, Permits},
    seldom::Seldom,
    stats::Counters,
};

/// What all handles of a group share: the rooms that a get walks through, in the order in which it does.
///
/// `load.rs` and `fetch.rs` say how a value is brought; here is said who brings it.
pub(crate) struct Core<V> {
    pub(crate) name: Arc<str>,
    pub(crate) cache: Cache<V>,
    pub(crate) flights: Table<V>,
    pub(crate) members: Members,
    pub(crate) loader: Arc<dyn DynLoader<V>>,
    pub(crate) settings: Settings<V>,
    pub(crate) permits: Arc<Permits>,
    pub(crate) clock: Clock,
    pub(crate) counters: Counters,
    pub(crate) peer_warnings: Seldom,
}

/// What the builder set.
pub(crate) struct Settings<V> {
    pub(crate) load_timeout: Duration,
    pub(crate) hot_ttl: Duration,
    pub(crate) fallback_ttl: Duration,
    pub(crate) value_bytes_max: usize,
    pub(crate) key_bytes_max: usize,
    pub(crate) concurrent_max: usize,
    pub(crate) hot_admission: Box<dyn HotAdmission>,
    pub(crate) weigher: Box<Weigher<V>>,
}

pub(crate) type Weigher<V> = dyn Fn(&Key, &V) -> usize + Send + Sync;

/// Where a get that found nothing cached stands.
pub(crate) enum Departure<V> {
    Landed(Outcome<V>),
    Waiting(Passenger<V>),
}

/// Where a get stands that asked for a flight.
pub(crate) enum Boarding<V> {
    /// It is on us to bring the value.
    Lead(Pilot<V>, Permit),
    /// Another brings it, or it is there, or there are too many under way.
    Done(Departure<V>),
}

impl<V: Value> Core<V> {
    pub(crate) fn new(
        name: Arc<str>,
        groups: &Groups,
        loader: Arc<dyn DynLoader<V>>,
        settings: Settings<V>,
        cache: Cache<V>,
    ) -> Arc<Self> {
        Arc::new(Core {
            name,
            cache,
            flights: Table::default(),
            members: groups.members().clone(),
            loader,
            permits: Permits::new(settings.concurrent_max),
            settings,
            clock: groups.clock().clone(),
            counters: Counters::default(),
            peer_warnings: Seldom::default(),
        })
    }

    /// A hit ends here.
    pub(crate) fn look_up(&self, key: &[u8], reader: Reader) -> Option<Hit<V>> {
        self.cache.get(key, reader, self.clock.coarse_ms())
    }

    /// A miss of this node's own caller goes on here: to the loader if we own the key, else to its owner.
    pub(crate) fn depart(self: &Arc<Self>, key: &[u8]) -> Departure<V> {
        let (key, runtime) = match self.prepare(key) {
            Ok(prepared) => prepared,
            Err(error) => return Departure::Landed(Err(error)),
        };
        let view = self.members.view();
        match view.owner(key.as_bytes()) {
            Owner::Local => self.load(key, Reader::Caller, &runtime, None),
            Owner::Remote(peer) => self.fetch(key, peer, view.digest(), &runtime),
        }
    }

    /// A peer's miss goes on here. It is loaded here whoever owns the key, for what arrives over the network never
    /// travels on: that is all that keeps members who disagree about the owner from waiting for each other.
    pub(crate) fn depart_for_peer(self: &Arc<Self>, key: &[u8]) -> Departure<V> {
        match self.prepare(key) {
            Ok((key, runtime)) => self.load(key, Reader::Peer, &runtime, None),
            Err(error) => Departure::Landed(Err(error)),
        }
    }

    /// What every miss needs: a key of its own, a runtime, a clock that ticks.
    fn prepare(&self, key: &[u8]) -> Result<(Key, Handle), Error> {
        self.counters.loads.count();
        if key.len() > self.settings.key_bytes_max {
            return Err(Error::new(ErrorKind::KeyTooLong));
        }
        let runtime = Handle::try_current().map_err(|_| Error::new(ErrorKind::NoRuntime))?;
        self.clock.start(&runtime);
        Ok((Key::copy_from(key), runtime))
    }

    /// Joins the flight of `key` or starts one, with the `permit` that the caller has already or with a new one.
    pub(crate) fn board(&self, key: FlightKey, reader: Reader, permit: Option<Permit>) -> Boarding<V> {
        let mut shard = self.flights.lock(&key);
        // Look again: a flight may have landed between our miss and our turn, and its value is in the cache by now.
        // Both happen under the shard's lock, so there is no moment between them.
        if let Some(hit) = self.cache.peek(key.key.as_bytes(), reader, self.clock.coarse_ms()) {
            self.counters.late_hits.count();
            return Boarding::Done(Departure::Landed(Ok(hit.into())));
        }
        let joined = shard.join(key);
        drop(shard);
        match joined {
            Join::Wait(passenger) => Boarding::Done(Departure::Waiting(passenger)),
            Join::Lead(pilot) => self.take_off(pilot, permit),
        }
    }

    fn take_off(&self, pilot: Pilot<V>, permit: Option<Permit>) -> Boarding<V> {
        let Some(permit) = permit.or_else(|| self.permits.acquire()) else {
            self.counters.overloads.count();
            let overloaded = Error::new(ErrorKind::Overloaded);
            pilot.finish(Err(overloaded.clone()));
            return Boarding::Done(Departure::Landed(Err(overloaded)));
        };
        self.counters.loads_deduped.count();
        Boarding::Lead(pilot, permit)
    }

    pub(crate) fn stats(&self) -> Stats {
        let (main, hot) = self.cache.stats();
        Stats { under_way: self.flights.len() as u64, ..self.counters.stats(main, hot) }
    }

    /// Has the member list tell us of every change of the ring.
    pub(crate) fn follow_members(self: &Arc<Self>) {
        let weak: Weak<Self> = Arc::downgrade(self);
        self.members.follow(weak);
    }
}

impl<V: Value> Rehome for Core<V> {
    fn rehome(&self) {
        let view = self.members.view();
        let hot_ttl = self.settings.hot_ttl;
        let expires_ms = (!hot_ttl.is_zero()).then(|| self.clock.deadline_ms(hot_ttl));
        self.cache.rehome(|key| view.owns(key.as_bytes()), expires_ms);
    }
}

impl<V> From<Hit<V>> for Answer<V> {
    fn from(hit: Hit<V>) -> Self {
        Answer { value: hit.value, source: hit.source }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;
    use crate::{Bytes, Groups, builder::GroupBuilder, with};

    /// The interleaving: we look and find nothing; another flight starts, lands and publishes; only then do we depart.
    #[tokio::test]
    async fn a_leader_that_comes_late_finds_what_the_first_one_left() {
        let loads = Arc::new(AtomicUsize::new(0));
        let loader = with(loads.clone(), |loads: Arc<AtomicUsize>, _| async move {
            loads.fetch_add(1, SeqCst);
            Ok(Bytes::from_static(b"value"))
        });
        let builder: GroupBuilder<Bytes> = Groups::new(Members::alone()).group("group", loader);
        let core = builder.build_core().expect("the settings are fine");
        assert!(core.look_up(b"key", Reader::Caller).is_none());
        core.depart(b"key").outcome().await.expect("the loader brings a value");
        let before = core.stats().main;
        assert!(matches!(core.depart(b"key"), Departure::Landed(Ok(_))));
        let after = core.stats().main;
        assert_eq!((loads.load(SeqCst), before.items, before.bytes), (1, after.items, after.bytes));
    }
}
