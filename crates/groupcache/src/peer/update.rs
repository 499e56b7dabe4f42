//! Changes that travel between members, and what comes of telling them.

use std::{fmt, time::Duration};

use bytes::Bytes;

use crate::{error::Error, key::Key};

/// A change, as one member tells it to another. See [`Group::remove`](crate::Group::remove) for the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerUpdate {
    /// The group's name.
    pub group: std::sync::Arc<str>,
    /// The digest of the teller's ring.
    pub ring: u64,
    /// What changes.
    pub change: Change,
    /// Members that could not be told of this change. Whoever hears of them keeps the change for them, and does not ask them
    /// again before they know of it.
    pub missed: Vec<String>,
    /// How long ago the change was made, if it is told only now because the member could not be told then. What was
    /// [set](Change::Set) since is kept.
    pub age: Duration,
    /// Whether this is the second round: all members but those [missed](PeerUpdate::missed) have made the change, so that they are owed no
    /// older one of the same keys.
    pub second: bool,
}

/// What changes in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// These keys are to be forgotten, with all that is being loaded or fetched for them.
    Remove(Vec<Key>),
    /// Everything is to be forgotten.
    Clear,
    /// The key's owner is to hold this value.
    Set(SetValue),
}

/// A value for its owner to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetValue {
    /// The key.
    pub key: Key,
    /// The encoded value.
    pub value: Bytes,
    /// How long it may be answered; `None` is as long as the group's `time_to_live` says.
    pub ttl: Option<Duration>,
    /// What the owner gave when it was last told, and how much later than that it may still take the value. A set that was held up on its way
    /// is not taken: by then its sender has given it up, and a later one may have been made.
    pub stamp: Stamp,
    /// See [`stamp`](SetValue::stamp).
    pub within: Duration,
}

/// A moment on a member's own clock. To others it means nothing; they give it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Chosen at random by the process.
    pub incarnation: u64,
    /// Milliseconds since some moment.
    pub ms: u64,
}

/// A member's word that it has made a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ack {
    /// The digest of its ring. If it is not the teller's, other members may be out there of whom the teller does not know.
    pub ring: u64,
    /// When it made the change.
    pub stamp: Stamp,
}

impl PeerUpdate {
    /// A change that everybody could be told of so far.
    pub fn new(group: impl Into<std::sync::Arc<str>>, ring: u64, change: Change) -> Self {
        PeerUpdate { group: group.into(), ring, change, missed: Vec::new(), age: Duration::ZERO, second: false }
    }

    /// Of a change that was made so long ago.
    pub fn age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// Of the second round, or not.
    pub fn second(mut self, second: bool) -> Self {
        self.second = second;
        self
    }

    /// With the names of members that could not be told.
    pub fn missed(mut self, missed: Vec<String>) -> Self {
        self.missed = missed;
        self
    }
}

impl SetValue {
    /// A value for the owner of `key`, to be taken at most `within` after `stamp`.
    pub fn new(key: Key, value: Bytes, ttl: Option<Duration>, stamp: Stamp, within: Duration) -> Self {
        SetValue { key, value, ttl, stamp, within }
    }
}

impl Ack {
    /// The word of a member with this ring, given at this moment.
    pub fn new(ring: u64, stamp: Stamp) -> Self {
        Ack { ring, stamp }
    }
}

/// Why a change is not known to hold on every member.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// Some members could not be told. All others have made the change.
    #[error("{} could not be told: {}", Count(.0.len()), Names(.0))]
    Missed(Vec<Missed>),
    /// The change was refused: a value or a key that is too long, a value that cannot be encoded, no runtime.
    #[error(transparent)]
    Refused(#[from] Error),
}

/// A member that could not be told of a change. It forgets when it is back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missed {
    /// The member's name, as it stands in the member list.
    pub member: String,
    /// Why, in words for a log.
    pub why: String,
}

impl UpdateError {
    /// The members that could not be told; none if the change was refused.
    pub fn missed(&self) -> &[Missed] {
        match self {
            UpdateError::Missed(missed) => missed,
            UpdateError::Refused(_) => &[],
        }
    }
}

struct Count(usize);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("one member"),
            many => write!(f, "{many} members"),
        }
    }
}

struct Names<'a>(&'a [Missed]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, missed) in self.0.iter().enumerate() {
            let comma = if nth == 0 { "" } else { ", " };
            write!(f, "{comma}{} ({})", missed.member, missed.why)?;
        }
        Ok(())
    }
}
