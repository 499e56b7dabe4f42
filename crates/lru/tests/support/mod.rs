//! Machinery shared by the tests: a listener that writes down what it hears.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
};

use peercache_lru::{Cache, Removal};

/// What a listener has heard, as words such as `a Size`.
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

/// A cache where an entry weighs what its value says, nothing else.
pub fn plain(max_bytes: usize, heard: &Heard) -> Cache<String, usize> {
    Cache::builder(max_bytes)
        .entry_overhead(0)
        .weigher(|_key: &String, value: &usize| *value)
        .eviction_listener(heard.listener())
        .build()
}

/// `a3 b5`: an entry per word, a key of one letter and its weight.
pub fn filled(max_bytes: usize, entries: &str, heard: &Heard) -> Cache<String, usize> {
    let mut cache = plain(max_bytes, heard);
    for entry in entries.split_whitespace() {
        let (key, weight) = entry.split_at(1);
        cache.insert(key.to_owned(), weight.parse().unwrap()).unwrap();
    }
    cache
}

/// `b5 a3 = 8`: newest first, and the sum.
pub fn shown(cache: &Cache<String, usize>) -> String {
    let entries: Vec<_> = cache.iter().map(|(key, value)| format!("{key}{value}")).collect();
    format!("{} = {}", entries.join(" "), cache.bytes())
}
