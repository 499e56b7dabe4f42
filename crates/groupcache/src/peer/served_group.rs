use std::{fmt, future::Future, pin::Pin, sync::Arc};

use crate::{
    error::{Error, ErrorKind},
    key::Key,
    peer::update::{Ack, PeerUpdate},
    peer::{PeerReply, Terms},
};

/// A group as a peer server sees it: bytes in, bytes out, whatever the type of its values.
///
/// What it answers was loaded at this node or is loaded now. It never asks another member, so a request travels one
/// hop, and members who disagree about the owner cannot wait for each other.
pub trait ServedGroup: Send + Sync + 'static {
    /// The group's name.
    fn name(&self) -> &Arc<str>;

    /// Answers a peer. A cached value is there at once; else a load is under way when this returns, and it goes on
    /// even if the answer is dropped.
    ///
    /// A load is a task of its own, so this has to be called within a tokio runtime.
    fn answer(self: Arc<Self>, key: &[u8], terms: Terms) -> Served;

    /// Answers a peer that asks for many keys, each in its place. What is not cached is loaded together where the group has
    /// a [`BatchLoader`](crate::BatchLoader).
    ///
    /// Defaults to [`answer`](ServedGroup::answer) for each, once more when it is wanted for what would be too much to hold
    /// until then.
    fn answer_many(self: Arc<Self>, keys: Vec<Key>, terms: Terms) -> Vec<Served> {
        let mut ready_bytes = 0;
        let answer = |key: Key| match self.clone().answer(key.as_bytes(), terms) {
            Served::Ready(Ok(reply)) => {
                let value_bytes = reply.value.as_ref().map_or(0, bytes::Bytes::len);
                ready_bytes += value_bytes;
                if is_held(value_bytes, ready_bytes) {
                    Served::Ready(Ok(reply))
                } else {
                    later(self.clone(), key, terms)
                }
            }
            served => served,
        };
        keys.into_iter().map(answer).collect()
    }

    /// Makes a change that a peer tells of. It is made when this returns. Within a tokio runtime, as
    /// [`answer`](ServedGroup::answer).
    ///
    /// Defaults to an error: a group that cannot be changed.
    ///
    /// # Errors
    /// A value that is too large, cannot be decoded, or comes too late.
    fn update(self: Arc<Self>, update: PeerUpdate) -> Result<Ack, Error> {
        let _ = update;
        Err(Error::with_message(ErrorKind::LoadFailed, "this group takes no changes"))
    }
}

/// How many bytes of values are held before anybody has room for them. What is beyond is brought when it is asked for: a
/// thousand values may be a thousand times as much as one.
const READY_BYTES_MAX: usize = 32 << 10;

/// The same where values are small, which is to say that it takes many keys to fill it: bringing one twice costs more than
/// holding it.
const SMALL_BYTES_MAX: usize = 2 << 10;
const SMALL_READY_BYTES_MAX: usize = 128 << 10;

/// Whether one more value is held of those that together have so many bytes.
pub(crate) fn is_held(value_bytes: usize, ready_bytes: usize) -> bool {
    ready_bytes <= if value_bytes <= SMALL_BYTES_MAX { SMALL_READY_BYTES_MAX } else { READY_BYTES_MAX }
}

/// What a group answers a peer with.
pub enum Served {
    /// What is known already.
    Ready(Result<PeerReply, Error>),
    /// The value is being loaded. Dropping the future hurts nobody.
    Loading(Pin<Box<dyn Future<Output = Result<PeerReply, Error>> + Send>>),
}

/// Answers when it is wanted. The key that came may be a part of a request, which need not be kept until then.
fn later<G: ServedGroup + ?Sized>(group: Arc<G>, key: Key, terms: Terms) -> Served {
    let key = Key::copy_from(key.as_bytes());
    Served::Loading(Box::pin(async move { group.answer(key.as_bytes(), terms).finish().await }))
}

impl Served {
    /// The answer, once it is there.
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
