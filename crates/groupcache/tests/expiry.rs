//! Times to live: at the owner, in copies elsewhere, and as bytes of the budget.

mod support;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use peercache_groupcache::{BoxError, Bytes, Group, Loaded, Source, Value, loader_fn_with};
use support::{
    TICK, assert_about,
    cluster::{AB, Cluster},
    ms, settle,
};
use tokio::time::sleep;

/// A node alone whose values have this time to live.
fn alone(ttl: Duration) -> Cluster {
    Cluster::with(["a"], |group| group.time_to_live(ttl))
}

#[tokio::test(start_paused = true)]
async fn a_value_is_answered_as_long_as_its_loader_says() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.ttl(ms(1_000));
    cluster["a"].read("key").await;
    sleep(ms(970)).await;
    assert_eq!(cluster["a"].source("key").await, Source::Main);
}

#[tokio::test(start_paused = true)]
async fn a_value_is_answered_no_longer_than_its_loader_says() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.ttl(ms(1_000));
    cluster["a"].read("key").await;
    sleep(ms(1_000)).await;
    assert_eq!(cluster["a"].source("key").await, Source::Origin);
}

#[tokio::test(start_paused = true)]
async fn a_time_to_live_shorter_than_the_clocks_tick_counts() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.ttl(ms(8));
    cluster["a"].read("key").await;
    assert_eq!(cluster["a"].source("key").await, Source::Main);
    sleep(ms(20)).await;
    assert_eq!(cluster["a"].source("key").await, Source::Origin);
}

#[tokio::test(start_paused = true)]
async fn the_groups_time_to_live_is_for_values_without_their_own() {
    let cluster = alone(ms(1_000));
    cluster["a"].read("key").await;
    sleep(ms(970)).await;
    assert_eq!(cluster["a"].source("key").await, Source::Main);
    sleep(ms(30)).await;
    assert_eq!(cluster["a"].source("key").await, Source::Origin);
}

#[tokio::test(start_paused = true)]
async fn a_values_own_time_to_live_may_be_longer_than_the_groups() {
    let cluster = alone(ms(1_000));
    cluster.origin.ttl(ms(5_000));
    cluster["a"].read("key").await;
    sleep(ms(4_900)).await;
    assert_eq!(cluster["a"].source("key").await, Source::Main);
}

#[tokio::test(start_paused = true)]
async fn a_values_own_time_to_live_may_be_shorter_than_the_groups() {
    let cluster = alone(ms(5_000));
    cluster.origin.ttl(ms(1_000));
    cluster["a"].read("key").await;
    sleep(ms(1_000)).await;
    assert_eq!(cluster["a"].source("key").await, Source::Origin);
}

#[tokio::test(start_paused = true)]
async fn a_value_without_a_time_to_live_does_not_expire() {
    let cluster = Cluster::new(["a"]);
    cluster["a"].read("key").await;
    tokio::time::advance(Duration::from_secs(365 * 24 * 3_600)).await;
    sleep(ms(50)).await;
    assert_eq!(cluster["a"].source("key").await, Source::Main);
}

#[tokio::test(start_paused = true)]
async fn a_time_to_live_longer_than_any_clock_never_ends() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.ttl(Duration::MAX);
    cluster["a"].read("key").await;
    sleep(ms(5_000)).await;
    assert_eq!(cluster["a"].source("key").await, Source::Main);
}

#[tokio::test(start_paused = true)]
async fn a_value_with_a_time_to_live_of_zero_is_answered_and_not_cached() {
    let cluster = Cluster::new(AB);
    cluster.origin.ttl(Duration::ZERO);
    let key = cluster.key_of("b");
    assert_eq!(cluster.read(&key).await, "v1 v1");
    assert_eq!(cluster.cached(&key), "- -");
    assert_eq!((cluster["a"].bytes(), cluster["b"].bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn callers_share_a_value_with_a_time_to_live_of_zero() {
    let cluster = Cluster::new(["a"]);
    cluster.origin.ttl(Duration::ZERO);
    cluster.origin.hold();
    let callers = [(), (), ()].map(|()| cluster["a"].caller("key"));
    cluster.origin.until_called(1).await;
    settle().await;
    cluster.origin.release();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "v1");
    }
    assert_eq!(cluster.origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_comes_late_ends_with_the_owners_value() {
    let cluster = Cluster::new(AB);
    cluster.origin.ttl(ms(2_000));
    let key = cluster.key_of("b");
    cluster["b"].read(&key).await;
    sleep(ms(1_500)).await;
    assert_eq!(cluster["a"].source(&key).await, Source::Peer);
    cluster.origin.change();
    sleep(ms(460)).await;
    assert_eq!(cluster.sources(&key).await, "hot main");
    sleep(ms(40)).await;
    assert_eq!(cluster.cached(&key), "- -", "2.0 s after the load");
    assert_eq!(cluster.read(&key).await, "v2 v2");
}

#[tokio::test(start_paused = true)]
async fn a_copy_lives_no_longer_than_hot_ttl() {
    let cluster = Cluster::with(AB, |group| group.hot_ttl(ms(1_000)).time_to_live(ms(10_000)));
    let key = cluster.key_of("b");
    cluster["a"].read(&key).await;
    sleep(ms(970)).await;
    assert_eq!(cluster.sources(&key).await, "hot main");
    sleep(ms(30)).await;
    assert_eq!(cluster.sources(&key).await, "peer main");
}

#[tokio::test(start_paused = true)]
async fn expired_bytes_of_main_are_freed_without_a_get() {
    let cluster = alone(ms(1_000));
    for key in 0..500 {
        cluster["a"].read(&format!("key-{key}")).await;
    }
    assert_eq!(cluster["a"].group.stats().main.items, 500);
    sleep(ms(1_100)).await;
    let main = cluster["a"].group.stats().main;
    assert_eq!((main.items, main.bytes), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn expired_bytes_are_freed_when_the_time_jumps() {
    let cluster = alone(Duration::from_secs(3_600));
    for key in 0..500 {
        cluster["a"].read(&format!("key-{key}")).await;
    }
    tokio::time::advance(Duration::from_secs(24 * 3_600)).await;
    sleep(ms(100)).await;
    assert_eq!(cluster["a"].bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn only_expired_entries_are_freed() {
    let cluster = alone(ms(1_000));
    cluster["a"].read("early").await;
    sleep(ms(600)).await;
    cluster["a"].read("late").await;
    sleep(ms(500)).await;
    let keys = cluster["a"].group.snapshot().into_iter().map(|cached| cached.key.to_string());
    assert_eq!(keys.collect::<Vec<_>>(), ["late"]);
}

/// A value of which a test can see whether it has been dropped.
#[derive(Clone)]
struct Tracked(Arc<()>);

impl Value for Tracked {
    fn encode(&self) -> Result<Bytes, BoxError> {
        Ok(Bytes::new())
    }

    fn decode(_: Bytes) -> Result<Self, BoxError> {
        Ok(Tracked(Arc::new(())))
    }

    fn weight(&self) -> usize {
        0
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_value_is_dropped_and_not_only_uncounted() {
    let loaded: Arc<Mutex<Weak<()>>> = Arc::default();
    let cluster = Cluster::new(["a"]);
    let group: Group<Tracked> = cluster["a"]
        .groups
        .group(
            "tracked",
            loader_fn_with(loaded.clone(), |loaded: Arc<Mutex<Weak<()>>>, _| async move {
                let value = Tracked(Arc::new(()));
                *loaded.lock().unwrap() = Arc::downgrade(&value.0);
                Ok(Loaded::new(value).ttl(ms(1_000)))
            }),
        )
        .build()
        .unwrap();
    drop(group.get("key").await.unwrap());
    assert_eq!(loaded.lock().unwrap().strong_count(), 1);
    sleep(ms(1_100)).await;
    assert_eq!(loaded.lock().unwrap().strong_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_how_old_it_is_at_its_owner() {
    let cluster = alone(ms(10_000));
    assert_about(cluster["a"].answer("key").await.age, ms(0));
    sleep(ms(3_000)).await;
    assert_about(cluster["a"].answer("key").await.age, ms(3_000));
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_how_long_it_stays_fresh_at_its_owner() {
    let cluster = alone(ms(10_000));
    assert_about(cluster["a"].answer("key").await.remaining.unwrap(), ms(10_000));
    sleep(ms(3_000)).await;
    assert_about(cluster["a"].answer("key").await.remaining.unwrap(), ms(7_000));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_expire_says_so() {
    let cluster = Cluster::new(["a"]);
    cluster["a"].read("key").await;
    assert_eq!(cluster["a"].answer("key").await.remaining, None);
}

#[tokio::test(start_paused = true)]
async fn a_peers_answer_is_as_old_as_at_its_owner() {
    let cluster = Cluster::with(AB, |group| group.time_to_live(ms(10_000)));
    let key = cluster.key_of("b");
    cluster["b"].read(&key).await;
    sleep(ms(3_000)).await;
    let fetched = cluster["a"].answer(&key).await;
    assert_eq!(fetched.source, Source::Peer);
    assert_about(fetched.age, ms(3_000));
    assert_about(fetched.remaining.unwrap(), ms(7_000));
}

#[tokio::test(start_paused = true)]
async fn a_copy_grows_as_old_as_its_value() {
    let cluster = Cluster::with(AB, |group| group.time_to_live(ms(10_000)));
    let key = cluster.key_of("b");
    cluster["b"].read(&key).await;
    sleep(ms(3_000)).await;
    cluster["a"].read(&key).await;
    sleep(ms(2_000)).await;
    let copy = cluster["a"].answer(&key).await;
    assert_eq!(copy.source, Source::Hot);
    assert_about(copy.age, ms(5_000));
    assert_about(copy.remaining.unwrap(), ms(5_000));
}

/// The times to live of a thousand values that were loaded together.
async fn ttls(ttl: Duration, jitter: f64) -> Vec<Duration> {
    let cluster = Cluster::with(["a"], |group| group.time_to_live(ttl).expiry_jitter(jitter));
    for key in 0..1_000 {
        cluster["a"].read(&format!("key-{key}")).await;
    }
    cluster["a"].group.snapshot().into_iter().map(|cached| cached.remaining.unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn jitter_only_shortens_and_by_no_more_than_its_share() {
    for ttl in ttls(ms(10_000), 0.2).await {
        assert!(ttl <= ms(10_000) && ttl + 2 * TICK >= ms(8_000), "{ttl:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn jitter_spreads_values_loaded_together_over_all_of_its_share() {
    let ttls = ttls(ms(10_000), 0.2).await;
    let tenths: BTreeSet<u128> = ttls.iter().map(|ttl| (ttl.as_millis().max(8_000) - 8_000) / 200).collect();
    assert!((0..9).all(|tenth| tenths.contains(&tenth)), "{tenths:?}");
}

#[tokio::test(start_paused = true)]
async fn without_jitter_all_expire_together() {
    let ttls: BTreeSet<Duration> = ttls(ms(10_000), 0.0).await.into_iter().collect();
    assert_eq!(ttls.len(), 1, "{ttls:?}");
}

#[tokio::test(start_paused = true)]
async fn jitter_shortens_the_loaders_times_to_live_too() {
    let cluster = Cluster::with(["a"], |group| group.expiry_jitter(0.5));
    cluster.origin.ttl(ms(10_000));
    let mut ttls = BTreeSet::new();
    for key in 0..100 {
        ttls.insert(cluster["a"].answer(&format!("key-{key}")).await.remaining.unwrap().as_millis() / 1_000);
    }
    assert!(ttls.len() >= 3, "{ttls:?}");
}
