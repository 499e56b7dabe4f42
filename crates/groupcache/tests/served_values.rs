//! Values that are in memory for a peer that asked for many keys and does not read.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
};
use std::time::Duration;

use peercache_groupcache::{
    BoxError, Bytes, Clock, Group, Groups, HoldAll, HoldLimit, Key, LoadError, Members, Served, Terms, Value, loader_fn,
};
use support::{settle, soon};
use tokio::sync::Semaphore;

const KEYS: usize = 300;
const VALUE_BYTES: usize = 4 * 1024;

/// A value that is costly to clone. It counts how many are alive.
struct Counted(Arc<Alive>);

#[derive(Default)]
struct Alive {
    now: AtomicUsize,
    most: AtomicUsize,
    loads: AtomicUsize,
}

impl Alive {
    fn born(self: &Arc<Self>) -> Counted {
        self.most.fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
        Counted(self.clone())
    }

    /// The number that is alive, and the most since the last call.
    fn take(&self) -> (usize, usize) {
        let now = self.now.load(SeqCst);
        (now, self.most.swap(now, SeqCst))
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.born()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
    }
}

impl Value for Counted {
    fn encode(&self) -> Result<Bytes, BoxError> {
        Ok(Bytes::from(vec![b'x'; VALUE_BYTES]))
    }

    fn decode(_: Bytes) -> Result<Self, BoxError> {
        Err("it is never fetched".into())
    }

    fn weight(&self) -> usize {
        VALUE_BYTES
    }
}

/// Admits some values, and has room for some that have been loaded.
struct Limit {
    admitted: AtomicUsize,
    room: Arc<Semaphore>,
}

impl Limit {
    fn new(admitted: usize, room: usize) -> Arc<Self> {
        Arc::new(Limit { admitted: AtomicUsize::new(admitted), room: Arc::new(Semaphore::new(room)) })
    }
}

impl HoldLimit for Limit {
    fn admits(&self, bytes: usize) -> bool {
        assert_eq!(bytes, VALUE_BYTES);
        self.admitted.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    fn take_room(&self, bytes: usize) -> Option<Box<dyn Send + Sync>> {
        assert_eq!(bytes, VALUE_BYTES);
        Some(Box::new(self.room.clone().try_acquire_owned().ok()?))
    }
}

/// A group of such values; its loads end when `go_on` has permits.
struct Node {
    groups: Groups,
    group: Group<Counted>,
    alive: Arc<Alive>,
    go_on: Arc<Semaphore>,
}

impl Node {
    fn new(max_bytes: usize) -> Self {
        let groups = Groups::new(Members::alone());
        let (alive, go_on) = (Arc::<Alive>::default(), Arc::new(Semaphore::new(0)));
        let (counted, gate) = (alive.clone(), go_on.clone());
        let loader = loader_fn(move |_: Key| {
            let (counted, gate) = (counted.clone(), gate.clone());
            async move {
                counted.loads.fetch_add(1, SeqCst);
                gate.acquire().await.expect("it is never closed").forget();
                Ok::<_, LoadError>(counted.born())
            }
        });
        let group = groups.group("g", loader).max_bytes(max_bytes).build().expect("the settings are fine");
        Node { groups, group, alive, go_on }
    }

    fn answer(&self, limit: Arc<Limit>) -> Vec<Served> {
        let keys = (0..KEYS).map(|number| Key::from(number.to_string())).collect();
        self.groups.get("g").expect("it is registered").answer_many(keys, Terms::new(), limit)
    }

    fn cached(&self) -> usize {
        usize::try_from(self.group.stats().main.items).expect("there are few")
    }
}

async fn all_arrive(served: Vec<Served>) {
    for answer in served {
        let reply = soon(answer.finish()).await.expect("there is a value");
        assert_eq!(reply.value.expect("there is a value").len(), VALUE_BYTES);
    }
}

#[tokio::test(start_paused = true)]
async fn hits_that_are_not_admitted_are_cloned_one_at_a_time() {
    let node = Node::new(16 << 20);
    node.go_on.add_permits(KEYS);
    all_arrive(node.answer(Limit::new(0, KEYS))).await;
    assert_eq!(node.alive.take().0, KEYS, "all are cached, and nobody has a clone");
    let served = node.answer(Limit::new(3, 0));
    assert_eq!(served.iter().filter(|served| matches!(served, Served::Ready(_))).count(), 3);
    assert_eq!(node.alive.take(), (KEYS, KEYS + 1));
    let stats = node.group.stats();
    all_arrive(served).await;
    assert_eq!(node.alive.take(), (KEYS, KEYS + 1));
    assert_eq!(node.group.stats().main.hits, stats.main.hits, "each hit is counted once");
    assert_eq!(node.alive.loads.load(SeqCst), KEYS);
}

#[tokio::test(start_paused = true)]
async fn values_that_land_are_held_as_far_as_there_is_room() {
    for (max_bytes, loads) in [(16 << 20, Some(KEYS)), (64 << 10, None)] {
        let node = Node::new(max_bytes);
        let limit = Limit::new(0, 10);
        let served = node.answer(limit.clone());
        node.go_on.add_permits(10 * KEYS);
        settle().await;
        assert_eq!(node.group.stats().in_flight, 0);
        let (alive, _) = node.alive.take();
        assert_eq!(alive, node.cached() + 10, "of a budget of {max_bytes}");
        all_arrive(served).await;
        let made = node.alive.loads.load(SeqCst);
        assert!(loads.map_or(made <= 2 * KEYS, |loads| made == loads), "{made} loads");
        assert_eq!((node.alive.take().0, limit.room.available_permits()), (node.cached(), 10));
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_takes_its_values_with_it() {
    let node = Node::new(16 << 20);
    let limit = Limit::new(0, 10);
    let served = node.answer(limit.clone());
    node.go_on.add_permits(KEYS / 2);
    settle().await;
    drop(served);
    settle().await;
    assert_eq!((node.alive.take().0, limit.room.available_permits()), (node.cached(), 10));
    // The loads go on.
    node.go_on.add_permits(KEYS);
    settle().await;
    assert_eq!((node.cached(), node.alive.take().0), (KEYS, KEYS));
}

#[tokio::test(start_paused = true)]
async fn a_value_that_has_left_the_cache_is_loaded_again() {
    let node = Node::new(16 << 20);
    let served = node.answer(Limit::new(0, 0));
    node.go_on.add_permits(2 * KEYS);
    settle().await;
    soon(node.group.clear()).await.expect("there is no other member");
    all_arrive(served).await;
    assert_eq!(node.alive.loads.load(SeqCst), 2 * KEYS);
}

/// A process that is stopped has no ticks; when it goes on, requests may be read before the next.
#[tokio::test(start_paused = true)]
async fn a_node_that_was_stopped_answers_peers_with_nothing_that_has_expired() {
    let seconds = Arc::new(AtomicU64::new(0));
    let now = seconds.clone();
    let groups = Groups::with_clock(Members::alone(), Clock::simulated(move || Duration::from_secs(now.load(SeqCst))));
    let loads = Arc::new(AtomicUsize::new(0));
    let counted = loads.clone();
    let loader = loader_fn(move |_: Key| {
        let load = counted.fetch_add(1, SeqCst);
        async move { Ok::<_, LoadError>(load.to_string()) }
    });
    let group = groups.group("g", loader).time_to_live(Duration::from_secs(10)).expiry_jitter(0.0).build().unwrap();
    let served = groups.get("g").unwrap();
    for (after, many) in [(0, false), (11, false), (22, true)] {
        seconds.store(after, SeqCst);
        let answer = if many {
            served.clone().answer_many(vec![Key::from("key")], Terms::new(), Arc::new(HoldAll)).remove(0)
        } else {
            served.clone().answer(b"key", Terms::new())
        };
        soon(answer.finish()).await.expect("there is a value");
        assert_eq!(loads.load(SeqCst), usize::try_from(after / 11).unwrap() + 1);
    }
    drop(group);
}
