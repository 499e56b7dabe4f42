//! A group does the same as a slow and obvious model of one, under random gets, updates, changes of
//! the origin and time that passes.

mod support;

use std::{collections::HashMap, time::Duration};

use peercache_groupcache::{Bytes, Loaded};
use proptest::prelude::*;
use support::{
    cluster::{Cluster, text},
    ms,
    origin::Health,
    settle, soon,
};
use tokio::{runtime::Builder, time::sleep};

/// All times are whole tenths of a second, so that the clock's tick of 10 ms decides nothing.
type Tenths = u64;

const KEYS: [&str; 3] = ["x", "y", "z"];

#[derive(Clone, Debug)]
struct Settings {
    /// 0 is without end.
    time_to_live: Tenths,
    negative_ttl: Tenths,
    stale_while_revalidate: Tenths,
    stale_if_error: Tenths,
    /// Whether values are refreshed from 0.7 of the time to live on, which is never a whole tenth
    /// of a second here.
    refresh: bool,
}

#[derive(Clone, Debug)]
enum Op {
    Get(usize),
    Peek(usize),
    Set(usize, Option<Tenths>),
    Remove(usize),
    Clear,
    Pass(Tenths),
    /// The origin's value of a key changes, and has this time to live.
    Change(usize, Option<Tenths>),
    Delete(usize),
    /// Whether the origin fails.
    Fails(bool),
}

fn settings() -> impl Strategy<Value = Settings> {
    let time = |times: &'static [Tenths]| prop::sample::select(times);
    (time(&[0, 3, 5]), time(&[0, 3]), time(&[0, 3]), time(&[0, 4]), any::<bool>()).prop_map(
        |(time_to_live, negative_ttl, stale_while_revalidate, stale_if_error, refresh)| Settings {
            time_to_live,
            negative_ttl,
            stale_while_revalidate,
            stale_if_error,
            refresh,
        },
    )
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = || 0..KEYS.len();
    let ttl = || prop::sample::select(&[None, Some(0), Some(3), Some(5)][..]);
    let op = prop_oneof![
        6 => key().prop_map(Op::Get),
        2 => key().prop_map(Op::Peek),
        1 => (key(), ttl()).prop_map(|(key, ttl)| Op::Set(key, ttl)),
        1 => key().prop_map(Op::Remove),
        1 => Just(Op::Clear),
        4 => (1_u64..4).prop_map(Op::Pass),
        2 => (key(), ttl()).prop_map(|(key, ttl)| Op::Change(key, ttl)),
        1 => key().prop_map(Op::Delete),
        1 => any::<bool>().prop_map(Op::Fails),
    ];
    prop::collection::vec(op, 1..60)
}

/// The obvious group.
struct Model {
    settings: Settings,
    now: Tenths,
    held: HashMap<usize, Entry>,
    origin: HashMap<usize, Option<(String, Option<Tenths>)>>,
    fails: bool,
    loads: usize,
}

#[derive(Clone)]
struct Entry {
    /// `None` is a "not found".
    value: Option<String>,
    born: Tenths,
    /// `None` is without end.
    ttl: Option<Tenths>,
    /// The step of 128 ms in which a hit last started a refresh.
    refreshed: Option<u64>,
}

enum LoadResult {
    Value(String),
    Nothing,
    Failure,
}

impl Model {
    fn new(settings: Settings) -> Self {
        let origin = (0..KEYS.len()).map(|key| (key, Some(("first".to_owned(), None)))).collect();
        Model { settings, now: 0, held: HashMap::new(), origin, fails: false, loads: 0 }
    }

    /// The entry that is held, and how long ago it expired: below 0 if it is fresh.
    fn held(&self, key: usize) -> Option<(&Entry, i64)> {
        let entry = self.held.get(&key)?;
        let over = match entry.ttl {
            None => i64::MIN,
            Some(ttl) => (self.now - entry.born) as i64 - ttl as i64,
        };
        let allowed = match &entry.value {
            Some(_) => self.settings.stale_while_revalidate.max(self.settings.stale_if_error) as i64,
            None => 0,
        };
        (over < allowed).then_some((entry, over))
    }

    fn get(&mut self, key: usize) -> String {
        let Some((entry, over)) = self.held(key).map(|(entry, over)| (entry.clone(), over)) else {
            return self.wait(key, None);
        };
        let (value, ttl) = (entry.value.clone(), entry.ttl);
        let shown = |source| match &value {
            Some(value) => format!("{source} {value}"),
            None => "NotFound".to_owned(),
        };
        if over < 0 {
            // A "not found" is not refreshed.
            let is_due =
                self.settings.refresh && value.is_some() && ttl.is_some_and(|ttl| self.is_refresh_due(&entry, ttl));
            if is_due {
                self.refresh(key);
            }
            return shown("main");
        }
        if over < self.settings.stale_while_revalidate as i64 {
            self.refresh(key);
            return shown("stale");
        }
        self.wait(key, value)
    }

    /// A hit starts a refresh once in a step of 128 ms.
    fn refresh(&mut self, key: usize) {
        let step = self.now * 100 / 128;
        let entry = self.held.get_mut(&key).expect("a hit has an entry");
        if entry.refreshed.replace(step) != Some(step) {
            self.load(key);
        }
    }

    fn is_refresh_due(&self, entry: &Entry, ttl: Tenths) -> bool {
        10 * (self.now - entry.born) >= 7 * ttl
    }

    /// The answer to a caller that waits for a load, with an old value to fall back to.
    fn wait(&mut self, key: usize, old: Option<String>) -> String {
        match (self.load(key), old) {
            (LoadResult::Value(value), _) => format!("origin {value}"),
            (LoadResult::Nothing, _) => "NotFound".to_owned(),
            (LoadResult::Failure, Some(old)) => format!("stale {old}"),
            (LoadResult::Failure, None) => "LoadFailed".to_owned(),
        }
    }

    fn load(&mut self, key: usize) -> LoadResult {
        self.loads += 1;
        if self.fails {
            return LoadResult::Failure;
        }
        match self.origin[&key].clone() {
            Some((value, ttl)) => {
                self.hold(key, &value, ttl);
                LoadResult::Value(value)
            }
            None => {
                self.held.remove(&key);
                if self.settings.negative_ttl > 0 {
                    let ttl = Some(self.settings.negative_ttl);
                    self.held.insert(key, Entry { value: None, born: self.now, ttl, refreshed: None });
                }
                LoadResult::Nothing
            }
        }
    }

    fn hold(&mut self, key: usize, value: &str, ttl: Option<Tenths>) {
        self.held.remove(&key);
        let of_group = (self.settings.time_to_live > 0).then_some(self.settings.time_to_live);
        if ttl != Some(0) {
            let entry = Entry { value: Some(value.to_owned()), born: self.now, ttl: ttl.or(of_group), refreshed: None };
            self.held.insert(key, entry);
        }
    }

    /// A peek shows the same as a get would answer at once.
    fn peek(&self, key: usize) -> String {
        match self.held(key) {
            Some((Entry { value: Some(value), .. }, over)) if over < 0 => format!("main {value}"),
            Some((Entry { value: Some(value), .. }, over)) if over < self.settings.stale_while_revalidate as i64 => {
                format!("stale {value}")
            }
            _ => "nothing".to_owned(),
        }
    }

    fn items(&self) -> u64 {
        (0..KEYS.len()).filter(|key| self.held(*key).is_some()).count() as u64
    }
}

/// The real group.
struct Real {
    cluster: Cluster,
}

fn time(tenths: Tenths) -> Duration {
    ms(100 * tenths)
}

impl Real {
    fn new(settings: &Settings) -> Self {
        let cluster = Cluster::with(["a"], |group| {
            group
                .time_to_live(time(settings.time_to_live))
                .negative_ttl(time(settings.negative_ttl))
                .stale_while_revalidate(time(settings.stale_while_revalidate))
                .stale_if_error(time(settings.stale_if_error))
                .refresh_ahead(if settings.refresh { 0.7 } else { 1.0 })
                .error_backoff(ms(0), ms(0))
        });
        KEYS.iter().for_each(|key| cluster.origin.put(key, "first"));
        Real { cluster }
    }

    async fn get(&self, key: &str) -> String {
        let outcome = self.cluster["a"].read_detailed(key).await;
        settle().await;
        outcome
    }

    fn peek(&self, key: &str) -> String {
        match self.cluster["a"].group.peek(key) {
            Some(answer) => format!("{} {}", answer.source, text(&answer.value)),
            None => "nothing".to_owned(),
        }
    }

    async fn set(&self, key: &str, value: String, ttl: Option<Tenths>) {
        let value = Loaded::new(Bytes::from(value));
        let value = ttl.into_iter().map(time).fold(value, Loaded::ttl);
        soon(self.cluster["a"].group.set(key, value)).await.unwrap();
    }
}

/// Does all of `ops` to both and compares what is seen.
async fn compare(settings: Settings, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let real = Real::new(&settings);
    let mut model = Model::new(settings);
    // Starts the clock, and lets its ticks fall on whole tenths.
    real.get("x").await;
    soon(real.cluster["a"].group.clear()).await.unwrap();
    let before = real.cluster.origin.calls();
    for (nth, op) in ops.into_iter().enumerate() {
        let case = format!("{nth}: {op:?}");
        match op {
            Op::Get(key) => prop_assert_eq!(real.get(KEYS[key]).await, model.get(key), "{}", case),
            Op::Peek(key) => prop_assert_eq!(real.peek(KEYS[key]), model.peek(key), "{}", case),
            Op::Set(key, ttl) => {
                let value = format!("set-{nth}");
                model.hold(key, &value, ttl);
                real.set(KEYS[key], value, ttl).await;
            }
            Op::Remove(key) => {
                model.held.remove(&key);
                soon(real.cluster["a"].group.remove(KEYS[key])).await.unwrap();
            }
            Op::Clear => {
                model.held.clear();
                soon(real.cluster["a"].group.clear()).await.unwrap();
            }
            Op::Pass(tenths) => {
                model.now += tenths;
                sleep(time(tenths)).await;
            }
            Op::Change(key, ttl) => {
                let value = format!("new-{nth}");
                real.cluster.origin.put_with_ttl(KEYS[key], &value, ttl.map(time));
                model.origin.insert(key, Some((value, ttl)));
            }
            Op::Delete(key) => {
                real.cluster.origin.delete(KEYS[key]);
                model.origin.insert(key, None);
            }
            Op::Fails(fails) => {
                real.cluster.origin.health(if fails { Health::Fails } else { Health::Fine });
                model.fails = fails;
            }
        }
        prop_assert_eq!(real.cluster.origin.calls() - before, model.loads, "loads after {}", case);
    }
    // Expired entries are freed without a get.
    sleep(ms(30)).await;
    prop_assert_eq!(real.cluster["a"].items(), model.items());
    model.now += 10;
    sleep(time(10)).await;
    prop_assert_eq!(real.cluster["a"].items(), model.items());
    prop_assert_eq!(real.cluster["a"].group.stats().in_flight, 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_group_does_what_the_model_does(settings in settings(), ops in ops()) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(compare(settings, ops))?;
    }
}
