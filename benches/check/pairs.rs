//! Times side by side on a machine that others use as well: many short rounds, in each of which all take their turn, and medians of what each
//! round says. A round for which the machine had too little to give is thrown away.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Rounds that must count: at least 31, so that a median says something.
    pub rounds: usize,
    /// Rounds after which we take what we have.
    pub tries_max: usize,
    /// About how long one measurement of a round takes, in operations of some ten nanoseconds.
    pub operations: u64,
    /// How many keys there are.
    pub keys: usize,
}

impl Effort {
    pub const FULL: Effort = Effort { rounds: 36, tries_max: 240, operations: 50_000, keys: 100_000 };
    pub const SMALL: Effort = Effort { rounds: 1, tries_max: 1, operations: 1_000, keys: 1_000 };
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    /// Nanoseconds an operation.
    pub ns: f64,
    /// Whether the threads had the processors they could have used.
    pub undisturbed: bool,
}

/// The least share of a processor that a thread at work must have had: two of them have 1.8 processors then.
const SHARE_MIN: f64 = 0.9;

/// Runs `work`, which keeps `threads` threads busy and says how long that took.
pub fn timed(threads: usize, operations: u64, work: impl FnOnce() -> Duration) -> Timed {
    let (wall, cpu) = (Instant::now(), cpu_time());
    let took = work();
    let share = (cpu_time() - cpu).as_secs_f64() / wall.elapsed().as_secs_f64() / threads as f64;
    Timed { ns: took.as_nanos() as f64 / operations as f64, undisturbed: share >= SHARE_MIN }
}

/// Of this process, all its threads together.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What was measured in all rounds, each time the same things.
pub struct Rounds<const N: usize> {
    rounds: Vec<[Timed; N]>,
    wanted: usize,
}

impl<const N: usize> Rounds<N> {
    /// Goes on until everything was measured undisturbed often enough, or for as long as is allowed. `round` is told the number of the round, so
    /// that it can change the order and begin anew.
    pub fn measure(effort: Effort, mut round: impl FnMut(usize) -> [Timed; N]) -> Self {
        let mut rounds = Rounds { rounds: Vec::new(), wanted: effort.rounds };
        let mut undisturbed = [0; N];
        while rounds.rounds.len() < effort.tries_max && undisturbed.iter().any(|count| *count < effort.rounds) {
            let timed = round(rounds.rounds.len());
            undisturbed.iter_mut().zip(timed).for_each(|(count, timed)| *count += usize::from(timed.undisturbed));
            rounds.rounds.push(timed);
        }
        rounds
    }

    /// In how many rounds nothing at these places was disturbed.
    pub fn undisturbed<const P: usize>(&self, places: [usize; P]) -> usize {
        self.rounds.iter().filter(|round| is_undisturbed(round, places)).count()
    }

    /// The median of what `of` makes of the nanoseconds at these places, in rounds in which none of them was disturbed. Where the
    /// machine gave us too few such rounds, all are taken.
    pub fn median<const P: usize>(&self, places: [usize; P], of: impl Fn([f64; P]) -> f64) -> f64 {
        let all = self.undisturbed(places) < (self.wanted / 2).max(1);
        let taken = self.rounds.iter().filter(|round| all || is_undisturbed(round, places));
        let mut values: Vec<f64> = taken.map(|round| of(places.map(|place| round[place].ns))).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        }
    }
}

fn is_undisturbed<const N: usize, const P: usize>(round: &[Timed; N], places: [usize; P]) -> bool {
    places.iter().all(|place| round[*place].undisturbed)
}
