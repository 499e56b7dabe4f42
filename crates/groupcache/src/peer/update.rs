//! Updates that members send each other, and the errors of making one.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{error::Error, key::Key};

/// An update, as one member sends it to another. See [`Group::remove`](crate::Group::remove) for
/// the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerUpdate {
    /// The group's name.
    pub group: Arc<str>,
    /// The digest of the sender's ring.
    pub ring: u64,
    /// The change to make.
    pub change: Change,
    /// The members that could not be reached with this update. A member that learns their names
    /// queues the update for them, and does not ask them for values before it is delivered.
    pub missed: Vec<String>,
    /// The time since the update was made, if it is sent only now because the member could not be
    /// reached then. A value that was [set](Change::Set) since is kept.
    pub age: Duration,
    /// Says that this is the second round of a set: the owner of the key has the new value.
    pub second: Option<SecondRound>,
}

/// The second round of a set. A member that is told drops what it has queued of the key for the
/// members that have acknowledged the set, and asks them again.
///
/// That is right as long as the set is in progress. After it, what is queued may be newer: so it
/// carries the stamp of the member that is told, as a [`SetValue`] does that of the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondRound {
    /// The member's stamp, of its acknowledgement of the first round.
    pub stamp: Stamp,
    /// The time from that stamp on for which the sender waits.
    pub within: Duration,
}

/// The change that an update makes in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Forgets these keys, and detaches loads and fetches of them that are in flight.
    Remove(Vec<Key>),
    /// Forgets every key.
    Clear,
    /// Stores this value at the key's owner.
    Set(SetValue),
}

/// A value for its owner to store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetValue {
    /// The key.
    pub key: Key,
    /// The encoded value.
    pub value: Bytes,
    /// The time for which it may be answered; `None` is the group's `time_to_live`.
    pub ttl: Option<Duration>,
    /// The owner's last known time. The owner takes the value until [`within`](SetValue::within)
    /// after that, on its own clock. A set that was delayed on its way is not taken: its sender has
    /// given it up by then, and a later one may have been made.
    pub stamp: Stamp,
    /// The time after [`stamp`](SetValue::stamp) in which the owner takes the value.
    pub within: Duration,
}

/// A moment on a member's own clock. To others it means nothing; they give it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// A number that the process chose at random.
    pub incarnation: u64,
    /// A number that grows with time, and that it gives once.
    pub count: u64,
}

/// A member's acknowledgement that it has made an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ack {
    /// The digest of its ring. If it is not the sender's, there may be members that the sender does
    /// not know.
    pub ring: u64,
    /// The time at which it made the update.
    pub stamp: Stamp,
}

impl PeerUpdate {
    /// An update that has missed no member so far.
    pub fn new(group: impl Into<Arc<str>>, ring: u64, change: Change) -> Self {
        PeerUpdate { group: group.into(), ring, change, missed: Vec::new(), age: Duration::ZERO, second: None }
    }

    /// The same update, made this long ago.
    #[must_use]
    pub fn age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// The same update, in the second round or the first.
    #[must_use]
    pub fn second(mut self, second: Option<SecondRound>) -> Self {
        self.second = second;
        self
    }

    /// The same update with the names of members that it has missed.
    #[must_use]
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
    /// The acknowledgement of a member with this ring, made at this time.
    pub fn new(ring: u64, stamp: Stamp) -> Self {
        Ack { ring, stamp }
    }
}

/// The reason why an update is not known to hold on every member.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// Some members could not be reached. All others have made the update.
    #[error("{} could not be told: {}", Count(.0.len()), Names(.0))]
    Missed(Vec<Missed>),
    /// The update was refused: a value or a key that is too long, a value that cannot be encoded,
    /// no runtime.
    #[error(transparent)]
    Refused(#[from] Error),
}

/// A member that could not be reached with an update. It makes the update when it is back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missed {
    /// The member's name, as it stands in the member list.
    pub member: String,
    /// The reason, in words for a log.
    pub why: String,
}

impl UpdateError {
    /// The members that could not be reached; none if the update was refused.
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
