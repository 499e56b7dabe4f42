//! The requests to one peer that wait or are in flight: which of them leaves next.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use peercache_groupcache::{Ack, PeerRequest, PeerUpdate, Reply};
use tokio::time::Instant;

use crate::{
    client::batch::{Batch, Received},
    client::group_queues::GroupQueues,
    client::merge::LongExchanges,
    client::peer_state::PeerState,
    client::pending::Pending,
    client::protocol_state::Protocol,
    share,
};

/// The updates that are sent to one peer at once. They are short; a few connections carry many.
const MAX_CONCURRENT_UPDATES: usize = 16;

/// The updates for one peer that may be in flight or waiting. One too many fails at once: they come
/// faster than the peer can take them.
const MAX_UPDATES: usize = 1_024;

/// The requests to one peer.
pub(super) struct QueueState {
    groups: GroupQueues,
    batches_in_flight: usize,
    /// The number of the batch that left last.
    last_id: u64,
    updates: VecDeque<PendingUpdate>,
    updates_in_flight: usize,
    /// Keys that have waited for too long, to be answered when the lock is free.
    expired: Vec<Pending>,
}

/// An update that waits, and where its acknowledgement goes.
pub(super) struct PendingUpdate {
    pub(super) update: PeerUpdate,
    pub(super) timeout: Duration,
    pub(super) since: Instant,
    pub(super) reply: Reply<Ack>,
}

/// A request that leaves now.
pub(super) enum Next {
    Fetch(Batch, Place),
    Update(PendingUpdate),
}

/// The place that a batch in flight takes.
pub(super) struct Place {
    /// The number of the batch.
    pub(super) id: u64,
    /// The slot of its group.
    pub(super) group: usize,
    /// Whether the keys of its group wait for it.
    pub(super) blocks_group: bool,
    /// Whether it is among those of its group that wait long.
    pub(super) is_long: bool,
}

/// Requests that wait, and will not be sent. They are answered, or dropped, outside the lock.
#[derive(Default)]
pub(super) struct Stranded {
    _keys: Vec<Pending>,
    _updates: VecDeque<PendingUpdate>,
}

impl QueueState {
    pub(super) fn new(max_pending: usize) -> Self {
        QueueState {
            groups: GroupQueues::new(max_pending),
            batches_in_flight: 0,
            last_id: 0,
            updates: VecDeque::new(),
            updates_in_flight: 0,
            expired: Vec::new(),
        }
    }

    /// Adds keys of one group. Returns those for which there is no place.
    pub(super) fn add(
        &mut self,
        group: &Arc<str>,
        requests: impl IntoIterator<Item = (PeerRequest, Reply)>,
    ) -> Vec<(PeerRequest, Reply)> {
        let since = Instant::now();
        let slot = self.groups.slot(group);
        let mut excess = Vec::new();
        for (request, reply) in requests {
            match self.groups[slot].count.count() {
                Some(counted) => self.groups.push(slot, Pending::new(request, reply, since, counted)),
                None => excess.push((request, reply)),
            }
        }
        excess
    }

    /// Adds keys of a batch in flight, before all others of its group.
    pub(super) fn add_again(&mut self, place: &Place, pending: Vec<Pending>) {
        self.groups.push_front(place.group, pending);
    }

    /// Adds an update, or gives it back if there is no place for it.
    pub(super) fn add_update(&mut self, update: PendingUpdate) -> Option<PendingUpdate> {
        if self.updates.len() + self.updates_in_flight >= MAX_UPDATES {
            return Some(update);
        }
        self.updates.push_back(update);
        None
    }

    /// Whether a batch is in flight.
    pub(super) fn has_batches_in_flight(&self) -> bool {
        self.batches_in_flight > 0
    }

    /// Whether nothing waits and nothing is in flight.
    pub(super) fn is_empty(&self) -> bool {
        // Keys and updates wait only for such as are in flight.
        self.batches_in_flight == 0 && self.updates_in_flight == 0
    }

    /// The request that may leave now: updates first, then the groups in turn.
    pub(super) fn next(&mut self, peer: &Arc<PeerState>) -> Option<Next> {
        if self.updates_in_flight < MAX_CONCURRENT_UPDATES
            && let Some(update) = self.updates.pop_front()
        {
            self.updates_in_flight += 1;
            return Some(Next::Update(update));
        }
        let protocol = peer.protocol.protocol();
        for _ in 0..self.groups.turns() {
            let Some(slot) = self.groups.next_turn() else { continue };
            let group = &mut self.groups[slot];
            group.take_expired(peer, &mut self.expired);
            let Some(first) = group.waiting.front() else { continue };
            // The head of a GET's answer comes after the load, so no other key waits for that.
            let is_alone = protocol == Protocol::Http || first.send_alone;
            let has_place = share::may_take(group.in_flight, self.batches_in_flight, peer.config.max_connections);
            if !has_place || (group.is_blocked && !is_alone) {
                continue;
            }
            let count = if is_alone { 1 } else { group.next_batch_len() };
            let batch = Batch::new(peer.clone(), group.waiting.drain(..count));
            group.is_blocked |= !is_alone;
            group.in_flight += 1;
            self.batches_in_flight += 1;
            self.last_id += 1;
            let place = Place { id: self.last_id, group: slot, blocks_group: !is_alone, is_long: false };
            return Some(Next::Fetch(batch, place));
        }
        None
    }

    /// Lets further keys of the batch's group leave.
    pub(super) fn unblock(&mut self, place: &mut Place) {
        if place.blocks_group {
            place.blocks_group = false;
            self.groups[place.group].is_blocked = false;
        }
    }

    /// The exchanges of the batch's group that wait long.
    pub(super) fn long_of(&mut self, place: &Place) -> &mut LongExchanges {
        &mut self.groups[place.group].long
    }

    /// Ends a batch. The keys that it gives back are asked for again, together with others.
    pub(super) fn end_batch(&mut self, place: &mut Place, received: Received, given_back: Vec<Pending>) {
        self.unblock(place);
        let group = &mut self.groups[place.group];
        group.observe(received);
        let again = if place.is_long { group.long.end(place.id, given_back) } else { given_back };
        self.groups.push_front(place.group, again);
        // Only now, since a group without either may lose its slot.
        self.groups[place.group].in_flight -= 1;
        self.batches_in_flight -= 1;
    }

    pub(super) fn end_update(&mut self) {
        self.updates_in_flight -= 1;
    }

    /// Takes the keys of the batch's group that wait.
    pub(super) fn take_waiting_of(&mut self, place: &Place) -> Vec<Pending> {
        self.groups[place.group].waiting.drain(..).collect()
    }

    /// Takes the keys of all groups that wait.
    pub(super) fn take_waiting(&mut self) -> Vec<Pending> {
        self.groups.take_waiting()
    }

    /// Takes the keys that have waited for too long.
    pub(super) fn take_expired(&mut self) -> Vec<Pending> {
        std::mem::take(&mut self.expired)
    }

    /// Takes what waits if nothing is in flight that it could wait for: what was has been dropped
    /// with its runtime.
    pub(super) fn take_stranded(&mut self) -> Stranded {
        if self.is_empty() {
            Stranded { _keys: self.take_waiting(), _updates: std::mem::take(&mut self.updates) }
        } else {
            Stranded::default()
        }
    }
}
