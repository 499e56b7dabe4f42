//! Every interleaving of the table as it ships, small cases first.
//!
//! ```text
//! RUSTFLAGS="--cfg peercache_loom" cargo test -p peercache-singleflight --test loom --release
//! ```
//!
//! Give it a `CARGO_TARGET_DIR` of its own, or everything is built again each time. The async layer
//! is left out of such a build. Loom itself reports deadlocks, such as a waiter that nobody wakes,
//! and flights that leak.
#![cfg(peercache_loom)]

use std::future::Future;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use loom::future::block_on;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use peercache_singleflight::{Abandoned, Join, Waiter};

type Hasher = BuildHasherDefault<DefaultHasher>;
type Flights = peercache_singleflight::Flights<u8, u32, Hasher>;
type Leader = peercache_singleflight::Leader<u8, u32, Hasher>;

const KEY: u8 = 7;

#[test]
fn two_joiners_are_one_leader_and_one_waiter() {
    loom::model(|| {
        let flights = flights();
        let one = spawn(&flights, |flights| ask(flights, 1));
        let two = ask(&flights, 2);
        let answers = (one.join().unwrap(), two);
        // At the same time they share one result; one after the other each gets its own.
        let expected = [(Ok(1), Ok(1)), (Ok(2), Ok(2)), (Ok(1), Ok(2))];
        assert!(expected.contains(&answers), "{answers:?}");
        assert!(flights.is_empty());
    });
}

#[test]
fn a_waiter_that_registers_while_the_leader_finishes_is_woken() {
    loom::model(|| {
        let flights = flights();
        let leader = lead(&flights);
        let waiter = wait(&flights);
        let waiting = thread::spawn(move || block_on(waiter));
        leader.finish(1);
        assert_eq!(waiting.join().unwrap(), Ok(1));
    });
}

#[test]
fn a_waiter_that_changes_its_waker_is_woken_by_the_last() {
    loom::model(|| {
        let flights = flights();
        let leader = lead(&flights);
        let mut waiter = wait(&flights);
        let waiting = thread::spawn(move || {
            let _ = poll(&mut waiter);
            block_on(waiter)
        });
        leader.finish(1);
        assert_eq!(waiting.join().unwrap(), Ok(1));
    });
}

#[test]
fn a_dropped_leader_leaves_nobody_waiting() {
    loom::model(|| {
        let flights = flights();
        let leader = lead(&flights);
        let asking = spawn(&flights, |flights| ask(flights, 2));
        drop(leader);
        // Either it joined in time to be told, or it found the key free.
        let answer = asking.join().unwrap();
        assert!([Err(Abandoned), Ok(2)].contains(&answer), "{answer:?}");
        assert!(flights.is_empty());
    });
}

#[test]
fn an_abandoned_key_is_usable_as_soon_as_its_waiters_know() {
    loom::model(|| {
        let flights = flights();
        let leader = lead(&flights);
        let waiter = wait(&flights);
        let dropping = thread::spawn(move || drop(leader));
        assert_eq!(block_on(waiter), Err(Abandoned));
        assert_eq!(ask(&flights, 2), Ok(2));
        dropping.join().unwrap();
    });
}

#[test]
fn nothing_is_written_after_a_forget() {
    loom::model(|| {
        let flights = flights();
        let cache = Arc::new(Mutex::new(None));
        let leader = lead(&flights);
        let waiter = leader.waiter();
        let removing = {
            let cache = Arc::clone(&cache);
            spawn(&flights, move |flights| {
                let mut shard = flights.lock(&KEY);
                let forgot = shard.forget(&KEY);
                *cache.lock().unwrap() = None;
                forgot
            })
        };
        let written = leader.publish(1, |value| *cache.lock().unwrap() = Some(*value));
        let forgot = removing.join().unwrap();
        assert_eq!(*cache.lock().unwrap(), None, "the removed key came back");
        assert_eq!(written.is_none(), forgot);
        assert_eq!(block_on(waiter), Ok(1), "waiters get the result all the same");
    });
}

#[test]
fn a_forgotten_leader_does_not_end_its_successor() {
    loom::model(|| {
        let flights = flights();
        let forgotten = lead(&flights);
        flights.forget(&KEY);
        let ending = thread::spawn(move || drop(forgotten));
        let successor = lead(&flights);
        let waiter = wait(&flights);
        successor.finish(2);
        assert_eq!(block_on(waiter), Ok(2));
        ending.join().unwrap();
        assert!(flights.is_empty());
    });
}

#[test]
fn a_caller_that_looks_again_under_the_lock_never_loads_twice() {
    loom::model(|| {
        let flights = flights();
        let cache = Arc::new(Mutex::new(None));
        let loads = Arc::new(AtomicUsize::new(0));
        let get = {
            let (cache, loads) = (Arc::clone(&cache), Arc::clone(&loads));
            move |flights: &Flights| get_or_load(flights, &cache, &loads)
        };
        let other = spawn(&flights, get.clone());
        get(&flights);
        other.join().unwrap();
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_waiter_may_leave_while_the_leader_finishes() {
    loom::model(|| {
        let flights = flights();
        let leader = lead(&flights);
        let mut leaving = wait(&flights);
        let staying = wait(&flights);
        let _ = poll(&mut leaving);
        let gone = thread::spawn(move || drop(leaving));
        let stayed = thread::spawn(move || block_on(staying));
        leader.finish(1);
        gone.join().unwrap();
        assert_eq!(stayed.join().unwrap(), Ok(1));
    });
}

#[test]
fn a_panic_while_publishing_tells_the_waiters_and_frees_the_key() {
    loom::model(|| {
        let flights = flights();
        let leader = lead(&flights);
        let asking = spawn(&flights, |flights| ask(flights, 2));
        let publish = || leader.publish(1, |_| std::panic::resume_unwind(Box::new("full")));
        assert!(catch_unwind(AssertUnwindSafe(publish)).is_err());
        let answer = asking.join().unwrap();
        assert!([Err(Abandoned), Ok(2)].contains(&answer), "{answer:?}");
        assert!(flights.is_empty());
    });
}

#[test]
fn waiters_of_a_detached_flight_are_told_once() {
    loom::model(|| {
        let flights = flights();
        let leader = lead(&flights);
        let waiter = wait(&flights);
        let detaching = spawn(&flights, |flights| {
            let detached = flights.lock(&KEY).detach(&KEY);
            detached.map(|detached| detached.tell(2)).is_some()
        });
        // A leader that finds itself detached gives another result.
        leader.finish_with(|still_mapped| if still_mapped { 1 } else { 2 });
        let detached = detaching.join().unwrap();
        assert_eq!(block_on(waiter), Ok(if detached { 2 } else { 1 }));
    });
}

fn flights() -> Flights {
    Flights::with_shards(1, Hasher::default())
}

fn spawn<R: 'static>(flights: &Flights, run: impl FnOnce(&Flights) -> R + 'static) -> thread::JoinHandle<R> {
    let flights = flights.clone();
    thread::spawn(move || run(&flights))
}

/// Finishes with `value` if it leads, else waits.
fn ask(flights: &Flights, value: u32) -> Result<u32, Abandoned> {
    let join = flights.lock(&KEY).join(KEY);
    match join {
        Join::Wait(waiter) => block_on(waiter),
        Join::Lead(leader) => {
            let waiter = leader.waiter();
            leader.finish(value);
            block_on(waiter)
        }
    }
}

/// Does as a cache does: look, join, load, write, all but the load under the lock.
fn get_or_load(flights: &Flights, cache: &Mutex<Option<u32>>, loads: &AtomicUsize) {
    let mut shard = flights.lock(&KEY);
    if cache.lock().unwrap().is_some() {
        return;
    }
    let join = shard.join(KEY);
    drop(shard);
    match join {
        Join::Wait(waiter) => assert_eq!(block_on(waiter), Ok(1)),
        Join::Lead(leader) => {
            loads.fetch_add(1, Ordering::Relaxed);
            leader.publish(1, |value| *cache.lock().unwrap() = Some(*value));
        }
    }
}

fn lead(flights: &Flights) -> Leader {
    match flights.lock(&KEY).join(KEY) {
        Join::Lead(leader) => leader,
        Join::Wait(_) => panic!("the key is in flight"),
    }
}

fn wait(flights: &Flights) -> Waiter<u32> {
    match flights.lock(&KEY).join(KEY) {
        Join::Wait(waiter) => waiter,
        Join::Lead(_) => panic!("the key is not in flight"),
    }
}

fn poll(waiter: &mut Waiter<u32>) -> Poll<Result<u32, Abandoned>> {
    Pin::new(waiter).poll(&mut Context::from_waker(Waker::noop()))
}
