//! The async layer: the results of callers that share, leave, panic or are aborted.
//!
//! Nothing sleeps. A call waits at a gate that the test opens, and callers are polled by hand to
//! make them join.
#![cfg(all(feature = "tokio", not(peercache_loom)))]

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use peercache_singleflight::{CallError, Outcome, SingleFlight};
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::timeout;

type Flight = SingleFlight<&'static str, usize>;
type Answer = Result<Outcome<usize>, CallError>;

#[tokio::test]
async fn a_thousand_callers_are_one_call() {
    let origin = Origin::default();
    let flight = Flight::new();
    let mut callers: Vec<_> = (0..1000).map(|_| Box::pin(origin.ask(&flight, "k"))).collect();
    for caller in &mut callers {
        assert!(poll_once(caller.as_mut()).await.is_pending());
    }
    origin.open(1);
    let mut led = 0;
    for caller in callers {
        let outcome = caller.await.unwrap();
        assert!(outcome.value == 1 && outcome.shared);
        led += usize::from(outcome.led);
    }
    assert_eq!((origin.calls(), led, flight.len()), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_on_many_threads_each_get_a_result_of_a_call_of_theirs() {
    let origin = Origin::default();
    origin.open(Semaphore::MAX_PERMITS / 2);
    let flight = Flight::new();
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let (origin, flight) = (origin.clone(), flight.clone());
            tokio::spawn(async move { origin.ask(&flight, "k").await })
        })
        .collect();
    let mut led = 0;
    for caller in callers {
        led += usize::from(caller.await.unwrap().unwrap().led);
    }
    assert_eq!((origin.calls(), flight.len()), (led, 0));
}

#[tokio::test]
async fn keys_do_not_wait_for_each_other() {
    let origin = Origin::default();
    let flight = Flight::new();
    let mut slow = Box::pin(origin.ask(&flight, "slow"));
    assert!(poll_once(slow.as_mut()).await.is_pending());
    let fast = flight.run("fast", || async { 2 }).await.unwrap();
    assert_eq!((fast.value, flight.len()), (2, 1));
}

#[tokio::test]
async fn a_lone_caller_shares_with_nobody() {
    let outcome = Flight::new().run("k", || async { 5 }).await.unwrap();
    assert_eq!((outcome.value, outcome.shared, outcome.led), (5, false, true));
}

#[tokio::test]
async fn both_of_two_callers_know_that_they_shared() {
    let flight = Flight::new();
    let (one, two) = tokio::join!(flight.run("k", || async { 1 }), flight.run("k", || async { 2 }));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.value, one.shared, one.led), (1, true, true));
    assert_eq!((two.value, two.shared, two.led), (1, true, false));
}

#[tokio::test]
async fn nothing_is_remembered() {
    let flight = Flight::new();
    flight.run("k", || async { 1 }).await.unwrap();
    assert_eq!(flight.run("k", || async { 2 }).await.unwrap().value, 2);
}

#[tokio::test]
async fn nothing_happens_before_the_first_poll() {
    let origin = Origin::default();
    let flight = Flight::new();
    drop(origin.ask(&flight, "k"));
    assert!(flight.is_empty());
}

#[tokio::test]
async fn a_call_outlives_every_caller_cancelled_at_any_await() {
    // The call awaits `STEPS` times; its leader and its waiter are cancelled after each number of
    // polls, also when the call has long ended.
    const STEPS: usize = 4;
    for leader_polls in 1..STEPS + 3 {
        for waiter_polls in 1..STEPS + 3 {
            let flight = Flight::new();
            let ended = Arc::new(AtomicUsize::new(0));
            let call = {
                let ended = Arc::clone(&ended);
                move || async move {
                    for _ in 0..STEPS {
                        yield_now().await;
                    }
                    ended.fetch_add(1, Ordering::Relaxed) + 1
                }
            };
            let mut leader = Box::pin(flight.run("k", call.clone()));
            let mut waiter = Box::pin(flight.run("k", || async { unreachable!("one call") }));
            let mut staying = Box::pin(flight.run("k", || async { unreachable!("one call") }));
            assert!(poll_once(leader.as_mut()).await.is_pending());
            assert!(poll_once(waiter.as_mut()).await.is_pending());
            assert!(poll_once(staying.as_mut()).await.is_pending());
            poll_times(leader.as_mut(), leader_polls - 1).await;
            poll_times(waiter.as_mut(), waiter_polls - 1).await;
            drop((leader, waiter));
            assert_eq!(staying.await.unwrap().value, 1);
            assert_eq!((ended.load(Ordering::Relaxed), flight.len()), (1, 0));
        }
    }
}

#[tokio::test]
async fn a_call_without_any_caller_left_ends_all_the_same() {
    let origin = Origin::default();
    let flight = Flight::new();
    let mut caller = Box::pin(origin.ask(&flight, "k"));
    assert!(poll_once(caller.as_mut()).await.is_pending());
    drop(caller);
    origin.open(1);
    origin.ended(1).await;
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_one_caller_hurts_no_other() {
    let origin = Origin::default();
    let flight = Flight::new();
    let mut patient = Box::pin(origin.ask(&flight, "k"));
    assert!(poll_once(patient.as_mut()).await.is_pending());
    let hasty = timeout(Duration::from_millis(100), origin.ask(&flight, "k")).await;
    assert!(hasty.is_err());
    origin.open(1);
    let patient = patient.await.unwrap();
    assert!(patient.value == 1 && patient.shared, "{patient:?}");
}

#[tokio::test]
async fn a_panic_is_one_error_for_all_with_its_message() {
    let message = "no such table".to_owned();
    assert_eq!(panics_with(move || panic!("{message}")).await, Some("no such table".into()));
}

#[tokio::test]
async fn a_literal_panic_keeps_its_message() {
    assert_eq!(panics_with(|| panic!("boom")).await, Some("boom".into()));
}

#[tokio::test]
async fn a_panic_without_words_has_no_message() {
    assert_eq!(panics_with(|| std::panic::panic_any(7)).await, None);
}

#[tokio::test]
async fn a_panic_before_there_is_a_future_is_the_same_error() {
    let flight = Flight::new();
    let answer = flight.run("k", || if true { panic!("early") } else { async { 1 } }).await;
    assert_eq!(answer, Err(panicked("early")));
}

#[tokio::test]
async fn a_key_is_usable_at_once_after_a_panic() {
    let flight = Flight::new();
    let mut waiter = Box::pin(flight.run("k", || async { panic!("first") }));
    let answer = poll_fn(|context| {
        // In the very poll that brings the error, not some time later.
        waiter.as_mut().poll(context).map(|answer| (answer, flight.len()))
    });
    assert_eq!(answer.await, (Err(panicked("first")), 0));
    assert_eq!(flight.run("k", || async { 2 }).await.unwrap().value, 2);
}

#[test]
fn an_aborted_call_is_one_error_for_all_and_the_key_is_usable_at_once() {
    let flight = Flight::new();
    let stopping = runtime();
    let mut leader = Box::pin(flight.run("k", std::future::pending));
    assert!(stopping.block_on(poll_once(leader.as_mut())).is_pending());
    let staying = runtime();
    let mut waiter = Box::pin(flight.run("k", || async { 2 }));
    assert!(staying.block_on(poll_once(waiter.as_mut())).is_pending());

    drop(stopping);
    assert!(flight.is_empty());
    assert_eq!(staying.block_on(leader), Err(CallError::Aborted));
    assert_eq!(staying.block_on(waiter), Err(CallError::Aborted));
    assert_eq!(staying.block_on(flight.run("k", || async { 3 })).unwrap().value, 3);
}

#[test]
fn a_runtime_that_stops_before_the_call_ran_is_the_same_error() {
    let flight = Flight::new();
    let stopping = runtime();
    let handle = stopping.handle().clone();
    drop(stopping);
    let _inside = handle.enter();
    assert_eq!(poll_bare(flight.run("k", || async { 1 })), Poll::Ready(Err(CallError::Aborted)));
    assert!(flight.is_empty());
}

#[test]
fn no_runtime_is_an_error_and_not_a_panic() {
    let flight = Flight::new();
    assert_eq!(poll_bare(flight.run("k", || async { 1 })), Poll::Ready(Err(CallError::NoRuntime)));
    assert!(flight.is_empty());
}

#[tokio::test]
async fn after_a_forget_the_next_caller_calls_again() {
    let origin = Origin::default();
    let flight = Flight::new();
    let mut before = Box::pin(origin.ask(&flight, "k"));
    assert!(poll_once(before.as_mut()).await.is_pending());
    assert!(flight.forget("k"));
    let mut after = Box::pin(origin.ask(&flight, "k"));
    assert!(poll_once(after.as_mut()).await.is_pending());
    origin.open(2);
    assert_eq!((before.await.unwrap().value, after.await.unwrap().value), (1, 2));
    assert!(flight.is_empty() && !flight.forget("k"));
}

#[tokio::test]
async fn more_calls_than_allowed_are_refused_but_joining_is_not() {
    let origin = Origin::default();
    let flight = Flight::new().max_calls(1);
    let mut running = Box::pin(origin.ask(&flight, "k"));
    assert!(poll_once(running.as_mut()).await.is_pending());
    assert_eq!(origin.ask(&flight, "other").await, Err(CallError::TooManyCalls { max: 1 }));
    let mut joining = Box::pin(origin.ask(&flight, "k"));
    assert!(poll_once(joining.as_mut()).await.is_pending());
    origin.open(1);
    assert_eq!(joining.await.unwrap().value, 1);
    origin.open(1);
    assert_eq!(origin.ask(&flight, "other").await.unwrap().value, 2);
}

#[tokio::test]
async fn a_forgotten_call_counts_while_it_runs() {
    let origin = Origin::default();
    let flight = Flight::new().max_calls(1);
    let mut running = Box::pin(origin.ask(&flight, "k"));
    assert!(poll_once(running.as_mut()).await.is_pending());
    flight.forget("k");
    assert_eq!(origin.ask(&flight, "k").await, Err(CallError::TooManyCalls { max: 1 }));
}

#[tokio::test]
async fn the_place_of_an_ended_call_is_free_when_its_callers_are_woken() {
    /// Starts the next call from within the wake-up.
    struct Eager(Flight, Mutex<Option<Poll<Answer>>>);
    impl Wake for Eager {
        fn wake(self: Arc<Self>) {
            let next = poll_bare(self.0.run("next", || async { 2 }));
            *self.1.lock().unwrap() = Some(next);
        }
    }

    let flight = Flight::new().max_calls(1);
    let eager = Arc::new(Eager(flight.clone(), Mutex::default()));
    let mut caller = Box::pin(flight.run("k", || async { 1 }));
    let waker = Waker::from(Arc::clone(&eager));
    assert!(caller.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    for _ in 0..100 {
        yield_now().await;
    }
    assert_eq!(*eager.1.lock().unwrap(), Some(Poll::Pending), "started, not refused");
}

#[tokio::test]
async fn a_failing_call_is_everyones_failure() {
    let flight: SingleFlight<u8, Result<(), &str>> = SingleFlight::new();
    let (one, two) = tokio::join!(flight.try_run(1, || async { Err("down") }), flight.try_run(1, || async { Ok(()) }));
    assert_eq!((one, two), (Err(CallError::Failed("down")), Err(CallError::Failed("down"))));
}

#[tokio::test]
async fn a_call_that_may_fail_and_does_not_gives_its_value() {
    let flight: SingleFlight<u8, Result<u8, Arc<io::Error>>> = SingleFlight::new();
    let parse = || async { Ok(std::str::from_utf8(b"7").map_err(io::Error::other)?.len() as u8) };
    let outcome = flight.try_run(1, parse).await.unwrap();
    assert_eq!((outcome.value, outcome.led, outcome.shared), (1, true, false));
}

#[tokio::test]
async fn a_panic_in_a_call_that_may_fail_is_no_failure() {
    let flight: SingleFlight<u8, Result<u8, String>> = SingleFlight::new();
    let answer = flight.try_run(1, || async { panic!("boom") }).await;
    assert_eq!(answer, Err(CallError::Panicked { message: Some("boom".into()) }));
}

#[test]
fn errors_read_as_sentences() {
    let failed: CallError<Arc<io::Error>> = CallError::Failed(Arc::new(io::Error::other("down")));
    assert_eq!(failed.to_string(), "down");
    assert_eq!(panicked("boom").to_string(), "the call panicked: boom");
    let many: CallError = CallError::TooManyCalls { max: 3 };
    assert_eq!(many.to_string(), "3 calls are running, the most allowed");
}

#[tokio::test]
async fn a_caller_can_be_spawned() {
    let flight = Flight::new();
    let caller = async move { flight.run("k", || async { 1 }).await };
    assert_eq!(tokio::spawn(caller).await.unwrap().unwrap().value, 1);
}

/// A call that counts its runs and waits for a ticket in each. Run number `n` answers `n`.
#[derive(Clone, Default)]
struct Origin(Arc<State>);

struct State {
    calls: AtomicUsize,
    gate: Semaphore,
    ended: Semaphore,
}

impl Default for State {
    fn default() -> Self {
        let calls = AtomicUsize::new(0);
        Self { calls, gate: Semaphore::new(0), ended: Semaphore::new(0) }
    }
}

impl Origin {
    async fn ask(&self, flight: &Flight, key: &'static str) -> Answer {
        let state = Arc::clone(&self.0);
        let call = move || async move {
            let number = state.calls.fetch_add(1, Ordering::Relaxed) + 1;
            state.gate.acquire().await.unwrap().forget();
            state.ended.add_permits(1);
            number
        };
        flight.run(key, call).await
    }

    fn open(&self, tickets: usize) {
        self.0.gate.add_permits(tickets);
    }

    async fn ended(&self, calls: u32) {
        self.0.ended.acquire_many(calls).await.unwrap().forget();
    }

    fn calls(&self) -> usize {
        self.0.calls.load(Ordering::Relaxed)
    }
}

/// Has two callers share a call that panics, and returns the message of their error.
async fn panics_with(panic: impl FnOnce() -> usize + Send + 'static) -> Option<Arc<str>> {
    let flight = Flight::new();
    let call = move || async move {
        yield_now().await;
        panic()
    };
    let (one, two) = tokio::join!(flight.run("k", call), flight.run("k", || async { 1 }));
    assert_eq!(one, two);
    assert!(flight.is_empty());
    match one {
        Err(CallError::Panicked { message }) => message,
        other => panic!("{other:?}"),
    }
}

fn panicked(message: &str) -> CallError {
    CallError::Panicked { message: Some(message.into()) }
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

/// Polls up to `times` times, and lets the other tasks run before each.
async fn poll_times<F: Future>(mut future: Pin<&mut F>, times: usize) {
    for _ in 0..times {
        yield_now().await;
        if poll_once(future.as_mut()).await.is_ready() {
            return;
        }
    }
}

fn poll_bare<F: Future>(future: F) -> Poll<F::Output> {
    Box::pin(future).as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}
