//! A listener that writes down the removals it hears of, shared by the tests.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
};

use peercache_lru::{Cache, Removal};

/// The removals that a listener has heard of, as words such as `a Size`.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    pub fn listener<K: Display, V>(&self) -> impl Fn(&K, &V, Removal) + Send + Sync + 'static {
        let heard = self.clone();
        move |key, _value, why| heard.lock().push(format!("{key} {why:?}"))
    }

    /// Everything heard since the last time.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cache where the weight of an entry is its value.
pub fn plain(max_bytes: usize, heard: &Heard) -> Cache<String, usize> {
    Cache::builder(max_bytes)
        .entry_overhead(0)
        .weigher(|_key: &String, value: &usize| *value)
        .eviction_listener(heard.listener())
        .build()
}

/// A cache of the entries in `a3 b5`: each word is a key of one letter and its weight.
pub fn filled(max_bytes: usize, entries: &str, heard: &Heard) -> Cache<String, usize> {
    let mut cache = plain(max_bytes, heard);
    for entry in entries.split_whitespace() {
        let (key, weight) = entry.split_at(1);
        cache.insert(key.to_owned(), weight.parse().unwrap()).unwrap();
    }
    cache
}

/// The entries from the newest, and their sum: `b5 a3 = 8`.
pub fn shown(cache: &Cache<String, usize>) -> String {
    let entries: Vec<_> = cache.iter().map(|(key, value)| format!("{key}{value}")).collect();
    format!("{} = {}", entries.join(" "), cache.bytes())
}
