//! Hit ratios of the references on real traces, which are not part of this repository: tests that
//! are skipped without them, and say so.

use std::path::{Path, PathBuf};

use peercache_replay::{Alone, Belady, CachePolicy, Capacity, Direct, Lru, S3Fifo, Trace, Unit, replay};

/// Reads a trace from the folder beside the repository, if it is there.
fn trace(name: &str) -> Option<Trace> {
    let file: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/traces").join(name);
    if !file.is_file() {
        println!("skipped: there is no {}", file.display());
        return None;
    }
    Some(Trace::read(&file, None, Unit::Entries).expect("it is a trace"))
}

fn percent(trace: &Trace, policy: &mut dyn CachePolicy) -> String {
    format!("{:.1}", 100.0 * replay(trace, Unit::Entries, policy, &mut |_| {}).hit_ratio())
}

/// Figures that others measured with programs of their own: exact LRU, S3-FIFO, Belady.
#[test]
fn references_hit_as_often_as_others_found() {
    let Some(trace) = trace("web12.bin.zst") else { return };
    let capacity = Capacity::entries(1_200);
    let percents = [
        percent(&trace, &mut Lru::new(&trace, capacity)),
        percent(&trace, &mut S3Fifo::new(&trace, capacity)),
        percent(&trace, &mut Belady::new(&trace, capacity)),
    ];
    assert_eq!(percents, ["66.9", "70.9", "79.1"]);
}

/// The cache that holds a group's entries, without the group around it. Both hash with random
/// seeds, and what has left is remembered by its hash: so the same but for a two-hundredth, less
/// than the policies are apart.
#[test]
fn a_group_hits_as_often_as_its_cache_alone() {
    let Some(trace) = trace("web12.bin.zst") else { return };
    for entries in [80, 687, 1_200] {
        let capacity = Capacity::entries(entries);
        let group = replay(&trace, Unit::Entries, &mut Alone::new(&trace, capacity), &mut |_| {});
        let cache = replay(&trace, Unit::Entries, &mut Direct::new(&trace, capacity), &mut |_| {});
        let apart = group.hits.abs_diff(cache.hits);
        assert!(apart <= group.hits / 200, "{capacity}: {} and {}", group.hits, cache.hits);
    }
}
