//! One flight: the result to come, and the wakers of those who wait for it.

use std::mem;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};

use crate::error::Abandoned;
use crate::sync::{AtomicUsize, Mutex, lock};

/// Shared by the table (while the key maps to it), its leader and its waiters.
pub(crate) struct Flight<T> {
    state: Mutex<State<T>>,
    /// Counted under the shard's lock, so it is final once the flight is out of the table.
    joined: AtomicUsize,
}

enum State<T> {
    Flying(Seats),
    Landed(Result<T, Abandoned>),
}

impl<T> Flight<T> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::Flying(Seats::default())), joined: AtomicUsize::new(0) }
    }

    pub(crate) fn join(&self) {
        self.joined.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn joined(&self) -> usize {
        self.joined.load(Ordering::Relaxed)
    }

    /// Stores the result first and wakes after: a waiter looks and registers under the same lock,
    /// so it sees either the result or its own waker taken. The first landing counts: those who
    /// waited for a detached flight may have been told before its leader is done.
    pub(crate) fn land(&self, result: Result<T, Abandoned>) {
        let mut state = lock(&self.state);
        if matches!(*state, State::Landed(_)) {
            drop(state);
            return;
        }
        let before = mem::replace(&mut *state, State::Landed(result));
        drop(state);
        if let State::Flying(seats) = before {
            seats.wake_all();
        }
    }

    /// The result, or `Pending` with `waker` registered in `seat`.
    pub(crate) fn poll(&self, seat: &mut Option<usize>, waker: &Waker) -> Poll<Result<T, Abandoned>>
    where
        T: Clone,
    {
        let mut state = lock(&self.state);
        let seats = match &mut *state {
            State::Landed(result) => return Poll::Ready(result.clone()),
            State::Flying(seats) => seats,
        };
        let replaced = seats.sit(seat, waker);
        // Dropping a waker may drop a whole task, with other waiters of this flight in it: never
        // under our lock.
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    /// Gives the seat back. Nothing to do once landed: the seats are gone.
    pub(crate) fn leave(&self, seat: usize) {
        let mut state = lock(&self.state);
        let left = match &mut *state {
            State::Flying(seats) => seats.leave(seat),
            State::Landed(_) => None,
        };
        drop(state);
        drop(left);
    }
}

/// Wakers by seat number. Seats are used again, so there are never more than there were waiters at
/// once.
#[derive(Default)]
struct Seats {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Seats {
    /// Puts `waker` into `seat`, taking a seat first if there is none yet. Returns the waker that
    /// sat there before, for the caller to drop.
    fn sit(&mut self, seat: &mut Option<usize>, waker: &Waker) -> Option<Waker> {
        let Some(seat) = *seat else {
            *seat = Some(self.take(waker.clone()));
            return None;
        };
        match &mut self.wakers[seat] {
            Some(sitting) if sitting.will_wake(waker) => None,
            sitting => sitting.replace(waker.clone()),
        }
    }

    fn take(&mut self, waker: Waker) -> usize {
        match self.free.pop() {
            Some(seat) => {
                self.wakers[seat] = Some(waker);
                seat
            }
            None => {
                self.wakers.push(Some(waker));
                self.wakers.len() - 1
            }
        }
    }

    fn leave(&mut self, seat: usize) -> Option<Waker> {
        self.free.push(seat);
        self.wakers[seat].take()
    }

    fn wake_all(self) {
        self.wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

#[cfg(all(test, not(peercache_loom)))]
mod tests {
    use super::*;

    #[test]
    fn seats_are_used_again() {
        let mut seats = Seats::default();
        let [mut first, mut second, mut third] = [None; 3];
        seats.sit(&mut first, Waker::noop());
        seats.sit(&mut second, Waker::noop());
        assert!(seats.leave(first.unwrap()).is_some());
        seats.sit(&mut third, Waker::noop());
        assert_eq!((third, seats.wakers.len()), (first, 2));
    }
}
