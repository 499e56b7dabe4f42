//! The history of a run: all events in order, which is all that the checks read.

use std::{
    collections::HashSet,
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex},
};

use peercache_groupcache::{BoxError, Bytes, ErrorKind, Source, Value};
use tokio::time::Instant;

use crate::time::end_decoding;

/// A value: the number of the load or the set that made it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Mark(pub u32);

/// Keys of one group, as a set of bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Keys {
    pub group: u8,
    pub bits: u16,
}

/// One key of one group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Item {
    pub group: u8,
    pub key: u8,
}

/// Nodes, as a set of bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Nodes(pub u16);

/// A moment: the virtual time and, within it, the place in the history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Moment {
    pub ms: u64,
    pub seq: usize,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    Begin {
        call: u32,
        node: u8,
        what: What,
    },
    Answer {
        call: u32,
        item: Item,
        got: Got,
    },
    End {
        call: u32,
        end: End,
    },
    LoadBegin {
        mark: Mark,
        item: Item,
        node: u8,
    },
    LoadEnd {
        mark: Mark,
        end: LoadEnd,
    },
    /// A node has this ring from now on.
    Ring {
        node: u8,
        ring: Nodes,
    },
    /// A node has started, with empty caches. Its ring has been noted just before.
    Up {
        node: u8,
    },
    Down {
        node: u8,
    },
    Frozen {
        node: u8,
    },
    Thawed {
        node: u8,
    },
    Cut {
        from: u8,
        to: u8,
    },
    Healed {
        from: u8,
        to: u8,
    },
    /// A node asked another for a sign of life.
    Probed {
        from: u8,
        to: u8,
    },
    /// A message was lost.
    Dropped {
        from: u8,
        to: u8,
        request: bool,
    },
    /// A message arrived before one that was sent earlier over the same link.
    Overtook {
        from: u8,
        to: u8,
    },
    /// A set is sent a second time.
    Repeated {
        from: u8,
        to: u8,
    },
    /// An update arrived at a node that was decoding the value of a set.
    SlowDecode {
        node: u8,
    },
    /// The last fault is over for now.
    Mended,
    /// Rings agree from here on, all nodes run, and earlier faults have no effect any more.
    Calm,
    /// Faults may happen from here on.
    Rough,
    /// Faults and the calls of clients have ended.
    Repaired,
    /// All nodes have to agree from here on: reads are compared.
    Settled,
    /// The loads and bytes that a node still has when nothing should be left.
    Left {
        node: u8,
        group: u8,
        in_flight: u64,
        bytes: u64,
    },
    /// Tasks that outlive all nodes.
    TasksLeft {
        tasks: usize,
    },
}

/// A call that a client makes at its node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum What {
    Get {
        item: Item,
        timeout_ms: Option<u64>,
    },
    GetMany {
        keys: Keys,
        timeout_ms: Option<u64>,
    },
    /// Removes one key, many, or all.
    Remove {
        keys: Keys,
    },
    /// `owner` is the owner in the setter's ring.
    Set {
        item: Item,
        mark: Mark,
        owner: u8,
    },
}

/// The result of a get.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Got {
    Value(Mark, Source),
    NotFound,
    Error(ErrorKind),
}

/// The end of a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum End {
    /// All its answers were given, or the change was acknowledged.
    Ok,
    /// A change that may not have reached these members.
    Missed(Nodes),
    Refused(ErrorKind),
    /// Its caller dropped it.
    Cancelled,
    /// Its node was stopped.
    Died,
    /// It did not end within twice its longest time.
    Overdue,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LoadEnd {
    Value,
    NotFound,
    Failed,
    Panicked,
    /// Its node dropped it.
    Dropped,
}

/// A history being written. Clones write the same one.
#[derive(Clone)]
pub struct History {
    begun: Instant,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    log: Vec<Entry>,
    calls: u32,
    marks: u32,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    pub ms: u64,
    pub event: Event,
}

impl History {
    pub fn begin() -> Self {
        History { begun: Instant::now(), shared: Arc::default() }
    }

    pub fn note(&self, event: Event) {
        let ms = self.begun.elapsed().as_millis() as u64;
        self.shared.lock().unwrap().log.push(Entry { ms, event });
    }

    pub fn new_call(&self) -> u32 {
        let mut shared = self.shared.lock().unwrap();
        shared.calls += 1;
        shared.calls
    }

    pub fn new_mark(&self) -> Mark {
        let mut shared = self.shared.lock().unwrap();
        shared.marks += 1;
        Mark(shared.marks)
    }

    pub fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut self.shared.lock().unwrap().log)
    }
}

/// Equal for equal histories, whatever the process.
pub fn hash(log: &[Entry]) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    log.hash(&mut hasher);
    hasher.finish()
}

/// FNV-1a: the standard library's hashers may change with it.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// The part of a history that concerns one key: its calls and loads, and the faults of the cluster.
pub fn about(log: &[Entry], item: Item) -> Vec<&Entry> {
    let (mut calls, mut marks) = (HashSet::new(), HashSet::new());
    let concerns = |entry: &&Entry| match &entry.event {
        Event::Begin { call, what, .. } => what.keys().has(item) && calls.insert(*call),
        Event::LoadBegin { mark, item: loaded, .. } => *loaded == item && marks.insert(*mark),
        Event::Answer { item: answered, .. } => *answered == item,
        Event::End { call, .. } => calls.contains(call),
        Event::LoadEnd { mark, .. } => marks.contains(mark),
        Event::Overtook { .. } | Event::Dropped { .. } | Event::Left { .. } => false,
        _ => true,
    };
    log.iter().filter(concerns).collect()
}

impl What {
    fn keys(&self) -> Keys {
        match self {
            What::Get { item, .. } | What::Set { item, .. } => Keys::one(*item),
            What::GetMany { keys, .. } | What::Remove { keys } => *keys,
        }
    }
}

impl Item {
    pub fn name(self) -> String {
        format!("key-{}", self.key)
    }
}

impl Keys {
    pub fn one(item: Item) -> Self {
        Keys { group: item.group, bits: 1 << item.key }
    }

    pub fn all(group: u8) -> Self {
        Keys { group, bits: u16::MAX }
    }

    pub fn has(self, item: Item) -> bool {
        self.group == item.group && self.bits & (1 << item.key) != 0
    }

    pub fn items(self) -> impl Iterator<Item = Item> {
        (0..16).map(move |key| Item { group: self.group, key }).filter(move |item| self.has(*item))
    }
}

impl Nodes {
    pub fn all(nodes: usize) -> Self {
        Nodes((1 << nodes) - 1)
    }

    pub fn of(node: u8) -> Self {
        Nodes(1 << node)
    }

    pub fn has(self, node: u8) -> bool {
        self.0 & (1 << node) != 0
    }

    pub fn and(self, other: Nodes) -> Nodes {
        Nodes(self.0 & other.0)
    }

    pub fn or(self, other: Nodes) -> Nodes {
        Nodes(self.0 | other.0)
    }

    pub fn without(self, other: Nodes) -> Nodes {
        Nodes(self.0 & !other.0)
    }

    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..16).filter(move |node| self.has(*node))
    }
}

impl Value for Mark {
    fn encode(&self) -> Result<Bytes, BoxError> {
        Ok(Bytes::copy_from_slice(&self.0.to_be_bytes()))
    }

    fn decode(bytes: Bytes) -> Result<Self, BoxError> {
        end_decoding();
        Ok(Mark(u32::from_be_bytes(bytes.as_ref().try_into()?)))
    }

    fn weight(&self) -> usize {
        100
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits {
            u16::MAX => write!(f, "all of group {}", self.group),
            _ => f.debug_set().entries(self.items()).finish(),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} ms  {:?}", self.ms, self.event)
    }
}
