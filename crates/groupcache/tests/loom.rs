//! Every interleaving of what orders a key: the second look, publishing, removing and setting, in the shipped store. Run with
//!
//! ```text
//! RUSTFLAGS="--cfg peercache_loom" cargo test -p peercache-groupcache --test loom --release
//! ```
//!
//! (with a `CARGO_TARGET_DIR` of its own, or everything is built anew each time). At the end stands the same protocol with one lock too
//! few, in which the check finds the removed key that comes back.
#![cfg(peercache_loom)]

use std::hash::{BuildHasherDefault, DefaultHasher};

use loom::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use loom::sync::{Arc, Mutex};
use loom::thread;
use peercache_groupcache::model::{Asked, Heard, Lead, Shelf};
use peercache_singleflight::{Flights, Join, Leader};

/// What the origin holds before the change, what after, and what is set.
const OLD: u32 = 1;
const NEW: u32 = 2;
const SET: u32 = 3;

fn spawn<R: 'static>(shelf: &Shelf, run: impl FnOnce(&Shelf) -> R + 'static) -> thread::JoinHandle<R> {
    let shelf = shelf.clone();
    thread::spawn(move || run(&shelf))
}

fn lead(asked: Asked) -> Lead {
    match asked {
        Asked::Lead(lead) => lead,
        _ => panic!("nobody flies yet"),
    }
}

/// A get from beginning to end: looks, asks, loads what the origin holds or waits, departs anew when it is told to.
fn get(shelf: &Shelf, origin: &AtomicU32) -> u32 {
    loop {
        if let Some(number) = shelf.look() {
            return number;
        }
        match shelf.ask_to_load() {
            Asked::Found(number) => return number,
            Asked::BackedOff => panic!("no load has failed"),
            Asked::Lead(lead) => {
                let waiter = lead.waiter();
                lead.publish(origin.load(SeqCst));
                if let Heard::Value(number) = waiter.hear() {
                    return number;
                }
            }
            Asked::Wait(wait) => {
                if let Heard::Value(number) = wait.hear() {
                    return number;
                }
            }
        }
    }
}

#[test]
fn a_removed_key_does_not_come_back_with_a_load() {
    loom::model(|| {
        let shelf = Shelf::new();
        let lead = lead(shelf.ask_to_load());
        let removing = spawn(&shelf, Shelf::remove);
        lead.publish(OLD);
        removing.join().unwrap();
        assert_eq!(shelf.look(), None, "the removed key came back");
        assert_eq!(shelf.in_flight(), 0);
    });
}

#[test]
fn a_removed_key_does_not_come_back_with_a_fetch() {
    loom::model(|| {
        let shelf = Shelf::new();
        let lead = lead(shelf.ask_to_fetch());
        let removing = spawn(&shelf, Shelf::remove);
        lead.publish(OLD);
        removing.join().unwrap();
        assert_eq!(shelf.look(), None, "the removed key came back");
    });
}

#[test]
fn a_cleared_key_does_not_come_back() {
    loom::model(|| {
        let shelf = Shelf::new();
        let lead = lead(shelf.ask_to_load());
        let clearing = spawn(&shelf, Shelf::clear);
        lead.publish(OLD);
        clearing.join().unwrap();
        assert_eq!(shelf.look(), None, "the cleared key came back");
    });
}

#[test]
fn a_load_does_not_write_over_what_was_set() {
    loom::model(|| {
        let shelf = Shelf::new();
        let lead = lead(shelf.ask_to_load());
        let setting = spawn(&shelf, |shelf| shelf.set(SET));
        lead.publish(OLD);
        setting.join().unwrap();
        assert_eq!(shelf.look(), Some(SET), "an older load wrote over a value that was set");
    });
}

/// Two whole gets and a change have too many interleavings to look at all of them in reasonable time: those in which a thread is interrupted
/// more than four times are left out.
#[test]
fn who_asks_after_the_remove_gets_what_the_origin_holds_now() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(|| {
        let shelf = Shelf::new();
        let origin = Arc::new(AtomicU32::new(OLD));
        let getting = spawn(&shelf, {
            let origin = origin.clone();
            move |shelf| get(shelf, &origin)
        });
        origin.store(NEW, SeqCst);
        shelf.remove();
        assert_eq!(get(&shelf, &origin), NEW, "an old value was answered after the remove");
        getting.join().unwrap();
        assert_eq!(shelf.look(), Some(NEW));
    });
}

#[test]
fn who_waits_when_the_remove_begins_is_not_told_the_old_value_after_it_ended() {
    loom::model(|| {
        let shelf = Shelf::new();
        let lead = lead(shelf.ask_to_load());
        let waiter = lead.waiter();
        let landing = thread::spawn(move || lead.publish(OLD));
        shelf.remove();
        let removed_under_way = shelf.look().is_none();
        // Either it landed before the remove, and its value is history, or nobody hears of it.
        let heard = waiter.hear();
        landing.join().unwrap();
        assert!(removed_under_way);
        assert!(matches!(heard, Heard::Value(OLD) | Heard::Again), "{heard:?}");
        assert_eq!(shelf.look(), None);
    });
}

#[test]
fn who_waits_is_told_at_once_that_the_key_was_removed() {
    loom::model(|| {
        let shelf = Shelf::new();
        let lead = lead(shelf.ask_to_load());
        let Asked::Wait(wait) = shelf.ask_to_load() else { panic!("a load is under way") };
        let removing = spawn(&shelf, Shelf::remove);
        // The load never ends while it waits.
        assert_eq!(wait.hear(), Heard::Again);
        removing.join().unwrap();
        lead.publish(OLD);
        assert_eq!(shelf.look(), None);
    });
}

#[test]
fn two_removes_and_a_load_leave_nothing() {
    loom::model(|| {
        let shelf = Shelf::new();
        let origin = Arc::new(AtomicU32::new(OLD));
        let lead = lead(shelf.ask_to_load());
        let removing = spawn(&shelf, Shelf::remove);
        lead.publish(origin.load(SeqCst));
        shelf.remove();
        removing.join().unwrap();
        assert_eq!((shelf.look(), shelf.in_flight()), (None, 0));
    });
}

#[test]
fn values_that_are_set_at_once_are_in_one_order_for_all() {
    loom::model(|| {
        let shelf = Shelf::new();
        let setting = spawn(&shelf, |shelf| {
            shelf.set(OLD);
            shelf.look().expect("a value was set")
        });
        shelf.set(NEW);
        let here = shelf.look().expect("a value was set");
        let there = setting.join().unwrap();
        let last = shelf.look().expect("a value was set");
        // Whoever saw the other's value saw it written over his own, so the last is that one.
        assert!((here == NEW || last == OLD) && (there == OLD || last == NEW), "{here} {there} {last}");
    });
}

#[test]
fn two_who_ask_share_one_load() {
    loom::model(|| {
        let shelf = Shelf::new();
        let loads = Arc::new(AtomicUsize::new(0));
        let ask = |shelf: &Shelf, loads: &AtomicUsize| match shelf.ask_to_load() {
            Asked::Found(number) => number,
            Asked::Lead(lead) => {
                loads.fetch_add(1, SeqCst);
                lead.publish(OLD);
                OLD
            }
            Asked::Wait(wait) => match wait.hear() {
                Heard::Value(number) => number,
                other => panic!("{other:?}"),
            },
            Asked::BackedOff => panic!("no load has failed"),
        };
        let asking = {
            let (shelf, loads) = (shelf.clone(), loads.clone());
            thread::spawn(move || ask(&shelf, &loads))
        };
        assert_eq!((ask(&shelf, &loads), asking.join().unwrap()), (OLD, OLD));
        assert_eq!(loads.load(SeqCst), 1, "the second look missed what the first load left");
    });
}

#[test]
fn a_failure_of_what_was_removed_does_not_hold_anybody_up() {
    loom::model(|| {
        let shelf = Shelf::new();
        let lead = lead(shelf.ask_to_load());
        let removing = spawn(&shelf, Shelf::remove);
        lead.fail();
        removing.join().unwrap();
        assert!(matches!(shelf.ask_to_load(), Asked::Lead(_)), "the failure outlived the remove");
    });
}

/// The same with a lock too few: whether the flight is still wanted is asked first, and the value is written then.
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

    fn publish(&self, leader: Leader<u8, u32, BuildHasherDefault<DefaultHasher>>, number: u32) {
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
        let Join::Lead(leader) = naive.flights.lock(&KEY).join(KEY) else { panic!("nobody flies yet") };
        let removing = {
            let naive = naive.clone();
            thread::spawn(move || naive.remove())
        };
        naive.publish(leader, OLD);
        removing.join().unwrap();
        assert_eq!(*naive.cache.lock().unwrap(), None, "the removed key came back");
    });
}

/// And without the second look, two loads of one key follow each other.
#[test]
#[should_panic(expected = "loaded twice")]
fn without_a_second_look_the_check_finds_two_loads() {
    loom::model(|| {
        let naive = Naive::new();
        let loads = Arc::new(AtomicUsize::new(0));
        let ask = |naive: &Naive, loads: &AtomicUsize| {
            if naive.cache.lock().unwrap().is_some() {
                return;
            }
            let join = naive.flights.lock(&KEY).join(KEY);
            if let Join::Lead(leader) = join {
                loads.fetch_add(1, SeqCst);
                naive.publish(leader, OLD);
            }
        };
        let asking = {
            let (naive, loads) = (naive.clone(), loads.clone());
            thread::spawn(move || ask(&naive, &loads))
        };
        ask(&naive, &loads);
        asking.join().unwrap();
        assert_eq!(loads.load(SeqCst), 1, "loaded twice");
    });
}
