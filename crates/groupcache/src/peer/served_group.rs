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
    /// The server decides how much is held before its peer reads it. `hold` is called once for each
    /// cached value, with its size in bytes as far as it is known before the value is encoded. If
    /// it returns `true`, the value is [`Ready`](Served::Ready); if not, it is
    /// [`Loading`](Served::Loading), and encoded when that is polled.
    ///
    /// Defaults to [`answer`](ServedGroup::answer) for each key, and once more for each value that
    /// is not held.
    fn answer_many(self: Arc<Self>, keys: Vec<Key>, terms: Terms, hold: &mut dyn FnMut(usize) -> bool) -> Vec<Served> {
        let answer = |key: Key| match self.clone().answer(key.as_bytes(), terms) {
            Served::Ready(Ok(reply)) if !hold(reply.value.as_ref().map_or(0, bytes::Bytes::len)) => {
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
