//! Some hits and nothing else, for valgrind to count: `instructions KIND HITS`. What a hit takes is the difference of two runs, over that
//! of their hits. `cargo xtask bench --instructions` does so.

mod support {
    #[allow(dead_code, reason = "the benches have more questions")]
    pub mod workload;
}

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    process::ExitCode,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use dashmap::DashMap;
use foldhash::fast::FixedState;
use peercache_groupcache::{Clock, Groups, Members, loader_fn};
use peercache_lru::ShardedCache;
use tokio::runtime::Builder;

use support::workload::{Key, key, value};

/// Enough that neither is in the processor's first cache only, few enough that filling takes little.
const KEYS: usize = 1_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--test"] => KINDS.iter().for_each(|(_, run)| run(2 * KEYS)),
        [kind, hits] => {
            let run = KINDS.iter().find(|(name, _)| *name == kind);
            let (Some((_, run)), Ok(hits)) = (run, hits.parse()) else { return usage() };
            run(hits);
        }
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    let kinds: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
    eprintln!("error: write one of {} and a number of hits", kinds.join(", "));
    ExitCode::from(2)
}

type Run = fn(usize);

const KINDS: [(&str, Run); 4] = [("group", group), ("awaited", awaited), ("cache", cache), ("dashmap", dashmap)];

fn hits(count: usize, get: impl Fn(&Key) -> Option<Bytes>) {
    let keys: Vec<Key> = (0..KEYS).map(key).collect();
    for key in keys.iter().cycle().take(count) {
        assert!(black_box(get(black_box(key))).is_some());
    }
}

/// Hits of a group: polled once, or awaited in a runtime.
fn group(count: usize) {
    of_group(count, false);
}

fn awaited(count: usize) {
    of_group(count, true);
}

fn of_group(count: usize, in_runtime: bool) {
    // Tokio's time: a thread that ticks would be counted as well.
    let groups = Groups::with_clock(Members::alone(), Clock::tokio());
    let group = groups.group("hit", loader_fn(|_| async { Ok(value()) })).build().expect("the settings are good");
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    runtime.block_on(async {
        for number in 0..KEYS {
            group.get(&key(number)).await.expect("it loads");
        }
    });
    if !in_runtime {
        return hits(count, |key| match pin!(group.get(key)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value.ok(),
            Poll::Pending => None,
        });
    }
    runtime.block_on(async {
        let keys: Vec<Key> = (0..KEYS).map(key).collect();
        for key in keys.iter().cycle().take(count) {
            black_box(group.get(black_box(key)).await).expect("it is cached");
        }
    });
}

fn cache(count: usize) {
    let cache = ShardedCache::<Key, Bytes>::builder(64 << 20).hasher(FixedState::default()).build_sharded();
    (0..KEYS).for_each(|number| drop(cache.insert(key(number), value())));
    hits(count, |key| cache.get(key));
}

fn dashmap(count: usize) {
    let map: DashMap<Key, Bytes, FixedState> = DashMap::with_hasher(FixedState::default());
    (0..KEYS).for_each(|number| drop(map.insert(key(number), value())));
    hits(count, |key| map.get(key).map(|value| value.clone()));
}
