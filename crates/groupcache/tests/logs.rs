//! The log of peers' failures: each member is named, its return too, and keys are fingerprints.

mod support;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use support::{
    cluster::{ABC, Cluster},
    ms, settle,
};
use tokio::time::sleep;
use tracing::subscriber::DefaultGuard;

/// The lines of a log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Collects what is logged in this thread, from `info` on.
    fn collect() -> (Self, DefaultGuard) {
        let lines = Lines::default();
        let written = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || written.clone()).finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().expect("no panic"));
        String::from_utf8(bytes).expect("a log is text").lines().map(str::to_owned).collect()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn each_failed_member_is_named_once_a_second_and_so_is_its_return() {
    let (lines, _guard) = Lines::collect();
    let cluster = Cluster::with(ABC, |group| group.hot_admission(peercache_groupcache::Never));
    let (of_b, of_c) = (cluster.keys_of("b", 20), cluster.keys_of("c", 20));
    ["b", "c"].iter().for_each(|name| cluster.net.cut(name));
    lines.take();
    for (one, other) in of_b.iter().zip(&of_c) {
        cluster["a"].read(one).await;
        cluster["a"].read(other).await;
    }
    settle().await;
    let warned = lines.take();
    for member in ["b", "c"] {
        let of_member = warned.iter().filter(|line| line.contains(&format!("member={member} ")));
        assert_eq!(of_member.count(), 1, "{warned:?}");
    }
    let shows = |key: &String| warned.iter().any(|line| line.contains(&format!("key={key} ")));
    assert!(!of_b.iter().chain(&of_c).any(shows), "{warned:?}");
    assert!(warned.iter().all(|line| line.contains("key=#")), "{warned:?}");
    ["b", "c"].iter().for_each(|name| cluster.net.mend(name));
    sleep(ms(60_000)).await;
    for _ in 0..2 {
        for key in of_b.iter().chain(&of_c) {
            cluster["a"].read(key).await;
        }
    }
    let told = lines.take();
    assert_eq!(told.iter().filter(|line| line.contains("answers again")).count(), 2, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_group_that_allows_it_logs_keys_as_they_are() {
    let (lines, _guard) = Lines::collect();
    let cluster = Cluster::with(ABC, |group| group.log_keys(true));
    let key = cluster.key_of("b");
    cluster.net.cut("b");
    cluster["a"].read(&key).await;
    let warned = lines.take();
    assert!(warned.iter().any(|line| line.contains(&format!("key={key} "))), "{warned:?}");
}
