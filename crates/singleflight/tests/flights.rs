//! The table of flights, one promise after the other.
#![cfg(not(peercache_loom))]

use std::future::Future;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use peercache_singleflight::{Abandoned, Flights, Join, Leader, Waiter};

type Strings = Flights<String, Arc<str>>;

#[test]
fn a_caller_that_waits_makes_no_key() {
    let flights = Strings::new();
    let _leader = lead(flights.lock("k").join_with("k", || "k".to_owned()));
    let _waiter = wait(flights.lock("k").join_with("k", || unreachable!("it is in flight")));
}

#[test]
fn keys_that_hash_alike_are_two_flights_under_one_lock() {
    /// A key whose shard is chosen by the name, and its flight by name and slot.
    #[derive(PartialEq, Eq)]
    struct Slotted(&'static str, u8);
    impl Hash for Slotted {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    for forgotten in [0, 1] {
        let flights: Flights<Slotted, u8> = Flights::new();
        let mut shard = flights.lock("k");
        let leaders = [0, 1].map(|slot| (slot, lead(shard.join(Slotted("k", slot)))));
        assert!(shard.contains(&Slotted("k", 0)) && shard.contains(&Slotted("k", 1)));
        assert!(shard.forget(&Slotted("k", forgotten)));
        drop(shard);
        for (slot, leader) in leaders {
            assert_eq!(leader.publish(7, |_| ()).is_none(), slot == forgotten);
        }
        assert!(flights.is_empty());
    }
}

#[test]
fn the_last_waker_is_the_one_that_is_woken() {
    let flights = Strings::new();
    let leader = lead(flights.lock("k").join("k".into()));
    let (first, last, mut waiter) = (WakeCount::default(), WakeCount::default(), leader.waiter());
    for wakes in [&first, &last] {
        let waker = Waker::from(Arc::new(wakes.clone()));
        assert!(Pin::new(&mut waiter).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    leader.finish("v".into());
    assert_eq!((first.wakes(), last.wakes()), (0, 1));
}

#[test]
#[cfg(debug_assertions)]
fn a_key_of_another_hash_is_noticed() {
    let flights = Strings::new();
    assert!(catch_unwind(|| flights.lock("k").join("other".to_owned())).is_err());
}

#[test]
fn publish_writes_before_the_key_is_free_and_returns_what_it_wrote() {
    let flights = Strings::new();
    let leader = lead(flights.lock("k").join("k".into()));
    let mut waiter = leader.waiter();
    let written = leader.publish("v".into(), |value| {
        assert!(poll(&mut waiter).is_pending(), "nobody knows before it is written");
        value.len()
    });
    assert_eq!(written, Some(1));
    assert_eq!(poll(&mut waiter), Poll::Ready(Ok("v".into())));
}

#[test]
fn finish_with_is_told_of_a_forget() {
    let flights = Strings::new();
    let leader = lead(flights.lock("k").join("k".into()));
    flights.forget("k");
    let mut waiter = leader.waiter();
    leader.finish_with(|still_mapped| still_mapped.to_string().into());
    assert_eq!(poll(&mut waiter), Poll::Ready(Ok("false".into())));
}

#[test]
fn a_forgotten_flight_leaves_its_successor_alone() {
    let flights = Strings::new();
    let forgotten = lead(flights.lock("k").join("k".into()));
    flights.forget("k");
    let _successor = lead(flights.lock("k").join("k".into()));
    assert_eq!(forgotten.publish("old".into(), |_| ()), None);
    let mut joined = wait(flights.lock("k").join("k".into()));
    assert!(poll(&mut joined).is_pending(), "it waits for the successor");
}

#[test]
fn forget_all_forgets_every_key() {
    let flights = Flights::new();
    let leaders: Vec<_> = (0..100).map(|key| lead(flights.lock(&key).join(key))).collect();
    assert_eq!((flights.forget_all(), flights.len()), (100, 0));
    for leader in leaders {
        assert_eq!(leader.publish((), |()| ()), None);
    }
}

#[test]
fn a_panic_while_publishing_goes_on_to_the_leader_and_ends_the_flight() {
    let flights = Strings::new();
    let leader = lead(flights.lock("k").join("k".into()));
    let mut waiter = leader.waiter();
    let publish = || leader.publish("v".into(), |_| std::panic::resume_unwind(Box::new("full")));
    let panic = catch_unwind(AssertUnwindSafe(publish)).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"full"));
    assert_eq!(poll(&mut waiter), Poll::Ready(Err(Abandoned)));
    assert!(flights.is_empty());
}

#[test]
fn a_panic_under_the_guard_does_not_close_the_shard() {
    let flights = Strings::new();
    let leader = lead(flights.lock("k").join("k".into()));
    let under_guard = || {
        let _shard = flights.lock("k");
        std::panic::resume_unwind(Box::new("in the cache"))
    };
    assert!(catch_unwind(AssertUnwindSafe(under_guard)).is_err());
    let mut waiter = wait(flights.lock("k").join("k".into()));
    leader.finish("v".into());
    assert_eq!(poll(&mut waiter), Poll::Ready(Ok("v".into())));
}

#[test]
fn a_waiter_that_leaves_takes_its_waker_along() {
    let flights = Strings::new();
    let leader = lead(flights.lock("k").join("k".into()));
    let (wakes, mut waiter) = (Arc::new(WakeCount::default()), leader.waiter());
    let waker = Waker::from(Arc::clone(&wakes));
    assert!(Pin::new(&mut waiter).poll(&mut Context::from_waker(&waker)).is_pending());
    drop((waiter, waker));
    assert_eq!(Arc::strong_count(&wakes), 1);
}

#[test]
fn a_waiter_may_be_polled_again_after_its_result() {
    let flights = Strings::new();
    let leader = lead(flights.lock("k").join("k".into()));
    let mut waiter = leader.waiter();
    leader.finish("v".into());
    assert_eq!(poll(&mut waiter), Poll::Ready(Ok("v".into())));
    assert_eq!(poll(&mut waiter), Poll::Ready(Ok("v".into())));
}

#[test]
fn a_result_is_dropped_with_the_last_waiter() {
    let flights = Strings::new();
    let leader = lead(flights.lock("k").join("k".into()));
    let waiter = leader.waiter();
    let value: Arc<str> = "v".into();
    leader.finish(Arc::clone(&value));
    assert_eq!(Arc::strong_count(&value), 2);
    drop(waiter);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn joined_callers_are_counted_and_clones_are_not() {
    let flights = Strings::new();
    let leader = lead(flights.lock("k").join("k".into()));
    let own = leader.waiter();
    assert!(!own.shared());
    drop(wait(flights.lock("k").join("k".into())));
    assert!(own.shared());
    assert_eq!(own.joined(), 1);
}

#[test]
fn a_leader_and_a_waiter_go_to_other_threads() {
    fn is_send_and_static<T: Send + 'static>() {}
    is_send_and_static::<Leader<String, Vec<u8>>>();
    is_send_and_static::<Waiter<Vec<u8>>>();
}

#[derive(Clone, Default)]
struct WakeCount(Arc<AtomicUsize>);

impl WakeCount {
    fn wakes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn lead<K, T, S>(join: Join<K, T, S>) -> Leader<K, T, S> {
    match join {
        Join::Lead(leader) => leader,
        Join::Wait(_) => panic!("the key is in flight"),
    }
}

fn wait<K, T, S>(join: Join<K, T, S>) -> Waiter<T> {
    match join {
        Join::Wait(waiter) => waiter,
        Join::Lead(_) => panic!("the key is not in flight"),
    }
}

fn poll<T: Clone>(waiter: &mut Waiter<T>) -> Poll<Result<T, Abandoned>> {
    Pin::new(waiter).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_detached_flight_tells_its_waiters_at_once_and_only_once() {
    let flights: Flights<u8, u8> = Flights::new();
    let Join::Lead(leader) = flights.lock(&1_u8).join(1) else { panic!("nobody flies yet") };
    let mut waiter = pin!(leader.waiter());
    let detached = flights.lock(&1_u8).detach(&1_u8).expect("the flight is on");
    assert!(leader.is_forgotten());
    detached.tell(7);
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(waiter.as_mut().poll(&mut context), Poll::Ready(Ok(7)));
    leader.finish(8);
    assert_eq!(waiter.as_mut().poll(&mut context), Poll::Ready(Ok(7)));
}

#[test]
fn work_that_nobody_waits_for_can_be_left_undone() {
    let flights: Flights<u8, u8> = Flights::new();
    let Join::Lead(leader) = flights.lock(&1_u8).join(1) else { panic!("nobody flies yet") };
    let waiter = leader.waiter();
    let leader = leader.end_unless_awaited().expect_err("somebody waits");
    drop(waiter);
    leader.end_unless_awaited().expect("nobody waits");
    assert!(flights.is_empty());
}
