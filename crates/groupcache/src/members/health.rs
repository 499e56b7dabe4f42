//! The health of another member: one value, and one place that changes it.
//!
//! ```text
//! state:              Up                       Down
//! Answered            Up                       Up, if its probation is over
//! Unreachable         Down                     Down, its probation begins again
//! Silent              Down                     Down, its probation begins again
//! it has started      Up                       Down, without a probation
//! ```
//!
//! The probation is the time for which a member has to answer probes before it is up. It is zero
//! for one that has been up for long. One that falls within 10 s of its return has 2 s, then 4, 8
//! and 10: a member that comes and goes is not asked each time that it comes.
//!
//! All times are given by the caller.

use std::time::Duration;

use tokio::time::Instant;

/// The state of a member, as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerState {
    /// It is asked for its keys.
    Up,
    /// It is not asked for any. The next in line stands in for it.
    Down,
}

/// The way in which an exchange with a member ended, as far as that tells of its health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// It answered, with whatever.
    Answered,
    /// It is not there.
    Unreachable,
    /// It gave no sign of life.
    Silent,
}

/// The health of one member.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    state: State,
    since: Instant,
    /// The time of the latest answer.
    answered: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Up {
        /// The probation that it has passed, which counts if it falls soon; `None` if it has never
        /// been down.
        passed: Option<Duration>,
    },
    Down {
        /// Whether it is only known to be silent: that may be our own fault.
        is_silent: bool,
        probation: Duration,
        /// The time since which all probes were answered.
        good_since: Option<Instant>,
    },
}

/// The time after a return in which a fall counts as one of many.
const STEADY_AFTER: Duration = Duration::from_secs(10);
const FIRST_PROBATION: Duration = Duration::from_secs(2);
const LONGEST_PROBATION: Duration = Duration::from_secs(10);

impl Health {
    /// The health of a member of which nothing is known: it is up.
    pub(crate) fn new(now: Instant) -> Self {
        Health { state: State::Up { passed: None }, since: now, answered: None }
    }

    pub(crate) fn state(&self) -> PeerState {
        match self.state {
            State::Up { .. } => PeerState::Up,
            State::Down { .. } => PeerState::Down,
        }
    }

    /// The time at which it came into its state.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Whether it is down, and nothing is known but that it is silent.
    pub(crate) fn is_down_by_silence(&self) -> bool {
        matches!(self.state, State::Down { is_silent: true, .. })
    }

    /// Records that the member says that it has started: it need not answer for long to be up.
    pub(crate) fn has_started(&mut self) {
        if let State::Down { probation, .. } = &mut self.state {
            *probation = Duration::ZERO;
        }
    }

    /// Records how an exchange ended that began then. Returns the new state, if that has changed.
    pub(crate) fn observe(&mut self, evidence: Evidence, began: Instant, now: Instant) -> Option<PeerState> {
        let is_silent = evidence == Evidence::Silent;
        if evidence == Evidence::Answered {
            self.answered = Some(now);
        } else if self.answered.is_some_and(|answered| answered > began) {
            // It has answered since: this tells of a time before.
            return None;
        }
        let next = match (self.state, evidence) {
            (State::Up { .. }, Evidence::Answered) => return None,
            (State::Up { passed }, _) => {
                let probation = match passed {
                    _ if self.since + STEADY_AFTER <= now => Duration::ZERO,
                    None => Duration::ZERO,
                    Some(Duration::ZERO) => FIRST_PROBATION,
                    Some(passed) => (passed * 2).min(LONGEST_PROBATION),
                };
                State::Down { is_silent, probation, good_since: None }
            }
            (State::Down { probation, good_since, .. }, Evidence::Answered)
                if now.duration_since(good_since.unwrap_or(now)) >= probation =>
            {
                State::Up { passed: Some(probation) }
            }
            (State::Down { is_silent, probation, good_since }, Evidence::Answered) => {
                let good_since = Some(good_since.unwrap_or(now));
                State::Down { is_silent, probation, good_since }
            }
            (State::Down { probation, .. }, _) => State::Down { is_silent, probation, good_since: None },
        };
        let before = self.state();
        self.state = next;
        (self.state() != before).then(|| {
            self.since = now;
            self.state()
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Remembers everything and looks through all of it each time.
    #[derive(Default)]
    struct SlowModel {
        /// Each with the time at which its exchange began, and ended.
        seen: Vec<(Evidence, u64, u64)>,
        /// The falls and returns, each with its time and the probation that went with it.
        falls: Vec<(u64, u64)>,
        returns: Vec<(u64, u64)>,
    }

    impl SlowModel {
        fn is_down(&self) -> bool {
            self.falls.len() > self.returns.len()
        }

        fn has_started(&mut self) {
            if self.is_down()
                && let Some((_, probation)) = self.falls.last_mut()
            {
                *probation = 0;
            }
        }

        fn observe(&mut self, evidence: Evidence, began: u64, now: u64) {
            let is_answer = |seen: &&(Evidence, u64, u64)| seen.0 == Evidence::Answered;
            if evidence != Evidence::Answered && self.seen.iter().filter(is_answer).any(|seen| seen.2 > began) {
                return;
            }
            self.seen.push((evidence, began, now));
            if evidence == Evidence::Answered {
                if !self.is_down() {
                    return;
                }
                let (fell, probation) = *self.falls.last().expect("it is down");
                // The answers since the last failure, this one included.
                let since_fall = self.seen.iter().skip_while(|seen| seen.2 < fell);
                let after_failure: Vec<_> = since_fall.collect();
                let last_failure = after_failure.iter().rposition(|seen| seen.0 != Evidence::Answered);
                let good = &after_failure[last_failure.map_or(0, |at| at + 1)..];
                if now - good[0].2 >= probation {
                    self.returns.push((now, probation));
                }
            } else if !self.is_down() {
                let probation = match self.returns.last() {
                    Some((returned, _)) if now - returned >= 10_000 => 0,
                    Some((_, 0)) => 2_000,
                    Some((_, probation)) => (probation * 2).min(10_000),
                    None => 0,
                };
                self.falls.push((now, probation));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn it_is_as_a_slow_model_says(
            steps in prop::collection::vec((0..4_u8, 0..4_000_u64, 0..3_000_u64), 1..80),
        ) {
            let start = Instant::now();
            let at = |ms: u64| start + Duration::from_millis(ms);
            let (mut health, mut model, mut now) = (Health::new(start), SlowModel::default(), 0);
            for (kind, takes_ms, pause_ms) in steps {
                // No two things happen at one time.
                now += pause_ms + 1;
                if kind == 3 {
                    health.has_started();
                    model.has_started();
                    continue;
                }
                let evidence = [Evidence::Answered, Evidence::Unreachable, Evidence::Silent][usize::from(kind)];
                let began = now.saturating_sub(takes_ms);
                let before = health.state();
                let changed = health.observe(evidence, at(began), at(now));
                model.observe(evidence, began, now);
                prop_assert_eq!(health.state() == PeerState::Down, model.is_down());
                prop_assert_eq!(changed.is_some(), before != health.state());
                if changed.is_some() {
                    prop_assert_eq!(health.since(), at(now));
                }
            }
        }
    }

    #[test]
    fn a_member_that_comes_and_goes_has_to_answer_for_longer_each_time() {
        let mut now = Instant::now();
        let mut health = Health::new(now);
        let mut probations = Vec::new();
        for _ in 0..6 {
            now += Duration::from_secs(1);
            assert_eq!(health.observe(Evidence::Silent, now, now), Some(PeerState::Down));
            let fell = now;
            while health.observe(Evidence::Answered, now, now).is_none() {
                now += Duration::from_millis(500);
            }
            probations.push(now.duration_since(fell).as_secs());
        }
        assert_eq!(probations, [0, 2, 4, 8, 10, 10]);
        now += Duration::from_secs(10);
        assert_eq!(health.observe(Evidence::Unreachable, now, now), Some(PeerState::Down));
        assert_eq!(health.observe(Evidence::Answered, now, now), Some(PeerState::Up), "it was steady before");
        health.observe(Evidence::Unreachable, now, now);
        health.has_started();
        assert_eq!(health.observe(Evidence::Answered, now, now), Some(PeerState::Up), "it says that it is new");
    }

    #[test]
    fn a_failure_from_before_the_latest_answer_tells_nothing() {
        let began = Instant::now();
        let later = |ms| began + Duration::from_millis(ms);
        let mut health = Health::new(began);
        health.observe(Evidence::Answered, later(10), later(20));
        assert_eq!(health.observe(Evidence::Silent, began, later(1_000)), None);
        assert_eq!(health.observe(Evidence::Silent, later(21), later(1_021)), Some(PeerState::Down));
        assert!(health.is_down_by_silence());
        health.observe(Evidence::Unreachable, later(1_100), later(1_100));
        assert!(!health.is_down_by_silence());
    }
}
