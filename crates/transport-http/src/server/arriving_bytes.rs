//! A budget for the bytes of request bodies that arrive: what is sent counts, and not what is
//! claimed, and under pressure the slowest sender is cut off first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    fmt,
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

/// A budget for the bytes of bodies that arrive at once. Clones share it.
///
/// A body takes its share as its bytes come. One that claims much and sends little holds little,
/// and one sender alone may use everything. When the next piece finds no room, a body is cut off
/// for it: of the address whose bodies hold most, the one that came at the lowest rate so far. So
/// nobody waits for a body that drips, two long bodies do not wait for each other, and many bodies
/// of one address do not push out the one of another. A body that is longer than the budget arrives
/// alone.
#[derive(Clone)]
pub struct ArrivingBytes {
    shared: Arc<Shared>,
}

struct Shared {
    max_bytes: usize,
    state: Mutex<State>,
    /// A body has given its share back.
    freed: Notify,
}

#[derive(Default)]
struct State {
    held: usize,
    last_id: u64,
    bodies: BTreeMap<u64, Arriving>,
}

struct Arriving {
    address: Option<IpAddr>,
    bytes: usize,
    since: Instant,
    last_piece: Instant,
    has_arrived: bool,
    is_cut: bool,
    cut: Arc<Notify>,
}

/// The share of one body, given back when it is dropped: at the earliest when the body has been
/// dealt with.
pub struct BodyShare {
    shared: Arc<Shared>,
    id: u64,
    cut: Arc<Notify>,
}

/// The body was cut off: others needed the room, and it came slowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body came more slowly than others that needed its room")]
pub struct CutOff;

/// The longest wait for the room of bodies that have arrived or are being cut off.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// The time without a piece after which a body stands still, however fast it came before.
const STANDS_STILL: Duration = Duration::from_millis(200);

/// The shortest time over which a rate is taken: bodies that have just begun are no slow ones.
const MIN_TIME: Duration = Duration::from_millis(500);

impl ArrivingBytes {
    /// Creates a budget of `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        let shared = Shared { max_bytes, state: Mutex::default(), freed: Notify::new() };
        ArrivingBytes { shared: Arc::new(shared) }
    }

    /// Begins a body, which holds nothing yet, of a client at this address. Bodies without an
    /// address share one.
    pub fn begin(&self, address: Option<IpAddr>) -> BodyShare {
        let cut = Arc::new(Notify::new());
        let now = Instant::now();
        let cut_of_body = cut.clone();
        let arriving = Arriving {
            address,
            bytes: 0,
            since: now,
            last_piece: now,
            has_arrived: false,
            is_cut: false,
            cut: cut_of_body,
        };
        let mut state = self.shared.lock();
        state.last_id += 1;
        let id = state.last_id;
        state.bodies.insert(id, arriving);
        drop(state);
        BodyShare { shared: self.shared.clone(), id, cut }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BodyShare {
    /// Takes room for a piece that has come.
    ///
    /// # Errors
    /// This body is the one that is cut off.
    pub async fn grow(&mut self, bytes: usize) -> Result<(), CutOff> {
        loop {
            let mut freed = pin!(self.shared.freed.notified());
            // Before the look, so that no end of a body is missed.
            freed.as_mut().enable();
            let grown = self.shared.lock().grow(self.id, bytes, self.shared.max_bytes);
            match grown {
                Grown::Yes => return Ok(()),
                Grown::CutOff => return Err(CutOff),
                Grown::WaitsFor(victim) => {
                    if let Some(victim) = victim {
                        victim.notify_one();
                    }
                    // Those that have arrived are dealt with in a moment, or never.
                    if timeout(MAX_WAIT, freed).await.is_err() {
                        return Err(CutOff);
                    }
                }
            }
        }
    }

    /// Records that the whole body is there: it is not cut off any more.
    pub fn arrived(&mut self) {
        if let Some(body) = self.shared.lock().bodies.get_mut(&self.id) {
            body.has_arrived = true;
        }
    }

    /// Waits until this body is cut off, to be awaited beside its next piece.
    pub async fn cut_off(&self) {
        self.cut.notified().await;
    }
}

/// The outcome of one attempt to take room.
enum Grown {
    Yes,
    CutOff,
    /// The body to cut off for it; `None` if enough of them are leaving.
    WaitsFor(Option<Arc<Notify>>),
}

impl State {
    fn grow(&mut self, id: u64, bytes: usize, max_bytes: usize) -> Grown {
        let own = match self.bodies.get(&id) {
            Some(body) if !body.is_cut => body.bytes,
            _ => return Grown::CutOff,
        };
        let others = self.held - own;
        if others == 0 || self.held + bytes <= max_bytes {
            self.held += bytes;
            let grow = |body: &mut Arriving| {
                body.bytes += bytes;
                body.last_piece = Instant::now();
            };
            self.bodies.entry(id).and_modify(grow);
            return Grown::Yes;
        }
        let is_leaving = |body: &&Arriving| body.is_cut || body.has_arrived;
        let leaving: usize = self.bodies.values().filter(is_leaving).map(|body| body.bytes).sum();
        if self.held + bytes - leaving <= max_bytes || leaving == others {
            return Grown::WaitsFor(None);
        }
        let now = Instant::now();
        let may_be_cut = |body: &Arriving| !body.is_cut && !body.has_arrived && body.bytes > 0;
        // This body counts with the piece that it wants room for.
        let piece_of = |of: u64| (of == id).then_some(bytes);
        let mut of_address = HashMap::<_, usize>::new();
        for (&of, body) in self.bodies.iter().filter(|(_, body)| may_be_cut(body)) {
            *of_address.entry(body.address).or_default() += body.bytes + piece_of(of).unwrap_or(0);
        }
        let candidates = self.bodies.iter_mut().filter(|(_, body)| may_be_cut(body));
        let rank =
            |body: &(&u64, &mut Arriving)| (Reverse(of_address[&body.1.address]), body.1.rate(now, piece_of(*body.0)));
        match candidates.min_by_key(rank) {
            Some((&slowest, body)) if slowest != id => {
                body.is_cut = true;
                Grown::WaitsFor(Some(body.cut.clone()))
            }
            _ => Grown::CutOff,
        }
    }
}

impl Arriving {
    /// The bytes a second so far, with a piece that has come now; zero for a body that stands
    /// still.
    fn rate(&self, now: Instant, piece: Option<usize>) -> u128 {
        if piece.is_none() && now.duration_since(self.last_piece) >= STANDS_STILL {
            return 0;
        }
        let time = now.duration_since(self.since).max(MIN_TIME);
        (self.bytes + piece.unwrap_or(0)) as u128 * 1_000 / time.as_millis()
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let body = state.bodies.remove(&self.id);
        state.held -= body.as_ref().map_or(0, |body| body.bytes);
        drop(state);
        drop(body);
        self.shared.freed.notify_waiters();
    }
}

impl fmt::Debug for ArrivingBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        let (held, bodies) = (state.held, state.bodies.len());
        f.debug_struct("ArrivingBytes")
            .field("max_bytes", &self.shared.max_bytes)
            .field("held", &held)
            .field("bodies", &bodies)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for BodyShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyShare").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn claims_hold_nothing_and_one_alone_may_have_everything() {
        let budget = ArrivingBytes::new(100);
        let _idle: Vec<_> = (0..32).map(|_| budget.begin(None)).collect();
        let mut alone = budget.begin(None);
        assert_eq!(alone.grow(100).await, Ok(()));
        assert_eq!(alone.grow(50).await, Ok(()), "a body longer than the budget arrives alone");
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_is_cut_off_for_one_that_is_faster() {
        let budget = ArrivingBytes::new(100);
        let [mut dripping, mut steady] = [budget.begin(None), budget.begin(None)];
        assert_eq!(dripping.grow(20).await, Ok(()));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(steady.grow(70).await, Ok(()));
        let mut fast = budget.begin(None);
        let mut growing = Box::pin(fast.grow(30));
        assert!(growing.as_mut().now_or_never().is_none(), "it waits until the room is free");
        assert_eq!(dripping.cut_off().now_or_never(), Some(()));
        assert_eq!(dripping.grow(1).await, Err(CutOff));
        drop(dripping);
        assert_eq!(growing.await, Ok(()));
        assert!(steady.cut_off().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn many_bodies_of_one_address_do_not_push_out_one_of_another() {
        let budget = ArrivingBytes::new(100);
        let address = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
        let mut slow = budget.begin(address(1));
        assert_eq!(slow.grow(10).await, Ok(()));
        tokio::time::advance(Duration::from_secs(10)).await;
        let mut crowd: Vec<_> = (0..3).map(|_| budget.begin(address(2))).collect();
        for body in &mut crowd {
            assert_eq!(body.grow(30).await, Ok(()));
        }
        let mut one_more = budget.begin(address(2));
        assert!(one_more.grow(30).now_or_never().is_none());
        assert!(slow.cut_off().now_or_never().is_none(), "it is slower, and its address holds least");
        assert_eq!(crowd.iter().filter(|body| body.cut_off().now_or_never().is_some()).count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_cuts_off_nobody_but_itself() {
        let budget = ArrivingBytes::new(100);
        let [mut slow, mut fast] = [budget.begin(None), budget.begin(None)];
        assert_eq!(slow.grow(10).await, Ok(()));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(fast.grow(85).await, Ok(()));
        assert_eq!(slow.grow(10).await, Err(CutOff));
    }

    #[tokio::test(start_paused = true)]
    async fn two_long_bodies_do_not_wait_for_each_other() {
        let budget = ArrivingBytes::new(100);
        let [mut one, mut other] = [budget.begin(None), budget.begin(None)];
        assert_eq!(one.grow(50).await, Ok(()));
        assert_eq!(other.grow(40).await, Ok(()));
        let mut growing = Box::pin(one.grow(30));
        assert!(growing.as_mut().now_or_never().is_none());
        assert_eq!(other.grow(30).await, Err(CutOff));
        drop(other);
        assert_eq!(growing.await, Ok(()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever comes, the bytes held are those of the bodies, and never beyond the budget but
        /// for one body alone.
        #[test]
        fn the_count_is_that_of_the_bodies(
            steps in prop::collection::vec((0..6_usize, 0..60_usize, any::<bool>()), 1..200),
        ) {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let budget = ArrivingBytes::new(100);
                let mut bodies: Vec<(BodyShare, usize)> = (0..6).map(|_| (budget.begin(None), 0)).collect();
                for (nth, bytes, ends) in steps {
                    tokio::time::advance(Duration::from_millis(200)).await;
                    let (share, held) = &mut bodies[nth];
                    let grown = share.grow(bytes).now_or_never();
                    if grown == Some(Ok(())) {
                        *held += bytes;
                    }
                    if ends || grown == Some(Err(CutOff)) || share.cut_off().now_or_never().is_some() {
                        bodies[nth] = (budget.begin(None), 0);
                    }
                    let sum: usize = bodies.iter().map(|(_, held)| held).sum();
                    let alone = bodies.iter().filter(|(_, held)| *held > 0).count() <= 1;
                    assert_eq!(budget.shared.lock().held, sum);
                    assert!(sum <= 100 || alone, "{sum}");
                }
            });
        }
    }
}
