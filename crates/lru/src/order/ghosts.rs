//! A memory of what has left: hashes, for about as many keys as there are entries.

/// Sets of eight, each of four bytes: 16 bits of the hash, 15 of the time at which it left, and whether it left main. 0 is nothing.
///
/// Two keys are taken for one about once in 8,000 look-ups, which costs a wrong guess. Time is counted in what has left the same list since,
/// so that the memory is as long for a list that changes quickly as for one that does not.
pub(super) struct Ghosts {
    sets: Vec<[u32; WAYS]>,
    /// What has left the window, and main.
    clocks: [u32; 2],
}

/// What is known of a key that has left.
pub(super) struct Ghost {
    pub(super) left_main: bool,
    /// How many have left the same list since.
    pub(super) age: usize,
}

const WAYS: usize = 8;

/// The least: 64 ghosts, for a cache of a handful.
const SETS_MIN: usize = 8;

/// 15 bits of time last for as many departures as a table of so many sets, by two powers of two, remembers; beyond that its unit grows with the
/// table.
const UNIT_SETS: usize = 1 << 10;

/// What this takes for an entry that is there, in bytes: four for each ghost, of which there are one to two for each entry.
pub(super) const ENTRY_BYTES: usize = 6;

impl Default for Ghosts {
    fn default() -> Self {
        Ghosts { sets: vec![[0; WAYS]; SETS_MIN], clocks: [0; 2] }
    }
}

impl Ghosts {
    /// Forgets a key, and says what was known of it.
    pub(super) fn take(&mut self, hash: u64) -> Option<Ghost> {
        let (set, print) = self.place(hash);
        let way = self.sets[set].iter().position(|ghost| ghost >> 16 == print)?;
        let ghost = std::mem::take(&mut self.sets[set][way]);
        Some(Ghost { left_main: ghost & 1 != 0, age: (self.age(ghost) as usize) << self.unit() })
    }

    /// Remembers a key, in place of the one of its set that left longest ago.
    pub(super) fn put(&mut self, hash: u64, left_main: bool) {
        let clock = &mut self.clocks[usize::from(left_main)];
        *clock = clock.wrapping_add(1);
        let (set, print) = self.place(hash);
        let mut ways = self.sets[set].iter();
        let way = ways.position(|&ghost| ghost == 0 || ghost >> 16 == print).unwrap_or_else(|| self.oldest(set));
        self.sets[set][way] = print << 16 | self.time(left_main) << 1 | u32::from(left_main);
    }

    /// Keeps the memory as long as there are entries. A set's ghosts go to both halves of twice as many sets, for it is not known to which; the
    /// wrong ones grow old.
    pub(super) fn grow(&mut self, entries: usize) {
        if entries <= self.sets.len() * WAYS {
            return;
        }
        let unit = self.unit();
        let mut sets = Vec::with_capacity(self.sets.len() * 2);
        self.sets.iter().for_each(|set| sets.extend([*set, *set]));
        self.sets = sets;
        if self.unit() != unit {
            let halved = |ghost: u32| ghost & 0xffff_0001 | (ghost >> 2 & 0x3fff) << 1;
            self.sets.iter_mut().flatten().for_each(|ghost| *ghost = halved(*ghost));
        }
    }

    fn oldest(&self, set: usize) -> usize {
        let ages = self.sets[set].map(|ghost| self.age(ghost));
        (0..WAYS).max_by_key(|&way| ages[way]).unwrap_or(0)
    }

    /// The set, and the 16 bits that are kept of the hash. Mixed, so that a hasher that hardly hashes does no harm.
    fn place(&self, hash: u64) -> (usize, u32) {
        const ODD: u64 = 0xD6E8_FEB8_6659_FD93;
        let mixed = hash.wrapping_mul(ODD);
        let set = (mixed >> (u64::BITS - self.sets.len().ilog2())) as usize;
        (set, ((mixed >> 16) as u32 & 0xffff).max(1))
    }

    fn unit(&self) -> u32 {
        (self.sets.len() / UNIT_SETS).max(1).ilog2()
    }

    fn time(&self, left_main: bool) -> u32 {
        self.clocks[usize::from(left_main)] >> self.unit() & 0x7fff
    }

    fn age(&self, ghost: u32) -> u32 {
        self.time(ghost & 1 != 0).wrapping_sub(ghost >> 1) & 0x7fff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_left_is_known_once() {
        let mut ghosts = Ghosts::default();
        ghosts.put(1 << 40, true);
        (2..7).for_each(|hash| ghosts.put(hash << 40, false));
        let ghost = ghosts.take(1 << 40).expect("it has left");
        assert_eq!((ghost.left_main, ghost.age), (true, 0), "nothing has left main since");
        assert_eq!(ghosts.take(2 << 40).map(|ghost| (ghost.left_main, ghost.age)), Some((false, 4)));
        assert!(ghosts.take(1 << 40).is_none() && ghosts.take(9 << 40).is_none());
    }

    #[test]
    fn a_full_set_forgets_who_left_first() {
        let mut ghosts = Ghosts::default();
        let (set, _) = ghosts.place(0);
        let of_one_set: Vec<u64> = (0..10_000).filter(|&hash| ghosts.place(hash).0 == set).take(WAYS + 1).collect();
        of_one_set.iter().for_each(|&hash| ghosts.put(hash, false));
        assert!(ghosts.take(of_one_set[0]).is_none());
        assert!(of_one_set[1..].iter().all(|&hash| ghosts.take(hash).is_some()));
    }

    /// The hashes of plain numbers, in tables of all sizes: each is found again, as old as it is but for the unit.
    #[test]
    fn the_memory_grows_with_the_cache() {
        let mut ghosts = Ghosts::default();
        for entries in [1_usize, 100, 10_000, 100_000, 1_000_000] {
            ghosts.grow(entries);
            while ghosts.sets.len() * WAYS < entries {
                ghosts.grow(entries);
            }
            (0..50).for_each(|hash| ghosts.put(hash, true));
            let ages: Vec<usize> = (0..50).filter_map(|hash| ghosts.take(hash)).map(|ghost| ghost.age).collect();
            let unit = 1 << ghosts.unit();
            assert!(ages.len() >= 45 && ages[0] >= 49 - 49 % unit && ages[0] <= 49 + unit, "{entries}: {ages:?}");
        }
    }

    #[test]
    fn ghosts_stay_as_the_memory_grows() {
        let hashes = || (0..32_u64).map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut ghosts = Ghosts::default();
        hashes().for_each(|hash| ghosts.put(hash, false));
        ghosts.grow(65);
        assert!(hashes().filter_map(|hash| ghosts.take(hash)).count() >= 30);
    }
}
