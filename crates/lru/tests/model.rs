//! Both caches as exact LRU do as a slow, obvious twin does: a vector, most recent first.

use std::sync::{Arc, Mutex};

use peercache_lru::{Cache, EvictionPolicy, Removal, ShardedCache};
use proptest::{collection::vec, prelude::*};

type Notices = Vec<(u8, u16, Removal)>;

#[derive(Debug, Clone)]
enum Step {
    Get(u8),
    Peek(u8),
    /// A key, and a value that is its own weight.
    Insert(u8, u16),
    Remove(u8),
    PopLru,
    Clear,
    Resize(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..12_u8;
    prop_oneof![
        4 => key.clone().prop_map(Step::Get),
        1 => key.clone().prop_map(Step::Peek),
        8 => (key.clone(), 0..60_u16).prop_map(|(key, value)| Step::Insert(key, value)),
        2 => key.prop_map(Step::Remove),
        1 => Just(Step::PopLru),
        1 => Just(Step::Clear),
        1 => (0..100_usize).prop_map(Step::Resize),
    ]
}

struct Twin {
    max_bytes: usize,
    entries: Vec<(u8, u16)>,
    notices: Notices,
}

impl Twin {
    fn bytes(&self) -> usize {
        self.entries.iter().map(|(_, value)| usize::from(*value)).sum()
    }

    fn take(&mut self, key: u8) -> Option<u16> {
        let index = self.entries.iter().position(|entry| entry.0 == key)?;
        Some(self.entries.remove(index).1)
    }

    fn shrink_to(&mut self, bytes: usize) {
        while self.bytes() > bytes {
            let (key, value) = self.entries.pop().unwrap();
            self.notices.push((key, value, Removal::Size));
        }
    }

    /// Takes the step, and returns its answer as words.
    fn run(&mut self, step: &Step) -> String {
        match *step {
            Step::Get(key) => {
                let found = self.take(key);
                self.entries.splice(..0, found.map(|value| (key, value)));
                format!("{found:?}")
            }
            Step::Peek(key) => format!("{:?}", self.entries.iter().find(|entry| entry.0 == key).map(|entry| entry.1)),
            Step::Insert(key, value) => {
                let replaced = self.take(key);
                self.notices.extend(replaced.map(|old| (key, old, Removal::Replaced)));
                if usize::from(value) > self.max_bytes {
                    return format!("refused {value}");
                }
                self.shrink_to(self.max_bytes - usize::from(value));
                self.entries.insert(0, (key, value));
                format!("{replaced:?}")
            }
            Step::Remove(key) => {
                let removed = self.take(key);
                self.notices.extend(removed.map(|value| (key, value, Removal::Removed)));
                format!("{removed:?}")
            }
            Step::PopLru => {
                let popped = self.entries.pop();
                self.notices.extend(popped.map(|(key, value)| (key, value, Removal::Removed)));
                format!("{popped:?}")
            }
            Step::Clear => {
                self.notices.extend(self.entries.drain(..).rev().map(|(key, value)| (key, value, Removal::Cleared)));
                String::new()
            }
            Step::Resize(max_bytes) => {
                self.max_bytes = max_bytes;
                self.shrink_to(max_bytes);
                String::new()
            }
        }
    }
}

fn weigh(_: &u8, value: &u16) -> usize {
    usize::from(*value)
}

fn run_cache(cache: &mut Cache<u8, u16>, step: &Step) -> String {
    match *step {
        Step::Get(key) => format!("{:?}", cache.get(&key).copied()),
        Step::Peek(key) => format!("{:?}", cache.peek(&key).copied()),
        Step::Insert(key, value) => cache
            .insert(key, value)
            .map_or_else(|refused| format!("refused {}", refused.value), |old| format!("{old:?}")),
        Step::Remove(key) => format!("{:?}", cache.remove(&key)),
        Step::PopLru => {
            let seen = cache.peek_lru().map(|(key, value)| (*key, *value));
            let popped = cache.pop_lru().map(|entry| (entry.key, entry.value));
            assert_eq!(seen, popped);
            format!("{popped:?}")
        }
        Step::Clear => {
            cache.clear();
            String::new()
        }
        Step::Resize(max_bytes) => {
            cache.resize(max_bytes);
            String::new()
        }
    }
}

fn run_sharded(cache: &ShardedCache<u8, u16>, step: &Step) -> String {
    match *step {
        Step::Get(key) => format!("{:?}", cache.get(&key)),
        Step::Peek(key) => format!("{:?}", cache.peek(&key)),
        Step::Insert(key, value) => cache
            .insert(key, value)
            .map_or_else(|refused| format!("refused {}", refused.value), |old| format!("{old:?}")),
        Step::Remove(key) => format!("{:?}", cache.remove(&key)),
        // It has no such operation: the last entry shown is removed by its key, which is the same.
        Step::PopLru => {
            let mut last = None;
            cache.for_each(|key, value| last = Some((*key, *value)));
            last.map(|(key, _)| cache.remove(&key));
            format!("{last:?}")
        }
        Step::Clear => {
            cache.clear();
            String::new()
        }
        Step::Resize(max_bytes) => {
            cache.resize(max_bytes);
            String::new()
        }
    }
}

const MAX_BYTES: usize = 100;

fn twin() -> Twin {
    Twin { max_bytes: MAX_BYTES, entries: Vec::new(), notices: Notices::new() }
}

fn listener(notices: &Arc<Mutex<Notices>>) -> impl Fn(&u8, &u16, Removal) + Send + Sync + 'static {
    let notices = Arc::clone(notices);
    move |key, value, why| notices.lock().unwrap().push((*key, *value, why))
}

proptest! {
    #[test]
    fn the_cache_does_as_its_twin_does(steps in vec(step(), 1..200)) {
        let (mut twin, notices) = (twin(), Arc::default());
        let mut cache: Cache<u8, u16> =
            Cache::builder(MAX_BYTES).entry_overhead(0).weigher(weigh).eviction_listener(listener(&notices)).build();
        for step in &steps {
            prop_assert_eq!(run_cache(&mut cache, step), twin.run(step), "answer of {:?}", step);
            let entries: Vec<_> = cache.iter().map(|(key, value)| (*key, *value)).collect();
            prop_assert_eq!(&entries, &twin.entries, "order after {:?}", step);
            prop_assert_eq!(cache.bytes(), twin.bytes(), "bytes after {:?}", step);
            prop_assert_eq!(cache.max_bytes(), twin.max_bytes, "budget after {:?}", step);
            prop_assert_eq!(&*notices.lock().unwrap(), &twin.notices, "notices after {:?}", step);
        }
    }

    #[test]
    fn one_shard_does_as_its_twin_does(steps in vec(step(), 1..200)) {
        let (mut twin, notices) = (twin(), Arc::default());
        let cache: ShardedCache<u8, u16> = ShardedCache::builder(MAX_BYTES)
            .entry_overhead(0)
            .weigher(weigh)
            .eviction_listener(listener(&notices))
            .eviction_policy(EvictionPolicy::Lru)
            .build_sharded();
        prop_assert_eq!(cache.shards(), 1);
        for step in &steps {
            prop_assert_eq!(run_sharded(&cache, step), twin.run(step), "answer of {:?}", step);
            let mut entries = Vec::new();
            cache.for_each(|key, value| entries.push((*key, *value)));
            prop_assert_eq!(&entries, &twin.entries, "order after {:?}", step);
            prop_assert_eq!(cache.bytes(), twin.bytes(), "bytes after {:?}", step);
            prop_assert_eq!(cache.max_bytes(), twin.max_bytes, "budget after {:?}", step);
            prop_assert_eq!(&*notices.lock().unwrap(), &twin.notices, "notices after {:?}", step);
        }
    }
}
