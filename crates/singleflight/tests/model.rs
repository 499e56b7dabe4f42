//! The table does as an obvious twin does, over random sequences of everything a caller can do.
#![cfg(not(peercache_loom))]

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use peercache_singleflight::{Abandoned, Flights, Join, Leader, Waiter};
use proptest::prelude::*;

/// A step of the test. Numbers choose among the leaders and waiters present, modulo their count.
#[derive(Clone, Debug)]
enum Step {
    Join(u8),
    JoinOwn(usize),
    Publish(usize, u32),
    Finish(usize, u32),
    DropLeader(usize),
    Poll(usize),
    DropWaiter(usize),
    Forget(u8),
    ForgetAll,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..4_u8;
    let which = 0..64_usize;
    prop_oneof![
        6 => key.clone().prop_map(Step::Join),
        1 => which.clone().prop_map(Step::JoinOwn),
        2 => (which.clone(), any::<u32>()).prop_map(|(who, value)| Step::Publish(who, value)),
        1 => (which.clone(), any::<u32>()).prop_map(|(who, value)| Step::Finish(who, value)),
        1 => which.clone().prop_map(Step::DropLeader),
        6 => which.clone().prop_map(Step::Poll),
        2 => which.prop_map(Step::DropWaiter),
        1 => key.prop_map(Step::Forget),
        1 => Just(Step::ForgetAll),
    ]
}

proptest! {
    #[test]
    fn does_as_its_twin_does(steps in prop::collection::vec(step(), 1..120)) {
        let mut pair = Pair::default();
        for step in steps {
            pair.step(&step);
            assert_eq!(pair.flights.len(), pair.twin.mapped.len());
        }
    }
}

/// The expected state: the flight that each key maps to, and the result of each flight.
#[derive(Default)]
struct Twin {
    mapped: HashMap<u8, usize>,
    flights: Vec<TwinFlight>,
}

#[derive(Default)]
struct TwinFlight {
    joined: usize,
    ended: Option<Result<u32, Abandoned>>,
}

#[derive(Default)]
struct Pair {
    flights: Flights<u8, u32>,
    twin: Twin,
    leaders: Vec<(Leader<u8, u32>, u8, usize)>,
    waiters: Vec<Polled>,
}

/// A waiter, the flight it waits for, and whether it has been polled and must be woken.
struct Polled {
    waiter: Waiter<u32>,
    flight: usize,
    wakes: Arc<WakeCount>,
    waits: bool,
}

#[derive(Default)]
struct WakeCount(AtomicUsize);

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Pair {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Join(key) => self.join(key),
            Step::JoinOwn(who) => self.join_own(who),
            Step::Publish(who, value) => self.publish(who, value),
            Step::Finish(who, value) => self.finish(who, value),
            Step::DropLeader(who) => self.drop_leader(who),
            Step::Poll(who) => self.poll(who),
            Step::DropWaiter(who) => self.drop_waiter(who),
            Step::Forget(key) => {
                assert_eq!(self.flights.forget(&key), self.twin.mapped.remove(&key).is_some());
            }
            Step::ForgetAll => {
                assert_eq!(self.flights.forget_all(), self.twin.mapped.len());
                self.twin.mapped.clear();
            }
        }
    }

    fn join(&mut self, key: u8) {
        let mapped = self.twin.mapped.get(&key).copied();
        assert_eq!(self.flights.lock(&key).contains(&key), mapped.is_some());
        let join = self.flights.lock(&key).join(key);
        match (join, mapped) {
            (Join::Wait(waiter), Some(flight)) => {
                self.twin.flights[flight].joined += 1;
                self.waits(waiter, flight);
            }
            (Join::Lead(leader), None) => {
                let flight = self.twin.flights.len();
                self.twin.flights.push(TwinFlight::default());
                self.twin.mapped.insert(key, flight);
                self.leaders.push((leader, key, flight));
            }
            (join, mapped) => panic!("{join:?}, mapped to {mapped:?}"),
        }
    }

    fn join_own(&mut self, who: usize) {
        let Some((leader, _, flight)) = self.leaders.get(who % self.leaders.len().max(1)) else {
            return;
        };
        let (waiter, flight) = (leader.waiter(), *flight);
        self.waits(waiter, flight);
    }

    fn waits(&mut self, waiter: Waiter<u32>, flight: usize) {
        let wakes = Arc::default();
        self.waiters.push(Polled { waiter, flight, wakes, waits: false });
    }

    fn publish(&mut self, who: usize, value: u32) {
        let Some((leader, still_mapped, flight)) = self.take_leader(who) else {
            return;
        };
        let written = leader.publish(value, |written| *written);
        assert_eq!(written, still_mapped.then_some(value));
        self.ended(flight, Ok(value));
    }

    fn finish(&mut self, who: usize, value: u32) {
        let Some((leader, _, flight)) = self.take_leader(who) else {
            return;
        };
        leader.finish(value);
        self.ended(flight, Ok(value));
    }

    fn drop_leader(&mut self, who: usize) {
        let Some((leader, _, flight)) = self.take_leader(who) else {
            return;
        };
        drop(leader);
        self.ended(flight, Err(Abandoned));
    }

    /// Takes a leader that is about to end, with its flight. Says whether its key was still mapped
    /// to it, which the twin forgets.
    fn take_leader(&mut self, who: usize) -> Option<(Leader<u8, u32>, bool, usize)> {
        if self.leaders.is_empty() {
            return None;
        }
        let (leader, key, flight) = self.leaders.swap_remove(who % self.leaders.len());
        let still_mapped = self.twin.mapped.get(&key) == Some(&flight);
        if still_mapped {
            self.twin.mapped.remove(&key);
        }
        Some((leader, still_mapped, flight))
    }

    /// Records the result, and checks that this flight's waiters were woken once, and no others.
    fn ended(&mut self, flight: usize, result: Result<u32, Abandoned>) {
        self.twin.flights[flight].ended = Some(result);
        for polled in &mut self.waiters {
            let woken = polled.wakes.0.swap(0, Ordering::Relaxed);
            let waited = polled.flight == flight && std::mem::take(&mut polled.waits);
            assert_eq!(woken, usize::from(waited));
        }
    }

    fn poll(&mut self, who: usize) {
        if self.waiters.is_empty() {
            return;
        }
        let who = who % self.waiters.len();
        let polled = &mut self.waiters[who];
        let waker = Waker::from(Arc::clone(&polled.wakes));
        let poll = Pin::new(&mut polled.waiter).poll(&mut Context::from_waker(&waker));
        let flight = &self.twin.flights[polled.flight];
        assert_eq!(poll, flight.ended.map_or(Poll::Pending, Poll::Ready));
        assert_eq!(polled.waiter.joined(), flight.joined);
        polled.waits = poll.is_pending();
    }

    /// Drops a waiter, and checks that its waker is dropped too.
    fn drop_waiter(&mut self, who: usize) {
        if self.waiters.is_empty() {
            return;
        }
        let Polled { waiter, wakes, .. } = self.waiters.swap_remove(who % self.waiters.len());
        drop(waiter);
        assert_eq!(Arc::strong_count(&wakes), 1);
    }
}
