//! Hits as everybody measures them: criterion, `check` side by side, and valgrind in
//! `instructions`.

use std::hint::black_box;

use bytes::Bytes;
use peercache_groupcache::Group;

use super::{
    rivals::Rival,
    workload::{Key, key, value},
};

/// Asks for keys that are there; what is found is dropped.
pub fn hits<'a>(keys: impl Iterator<Item = &'a Key>, get: impl Fn(&Key) -> Option<Bytes>) {
    for key in keys {
        drop(black_box(get(black_box(key))));
    }
}

/// Asks a group, in a task.
pub async fn awaited_hits<'a>(group: &Group<Bytes>, keys: impl Iterator<Item = &'a Key>) {
    for key in keys {
        drop(black_box(group.get(black_box(key)).await));
    }
}

/// Puts in as many keys, all of which the cache must then have.
///
/// Each is asked for once: the first clone of a `Bytes` allocates, and is no hit like others.
pub fn filled<C: Rival>(cache: C, keys: usize) -> C {
    (0..keys).for_each(|number| cache.insert(key(number), value()));
    let held = (0..keys).filter(|number| cache.get(&key(*number)).is_some()).count();
    assert_eq!(held, keys, "{} lost some", C::NAME);
    cache
}
