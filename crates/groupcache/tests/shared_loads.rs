//! Loads belong to nobody: neither what callers do nor what loaders do hurts anyone else.

mod support;

use std::{
    error::Error as _,
    future::{Future, poll_fn},
    pin::pin,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    task::Poll,
    time::Duration,
};

use peercache_groupcache::{Bytes, Error, ErrorKind, Group, Groups, LoadError, Members, Source, loader_fn};
use support::{Origin, alone, ms};

/// Polls a future once and lets it go, as a caller that is cancelled does.
async fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.expect_err("the get fails").kind()
}

#[tokio::test]
async fn a_load_outlives_the_caller_that_started_it() {
    let origin = Origin::gated();
    let group = alone(&origin).build().unwrap();
    assert!(poll_once(group.get("key")).await.is_pending());
    origin.called(1).await;
    origin.open(1);
    assert_eq!(group.get("key").await.unwrap(), "key");
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn a_cancelled_leader_leaves_its_followers_unharmed() {
    let origin = Origin::gated();
    let group = alone(&origin).build().unwrap();
    let leader = tokio::spawn({
        let group = group.clone();
        async move { group.get("key").await }
    });
    origin.called(1).await;
    let mut follower = pin!(group.get("key"));
    assert!(poll_fn(|context| Poll::Ready(follower.as_mut().poll(context))).await.is_pending());
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    origin.open(1);
    assert_eq!(follower.await.unwrap(), "key");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_wait_and_the_load_goes_on() {
    let origin = Origin::gated();
    let group = alone(&origin).build().unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(kind(group.get("key").timeout(ms(100)).await), ErrorKind::DeadlineExceeded);
    assert!(began.elapsed() < ms(110), "{:?}", began.elapsed());
    origin.open(1);
    assert_eq!(group.get("key").await.unwrap(), "key");
    assert_eq!((origin.calls(), group.stats().main.items), (1, 1));
}

#[tokio::test]
async fn a_deadline_that_has_passed_starts_no_load() {
    let origin = Origin::echo();
    let group = alone(&origin).build().unwrap();
    assert_eq!(kind(group.get("key").timeout(Duration::ZERO).await), ErrorKind::DeadlineExceeded);
    assert_eq!(origin.calls(), 0);
}

#[tokio::test]
async fn a_deadline_that_has_passed_still_gets_what_is_cached() {
    let group = alone(&Origin::echo()).build().unwrap();
    group.get("key").await.unwrap();
    assert_eq!(group.get("key").timeout(Duration::ZERO).await.unwrap(), "key");
}

#[tokio::test]
async fn a_panic_is_an_error_for_all_who_wait_and_the_key_is_free_at_once() {
    let panicked = AtomicBool::new(false);
    let origin = Origin::gated_replying(move |_| {
        if !panicked.swap(true, SeqCst) { panic!("a planned panic") } else { Ok(Bytes::from_static(b"fine")) }
    });
    let group = alone(&origin).error_backoff(Duration::ZERO, Duration::ZERO).build().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let group = group.clone();
        waiting.push(tokio::spawn(async move { group.get("key").await }));
    }
    origin.called(1).await;
    while group.stats().loads < 3 {
        tokio::task::yield_now().await;
    }
    origin.open(2);
    for waiting in waiting {
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the loader panicked: a planned panic");
    }
    assert_eq!(group.get("key").await.unwrap(), "fine");
}

#[tokio::test]
async fn a_panic_before_the_first_await_is_an_error_too() {
    let groups = Groups::new(Members::alone());
    let group: Group<Bytes> = groups
        .group(
            "g",
            loader_fn(|_| {
                assert!(!true, "at once");
                async { Ok(Bytes::new()) }
            }),
        )
        .build()
        .unwrap();
    assert_eq!(kind(group.get("key").await), ErrorKind::LoadFailed);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_takes_too_long_is_ended() {
    let group = alone(&Origin::gated()).load_timeout(ms(500)).build().unwrap();
    assert_eq!(kind(group.get("key").await), ErrorKind::LoadTimedOut);
}

#[tokio::test]
async fn the_loaders_error_is_kept_and_nothing_is_cached() {
    let origin = Origin::replying(|_| Err("disk on fire".into()));
    let group = alone(&origin).error_backoff(Duration::ZERO, Duration::ZERO).build().unwrap();
    let error = group.get("key").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoadFailed);
    assert_eq!(error.source().unwrap().to_string(), "disk on fire");
    assert!(group.get("key").await.is_err());
    assert_eq!((origin.calls(), group.stats().local_load_errors, group.stats().main.items), (2, 2, 0));
}

#[tokio::test]
async fn a_nested_groups_not_found_stays_a_not_found() {
    let groups = Groups::new(Members::alone());
    let inner = Origin::replying(|_| Err(LoadError::not_found()));
    let inner = support::group_of(&groups, &inner).build().unwrap();
    let outer: Group<Bytes> = groups
        .group(
            "outer",
            peercache_groupcache::loader_fn_with(inner, |inner, key| async move { Ok(inner.get(&key).await?) }),
        )
        .build()
        .unwrap();
    assert!(outer.get("key").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_value_heavier_than_the_budget_is_answered_and_evicts_nothing() {
    let origin =
        Origin::replying(|key| Ok(if key.as_bytes() == b"big" { vec![0; 100_000].into() } else { "v".into() }));
    let group = alone(&origin).max_bytes(50_000).build().unwrap();
    group.get("small").await.unwrap();
    assert_eq!(group.get("big").await.unwrap().len(), 100_000);
    assert_eq!(group.get("big").await.unwrap().len(), 100_000);
    assert_eq!((origin.calls(), group.stats().main.items, group.stats().main.evictions), (3, 1, 0));
}

#[tokio::test]
async fn a_value_over_the_groups_limit_is_an_error() {
    let origin = Origin::replying(|_| Ok(vec![0; 1_001].into()));
    let group = alone(&origin).max_value_bytes(1_000).build().unwrap();
    assert_eq!(kind(group.get("key").await), ErrorKind::ValueTooLarge);
}

#[tokio::test]
async fn a_key_over_the_groups_limit_is_an_error_and_is_not_loaded() {
    let origin = Origin::echo();
    let group = alone(&origin).max_key_bytes(3).build().unwrap();
    assert_eq!(kind(group.get("four").await), ErrorKind::KeyTooLong);
    assert_eq!(origin.calls(), 0);
}

#[tokio::test]
async fn any_bytes_are_a_key() {
    let group = alone(&Origin::echo()).build().unwrap();
    for byte in 0..=255_u8 {
        assert_eq!(group.get(&[byte]).await.unwrap(), [byte].as_slice());
    }
    assert_eq!(group.get("").await.unwrap(), "");
    assert_eq!(group.stats().main.items, 257);
}

#[tokio::test]
async fn too_many_loads_at_once_are_refused_and_the_rest_go_on() {
    let origin = Origin::gated();
    let group = alone(&origin).max_concurrent_loads(2).max_queued_loads(0).build().unwrap();
    for key in ["a", "b"] {
        assert!(poll_once(group.get(key)).await.is_pending());
    }
    assert_eq!(kind(group.get("c").await), ErrorKind::Overloaded);
    assert!(poll_once(group.get("a")).await.is_pending(), "joining a load is always allowed");
    origin.open(3);
    assert_eq!(group.get("a").await.unwrap(), "a");
    assert_eq!(group.get("b").await.unwrap(), "b");
    assert_eq!(group.get("c").await.unwrap(), "c");
}

/// The one permit is free again before the value is handed out, so that a caller's next get never finds it taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_get_after_another_is_never_an_overload() {
    let group = alone(&Origin::echo()).max_concurrent_loads(1).max_queued_loads(0).max_bytes(0).build().unwrap();
    for number in 0..2_000 {
        group.get(&format!("key-{number}")).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_left_under_way_however_a_load_ends() {
    let origin = Origin::replying(|key| match key.as_bytes() {
        b"panic" => panic!("a planned panic"),
        b"fail" => Err("disk on fire".into()),
        b"missing" => Err(LoadError::not_found()),
        _ => Ok(Bytes::new()),
    });
    let group = alone(&origin).max_concurrent_loads(1).max_queued_loads(0).build().unwrap();
    for key in ["panic", "fail", "missing", "fine"] {
        let _ = group.get(key).await;
        assert_eq!(group.stats().in_flight, 0, "{key}");
    }
    assert_eq!(group.stats().overloads, 0);
}

#[tokio::test]
async fn text_is_charged_what_it_holds_and_not_what_it_was_built_in() {
    let groups = Groups::new(Members::alone());
    let loader = loader_fn(|_| async {
        let mut text = String::with_capacity(1 << 20);
        text.push_str("ten bytes.");
        Ok(text)
    });
    let group: Group<String> = groups.group("texts", loader).max_value_bytes(10).build().unwrap();
    assert_eq!(group.get("key").await.unwrap(), "ten bytes.");
    let bytes = group.stats().main.bytes;
    assert!(bytes < 1_000, "charged {bytes}");
}

#[tokio::test]
async fn a_value_larger_than_a_shards_share_is_cached() {
    let origin = Origin::replying(|_| Ok(vec![0; 5 << 20].into()));
    let group = alone(&origin).build().unwrap();
    group.get("key").await.unwrap();
    group.get("key").await.unwrap();
    assert_eq!(origin.calls(), 1);
}

#[tokio::test]
async fn a_group_that_was_taken_out_frees_its_name() {
    let groups = Groups::new(Members::alone());
    support::group_of(&groups, &Origin::echo()).build().unwrap();
    assert!(groups.remove(support::GROUP) && !groups.remove(support::GROUP));
    support::group_of(&groups, &Origin::echo()).build().unwrap();
}

#[tokio::test]
async fn an_answer_says_where_it_came_from() {
    let group = alone(&Origin::echo()).build().unwrap();
    assert_eq!(group.get("key").detailed().await.unwrap().source, Source::Origin);
    assert_eq!(group.get("key").detailed().await.unwrap().source, Source::Main);
}

#[test]
fn a_miss_outside_a_runtime_is_an_error_and_no_panic() {
    let group = alone(&Origin::echo()).build().unwrap();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let Poll::Ready(result) = pin!(group.get("key")).poll(&mut context) else { panic!("nothing to wait for") };
    assert_eq!(kind(result), ErrorKind::NoRuntime);
}

#[test]
fn a_load_whose_runtime_goes_away_is_an_error_and_the_key_is_free() {
    let origin = Origin::gated();
    let group = alone(&origin).build().unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    first.block_on(async { assert!(poll_once(group.get("key")).await.is_pending()) });
    let follower = second.spawn({
        let group = group.clone();
        async move { group.get("key").await }
    });
    second.block_on(async {
        while group.stats().loads < 2 {
            tokio::task::yield_now().await;
        }
    });
    drop(first);
    assert_eq!(kind(second.block_on(follower).unwrap()), ErrorKind::LoadFailed);
    origin.open(1);
    assert_eq!(second.block_on(async { group.get("key").await }).unwrap(), "key");
}

/// A caller may be gone after any number of polls; whoever comes later still gets the value, from one load.
#[tokio::test(start_paused = true)]
async fn a_get_may_be_cancelled_at_every_await() {
    for polls in 1..4 {
        let origin = Origin::gated();
        let group = alone(&origin).build().unwrap();
        {
            let mut get = pin!(group.get("key").timeout(ms(60_000)).detailed());
            for _ in 0..polls {
                assert!(poll_fn(|context| Poll::Ready(get.as_mut().poll(context))).await.is_pending());
                tokio::task::yield_now().await;
            }
        }
        origin.open(1);
        assert_eq!(group.get("key").await.unwrap(), "key");
        assert_eq!(origin.calls(), 1);
    }
}
