//! The scan-resistant policy evicts as a slow, obvious twin does: vectors, oldest first, and a
//! memory that forgets nothing.

use peercache_lru::{
    EvictionPolicy,
    segment::{HasPolicyState, Lane, PolicyState, Segment},
};
use proptest::{collection::vec, prelude::*};

const CAPACITY: usize = 120;
const HOT_SHARE: f64 = 0.25;

/// Few enough keys that no set of the real memory has to forget one.
const KEYS: u8 = 16;

struct Entry {
    key: u8,
    policy_state: PolicyState,
}

impl HasPolicyState for Entry {
    fn policy_state(&self) -> &PolicyState {
        &self.policy_state
    }

    fn policy_state_mut(&mut self) -> &mut PolicyState {
        &mut self.policy_state
    }
}

/// Spreads keys, as a good hash does.
fn hash(key: u8) -> u64 {
    (u64::from(key) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn hash_of(entry: &Entry) -> u64 {
    hash(entry.key)
}

#[derive(Clone, Debug)]
struct Known {
    key: u8,
    weight: usize,
    uses: u32,
    recent: bool,
}

/// A twin of one lane.
#[derive(Default)]
struct Twin {
    window: Vec<Known>,
    clock: Vec<Known>,
    /// Key, whether it left the clock, and the evictions from that list until then.
    left: Vec<(u8, bool, usize)>,
    evictions: [usize; 2],
    capacity: usize,
    full: bool,
    share: f64,
}

fn bytes(list: &[Known]) -> usize {
    list.iter().map(|known| known.weight).sum()
}

impl Twin {
    fn new(capacity: usize) -> Self {
        Twin { capacity, share: 0.10, ..Twin::default() }
    }

    fn all(&self) -> impl Iterator<Item = &Known> {
        self.window.iter().chain(&self.clock)
    }

    fn bytes(&self) -> usize {
        bytes(&self.window) + bytes(&self.clock)
    }

    fn window_bytes(&self) -> usize {
        (self.share * self.capacity as f64) as usize
    }

    fn heavy(&self, weight: usize, times: u32) -> bool {
        weight > self.bytes() / self.all().count().max(1) * 2 * times as usize
    }

    fn find(&mut self, key: u8) -> Option<&mut Known> {
        self.window.iter_mut().chain(&mut self.clock).find(|known| known.key == key)
    }

    fn insert(&mut self, key: u8, weight: usize) {
        self.full &= self.bytes() + weight >= self.capacity / 2;
        let returned = self.left.iter().position(|left| left.0 == key).map(|at| self.left.remove(at));
        let to_clock = returned.is_some_and(|(_, left_clock, then)| {
            let age = self.evictions[usize::from(left_clock)] - then;
            let (wins, idle) = self.contest();
            self.adapt(left_clock, age, idle);
            wins
        });
        let has_room =
            bytes(&self.clock) + self.window_bytes().max(weight) < self.capacity && self.bytes() < self.capacity;
        if !self.window.is_empty() && bytes(&self.window) >= self.window_bytes() && has_room {
            let oldest = self.window.remove(0);
            self.clock.push(Known { uses: 0, recent: false, ..oldest });
        }
        let list = if to_clock { &mut self.clock } else { &mut self.window };
        list.push(Known { key, weight, uses: 0, recent: false });
    }

    fn contest(&mut self) -> (bool, bool) {
        match self.clock.first().cloned() {
            Some(oldest) if self.full && oldest.uses > 0 => {
                self.second_chance();
                (false, !oldest.recent)
            }
            Some(_) if self.full => (true, true),
            _ => (true, false),
        }
    }

    fn adapt(&mut self, left_clock: bool, age: usize, idle: bool) {
        let entries = self.all().count().max(1);
        if !self.full || age > entries / 2 {
            return;
        }
        let near = (entries / 32).max(1);
        let step = (1.0 / 512.0_f64).max(1.0 / entries as f64) * near as f64 / age.max(near) as f64;
        if left_clock {
            self.share -= 0.6875 * step;
        } else if idle {
            self.share += step;
        }
        self.share = self.share.clamp(0.05, 0.70);
    }

    fn second_chance(&mut self) {
        let heavy = self.heavy(self.clock[0].weight, 1);
        let oldest = self.clock.remove(0);
        let uses = match oldest.uses {
            _ if self.share > 0.4 => 0,
            uses if !oldest.recent || heavy => uses / 2,
            uses if uses > 2 => uses - 1,
            uses => uses,
        };
        self.clock.push(Known { uses, recent: false, ..oldest });
    }

    fn victim(&mut self) -> Option<u8> {
        let bytes = self.bytes();
        let step = self.capacity.abs_diff(bytes).div_ceil(16);
        self.capacity = if !self.full {
            bytes
        } else if bytes > self.capacity {
            self.capacity + step
        } else {
            self.capacity - step
        };
        self.full = true;
        let (victim, left_clock) = self.choose()?;
        self.evictions[usize::from(left_clock)] += 1;
        self.left.retain(|left| left.0 != victim);
        self.left.push((victim, left_clock, self.evictions[usize::from(left_clock)]));
        Some(victim)
    }

    fn choose(&mut self) -> Option<(u8, bool)> {
        for _ in 0..64 {
            if self.window.is_empty() || !self.clock.is_empty() && bytes(&self.window) < self.window_bytes() {
                break;
            }
            let oldest = self.window[0].clone();
            if oldest.uses == 0 || self.heavy(oldest.weight, oldest.uses) {
                return Some((oldest.key, false));
            }
            let has_room = bytes(&self.clock) + self.window_bytes() < self.capacity;
            self.window.remove(0);
            self.clock.push(Known { uses: 0, recent: false, ..oldest });
            if !has_room {
                break;
            }
        }
        for _ in 0..64 {
            if self.clock.first()?.uses == 0 {
                break;
            }
            self.second_chance();
        }
        self.clock.first().map(|known| (known.key, true))
    }

    fn remove(&mut self, key: u8) {
        self.window.retain(|known| known.key != key);
        self.clock.retain(|known| known.key != key);
    }

    /// Whether there is one entry alone and it was used, which costs it a use.
    fn is_only_one_in_use(&mut self) -> bool {
        let mut all = self.window.iter_mut().chain(&mut self.clock);
        let (Some(one), None) = (all.next(), all.next()) else { return false };
        let in_use = one.uses > 0;
        (one.uses, one.recent) = (one.uses.saturating_sub(1), false);
        in_use
    }

    /// The keys in the order in which a segment shows them.
    fn shown(&self) -> Vec<u8> {
        self.clock.iter().rev().chain(self.window.iter().rev()).map(|known| known.key).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Use(u8),
    Insert(u8, u32, bool),
    Remove(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let weight = prop_oneof![4 => Just(10_u32), 1 => 1..60_u32];
    prop_oneof![
        6 => (0..KEYS).prop_map(Step::Use),
        8 => (0..KEYS, weight, prop::bool::weighted(0.3))
            .prop_map(|(key, weight, is_hot)| Step::Insert(key, weight, is_hot)),
        1 => (0..KEYS).prop_map(Step::Remove),
    ]
}

fn find(segment: &Segment<Entry>, key: u8) -> Option<u32> {
    segment.find(hash(key), |entry| entry.key == key)
}

fn total_bytes(segment: &Segment<Entry>) -> usize {
    segment.usage(Lane::Main).bytes + segment.usage(Lane::Hot).bytes
}

fn remove(segment: &mut Segment<Entry>, slot: u32) -> u8 {
    segment.remove(slot, hash_of, |_, _| ()).key
}

proptest! {
    #[test]
    fn does_what_its_twin_does(steps in vec(step(), 1..400)) {
        let mut segment = Segment::new(EvictionPolicy::Adaptive, CAPACITY, HOT_SHARE);
        let hot_capacity = (CAPACITY as f64 * HOT_SHARE) as usize;
        let (mut main, mut hot) = (Twin::new(CAPACITY - hot_capacity), Twin::new(hot_capacity));
        for step in steps {
            match step {
                Step::Use(key) => {
                    if let Some(slot) = find(&segment, key) {
                        segment.entry(slot).policy_state.count_use();
                    }
                    if let Some(known) = main.find(key).or_else(|| hot.find(key)) {
                        (known.uses, known.recent) = ((known.uses + 1).min(15), true);
                    }
                }
                // A cache inserts a key that is not there in these steps.
                Step::Insert(key, weight, is_hot) if find(&segment, key).is_none() => {
                    while total_bytes(&segment) + weight as usize > CAPACITY {
                        let victim = segment.victim(hash_of).expect("there is something that can leave");
                        let left = remove(&mut segment, victim);
                        let over_share = hot.bytes() as f64 > (main.bytes() + hot.bytes()) as f64 * HOT_SHARE;
                        let in_use = over_share && hot.is_only_one_in_use();
                        let lanes = if over_share && !in_use { [&mut hot, &mut main] } else { [&mut main, &mut hot] };
                        let expected = lanes.into_iter().find_map(Twin::victim);
                        prop_assert_eq!(Some(left), expected);
                        main.remove(left);
                        hot.remove(left);
                    }
                    let lane = if is_hot { Lane::Hot } else { Lane::Main };
                    segment.insert(hash(key), Entry { key, policy_state: PolicyState::new() }, weight, lane, hash_of);
                    if is_hot { &mut hot } else { &mut main }.insert(key, weight as usize);
                }
                Step::Insert(..) => {}
                Step::Remove(key) => {
                    if let Some(slot) = find(&segment, key) {
                        remove(&mut segment, slot);
                    }
                    main.remove(key);
                    hot.remove(key);
                }
            }
            for (lane, twin) in [(Lane::Main, &main), (Lane::Hot, &hot)] {
                let keys: Vec<u8> = segment.slots(lane).map(|slot| segment.entry(slot).key).collect();
                prop_assert_eq!(keys, twin.shown());
                prop_assert_eq!(segment.usage(lane).bytes, twin.bytes());
            }
        }
    }

    /// Many more entries than a chunk of slots holds come and go. Those that stay are found, and
    /// the memory shrinks.
    #[test]
    fn slots_move_when_many_have_left(kept in 0..40_u32, seed in any::<u64>()) {
        struct Numbered(u32, PolicyState);
        impl HasPolicyState for Numbered {
            fn policy_state(&self) -> &PolicyState { &self.1 }
            fn policy_state_mut(&mut self) -> &mut PolicyState { &mut self.1 }
        }
        let hash = |number: u32| (u64::from(number) ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let hash_of = |entry: &Numbered| hash(entry.0);
        let mut segment = Segment::new(EvictionPolicy::Adaptive, 1_000, 0.0);
        for number in 0..1_000 {
            segment.insert(hash(number), Numbered(number, PolicyState::new()), 1, Lane::Main, hash_of);
        }
        let mut moves = 0;
        for number in (0..1_000).filter(|number| number % 41 != kept) {
            let slot = segment.find(hash(number), |entry| entry.0 == number).expect("it is there");
            segment.remove(slot, hash_of, |from, to| { assert!(to < from); moves += 1 });
        }
        let slots: Vec<u32> = segment.slots(Lane::Main).collect();
        prop_assert!(moves > 0 && slots.iter().all(|slot| *slot < 128), "{} moves, {:?}", moves, slots);
        for number in (0..1_000).filter(|number| number % 41 == kept) {
            prop_assert!(segment.find(hash(number), |entry| entry.0 == number).is_some());
        }
        prop_assert_eq!(segment.len(), slots.len());
    }
}
