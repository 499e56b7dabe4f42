//! Every interleaving of the steps that order a key, in the shipped store: the second lookup,
//! publishing, removing and setting. Run with
//!
//! ```text
//! RUSTFLAGS="--cfg peercache_loom" cargo test -p peercache-groupcache --test loom --release
//! ```
//!
//! and a `CARGO_TARGET_DIR` of its own, or everything is built again each time. At the end stands
//! the same protocol with one lock too few, in which the check finds the removed key that comes
//! back.
#![cfg(peercache_loom)]

use std::hash::{BuildHasherDefault, DefaultHasher};

use loom::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use loom::sync::{Arc, Mutex};
use loom::thread;
use peercache_groupcache::model::{Joined, KeyStore, Leader, Waited};
use peercache_singleflight::{self as singleflight, Flights, Join};

/// The value at the origin before the change, the one after it, and the one that is set.
const OLD: u32 = 1;
const NEW: u32 = 2;
const SET: u32 = 3;

fn spawn<R: 'static>(store: &KeyStore, run: impl FnOnce(&KeyStore) -> R + 'static) -> thread::JoinHandle<R> {
    let store = store.clone();
    thread::spawn(move || run(&store))
}

fn lead(joined: Joined) -> Leader {
    match joined {
        Joined::Lead(leader) => leader,
        _ => panic!("no flight is in progress"),
    }
}

/// A get from beginning to end: looks up, joins, loads the origin's value or waits, and starts
/// again when it is told to retry.
fn get(store: &KeyStore, origin: &AtomicU32) -> u32 {
    loop {
        if let Some(number) = store.look_up() {
            return number;
        }
        match store.join_load() {
            Joined::Hit(number) => return number,
            Joined::BackedOff => panic!("no load has failed"),
            Joined::Lead(leader) => {
                let waiter = leader.waiter();
                leader.publish(origin.load(SeqCst));
                if let Waited::Value(number) = waiter.wait() {
                    return number;
                }
            }
            Joined::Wait(waiter) => {
                if let Waited::Value(number) = waiter.wait() {
                    return number;
                }
            }
        }
    }
}

#[test]
fn a_removed_key_does_not_come_back_with_a_load() {
    loom::model(|| {
        let store = KeyStore::new();
        let leader = lead(store.join_load());
        let removing = spawn(&store, KeyStore::remove);
        leader.publish(OLD);
        removing.join().unwrap();
        assert_eq!(store.look_up(), None, "the removed key came back");
        assert_eq!(store.in_flight(), 0);
    });
}

#[test]
fn a_removed_key_does_not_come_back_with_a_fetch() {
    loom::model(|| {
        let store = KeyStore::new();
        let leader = lead(store.join_fetch());
        let removing = spawn(&store, KeyStore::remove);
        leader.publish(OLD);
        removing.join().unwrap();
        assert_eq!(store.look_up(), None, "the removed key came back");
    });
}

#[test]
fn a_cleared_key_does_not_come_back() {
    loom::model(|| {
        let store = KeyStore::new();
        let leader = lead(store.join_load());
        let clearing = spawn(&store, KeyStore::clear);
        leader.publish(OLD);
        clearing.join().unwrap();
        assert_eq!(store.look_up(), None, "the cleared key came back");
    });
}

#[test]
fn a_load_does_not_write_over_what_was_set() {
    loom::model(|| {
        let store = KeyStore::new();
        let leader = lead(store.join_load());
        let setting = spawn(&store, |store| store.set(SET));
        leader.publish(OLD);
        setting.join().unwrap();
        assert_eq!(store.look_up(), Some(SET), "an older load wrote over a value that was set");
    });
}

/// Two whole gets and a change have too many interleavings to check all of them in reasonable time:
/// those in which a thread is interrupted more than four times are left out.
#[test]
fn a_get_after_the_remove_sees_the_new_value_of_the_origin() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(|| {
        let store = KeyStore::new();
        let origin = Arc::new(AtomicU32::new(OLD));
        let getting = spawn(&store, {
            let origin = origin.clone();
            move |store| get(store, &origin)
        });
        origin.store(NEW, SeqCst);
        store.remove();
        assert_eq!(get(&store, &origin), NEW, "an old value was answered after the remove");
        getting.join().unwrap();
        assert_eq!(store.look_up(), Some(NEW));
    });
}

#[test]
fn a_waiter_does_not_get_the_old_value_after_the_remove_has_returned() {
    loom::model(|| {
        let store = KeyStore::new();
        let leader = lead(store.join_load());
        let waiter = leader.waiter();
        let publishing = thread::spawn(move || leader.publish(OLD));
        store.remove();
        let was_removed = store.look_up().is_none();
        // Either it published before the remove, or the waiter is told to retry.
        let waited = waiter.wait();
        publishing.join().unwrap();
        assert!(was_removed);
        assert!(matches!(waited, Waited::Value(OLD) | Waited::Retry), "{waited:?}");
        assert_eq!(store.look_up(), None);
    });
}

#[test]
fn a_waiter_is_told_at_once_that_the_key_was_removed() {
    loom::model(|| {
        let store = KeyStore::new();
        let leader = lead(store.join_load());
        let Joined::Wait(waiter) = store.join_load() else { panic!("a load is in flight") };
        let removing = spawn(&store, KeyStore::remove);
        // The load never ends while it waits.
        assert_eq!(waiter.wait(), Waited::Retry);
        removing.join().unwrap();
        leader.publish(OLD);
        assert_eq!(store.look_up(), None);
    });
}

#[test]
fn two_removes_and_a_load_leave_nothing() {
    loom::model(|| {
        let store = KeyStore::new();
        let origin = Arc::new(AtomicU32::new(OLD));
        let leader = lead(store.join_load());
        let removing = spawn(&store, KeyStore::remove);
        leader.publish(origin.load(SeqCst));
        store.remove();
        removing.join().unwrap();
        assert_eq!((store.look_up(), store.in_flight()), (None, 0));
    });
}

#[test]
fn two_sets_at_once_have_one_order_for_all() {
    loom::model(|| {
        let store = KeyStore::new();
        let setting = spawn(&store, |store| {
            store.set(OLD);
            store.look_up().expect("a value was set")
        });
        store.set(NEW);
        let here = store.look_up().expect("a value was set");
        let there = setting.join().unwrap();
        let last = store.look_up().expect("a value was set");
        // A thread that sees the other's value saw it replace its own, so it is the last one.
        assert!((here == NEW || last == OLD) && (there == OLD || last == NEW), "{here} {there} {last}");
    });
}

#[test]
fn two_gets_share_one_load() {
    loom::model(|| {
        let store = KeyStore::new();
        let loads = Arc::new(AtomicUsize::new(0));
        let get = |store: &KeyStore, loads: &AtomicUsize| match store.join_load() {
            Joined::Hit(number) => number,
            Joined::Lead(leader) => {
                loads.fetch_add(1, SeqCst);
                leader.publish(OLD);
                OLD
            }
            Joined::Wait(waiter) => match waiter.wait() {
                Waited::Value(number) => number,
                other => panic!("{other:?}"),
            },
            Joined::BackedOff => panic!("no load has failed"),
        };
        let getting = {
            let (store, loads) = (store.clone(), loads.clone());
            thread::spawn(move || get(&store, &loads))
        };
        assert_eq!((get(&store, &loads), getting.join().unwrap()), (OLD, OLD));
        assert_eq!(loads.load(SeqCst), 1, "the second lookup missed the value of the first load");
    });
}

#[test]
fn a_failure_from_before_a_remove_starts_no_back_off() {
    loom::model(|| {
        let store = KeyStore::new();
        let leader = lead(store.join_load());
        let removing = spawn(&store, KeyStore::remove);
        leader.fail();
        removing.join().unwrap();
        assert!(matches!(store.join_load(), Joined::Lead(_)), "the failure outlived the remove");
    });
}

/// The same with a lock too few: it asks whether the flight is still mapped, and then writes.
#[derive(Clone)]
struct Naive {
    flights: Flights<u8, u32, BuildHasherDefault<DefaultHasher>>,
    cache: Arc<Mutex<Option<u32>>>,
}

const KEY: u8 = 7;

impl Naive {
    fn new() -> Self {
        Naive { flights: Flights::with_shards(1, Default::default()), cache: Arc::default() }
    }

    fn publish(&self, leader: singleflight::Leader<u8, u32, BuildHasherDefault<DefaultHasher>>, number: u32) {
        if !leader.is_forgotten() {
            *self.cache.lock().unwrap() = Some(number);
        }
        leader.finish(number);
    }

    fn remove(&self) {
        self.flights.forget(&KEY);
        *self.cache.lock().unwrap() = None;
    }
}

#[test]
#[should_panic(expected = "the removed key came back")]
fn with_separate_locks_the_check_finds_the_key_that_comes_back() {
    loom::model(|| {
        let naive = Naive::new();
        let Join::Lead(leader) = naive.flights.lock(&KEY).join(KEY) else { panic!("no flight is in progress") };
        let removing = {
            let naive = naive.clone();
            thread::spawn(move || naive.remove())
        };
        naive.publish(leader, OLD);
        removing.join().unwrap();
        assert_eq!(*naive.cache.lock().unwrap(), None, "the removed key came back");
    });
}

/// Without the second lookup, two loads of one key follow each other.
#[test]
#[should_panic(expected = "loaded twice")]
fn without_a_second_lookup_the_check_finds_two_loads() {
    loom::model(|| {
        let naive = Naive::new();
        let loads = Arc::new(AtomicUsize::new(0));
        let get = |naive: &Naive, loads: &AtomicUsize| {
            if naive.cache.lock().unwrap().is_some() {
                return;
            }
            let join = naive.flights.lock(&KEY).join(KEY);
            if let Join::Lead(leader) = join {
                loads.fetch_add(1, SeqCst);
                naive.publish(leader, OLD);
            }
        };
        let getting = {
            let (naive, loads) = (naive.clone(), loads.clone());
            thread::spawn(move || get(&naive, &loads))
        };
        get(&naive, &loads);
        getting.join().unwrap();
        assert_eq!(loads.load(SeqCst), 1, "loaded twice");
    });
}
