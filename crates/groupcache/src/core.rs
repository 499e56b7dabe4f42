//! The steps of a get, in their order: look up; on a miss start a load or a fetch, or join one that
//! is in flight; wait; start again if it ended without a result.
//!
//! A step calls the steps below it and none above. This file calls `load` or `fetch`, each of which
//! joins a flight or leads one (`join`); the leader gets the value and ends the flight (`publish`).
//! A fetch may fall back to a load. All of them share `state`, which calls none of them.

pub(crate) mod apply;
pub(crate) mod awaited_loads;
pub(crate) mod broadcast;
pub(crate) mod carriers;
pub(crate) mod fetch;
pub(crate) mod fetch_limit;
pub(crate) mod flight_wait;
pub(crate) mod get_context;
pub(crate) mod join;
pub(crate) mod load;
pub(crate) mod load_batch;
pub(crate) mod load_limit;
pub(crate) mod logged_key;
pub(crate) mod publish;
pub(crate) mod reply;
pub(crate) mod second_asks;
pub(crate) mod serve;
pub(crate) mod state;
pub(crate) mod watchdog;

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use tokio::runtime::Handle;

use crate::{
    cache::entry::{Freshness, Requester},
    cache::shard::EntryRef,
    core::carriers::Place,
    core::fetch::{FetchFrom, fetch, fetch_many},
    core::get_context::GetContext,
    core::join::Started,
    core::load::{load, load_many},
    core::state::GroupState,
    error::{Error, ErrorKind},
    key::Key,
    loader::scope::LoadScope,
    members::view::{Owner, View},
    store::flight::{FlightResult, Outcome},
    value::Value,
};

/// A handle of a group that takes a get from step to step.
pub(crate) struct Core<V> {
    pub(crate) state: Arc<GroupState<V>>,
}

/// Keys with their positions, by the position of the member to ask for them.
type KeysByMember = BTreeMap<Option<usize>, Vec<(usize, Key)>>;

/// The most times that a get starts again because its key was removed in the meantime.
pub(crate) const MAX_RETRIES: u32 = 64;

impl<V: Value> Core<V> {
    pub(crate) fn new(state: Arc<GroupState<V>>) -> Self {
        Core { state }
    }

    /// Looks the key up in the cache. A hit ends here, with the result of `read`.
    #[inline]
    pub(crate) fn look_up<R>(
        &self,
        key: &[u8],
        requester: Requester,
        freshness: Freshness,
        read: impl FnOnce(&EntryRef<'_, V>) -> R,
    ) -> Option<R> {
        let now_ms = self.state.clock.coarse_ms();
        let hit = self.state.store.get(key, requester, freshness, now_ms, |seen| (read(&seen), seen.claims_refresh()));
        let (read, is_due) = hit?;
        if is_due {
            self.refresh(key, requester);
        }
        Some(read)
    }

    /// Starts a load or a fetch in the background that replaces a value, or joins the one in
    /// flight.
    #[cold]
    #[inline(never)]
    fn refresh(&self, key: &[u8], requester: Requester) {
        if Handle::try_current().is_ok() {
            self.state.counters.refreshes.count();
            drop(self.start(key, GetContext::for_refresh(requester)));
        }
    }

    /// Starts what a miss needs, or joins it: a load if this node owns the key, else a fetch from
    /// the owner.
    ///
    /// For a peer it is always a load, so a request never makes a second hop. Two members that each
    /// take the other for the owner would otherwise ask each other, and wait for ever.
    pub(crate) fn start(&self, key: &[u8], context: GetContext) -> Started<V> {
        if context.is_over() {
            return Started::failed(Error::new(ErrorKind::DeadlineExceeded));
        }
        let (key, place) = match self.prepare(key) {
            Ok(prepared) => prepared,
            Err(error) => return Started::failed(error),
        };
        let view = self.state.members.view();
        if context.requester == Requester::Peer {
            Self::doubt_owner(&view, &key, &place);
            return load(&self.state, key, context, &place);
        }
        match view.at(self.route(&view, &key, &place)) {
            Owner::Local => load(&self.state, key, context, &place),
            Owner::Remote(remote) => {
                let from = FetchFrom { remote, view: &view, context, place: &place };
                fetch(&self.state, key, from)
            }
        }
    }

    /// Starts many keys, each with its position: one load of many, and one fetch from each owner.
    pub(crate) fn start_many(&self, keys: Vec<(usize, Key)>, context: GetContext) -> Vec<(usize, Key, Started<V>)> {
        let mut started = Vec::with_capacity(keys.len());
        let mut prepared = Vec::with_capacity(keys.len());
        let mut place = None;
        for (position, key) in keys {
            match self.prepare(key.as_bytes()) {
                _ if context.is_over() => {
                    started.push((position, key, Started::failed(Error::new(ErrorKind::DeadlineExceeded))));
                }
                Err(error) => started.push((position, key, Started::failed(error))),
                Ok((key, prepared_place)) => {
                    place = Some(prepared_place);
                    prepared.push((position, key));
                }
            }
        }
        let Some(place) = place else { return started };
        let view = self.state.members.view();
        for (member, keys) in self.by_member(&view, prepared, context.requester, &place) {
            let wanted = keys.iter().map(|(_, key)| key.clone()).collect();
            let results = match view.at(member) {
                Owner::Local => load_many(&self.state, wanted, context, &place),
                Owner::Remote(remote) => {
                    let from = FetchFrom { remote, view: &view, context, place: &place };
                    fetch_many(&self.state, wanted, from)
                }
            };
            started.extend(keys.into_iter().zip(results).map(|((position, key), result)| (position, key, result)));
        }
        started
    }

    /// The keys by the position of the member to ask for them; `None`, this node, is first. A
    /// peer's keys are loaded here, as [`Core::start`] explains.
    fn by_member(&self, view: &View, keys: Vec<(usize, Key)>, requester: Requester, place: &Place) -> KeysByMember {
        let mut by_member = KeysByMember::new();
        for (position, key) in keys {
            let member = match requester {
                Requester::Local => self.route(view, &key, place),
                Requester::Peer => {
                    Self::doubt_owner(view, &key, place);
                    None
                }
            };
            by_member.entry(member).or_default().push((position, key));
        }
        by_member
    }

    /// The position of the member to ask for a key; `None` is this node.
    fn route(&self, view: &View, key: &Key, place: &Place) -> Option<usize> {
        let (group, runtime) = (&self.state.name, place.runtime());
        view.route(key.as_bytes(), |remote| remote.has_undelivered(group, key.as_bytes(), runtime), runtime)
    }

    /// Has a key's owner probed: a peer asks us for the key, so it may hold the owner for down. If
    /// the owner does not answer we act for it, from before the load has ended.
    fn doubt_owner(view: &View, key: &Key, place: &Place) {
        if let Owner::Remote(owner) = view.owner(key.as_bytes())
            && !owner.watch.is_down()
        {
            owner.watch.doubt(place.runtime());
        }
    }

    /// Provides what every miss needs: a key that is owned, a place for its work, a clock that
    /// ticks.
    fn prepare(&self, key: &[u8]) -> Result<(Key, Place), Error> {
        self.state.counters.loads.count();
        if key.len() > self.state.settings.limits.max_key_bytes {
            return Err(Error::new(ErrorKind::KeyTooLong));
        }
        if LoadScope::is_loading((self.state.id(), &self.state.name), key) {
            return Err(Error::new(ErrorKind::RecursiveLoad));
        }
        let place = self.state.place()?;
        self.state.clock.start(place.runtime());
        Ok((Key::copy_from(key), place))
    }

    /// Waits for what was started, to the end of the get.
    pub(crate) async fn wait(&self, key: &Key, context: GetContext, mut started: Started<V>) -> Outcome<V> {
        let mut retries = MAX_RETRIES;
        loop {
            started = match self.retry(key.as_bytes(), context, started.result().await, &mut retries) {
                ControlFlow::Continue(started) => started,
                ControlFlow::Break(outcome) => return self.or_stale(key.as_bytes(), context.requester, outcome),
            }
        }
    }

    /// Starts again if a flight ended without a result; else the get ends with that result, or
    /// after too many retries.
    pub(crate) fn retry(
        &self,
        key: &[u8],
        context: GetContext,
        result: FlightResult<V>,
        retries: &mut u32,
    ) -> ControlFlow<Outcome<V>, Started<V>> {
        match result {
            FlightResult::Done(outcome) => return ControlFlow::Break(outcome),
            // It is not counted: however many callers leave, each does so once.
            FlightResult::Abandoned => {}
            FlightResult::Retry if *retries > 0 => *retries -= 1,
            FlightResult::Retry => return ControlFlow::Break(Err(too_many_retries())),
        }
        ControlFlow::Continue(self.start(key, context))
    }

    /// Replaces an error with a stale value if the group allows one and this requester may see it.
    pub(crate) fn or_stale(&self, key: &[u8], requester: Requester, outcome: Outcome<V>) -> Outcome<V> {
        outcome.or_else(|error| self.state.store.or_stale(key, requester, error, self.state.clock.coarse_ms()))
    }
}

fn too_many_retries() -> Error {
    let message = format!("the key was removed, or its load given up, {MAX_RETRIES} times while it was waited for");
    Error::with_message(ErrorKind::Overloaded, message)
}

impl<V> Clone for Core<V> {
    fn clone(&self) -> Self {
        Core { state: self.state.clone() }
    }
}

#[cfg(all(test, not(peercache_loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use bytes::Bytes;

    use super::*;
    use crate::{builder::GroupBuilder, loader::loader_fn_with, members::Members, registry::Groups};

    /// The interleaving: we look and find nothing; another flight starts, publishes and ends; only
    /// then do we start.
    #[tokio::test]
    async fn a_leader_that_comes_late_finds_what_the_first_one_left() {
        let loads = Arc::new(AtomicUsize::new(0));
        let loader = loader_fn_with(loads.clone(), |loads: Arc<AtomicUsize>, _| async move {
            loads.fetch_add(1, SeqCst);
            Ok(Bytes::from_static(b"value"))
        });
        let builder: GroupBuilder<Bytes> = Groups::new(Members::alone()).group("group", loader);
        let core = builder.build_core().expect("the settings are fine");
        assert!(core.look_up(b"key", Requester::Local, Freshness::AllowStale, |_| ()).is_none());
        let context = GetContext::for_caller(None);
        let started = core.start(b"key", context);
        core.wait(&Key::from("key"), context, started).await.expect("the loader brings a value");
        let before = core.state.stats().main;
        assert!(matches!(core.start(b"key", context), Started::Done(FlightResult::Done(Ok(_)))));
        let after = core.state.stats().main;
        assert_eq!((loads.load(SeqCst), before.items, before.bytes), (1, after.items, after.bytes));
    }
}
