use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use peercache_groupcache::{Error, ErrorKind, PeerReply, Served, ServedGroup, Terms};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

/// A value up to here needs no room: a thousand of them are 16 MiB.
const SMALL_BYTES: usize = 16 * 1024;

/// How long an answer waits for room. Readers that stand still lose theirs to the server's write timeout.
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// Room for values on their way to readers. It bounds what readers that do not read can make a node hold.
///
/// A value that is not small takes its bytes of room and keeps them until the last of it is sent or thrown away. One
/// that finds no room is dropped, so that nothing is held while it waits, and the group is asked again when there is
/// room.
pub(super) struct Room {
    bytes: Arc<Semaphore>,
    bytes_max: u32,
}

/// There is no room for a value of this many bytes.
struct Full(usize);

/// A value and its room.
struct Held {
    value: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Room {
    /// A larger value than there is room takes it all, so that it can be answered.
    pub(super) fn new(bytes_max: usize) -> Self {
        let bytes_max = u32::try_from(bytes_max.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Room { bytes: Arc::new(Semaphore::new(bytes_max as usize)), bytes_max }
    }

    /// What the group answers, as soon as there is room for it. When that takes too long the answer is overload.
    pub(super) fn answer(self: &Arc<Self>, group: Arc<dyn ServedGroup>, key: Bytes, terms: Terms) -> Served {
        let served = group.clone().answer(&key, terms);
        self.hold(served, group, key, terms)
    }

    /// What the group has answered, as soon as there is room for it.
    pub(super) fn hold(
        self: &Arc<Self>,
        served: Served,
        group: Arc<dyn ServedGroup>,
        key: Bytes,
        terms: Terms,
    ) -> Served {
        let (room, since) = (self.clone(), Instant::now());
        match served {
            Served::Ready(outcome) => match self.admit(outcome) {
                Ok(outcome) => Served::Ready(outcome),
                Err(full) => {
                    Served::Loading(Box::pin(async move { room.answer_later(full, group, key, terms, since).await }))
                }
            },
            Served::Loading(answer) => Served::Loading(Box::pin(async move {
                match room.admit(answer.await) {
                    Ok(outcome) => outcome,
                    Err(full) => room.answer_later(full, group, key, terms, since).await,
                }
            })),
        }
    }

    /// Bytes that are there anyway, if there is room for them right now: they are held until they are sent.
    pub(super) fn try_hold(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.bytes.clone().try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }

    fn admit(&self, outcome: Result<PeerReply, Error>) -> Result<Result<PeerReply, Error>, Full> {
        match outcome {
            Ok(reply) if value_bytes(&reply) > SMALL_BYTES => {
                let bytes = value_bytes(&reply);
                match self.bytes.clone().try_acquire_many_owned(self.needed(bytes)) {
                    Ok(room) => Ok(Ok(hold(reply, room))),
                    Err(_) => Err(Full(bytes)),
                }
            }
            outcome => Ok(outcome),
        }
    }

    async fn answer_later(
        &self,
        Full(bytes): Full,
        group: Arc<dyn ServedGroup>,
        key: Bytes,
        terms: Terms,
        since: Instant,
    ) -> Result<PeerReply, Error> {
        let room = timeout(ROOM_WAIT, self.bytes.clone().acquire_many_owned(self.needed(bytes))).await;
        let room = room.map_err(|_| overloaded())?.expect("the semaphore is never closed");
        let reply = group.answer(&key, later(terms, since)).finish().await?;
        // Another value may have taken its place meanwhile.
        match value_bytes(&reply) <= bytes {
            true => Ok(hold(reply, room)),
            false => Err(overloaded()),
        }
    }

    fn needed(&self, value_bytes: usize) -> u32 {
        u32::try_from(value_bytes).unwrap_or(u32::MAX).min(self.bytes_max)
    }
}

/// The same terms for one who has waited since then.
pub(super) fn later(mut terms: Terms, since: Instant) -> Terms {
    terms.timeout = terms.timeout.map(|timeout| timeout.saturating_sub(since.elapsed()));
    terms
}

pub(super) fn value_bytes(reply: &PeerReply) -> usize {
    reply.value.as_ref().map_or(0, Bytes::len)
}

fn hold(mut reply: PeerReply, room: OwnedSemaphorePermit) -> PeerReply {
    reply.value = reply.value.map(|value| in_room(value, room));
    reply
}

/// The same bytes, with their room.
pub(super) fn in_room(value: Bytes, room: OwnedSemaphorePermit) -> Bytes {
    Bytes::from_owner(Held { value, _room: room })
}

fn overloaded() -> Error {
    Error::with_message(ErrorKind::Overloaded, "too many large values are on their way to slow readers")
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Answers every key with as many bytes as it says.
    struct Sized(Arc<str>);

    impl ServedGroup for Sized {
        fn name(&self) -> &Arc<str> {
            &self.0
        }

        fn answer(self: Arc<Self>, key: &[u8], _: Terms) -> Served {
            let bytes: usize = std::str::from_utf8(key).unwrap().parse().unwrap();
            Served::Ready(Ok(PeerReply::new(vec![0; bytes].into())))
        }
    }

    fn ask(room: &Arc<Room>, bytes: usize) -> impl Future<Output = Result<Bytes, Error>> + use<> {
        let answer = room.answer(Arc::new(Sized("g".into())), bytes.to_string().into(), Terms::new());
        async { Ok(answer.finish().await?.value.expect("there is a value")) }
    }

    #[tokio::test(start_paused = true)]
    async fn without_room_the_answer_is_overload_in_time() {
        let room = Arc::new(Room::new(100_000));
        let held = ask(&room, 60_000).await.unwrap();
        let start = Instant::now();
        assert_eq!(ask(&room, 60_000).await.unwrap_err().kind(), ErrorKind::Overloaded);
        assert_eq!(start.elapsed(), ROOM_WAIT);
        // What is small, or fits, is answered beside it.
        assert_eq!(ask(&room, SMALL_BYTES).await.unwrap().len(), SMALL_BYTES);
        assert_eq!(ask(&room, 40_000).await.unwrap().len(), 40_000);
        drop(held);
        assert_eq!(ask(&room, 60_000).await.unwrap().len(), 60_000);
        assert_eq!(start.elapsed(), ROOM_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_of_a_value_keeps_the_room_of_the_whole() {
        let room = Arc::new(Room::new(100_000));
        let part = ask(&room, 100_000).await.unwrap().slice(99_999..);
        assert_eq!(ask(&room, 20_000).await.unwrap_err().kind(), ErrorKind::Overloaded);
        drop(part);
        assert_eq!(ask(&room, 20_000).await.unwrap().len(), 20_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_larger_than_all_room_is_answered_alone() {
        let room = Arc::new(Room::new(100_000));
        let held = ask(&room, 200_000).await.unwrap();
        assert_eq!(ask(&room, 20_000).await.unwrap_err().kind(), ErrorKind::Overloaded);
        drop(held);
        assert_eq!(ask(&room, 20_000).await.unwrap().len(), 20_000);
    }

    /// A large value, with the terms that it is asked on.
    #[derive(Default)]
    struct Keeping(Arc<str>, Mutex<Vec<Terms>>);

    impl ServedGroup for Keeping {
        fn name(&self) -> &Arc<str> {
            &self.0
        }

        fn answer(self: Arc<Self>, _: &[u8], terms: Terms) -> Served {
            self.1.lock().unwrap().push(terms);
            Served::Ready(Ok(PeerReply::new(vec![0; 60_000].into())))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waited_for_room_has_less_time_left() {
        let (room, group) = (Arc::new(Room::new(100_000)), Arc::new(Keeping::default()));
        let held = ask(&room, 60_000).await.unwrap();
        let terms = Terms::new().timeout(Some(Duration::from_secs(10)));
        let waiting = room.answer(group.clone(), Bytes::new(), terms).finish();
        let (reply, ()) = tokio::join!(waiting, async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            drop(held);
        });
        reply.unwrap();
        let left = group.1.lock().unwrap().iter().map(|terms| terms.timeout.unwrap().as_secs()).collect::<Vec<_>>();
        assert_eq!(left, [10, 8]);
    }
}
