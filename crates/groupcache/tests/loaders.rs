//! Loaders that ask for what they load, that block their thread, and what they find around them.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use peercache_groupcache::{
    Batch, BatchLoader, ErrorKind, Group, Groups, LoadError, Loaded, Members, blocking_loader_fn,
    blocking_loader_fn_with, loader_fn, loader_fn_with,
};

/// The group that a loader asks, once there is one.
type Later = Arc<OnceLock<Group<String>>>;

fn groups() -> Groups {
    Groups::new(Members::alone())
}

#[tokio::test]
async fn a_loader_that_asks_for_its_own_key_gets_an_error_at_once() {
    let itself = Later::default();
    let loader = loader_fn_with(itself.clone(), |itself: Later, key| async move {
        Ok(itself.get().expect("it is built").get(&key).await?)
    });
    let group = groups().group("group", loader).max_bytes(1 << 20).build().expect("the settings are fine");
    itself.set(group.clone()).expect("it is set once");
    let error = group.get("key").await.expect_err("it would wait for itself");
    assert_eq!(error.kind(), ErrorKind::RecursiveLoad);
    assert_eq!(error.to_string(), "a loader asked for the key that it is loading");
    let errors = group.get_many(["one", "two"]).await;
    assert!(errors.iter().all(|one| one.as_ref().is_err_and(|error| error.kind() == ErrorKind::RecursiveLoad)));
}

#[tokio::test]
async fn a_circle_of_two_groups_is_seen_and_a_chain_of_keys_is_not_taken_for_one() {
    let (groups, second) = (groups(), Later::default());
    let loader = loader_fn_with(second.clone(), |second: Later, key| async move {
        Ok(second.get().expect("it is built").get(&key).await?)
    });
    let first = groups.group("first", loader).max_bytes(1 << 20).build().expect("the settings are fine");
    let loader = loader_fn_with(first.clone(), |first: Group<String>, key| async move {
        match key.as_str()?.parse::<u32>()? {
            0 => Ok("the end".to_owned()),
            13 => Ok(first.get("13").await?),
            number => Ok(first.get(&(number - 1).to_string()).await?),
        }
    });
    let built = groups.group("second", loader).max_bytes(1 << 20).build().expect("the settings are fine");
    second.set(built).expect("it is set once");
    assert_eq!(first.get("5").await.expect("it ends"), "the end");
    assert_eq!(first.get("13").await.expect_err("a circle").kind(), ErrorKind::RecursiveLoad);
}

/// A loader of many keys that asks its own group for one of them.
struct AsksItself(Later);

impl BatchLoader for AsksItself {
    type Value = String;

    async fn load_many(&self, batch: &Batch<String>) -> Result<(), LoadError> {
        let value = self.0.get().expect("it is built").get(&batch.keys()[0]).await?;
        batch.answer(0, Ok(Loaded::new(value)));
        Ok(())
    }
}

#[tokio::test]
async fn a_batched_loader_that_asks_for_its_own_key_gets_an_error_at_once() {
    let itself = Later::default();
    let builder = groups().group_batched("group", AsksItself(itself.clone())).max_bytes(1 << 20);
    let group = builder.build().expect("the settings are fine");
    itself.set(group.clone()).expect("it is set once");
    assert_eq!(group.get("key").await.expect_err("a circle").kind(), ErrorKind::RecursiveLoad);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loader_that_blocks_its_thread_does_not_hold_its_callers_beyond_their_time() {
    let (release, blocked) = mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let loader = loader_fn_with(blocked, |blocked: Arc<Mutex<mpsc::Receiver<()>>>, _| async move {
        let _ = blocked.lock().expect("no panic").recv();
        Ok("late".to_owned())
    });
    let hour = Duration::from_secs(3_600);
    let group = groups().group("group", loader).max_bytes(1 << 20).error_backoff(hour, hour);
    let group = group.load_timeout(Duration::from_millis(50)).build().expect("the settings are fine");
    let error = group.get("key").await.expect_err("the loader is blocked");
    assert_eq!((error.kind(), group.stats().blocked_loads), (ErrorKind::LoadTimedOut, 1));
    let error = group.get("key").await.expect_err("it has failed a moment ago");
    assert_eq!((error.kind(), group.stats().backed_off), (ErrorKind::LoadTimedOut, 1));
    drop(release);
}

#[tokio::test]
async fn a_blocking_loader_brings_values_errors_and_panics() {
    let loader = blocking_loader_fn_with(1_000_u64, |thousand, key| match key.as_str()?.parse::<u64>()? {
        13 => panic!("unlucky"),
        number => Ok((thousand * number).to_string()),
    });
    let group = groups().group("group", loader).max_bytes(1 << 20).build().expect("the settings are fine");
    assert_eq!(group.get("7").await.expect("it loads"), "7000");
    assert_eq!(group.get("no number").await.expect_err("no number").kind(), ErrorKind::LoadFailed);
    let error = group.get("13").await.expect_err("a panic");
    assert!(error.to_string().contains("unlucky"), "{error}");
}

#[tokio::test]
async fn a_blocking_load_that_has_timed_out_keeps_its_permit_until_its_thread_ends() {
    let (release, blocked) = mpsc::channel::<()>();
    let blocked = Mutex::new(blocked);
    let ended = Arc::new(AtomicUsize::new(0));
    let loader = blocking_loader_fn_with(ended.clone(), move |ended: &Arc<AtomicUsize>, key| {
        if key.as_bytes() == b"blocks" {
            let _ = blocked.lock().expect("no panic").recv();
            ended.fetch_add(1, SeqCst);
        }
        Ok(key.to_string())
    });
    let group = groups().group("group", loader).max_bytes(1 << 20).max_concurrent_loads(1).max_queued_loads(0);
    let group = group.load_timeout(Duration::from_millis(50)).build().expect("the settings are fine");
    assert_eq!(group.get("blocks").await.expect_err("too long").kind(), ErrorKind::LoadTimedOut);
    assert_eq!(group.get("other").await.expect_err("the permit is taken").kind(), ErrorKind::Overloaded);
    drop(release);
    while group.get("other").await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(ended.load(SeqCst), 1);
}

#[tokio::test]
async fn a_load_runs_in_the_span_of_its_caller() {
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry());
    let loader = loader_fn(|_| async move {
        Ok(tracing::Span::current().metadata().map_or("none", |metadata| metadata.name()).to_owned())
    });
    let group = groups().group("group", loader).max_bytes(1 << 20).build().expect("the settings are fine");
    let get = tracing::Instrument::instrument(async { group.get("key").await }, tracing::info_span!("caller"));
    assert_eq!(get.await.expect("it loads"), "caller");
    assert_eq!(group.get("other").await.expect("it loads"), "none");
}

#[tokio::test]
async fn a_blocking_loader_that_asks_for_its_own_key_gets_an_error_at_once() {
    let itself = Later::default();
    let asked = itself.clone();
    let loader = blocking_loader_fn(move |key| {
        let group = asked.get().expect("it is built");
        Ok(tokio::runtime::Handle::current().block_on(group.get(&key))?)
    });
    let group = groups().group("group", loader).max_bytes(1 << 20).build().expect("the settings are fine");
    itself.set(group.clone()).expect("it is set once");
    assert_eq!(group.get("key").await.expect_err("a circle").kind(), ErrorKind::RecursiveLoad);
}
