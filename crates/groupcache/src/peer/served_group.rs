//! A group as a peer server sees it.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use crate::{
    error::{Error, ErrorKind},
    key::Key,
    limits::Limits,
    peer::update::{Ack, PeerUpdate},
    peer::{PeerReply, Terms},
};

/// A group as a peer server sees it: bytes in, bytes out, independent of the type of its values.
///
/// An answer was loaded at this node or is loaded now. A group never asks another member for it: a
/// request travels one hop, and members who disagree about the owner cannot wait for each other.
pub trait ServedGroup: Send + Sync + 'static {
    /// The group's name.
    fn name(&self) -> &Arc<str>;

    /// The longest value of the group, in bytes: a server reads no longer one. Defaults to 32 MiB.
    fn max_value_bytes(&self) -> usize {
        Limits::DEFAULT.max_value_bytes
    }

    /// Answers a peer. A cached value is there at once. Otherwise a load is in flight when this
    /// returns, and it goes on even if the answer is dropped.
    ///
    /// A load is a task of its own, so this has to be called within a tokio runtime.
    fn answer(self: Arc<Self>, key: &[u8], terms: Terms) -> Served;

    /// Answers a peer that asks for many keys, each in its place. Keys that are not cached are
    /// loaded together where the group has a [`BatchLoader`](crate::BatchLoader).
    ///
    /// The server decides how much is held before its peer reads it, by `limit`. A cached value
    /// that it admits is [`Ready`](Served::Ready). All others are [`Loading`](Served::Loading), and
    /// what has been loaded and finds no room is taken from the cache when that is polled.
    ///
    /// Defaults to [`answer`](ServedGroup::answer) for each key, and once more for each value that
    /// is not admitted.
    fn answer_many(self: Arc<Self>, keys: Vec<Key>, terms: Terms, limit: Arc<dyn HoldLimit>) -> Vec<Served> {
        let answer = |key: Key| match self.clone().answer(key.as_bytes(), terms) {
            Served::Ready(Ok(reply)) if !limit.admits(reply.value.as_ref().map_or(0, bytes::Bytes::len)) => {
                answer_later(self.clone(), &key, terms)
            }
            served => served,
        };
        keys.into_iter().map(answer).collect()
    }

    /// Makes an update that a peer sends. It is made when this returns. To be called within a tokio
    /// runtime, as [`answer`](ServedGroup::answer).
    ///
    /// Defaults to an error: a group that cannot be updated.
    ///
    /// # Errors
    /// A value that is too large, cannot be decoded, or comes too late.
    fn update(self: Arc<Self>, update: PeerUpdate) -> Result<Ack, Error> {
        let _ = update;
        Err(Error::with_message(ErrorKind::LoadFailed, "this group takes no changes"))
    }
}

/// A limit on the values that are held for a peer that has not read them yet. Sizes are in bytes,
/// as far as they are known before a value is encoded.
pub trait HoldLimit: Send + Sync + 'static {
    /// Whether one more value of this size, which is cached, is encoded and held at once.
    fn admits(&self, bytes: usize) -> bool;

    /// Takes room for a value of this size, which has been loaded: until what this returns is
    /// dropped. `None` if there is no room.
    fn take_room(&self, bytes: usize) -> Option<Box<dyn Send + Sync>>;
}

/// A limit that holds everything, for peers that always read.
#[derive(Clone, Copy, Debug, Default)]
pub struct HoldAll;

impl HoldLimit for HoldAll {
    fn admits(&self, _: usize) -> bool {
        true
    }

    fn take_room(&self, _: usize) -> Option<Box<dyn Send + Sync>> {
        Some(Box::new(()))
    }
}

/// A group's answer to a peer.
pub enum Served {
    /// The answer is known already.
    Ready(Result<PeerReply, Error>),
    /// The value is being loaded, or encoded when this is polled. Dropping the future does not
    /// cancel a load.
    Loading(Pin<Box<dyn Future<Output = Result<PeerReply, Error>> + Send>>),
}

impl Served {
    /// Waits for the answer.
    ///
    /// # Errors
    /// The group's error.
    pub async fn finish(self) -> Result<PeerReply, Error> {
        match self {
            Served::Ready(answer) => answer,
            Served::Loading(answer) => answer.await,
        }
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Served::Ready(answer) => f.debug_tuple("Ready").field(answer).finish(),
            Served::Loading(_) => f.write_str("Loading"),
        }
    }
}

/// Answers when it is polled. The key is copied: it may be a part of a request, which is not kept
/// alive until then.
fn answer_later<G: ServedGroup + ?Sized>(group: Arc<G>, key: &Key, terms: Terms) -> Served {
    let key = Key::copy_from(key.as_bytes());
    Served::Loading(Box::pin(async move { group.answer(key.as_bytes(), terms).finish().await }))
}
