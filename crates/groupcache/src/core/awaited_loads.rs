//! The loads that a peer's request for many keys waits for, and the values that they land with.
//!
//! The peer may not read. A flight keeps its result for as long as somebody waits for it, so a
//! thousand answers that nobody polls would be a thousand values outside every budget. A task waits
//! in their place: it hands on the values that find room, and of the others only the word that they
//! are there. Those are taken from the cache when they can be sent.

use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::{sync::oneshot, task::AbortHandle};

use crate::{
    core::Core,
    core::get_context::GetContext,
    core::join::Started,
    core::reply::{encode, find_or_load},
    key::Key,
    peer::served_group::{HoldLimit, Served},
    store::flight::Outcome,
    value::Value,
};

/// The loads of one request.
pub(super) struct AwaitedLoads<V> {
    core: Core<V>,
    context: GetContext,
    limit: Arc<dyn HoldLimit>,
    loads: Vec<Load<V>>,
    watcher: Arc<Watcher>,
}

struct Load<V> {
    key: Key,
    started: Started<V>,
    landed: oneshot::Sender<Landed<V>>,
}

/// The result of a load, with the room that its value has; or `None` for one that found no room.
type Landed<V> = Option<(Outcome<V>, Option<Box<dyn Send + Sync>>)>;

/// The task that waits for the loads. It ends when nobody waits for an answer any more.
#[derive(Default)]
struct Watcher(std::sync::OnceLock<AbortHandle>);

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(task) = self.0.get() {
            task.abort();
        }
    }
}

impl<V: Value> AwaitedLoads<V> {
    pub(super) fn new(core: Core<V>, context: GetContext, limit: Arc<dyn HoldLimit>) -> Self {
        AwaitedLoads { core, context, limit, loads: Vec::new(), watcher: Arc::default() }
    }

    /// Adds a load. The answer is there when the load has landed.
    pub(super) fn add(&mut self, key: Key, started: Started<V>) -> Served {
        let (sender, landed) = oneshot::channel();
        let (core, context, watcher) = (self.core.clone(), self.context, self.watcher.clone());
        self.loads.push(Load { key: key.clone(), started, landed: sender });
        Served::Loading(Box::pin(async move {
            let landed = landed.await;
            drop(watcher);
            match landed {
                Ok(Some((outcome, room))) => {
                    let answer = encode(&core.state, outcome);
                    // The server counts what it is about to send.
                    drop(room);
                    answer
                }
                Ok(None) | Err(_) => {
                    let outcome = find_or_load(&core, &key, context).await;
                    encode(&core.state, outcome)
                }
            }
        }))
    }

    /// Waits for the loads from now on, in a task of the caller's runtime.
    pub(super) fn watch(self) {
        let AwaitedLoads { core, context, limit, loads, watcher } = self;
        if loads.is_empty() {
            return;
        }
        let task = tokio::spawn(async move {
            let land = |load: Load<V>| async {
                let Load { key, started, landed } = load;
                let outcome = core.wait(&key, context, started).await;
                // Nobody may be left who waits for it.
                drop(landed.send(with_room(outcome, &*limit)));
            };
            let mut all: FuturesUnordered<_> = loads.into_iter().map(land).collect();
            while all.next().await.is_some() {}
        });
        let _ = watcher.0.set(task.abort_handle());
    }
}

/// The outcome, with room for its value; `None` if there is none.
fn with_room<V: Value>(outcome: Outcome<V>, limit: &dyn HoldLimit) -> Landed<V> {
    let weight = outcome.as_ref().ok().and_then(|found| found.value.as_ref()).map(V::weight);
    match weight {
        None => Some((outcome, None)),
        Some(weight) => limit.take_room(weight).map(|room| (outcome, Some(room))),
    }
}
