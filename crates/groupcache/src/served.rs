use std::{fmt, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;

use crate::Error;

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
    fn answer(self: Arc<Self>, key: &[u8]) -> Served;
}

/// What a group answers a peer with.
pub enum Served {
    /// The encoded value or the error, known already.
    Ready(Result<Bytes, Error>),
    /// The value is being loaded. Dropping the future hurts nobody.
    Loading(Pin<Box<dyn Future<Output = Result<Bytes, Error>> + Send>>),
}

impl Served {
    /// The answer, once it is there.
    pub async fn finish(self) -> Result<Bytes, Error> {
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
