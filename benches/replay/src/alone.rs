//! A real group at one node, as a policy.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use peercache_groupcache::{
    BoxError, Bytes, Clock, Group, GroupBuilder, Groups, Key, LoadError, Loaded, Loader, Members, Source, Value,
};
use tokio::runtime::{Builder, Runtime};

use crate::{
    capacity::{Capacity, Unit},
    replay::CachePolicy,
    trace::{Request, Trace},
};

/// A real group at a node that is alone, as its builder gives it without options: what `default`
/// means.
///
/// A group charges its overhead to its budget, and a trace's capacity counts entries, or bytes of
/// key and value. So that the two are the same, the group is asked what it charges and gets a
/// budget that holds exactly as much.
pub struct Alone {
    runtime: Runtime,
    group: Group<Blank>,
    size: CurrentSize,
    keys: Vec<[u8; 8]>,
}

/// A value of some size that takes none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blank {
    bytes: u32,
}

/// The size of what is asked for just now: requests are made one after another, so whatever is
/// loaded is that.
#[derive(Clone, Default)]
pub(crate) struct CurrentSize(Arc<AtomicU32>);

impl Alone {
    /// An empty group with room for so much of this trace.
    pub fn new(trace: &Trace, capacity: Capacity) -> Self {
        let runtime = runtime();
        let size = CurrentSize::default();
        let groups = Groups::with_clock(Members::alone(), Clock::tokio());
        let charge = Charge::of_group(&runtime, trace, capacity);
        let builder = groups.group("replay", size.clone());
        let group = charge.set(builder, trace, capacity).build().expect("the settings are good");
        Alone { runtime, group, size, keys: keys(trace) }
    }
}

impl CachePolicy for Alone {
    fn request(&mut self, request: Request) -> bool {
        self.size.set(request);
        let get = pin!(self.group.get(&self.keys[request.key as usize]).detailed());
        // A hit is ready at the first poll; a miss runs its load.
        let answer = self.runtime.block_on(get).expect("the loader always has a value");
        answer.source != Source::Origin
    }
}

/// Time stands still unless it is told to go on.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime starts")
}

pub(crate) fn keys(trace: &Trace) -> Vec<[u8; 8]> {
    (0..trace.keys() as u32).map(|number| trace.key(number)).collect()
}

impl CurrentSize {
    pub(crate) fn set(&self, request: Request) {
        self.0.store(u32::try_from(request.weight).expect("sizes of traces have 32 bits"), Relaxed);
    }
}

impl Loader for CurrentSize {
    type Value = Blank;

    async fn load(&self, _: Key) -> Result<Loaded<Blank>, LoadError> {
        Ok(Loaded::new(Blank { bytes: self.0.load(Relaxed) }))
    }
}

impl Value for Blank {
    fn encode(&self) -> Result<Bytes, BoxError> {
        Ok(Bytes::copy_from_slice(&self.bytes.to_le_bytes()))
    }

    fn decode(bytes: Bytes) -> Result<Self, BoxError> {
        Ok(Blank { bytes: u32::from_le_bytes(bytes.as_ref().try_into()?) })
    }

    fn weight(&self) -> usize {
        self.bytes as usize
    }
}

/// The charge of a group for an entry, which says what budget a capacity is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Charge {
    /// A charge for each entry, in bytes, the size of its value being [`SMALL_BYTES`].
    Entry { bytes: usize },
    /// A charge for each byte of key and value, and no overhead. That cannot be taken off a charge,
    /// but it can be made part of one: all is counted in a unit so small that the smallest entry is
    /// charged more than its overhead.
    Bytes { scale: usize, overhead: usize },
}

/// The bytes of a typical small entry's value.
const SMALL_BYTES: usize = 100;

impl Charge {
    /// Asks a group that holds one entry.
    pub(crate) fn of_group(runtime: &Runtime, trace: &Trace, capacity: Capacity) -> Self {
        match capacity.unit {
            Unit::Entries => Charge::Entry { bytes: charged(runtime, SMALL_BYTES) },
            Unit::Bytes => {
                let overhead = charged(runtime, 0);
                Charge::Bytes { scale: scale(trace, capacity, overhead as u64), overhead }
            }
        }
    }

    /// Gives a group room for exactly so much.
    pub(crate) fn set(self, builder: GroupBuilder<Blank>, trace: &Trace, capacity: Capacity) -> GroupBuilder<Blank> {
        let (max_bytes, shards) = self.budget(trace, capacity);
        let builder = builder.max_bytes(max_bytes);
        match self {
            Charge::Entry { .. } => builder.weigher(|_, _| SMALL_BYTES),
            Charge::Bytes { scale, overhead } => builder
                .shards(shards)
                .max_value_bytes(usize::MAX)
                .weigher(move |_, value| (value.bytes as usize * scale).saturating_sub(overhead)),
        }
    }

    /// The budget in bytes, and into how many shards it is cut: by default, or as many as for a
    /// budget in bytes of key and value. A capacity far beyond what the trace has is cut to some
    /// times as much, since both hold all.
    pub(crate) fn budget(self, trace: &Trace, capacity: Capacity) -> (usize, usize) {
        const BEYOND: u64 = 16;
        let amount = capacity.amount.min(BEYOND * trace.weight(capacity.unit)) as usize;
        match self {
            Charge::Entry { bytes } => (amount * bytes, default_shards(amount * bytes)),
            Charge::Bytes { scale, .. } => (amount * scale, default_shards(amount)),
        }
    }

    /// The group's charge for the entry of a request.
    pub(crate) fn of(self, request: Request) -> usize {
        match self {
            Charge::Entry { bytes } => bytes,
            Charge::Bytes { scale, overhead } => (request.weight as usize * scale).max(overhead),
        }
    }
}

/// The charge of a group for a key of 8 bytes and a value of this weight.
fn charged(runtime: &Runtime, weight: usize) -> usize {
    let groups = Groups::with_clock(Members::alone(), Clock::tokio());
    let group = groups.group("probe", CurrentSize::default()).weigher(move |_, _| weight).build();
    let group = group.expect("the settings are good");
    runtime.block_on(group.get(&[0; 8])).expect("the loader always has a value");
    let held = group.stats().main;
    assert_eq!(held.items, 1, "a small entry fits the default budget");
    held.bytes as usize
}

/// The least power of two by which the smallest entry outgrows the overhead.
///
/// The largest that fits the capacity may not outgrow 32 bits by it, where groups cache no more. In
/// a trace that has entries of less than 200 bytes and of more than 16 MiB, the smallest are
/// charged the overhead.
fn scale(trace: &Trace, capacity: Capacity, overhead: u64) -> usize {
    let weights = || (0..trace.len()).map(|position| trace.request(position, Unit::Bytes).weight);
    let least = weights().min().unwrap_or(1);
    let most = weights().filter(|weight| *weight <= capacity.amount).max().unwrap_or(1);
    let wanted = overhead.div_ceil(least).next_power_of_two();
    wanted.min((u64::from(u32::MAX) / most).max(1)) as usize
}

/// The number of shards that the builder would choose: see `GroupBuilder::shards`.
fn default_shards(max_bytes: usize) -> usize {
    peercache_lru::sharding::shard_count(max_bytes, 512).min(64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lru::Lru, replay::replay};

    fn held(alone: &Alone) -> u64 {
        alone.group.stats().main.items
    }

    #[test]
    fn entries_are_counted_exactly() {
        for entries in [2, 100, 1_000] {
            let trace = Trace::new("t", 0..5_000);
            let mut alone = Alone::new(&trace, Capacity::entries(entries));
            replay(&trace, Unit::Entries, &mut alone, &mut |_| {});
            assert_eq!(held(&alone), entries);
        }
    }

    #[test]
    fn bytes_are_those_of_key_and_value() {
        for unit in [1, 10_000, 40_000_000] {
            // None takes more than half of the room, which a group would not hold.
            let sizes = [(1, 30), (2, 30), (3, 40)];
            let trace = Trace::sized("t", [sizes, sizes].concat().into_iter().map(|(key, size)| (key, size * unit)));
            let hits = |bytes| {
                let mut alone = Alone::new(&trace, Capacity::bytes(bytes));
                replay(&trace, Unit::Bytes, &mut alone, &mut |_| {}).hits
            };
            let room = 100 * u64::from(unit);
            assert!(hits(room) == 3 && hits(room - 1) < 3, "sizes times {unit}");
        }
    }

    #[test]
    fn a_capacity_without_bounds_holds_everything() {
        let trace = Trace::sized("t", (0..100).chain(0..100).map(|key| (key, u32::MAX)));
        for capacity in [Capacity::bytes(1 << 50), Capacity::entries(1 << 40)] {
            let counts = replay(&trace, capacity.unit, &mut Alone::new(&trace, capacity), &mut |_| {});
            assert_eq!(counts.hits, 100, "{capacity}");
        }
    }

    /// A cache of one entry leaves a policy no choice but to admit.
    #[test]
    fn asked_twice_in_a_row_is_a_hit() {
        let trace = Trace::new("t", [1, 1, 2, 2]);
        let capacity = Capacity::entries(3);
        let hits = |policy: &mut dyn CachePolicy| replay(&trace, Unit::Entries, policy, &mut |_| {}).hits;
        assert_eq!(hits(&mut Alone::new(&trace, capacity)), hits(&mut Lru::new(&trace, capacity)));
    }
}
