//! One flight: the result to come, and the wakers of those who wait for it.

use std::mem;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};

use crate::error::Abandoned;
use crate::sync::{AtomicUsize, Mutex, lock};

/// A result to come, shared by the table (while the key maps to it), its leader and its waiters.
pub(crate) struct Flight<T> {
    state: Mutex<State<T>>,
    /// Callers that joined, counted under the shard's lock. It is final once the flight is out of
    /// the table.
    joined: AtomicUsize,
}

enum State<T> {
    Pending(Wakers),
    Complete(Result<T, Abandoned>),
}

impl<T> Flight<T> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::Pending(Wakers::default())), joined: AtomicUsize::new(0) }
    }

    pub(crate) fn join(&self) {
        self.joined.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn joined(&self) -> usize {
        self.joined.load(Ordering::Relaxed)
    }

    /// Stores the result and wakes all waiters. The first result counts: the waiters of a detached
    /// flight may have been told before its leader is done.
    ///
    /// The result is stored before anyone is woken. A waiter looks and registers under the same
    /// lock, so either it sees the result or its waker is among those taken here.
    pub(crate) fn complete(&self, result: Result<T, Abandoned>) {
        let mut state = lock(&self.state);
        if matches!(*state, State::Complete(_)) {
            drop(state);
            return;
        }
        let before = mem::replace(&mut *state, State::Complete(result));
        drop(state);
        if let State::Pending(wakers) = before {
            wakers.wake_all();
        }
    }

    /// The result, or `Pending` with `waker` registered under `slot`.
    pub(crate) fn poll(&self, slot: &mut Option<usize>, waker: &Waker) -> Poll<Result<T, Abandoned>>
    where
        T: Clone,
    {
        let mut state = lock(&self.state);
        let wakers = match &mut *state {
            State::Complete(result) => return Poll::Ready(result.clone()),
            State::Pending(wakers) => wakers,
        };
        let replaced = wakers.register(slot, waker);
        // To drop a waker may drop a whole task, with other waiters of this flight in it. That must
        // not happen under our lock.
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    /// Removes the waker of a waiter that is dropped. A complete flight has no wakers any more.
    pub(crate) fn remove_waker(&self, slot: usize) {
        let mut state = lock(&self.state);
        let removed = match &mut *state {
            State::Pending(wakers) => wakers.remove(slot),
            State::Complete(_) => None,
        };
        drop(state);
        drop(removed);
    }
}

/// Wakers by slot. Slots are used again, so there are never more than the most concurrent waiters.
#[derive(Default)]
struct Wakers {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Wakers {
    /// Puts `waker` into `slot`, after taking a free one if there is none yet.
    ///
    /// Returns the waker that was there before, which the caller drops.
    fn register(&mut self, slot: &mut Option<usize>, waker: &Waker) -> Option<Waker> {
        let Some(slot) = *slot else {
            *slot = Some(self.insert(waker.clone()));
            return None;
        };
        match &mut self.slots[slot] {
            Some(registered) if registered.will_wake(waker) => None,
            registered => registered.replace(waker.clone()),
        }
    }

    fn insert(&mut self, waker: Waker) -> usize {
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = Some(waker);
                slot
            }
            None => {
                self.slots.push(Some(waker));
                self.slots.len() - 1
            }
        }
    }

    fn remove(&mut self, slot: usize) -> Option<Waker> {
        self.free.push(slot);
        self.slots[slot].take()
    }

    fn wake_all(self) {
        self.slots.into_iter().flatten().for_each(Waker::wake);
    }
}

#[cfg(all(test, not(peercache_loom)))]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again() {
        let mut wakers = Wakers::default();
        let [mut first, mut second, mut third] = [None; 3];
        wakers.register(&mut first, Waker::noop());
        wakers.register(&mut second, Waker::noop());
        assert!(wakers.remove(first.unwrap()).is_some());
        wakers.register(&mut third, Waker::noop());
        assert_eq!((third, wakers.slots.len()), (first, 2));
    }
}
