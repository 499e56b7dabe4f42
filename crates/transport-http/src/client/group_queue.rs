//! The keys of one group that wait to be asked for, and how many of them go into one batch.

use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;

use crate::{
    client::batch::Received,
    client::merge::LongExchanges,
    client::peer_state::PeerState,
    client::pending::{GroupCount, Pending},
    wire::frame,
};

/// The values that one batch brings, in bytes, as far as they can be foreseen: as large as the last
/// ones. CPU of both sides at 64 callers, with as many keys together as make 64 KiB, 256 KiB and 1
/// MiB, against each key by itself: 0.20, 0.13, 0.13 at 4 KB; 0.45, 0.27, 0.26 at 10 KB; 0.88, 0.5,
/// 0.5 at 30 KB; 1.0 at 100 KB, at any of the three.
const BATCH_BYTES: usize = 256 * 1024;

/// The size of a value, in bytes, from which a key goes by itself: together they would save next to
/// nothing, and wait for each other.
const ALONE_FROM_BYTES: usize = 64 * 1024;

/// The most waiting keys for which memory is kept when there are none.
const KEPT_CAPACITY: usize = 64;

/// The keys of one group that wait, and what the group has in flight.
pub(super) struct GroupQueue {
    pub(super) group: Arc<str>,
    /// The count of its keys that have no answer yet.
    pub(super) count: Arc<GroupCount>,
    pub(super) waiting: VecDeque<Pending>,
    /// Whether the group has a turn among those with waiting keys.
    pub(super) has_turn: bool,
    /// Whether a batch is on its way, so that further keys collect for the next one.
    pub(super) is_blocked: bool,
    /// The number of batches in flight, each on a connection of its own.
    pub(super) in_flight: usize,
    /// Those of them that wait long for loads.
    pub(super) long: LongExchanges,
    /// The size of this group's values: a moving mean of what was received.
    value_bytes: usize,
}

impl GroupQueue {
    pub(super) fn new(group: Arc<str>, count: Arc<GroupCount>) -> Self {
        GroupQueue {
            group,
            count,
            waiting: VecDeque::new(),
            has_turn: false,
            is_blocked: false,
            in_flight: 0,
            long: LongExchanges::default(),
            value_bytes: 0,
        }
    }

    /// Whether it has nothing that waits or is in flight.
    pub(super) fn is_idle(&self) -> bool {
        !self.has_turn && self.in_flight == 0
    }

    /// Records that it has no turn any more, and no keys.
    pub(super) fn empty(&mut self) {
        self.has_turn = false;
        self.waiting.shrink_to(KEPT_CAPACITY);
    }

    /// Takes out the keys that have waited for a connection for longer than a fetch may take.
    pub(super) fn take_expired(&mut self, peer: &PeerState, expired: &mut Vec<Pending>) {
        if self.waiting.is_empty() {
            return;
        }
        let now = Instant::now();
        while self.waiting.front().is_some_and(|pending| pending.is_over(peer, now)) {
            expired.extend(self.waiting.pop_front());
        }
    }

    /// The number of keys, from the front, that go into one batch.
    pub(super) fn next_batch_len(&self) -> usize {
        let Some(first) = self.waiting.front() else { return 0 };
        let foreseen = match self.value_bytes {
            // Their values come one by one, when their loads end.
            _ if first.is_loading => usize::MAX,
            ALONE_FROM_BYTES.. => 1,
            bytes => BATCH_BYTES / bytes.max(1),
        };
        let alike = self.waiting.iter().take(foreseen).take_while(|pending| first.can_share_batch(pending));
        frame::keys_of_one_batch(alike.map(|pending| pending.request.key.len())).max(1)
    }

    /// Learns the size of this group's values.
    pub(super) fn observe(&mut self, received: Received) {
        if let Some(mean) = received.bytes.checked_div(received.keys) {
            self.value_bytes = (self.value_bytes + mean) / 2;
        }
    }
}
