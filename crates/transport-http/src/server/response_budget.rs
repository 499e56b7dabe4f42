//! A budget for the bytes of responses: it bounds what readers that do not read make a node hold.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use peercache_groupcache::{Error, ErrorKind, PeerReply, Served, ServedGroup, Terms};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use crate::server::{connection::Connection, write_timeout::MIN_RATE};

/// The longest value, in bytes, that needs no budget: a thousand of them are 16 MiB.
const FREE_VALUE_BYTES: usize = 16 * 1024;

/// The longest wait of an answer for its budget. Readers that stand still lose theirs to the
/// server's write timeout.
const BUDGET_WAIT: Duration = Duration::from_secs(5);

/// The wait after which the slowest reader that holds budget is cut off for another, and then the
/// next one.
const CUT_AFTER: Duration = Duration::from_millis(200);

/// The shortest time over which a reader's rate is taken, and after which it stands still if it
/// takes nothing, however fast it read before.
const MIN_TIME: Duration = Duration::from_millis(200);

/// Bounds the bytes of values that are on their way to readers.
///
/// A value that is not small reserves its bytes and keeps them until the last of it is sent or
/// thrown away. A value that finds no budget is dropped, so that nothing is held while it waits;
/// the group is asked again when there is budget. While it waits, readers that are too slow are cut
/// off, the slowest first.
pub(super) struct ResponseBudget {
    shared: Arc<Shared>,
    /// The connection that the values are for, where it is known.
    reader: Option<Arc<Connection>>,
}

struct Shared {
    bytes: Arc<Semaphore>,
    max_bytes: u32,
    landed: Landed,
    held: Mutex<Held>,
}

/// The bytes of values that have been loaded and wait until the body of their batch is polled. They
/// have a budget of their own, so that they take nothing from those that are being sent.
#[derive(Clone)]
pub(super) struct Landed {
    bytes: Arc<Semaphore>,
}

/// The most bytes of values that have been loaded and wait. Beyond it they are taken from the cache
/// once they can be sent.
const MAX_LANDED_BYTES: u32 = 8 * 1024 * 1024;

impl Landed {
    /// Takes room for a value, until the permit is dropped. A longer value than all of it goes
    /// alone.
    pub(super) fn try_take(&self, value_bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(value_bytes).unwrap_or(u32::MAX).min(MAX_LANDED_BYTES);
        self.bytes.clone().try_acquire_many_owned(bytes).ok()
    }
}

/// The values that are on their way.
#[derive(Default)]
struct Held {
    last_id: u64,
    values: BTreeMap<u64, Sending>,
}

/// A value on its way to a reader.
struct Sending {
    bytes: u32,
    reader: Arc<Connection>,
    since: Instant,
    /// The bytes that the reader had taken before.
    written_before: u64,
}

impl Sending {
    /// The bytes a second that the reader has taken since; zero if it stands still.
    fn rate(&self) -> f64 {
        if self.reader.stalled_for().is_some_and(|time| time >= MIN_TIME) {
            return 0.0;
        }
        (self.reader.written() - self.written_before) as f64 / self.since.elapsed().max(MIN_TIME).as_secs_f64()
    }
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts off the slowest of the readers that do not read fast enough, of the address that holds
    /// most.
    fn cut_slowest(&self) {
        let slowest = {
            let held = self.held();
            let mut of_address = HashMap::<_, u64>::new();
            for sending in held.values.values() {
                *of_address.entry(sending.reader.address()).or_default() += u64::from(sending.bytes);
            }
            let slow = held.values.values().filter(|sending| {
                sending.reader.stalled_for().is_some() && !sending.reader.is_cut() && sending.rate() < MIN_RATE
            });
            let rank = |sending: &&Sending| (of_address[&sending.reader.address()], -sending.rate());
            let slowest = slow.max_by(|one, other| rank(one).partial_cmp(&rank(other)).unwrap_or(Ordering::Equal));
            slowest.map(|sending| sending.reader.clone())
        };
        if let Some(reader) = slowest {
            reader.cut();
        }
    }
}

/// There is no budget for a value of this many bytes.
struct NoBudget(usize);

/// A value and its share of the budget.
struct Reserved {
    value: Bytes,
    _permit: OwnedSemaphorePermit,
    _entry: Option<Entry>,
}

/// The entry of a value among those on their way.
struct Entry {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let sent = self.shared.held().values.remove(&self.id);
        drop(sent);
    }
}

impl ResponseBudget {
    /// A budget of `max_bytes`. A longer value takes all of it, so that it can be answered.
    pub(super) fn new(max_bytes: usize) -> Self {
        let max_bytes = u32::try_from(max_bytes.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        let landed = Landed { bytes: Arc::new(Semaphore::new(MAX_LANDED_BYTES as usize)) };
        let bytes = Arc::new(Semaphore::new(max_bytes as usize));
        ResponseBudget { shared: Arc::new(Shared { bytes, max_bytes, landed, held: Mutex::default() }), reader: None }
    }

    /// The same budget, for values to this reader.
    pub(super) fn of(&self, reader: Option<Arc<Connection>>) -> Arc<Self> {
        Arc::new(ResponseBudget { shared: self.shared.clone(), reader })
    }

    /// The budget of values that wait for their batch.
    pub(super) fn landed(&self) -> Landed {
        self.shared.landed.clone()
    }

    /// Asks the group, and gives its answer as soon as there is budget for it. When that takes too
    /// long the answer is overload.
    pub(super) fn answer(self: &Arc<Self>, group: Arc<dyn ServedGroup>, key: Bytes, terms: Terms) -> Served {
        let served = group.clone().answer(&key, terms);
        self.reserve(served, group, key, terms)
    }

    /// Gives the group's answer as soon as there is budget for it.
    pub(super) fn reserve(
        self: &Arc<Self>,
        served: Served,
        group: Arc<dyn ServedGroup>,
        key: Bytes,
        terms: Terms,
    ) -> Served {
        let (budget, since) = (self.clone(), Instant::now());
        match served {
            Served::Ready(outcome) => match self.try_admit(outcome) {
                Ok(outcome) => Served::Ready(outcome),
                Err(none) => {
                    Served::Loading(Box::pin(async move { budget.answer_later(none, group, key, terms, since).await }))
                }
            },
            Served::Loading(answer) => Served::Loading(Box::pin(async move {
                match budget.try_admit(answer.await) {
                    Ok(outcome) => outcome,
                    Err(none) => budget.answer_later(none, group, key, terms, since).await,
                }
            })),
        }
    }

    /// Reserves bytes if they are free right now. They are free again when the permit is dropped.
    pub(super) fn try_reserve(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.shared.bytes.clone().try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }

    fn try_admit(&self, outcome: Result<PeerReply, Error>) -> Result<Result<PeerReply, Error>, NoBudget> {
        match outcome {
            Ok(reply) if value_bytes(&reply) > FREE_VALUE_BYTES => {
                let bytes = value_bytes(&reply);
                match self.shared.bytes.clone().try_acquire_many_owned(self.needed(bytes)) {
                    Ok(permit) => Ok(Ok(self.with_permit(reply, permit))),
                    Err(_) => Err(NoBudget(bytes)),
                }
            }
            outcome => Ok(outcome),
        }
    }

    async fn answer_later(
        &self,
        NoBudget(bytes): NoBudget,
        group: Arc<dyn ServedGroup>,
        key: Bytes,
        terms: Terms,
        since: Instant,
    ) -> Result<PeerReply, Error> {
        let permit = timeout(BUDGET_WAIT, self.acquire(self.needed(bytes))).await.map_err(|_| overloaded())?;
        let reply = group.answer(&key, shortened(terms, since)).finish().await?;
        // Another value, a longer one, may have come meanwhile.
        if value_bytes(&reply) <= bytes { Ok(self.with_permit(reply, permit)) } else { Err(overloaded()) }
    }

    /// Waits for budget, and has slow readers cut off meanwhile.
    async fn acquire(&self, bytes: u32) -> OwnedSemaphorePermit {
        let mut permit = pin!(self.shared.bytes.clone().acquire_many_owned(bytes));
        loop {
            match timeout(CUT_AFTER, permit.as_mut()).await {
                Ok(permit) => return permit.expect("the semaphore is never closed"),
                Err(_) => self.shared.cut_slowest(),
            }
        }
    }

    fn with_permit(&self, mut reply: PeerReply, permit: OwnedSemaphorePermit) -> PeerReply {
        let entry = self.reader.as_ref().map(|reader| {
            let sending = Sending {
                bytes: u32::try_from(permit.num_permits()).unwrap_or(u32::MAX),
                reader: reader.clone(),
                since: Instant::now(),
                written_before: reader.written(),
            };
            let mut held = self.shared.held();
            held.last_id += 1;
            let id = held.last_id;
            held.values.insert(id, sending);
            Entry { shared: self.shared.clone(), id }
        });
        reply.value = reply.value.map(|value| Bytes::from_owner(Reserved { value, _permit: permit, _entry: entry }));
        reply
    }

    fn needed(&self, value_bytes: usize) -> u32 {
        u32::try_from(value_bytes).unwrap_or(u32::MAX).min(self.shared.max_bytes)
    }
}

/// The same terms for callers who have waited since then.
fn shortened(mut terms: Terms, since: Instant) -> Terms {
    terms.timeout = terms.timeout.map(|timeout| timeout.saturating_sub(since.elapsed()));
    terms
}

pub(super) fn value_bytes(reply: &PeerReply) -> usize {
    reply.value.as_ref().map_or(0, Bytes::len)
}

/// The same bytes, which keep their share of the budget.
pub(super) fn reserved(value: Bytes, permit: OwnedSemaphorePermit) -> Bytes {
    Bytes::from_owner(Reserved { value, _permit: permit, _entry: None })
}

fn overloaded() -> Error {
    Error::with_message(ErrorKind::Overloaded, "too many large values are on their way to slow readers")
}

impl AsRef<[u8]> for Reserved {
    fn as_ref(&self) -> &[u8] {
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Answers a key, which is a number, with a value of that many bytes.
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

    fn ask(budget: &Arc<ResponseBudget>, bytes: usize) -> impl Future<Output = Result<Bytes, Error>> + use<> {
        let answer = budget.answer(Arc::new(Sized("g".into())), bytes.to_string().into(), Terms::new());
        async { Ok(answer.finish().await?.value.expect("there is a value")) }
    }

    #[tokio::test(start_paused = true)]
    async fn without_budget_the_answer_is_overload_in_time() {
        let budget = Arc::new(ResponseBudget::new(100_000));
        let held = ask(&budget, 60_000).await.unwrap();
        let start = Instant::now();
        assert_eq!(ask(&budget, 60_000).await.unwrap_err().kind(), ErrorKind::Overloaded);
        assert_eq!(start.elapsed(), BUDGET_WAIT);
        // A value that is small, or fits, is answered beside it.
        assert_eq!(ask(&budget, FREE_VALUE_BYTES).await.unwrap().len(), FREE_VALUE_BYTES);
        assert_eq!(ask(&budget, 40_000).await.unwrap().len(), 40_000);
        drop(held);
        assert_eq!(ask(&budget, 60_000).await.unwrap().len(), 60_000);
        assert_eq!(start.elapsed(), BUDGET_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_of_a_value_keeps_the_budget_of_the_whole() {
        let budget = Arc::new(ResponseBudget::new(100_000));
        let part = ask(&budget, 100_000).await.unwrap().slice(99_999..);
        assert_eq!(ask(&budget, 20_000).await.unwrap_err().kind(), ErrorKind::Overloaded);
        drop(part);
        assert_eq!(ask(&budget, 20_000).await.unwrap().len(), 20_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_larger_than_the_budget_is_answered_alone() {
        let budget = Arc::new(ResponseBudget::new(100_000));
        let held = ask(&budget, 200_000).await.unwrap();
        assert_eq!(ask(&budget, 20_000).await.unwrap_err().kind(), ErrorKind::Overloaded);
        drop(held);
        assert_eq!(ask(&budget, 20_000).await.unwrap().len(), 20_000);
    }

    /// Answers every key with a large value, and keeps the terms of the requests.
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
    async fn callers_who_waited_for_budget_have_less_time_left() {
        let (budget, group) = (Arc::new(ResponseBudget::new(100_000)), Arc::new(Keeping::default()));
        let held = ask(&budget, 60_000).await.unwrap();
        let terms = Terms::new().timeout(Some(Duration::from_secs(10)));
        let waiting = budget.answer(group.clone(), Bytes::new(), terms).finish();
        let (reply, ()) = tokio::join!(waiting, async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            drop(held);
        });
        reply.unwrap();
        let left = group.1.lock().unwrap().iter().map(|terms| terms.timeout.unwrap().as_secs()).collect::<Vec<_>>();
        assert_eq!(left, [10, 8]);
    }
}
