//! The limit of a group's fetches: in all, and for each member.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ahash::RandomState;

/// Gives out the permits for fetches. Nobody waits for one: there is one, or the owner is not
/// asked.
///
/// A member gets one more permit only while it holds fewer than are free. So a member that does not
/// answer holds half of them at most, and the next such member half of what is left. One that holds
/// none gets a permit whenever any is free. `k` members that are silent for long come to hold an
/// equal share each, and leave as much as one of them holds: a `k + 1`th of all.
pub(crate) struct FetchLimiter {
    permits: Mutex<Permits>,
}

struct Permits {
    free: usize,
    /// The permits that each member holds; members that hold none are not in here.
    held: HashMap<MemberId, usize, RandomState>,
}

/// A number that no other member of the list has.
pub(crate) type MemberId = usize;

/// The right to one fetch from a member, given back when it is dropped.
pub(crate) struct FetchPermit {
    limiter: Arc<FetchLimiter>,
    member: MemberId,
}

impl FetchLimiter {
    pub(crate) fn new(max_fetches: usize) -> Arc<Self> {
        let permits = Permits { free: max_fetches, held: HashMap::default() };
        Arc::new(FetchLimiter { permits: Mutex::new(permits) })
    }

    /// A permit for a fetch from `member`; `None` if it has its share.
    pub(crate) fn acquire(self: &Arc<Self>, member: MemberId) -> Option<FetchPermit> {
        let mut permits = self.lock();
        if permits.held.get(&member).copied().unwrap_or(0) >= permits.free {
            return None;
        }
        permits.free -= 1;
        *permits.held.entry(member).or_default() += 1;
        Some(FetchPermit { limiter: self.clone(), member })
    }

    fn lock(&self) -> MutexGuard<'_, Permits> {
        self.permits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FetchPermit {
    fn drop(&mut self) {
        let mut permits = self.limiter.lock();
        permits.free += 1;
        if let Some(held) = permits.held.get_mut(&self.member) {
            *held -= 1;
            if *held == 0 {
                permits.held.remove(&self.member);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_for(limiter: &Arc<FetchLimiter>, member: MemberId) -> Vec<FetchPermit> {
        std::iter::from_fn(|| limiter.acquire(member)).collect()
    }

    #[test]
    fn a_dropped_permit_can_be_had_again() {
        let limiter = FetchLimiter::new(1);
        let permit = limiter.acquire(1);
        assert!(permit.is_some() && limiter.acquire(1).is_none());
        drop(permit);
        assert!(limiter.acquire(1).is_some());
    }

    #[test]
    fn one_member_holds_half_of_the_permits_at_most() {
        for (permits, held) in [(1, 1), (2, 1), (3, 2), (4, 2), (100, 50)] {
            assert_eq!(all_for(&FetchLimiter::new(permits), 1).len(), held, "of {permits}");
        }
    }

    #[test]
    fn silent_members_come_to_equal_shares_and_leave_one() {
        let limiter = FetchLimiter::new(90);
        let (mut one, mut other) = (all_for(&limiter, 1), all_for(&limiter, 2));
        for _ in 0..90 {
            // Each gives one back, as a fetch that has failed does, and asks for more.
            one.pop();
            other.extend(all_for(&limiter, 2));
            other.pop();
            one.extend(all_for(&limiter, 1));
        }
        assert!((29..=31).contains(&one.len()) && (29..=31).contains(&other.len()), "{} {}", one.len(), other.len());
        assert!((14..=16).contains(&all_for(&limiter, 3).len()), "a third one gets half of what they left");
    }

    #[test]
    fn members_without_permits_are_forgotten() {
        let limiter = FetchLimiter::new(8);
        drop(all_for(&limiter, 1));
        let permits = limiter.lock();
        assert_eq!((permits.free, permits.held.len()), (8, 0));
    }
}
