//! Several runtimes in one process: work of one that nobody drives is begun again in another.

mod support;

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use peercache_groupcache::{Bytes, Clock, Group, Groups, Loaded, Members, loader_fn, loader_fn_with};
use support::{
    cluster::{AB, Cluster, outcome, text},
    net::Kind,
    poll_once,
};
use tokio::runtime::{Builder, Handle, Id, Runtime};

/// A runtime that runs only while something is awaited in it.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A group whose loader says in which runtime it runs.
fn group(groups: &Groups) -> (Group<String>, Arc<Mutex<Vec<Id>>>) {
    let seen: Arc<Mutex<Vec<Id>>> = Arc::default();
    let loader = loader_fn_with(seen.clone(), |seen: Arc<Mutex<Vec<Id>>>, key| async move {
        seen.lock().expect("no panic").push(Handle::current().id());
        // Not at the first poll, so that a runtime that is left at once has not loaded it.
        tokio::task::yield_now().await;
        Ok(Loaded::new(key.to_string()))
    });
    let group = groups.group("group", loader).max_bytes(1 << 20).max_concurrent_loads(1).build();
    (group.expect("the settings are fine"), seen)
}

fn groups() -> Groups {
    Groups::new(Members::alone())
}

/// Starts a get of `key` in `runtime`, and drives it no further.
fn begin(runtime: &Runtime, group: &Group<String>, key: &str) {
    runtime.block_on(async { assert!(poll_once(group.get(key)).await.is_pending()) });
}

#[test]
fn a_load_in_a_runtime_that_nobody_drives_is_begun_again_in_the_callers() {
    let (group, seen) = group(&groups());
    let (parked, live) = (runtime(), runtime());
    begin(&parked, &group, "key");
    assert_eq!(live.block_on(group.get("key")).expect("it loads"), "key");
    assert_eq!(group.stats().silent_runtimes, 1);
    // Driven again, the first load ends late and changes nothing.
    parked.block_on(tokio::task::yield_now());
    assert_eq!(parked.block_on(group.get("key")).expect("it is cached"), "key");
    assert_eq!(*seen.lock().expect("no panic"), [live.handle().id(), parked.handle().id()]);
}

#[test]
fn such_a_runtime_holds_no_permit_of_others_and_its_silence_is_remembered() {
    let (group, _) = group(&groups());
    let (parked, live) = (runtime(), runtime());
    // One has the only permit, the others wait for it.
    ["a", "b", "c"].iter().for_each(|key| begin(&parked, &group, key));
    assert_eq!(live.block_on(group.get("d")).expect("it loads"), "d");
    assert_eq!(group.stats().silent_runtimes, 0);
    for key in ["a", "b", "c"] {
        assert_eq!(live.block_on(group.get(key)).expect("it loads"), key);
    }
    assert_eq!(group.stats().silent_runtimes, 1, "the second and the third get need not find out");
}

#[test]
fn many_keys_of_such_a_runtime_are_begun_again() {
    let (group, _) = group(&groups());
    let (parked, live) = (runtime(), runtime());
    ["a", "b", "c"].iter().for_each(|key| begin(&parked, &group, key));
    let values = live.block_on(group.get_many(["a", "b", "c", "d"]));
    let values: Vec<_> = values.into_iter().map(|value| value.expect("it loads")).collect();
    assert_eq!(values, ["a", "b", "c", "d"]);
}

#[test]
fn a_refresh_in_such_a_runtime_keeps_nobody_waiting() {
    let groups = Groups::with_clock(Members::alone(), Clock::tokio());
    let loader = loader_fn(|_| async move {
        tokio::task::yield_now().await;
        Ok(Loaded::new("value".to_owned()).ttl(Duration::from_secs(10)))
    });
    let group = groups.group("group", loader).max_bytes(1 << 20).expiry_jitter(0.0).refresh_ahead(0.5).build();
    let group = group.expect("the settings are fine");
    let paused = || Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let (parked, live) = (paused(), paused());
    parked.block_on(async {
        group.get("key").await.expect("it loads");
        tokio::time::advance(Duration::from_secs(6)).await;
        group.get("key").await.expect("it is cached");
    });
    assert_eq!(group.stats().refreshes, 1);
    live.block_on(async {
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(group.get("key").await.expect("it is loaded again"), "value");
    });
}

#[test]
fn the_runtime_that_is_given_carries_all_work() {
    let groups = groups();
    let (group, seen) = group(&groups);
    let (sender, receiver) = mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let driver = thread::spawn(move || {
        let given = runtime();
        sender.send(given.handle().clone()).expect("the test is listening");
        given.block_on(stopped)
    });
    let given = receiver.recv().expect("the thread has begun");
    groups.run_in(given.clone());
    let callers = runtime();
    assert_eq!(callers.block_on(group.get("key")).expect("it loads"), "key");
    callers.block_on(group.remove("key")).expect("there is no other member");
    assert_eq!(*seen.lock().expect("no panic"), [given.id()]);
    assert_eq!(
        outcome(futures_util::FutureExt::now_or_never(group.get("other")).expect("at once").map(Bytes::from)),
        "NoRuntime"
    );
    drop(stop);
    let _ = driver.join().expect("no panic");
}

#[test]
fn a_runtime_that_was_given_and_is_silent_or_gone_is_done_without() {
    for is_gone in [false, true] {
        let groups = groups();
        let (group, seen) = group(&groups);
        let (given, live) = (runtime(), runtime());
        groups.run_in(given.handle().clone());
        let given = (!is_gone).then_some(given);
        live.block_on(group.set("set", "value".to_owned())).expect("there is no other member");
        assert_eq!(live.block_on(group.get("set")).expect("it is cached"), "value");
        assert_eq!(live.block_on(group.get("key")).expect("it loads"), "key");
        live.block_on(group.remove("key")).expect("there is no other member");
        assert_eq!(*seen.lock().expect("no panic"), [live.handle().id()], "gone: {is_gone}");
        drop(given);
    }
}

#[test]
fn a_get_in_a_runtime_that_has_shut_down_is_an_error_and_no_deadlock() {
    let (group, _) = group(&groups());
    let gone = runtime();
    let handle = gone.handle().clone();
    drop(gone);
    let (sender, receiver) = mpsc::channel();
    thread::spawn({
        let group = group.clone();
        move || {
            let _entered = handle.enter();
            let got = futures_util::FutureExt::now_or_never(group.get("key"));
            let removed = futures_util::FutureExt::now_or_never(group.remove("key"));
            sender
                .send((got.map(|got| got.is_err()), removed.map(|removed| removed.is_err())))
                .expect("the test listens");
        }
    });
    let ended = receiver.recv_timeout(Duration::from_secs(20)).expect("it has ended");
    assert_eq!(ended, (Some(true), Some(true)));
    assert_eq!(runtime().block_on(group.get("key")).expect("it loads"), "key");
}

#[test]
fn a_fetch_in_a_runtime_that_nobody_drives_is_begun_again_in_the_callers() {
    let cluster = Cluster::new(AB);
    let key = cluster.key_of("b");
    let (parked, live) = (runtime(), runtime());
    cluster.net.pause("b", Kind::Answers);
    parked.block_on(async { assert!(poll_once(cluster["a"].group.get(&key)).await.is_pending()) });
    cluster.net.resume("b", Kind::Answers);
    let value = live.block_on(cluster["a"].group.get(&key)).expect("it is fetched");
    assert_eq!(text(&value), "v1");
}
