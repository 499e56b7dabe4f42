//! An origin whose values change, for all nodes of one test.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use peercache_groupcache::{Batch, BatchLoader, Bytes, Key, LoadError, Loaded};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep},
};

/// Every key has the value `v1`, until it is [changed](Db::change) or [put](Db::put).
#[derive(Clone)]
pub struct Db {
    shared: Arc<Shared>,
    /// Whose loader asks.
    node: Arc<str>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    happened: Notify,
}

struct State {
    version: u32,
    values: HashMap<Vec<u8>, Option<Bytes>>,
    /// Of values that were put with one.
    lives: HashMap<Vec<u8>, Duration>,
    ttl: Option<Duration>,
    mood: Mood,
    takes: Duration,
    holding: Holding,
    held: Vec<(Vec<u8>, oneshot::Sender<()>)>,
    calls: Vec<Call>,
    batches: Vec<(Arc<str>, usize)>,
    under_way: usize,
    most_at_once: usize,
}

/// How the origin answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Fine,
    Fails,
    Panics,
    HasNothing,
}

#[derive(PartialEq, Eq)]
enum Holding {
    Nothing,
    All,
    Key(Vec<u8>),
}

/// One key that a loader was asked for.
#[derive(Clone, Debug)]
pub struct Call {
    pub key: Vec<u8>,
    pub node: Arc<str>,
    pub at: Instant,
}

impl Default for State {
    fn default() -> Self {
        State {
            version: 1,
            values: HashMap::new(),
            lives: HashMap::new(),
            ttl: None,
            mood: Mood::Fine,
            takes: Duration::ZERO,
            holding: Holding::Nothing,
            held: Vec::new(),
            calls: Vec::new(),
            batches: Vec::new(),
            under_way: 0,
            most_at_once: 0,
        }
    }
}

impl Db {
    pub fn new() -> Self {
        Db { shared: Arc::default(), node: "".into() }
    }

    /// The origin as the loader of this node asks it.
    pub fn asked_by(&self, node: &str) -> Self {
        Db { shared: self.shared.clone(), node: node.into() }
    }

    /// Gives all keys the next value: `v2`, `v3` and so on.
    pub fn change(&self) {
        self.state(|state| state.version += 1);
    }

    pub fn put(&self, key: &str, value: &str) {
        self.state(|state| state.values.insert(key.into(), Some(value.to_owned().into())));
    }

    /// As [`put`](Db::put), with what the loader says of the value's life.
    pub fn put_living(&self, key: &str, value: &str, ttl: Option<Duration>) {
        self.put(key, value);
        self.state(|state| match ttl {
            Some(ttl) => state.lives.insert(key.into(), ttl),
            None => state.lives.remove(key.as_bytes()),
        });
    }

    /// From now on, there is no such key.
    pub fn delete(&self, key: &str) {
        self.state(|state| state.values.insert(key.into(), None));
    }

    /// From now on, values say how long they live.
    pub fn ttl(&self, ttl: Duration) {
        self.state(|state| state.ttl = Some(ttl));
    }

    pub fn mood(&self, mood: Mood) {
        self.state(|state| state.mood = mood);
    }

    /// From now on, a load takes so long.
    pub fn takes(&self, time: Duration) {
        self.state(|state| state.takes = time);
    }

    /// From now on, loads have read their value and do not end.
    pub fn hold(&self) {
        self.state(|state| state.holding = Holding::All);
    }

    /// As [`hold`](Db::hold), for one key.
    pub fn hold_key(&self, key: &str) {
        self.state(|state| state.holding = Holding::Key(key.into()));
    }

    /// Later loads end; those that are held stay so.
    pub fn hold_no_more(&self) {
        self.state(|state| state.holding = Holding::Nothing);
    }

    /// All loads end.
    pub fn open(&self) {
        self.hold_no_more();
        self.open_these();
    }

    /// The loads that are held end; later ones are held still.
    pub fn open_these(&self) {
        let held = self.state(|state| std::mem::take(&mut state.held));
        for (_, held) in held {
            let _ = held.send(());
        }
    }

    pub fn held(&self) -> usize {
        self.state(|state| state.held.len())
    }

    /// How many keys loaders were asked for.
    pub fn calls(&self) -> usize {
        self.state(|state| state.calls.len())
    }

    pub fn calls_of(&self, node: &str) -> usize {
        self.log().iter().filter(|call| *call.node == *node).count()
    }

    pub fn log(&self) -> Vec<Call> {
        self.state(|state| state.calls.clone())
    }

    /// The batches that were asked for: by whom, and of how many keys.
    pub fn batches(&self) -> Vec<(Arc<str>, usize)> {
        self.state(|state| state.batches.clone())
    }

    /// The most loads that there were at one time.
    pub fn most_at_once(&self) -> usize {
        self.state(|state| state.most_at_once)
    }

    /// Waits until loaders were asked for so many keys.
    pub async fn called(&self, calls: usize) {
        self.until(|state| state.calls.len() >= calls).await;
    }

    /// Waits until so many loads are held.
    pub async fn holding(&self, held: usize) {
        self.until(|state| state.held.len() >= held).await;
    }

    async fn until(&self, is_so: impl Fn(&State) -> bool) {
        let is_so = || is_so(&self.shared.state.lock().unwrap());
        while !is_so() {
            let happened = self.shared.happened.notified();
            if !is_so() {
                happened.await;
            }
        }
    }

    fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let seen = look(&mut self.shared.state.lock().unwrap());
        self.shared.happened.notify_waiters();
        seen
    }

    /// The loader.
    pub async fn load(self, key: Key) -> Result<Loaded<Bytes>, LoadError> {
        let _under_way = UnderWay::new(&self);
        let read = self.read(&key);
        self.wait(key.as_bytes()).await;
        read.await
    }

    /// What the origin holds now, to be answered later.
    fn read(&self, key: &Key) -> impl Future<Output = Result<Loaded<Bytes>, LoadError>> + Send + use<> {
        let call = Call { key: key.as_bytes().into(), node: self.node.clone(), at: Instant::now() };
        let (mood, value, ttl) = self.state(|state| {
            state.calls.push(call);
            let newest = || Some(Bytes::from(format!("v{}", state.version)));
            let value = state.values.get(key.as_bytes()).cloned().unwrap_or_else(newest);
            (state.mood, value, state.lives.get(key.as_bytes()).copied().or(state.ttl))
        });
        async move {
            match mood {
                Mood::Fine => {
                    let loaded = Loaded::new(value.ok_or_else(LoadError::not_found)?);
                    Ok(ttl.into_iter().fold(loaded, Loaded::ttl))
                }
                Mood::Fails => Err("disk on fire".into()),
                Mood::Panics => panic!("a planned panic"),
                Mood::HasNothing => Err(LoadError::not_found()),
            }
        }
    }

    async fn wait(&self, key: &[u8]) {
        let (takes, held) = self.state(|state| {
            let held = match &state.holding {
                Holding::Nothing => None,
                Holding::Key(only) if *only != key => None,
                _ => {
                    let (open, held) = oneshot::channel();
                    state.held.push((key.into(), open));
                    Some(held)
                }
            };
            (state.takes, held)
        });
        if let Some(held) = held {
            let _ = held.await;
        }
        if !takes.is_zero() {
            sleep(takes).await;
        }
    }
}

/// A load counted as under way until it is dropped.
struct UnderWay<'a>(&'a Db);

impl<'a> UnderWay<'a> {
    fn new(db: &'a Db) -> Self {
        db.state(|state| {
            state.under_way += 1;
            state.most_at_once = state.most_at_once.max(state.under_way);
        });
        UnderWay(db)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.state(|state| state.under_way -= 1);
    }
}

/// One query for many keys: keys that are held are waited for one after another, once all others are answered.
impl BatchLoader for Db {
    type Value = Bytes;

    async fn load_many(&self, batch: &Batch<Bytes>) -> Result<(), LoadError> {
        let _under_way = UnderWay::new(self);
        self.state(|state| state.batches.push((self.node.clone(), batch.keys().len())));
        let mut slow = Vec::new();
        for (nth, key) in batch.keys().iter().enumerate() {
            let read = self.read(key);
            if self.is_held(key) { slow.push((nth, key, read)) } else { answer(batch, nth, read.await)? }
        }
        for (nth, key, read) in slow {
            self.wait(key.as_bytes()).await;
            answer(batch, nth, read.await)?;
        }
        Ok(())
    }
}

impl Db {
    fn is_held(&self, key: &Key) -> bool {
        self.state(|state| match &state.holding {
            Holding::Nothing => !state.takes.is_zero(),
            Holding::All => true,
            Holding::Key(only) => *only == key.as_bytes(),
        })
    }
}

/// What is not found is left unanswered, and a failure ends the query.
fn answer(batch: &Batch<Bytes>, nth: usize, read: Result<Loaded<Bytes>, LoadError>) -> Result<(), LoadError> {
    match read {
        Ok(loaded) => batch.answer(nth, Ok(loaded)),
        Err(error) if format!("{error:?}").contains("NotFound") => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
