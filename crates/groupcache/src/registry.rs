//! The groups of one node, by name.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use crate::{clock::Clock, error::BuildError, members::Members, peer::served_group::ServedGroup};

/// The groups of one node, by name: a peer server answers from them. A cheap handle; a value, not a
/// global, so that three nodes fit in one process.
#[derive(Clone)]
pub struct Groups {
    members: Members,
    /// One for all groups of a node, so that it ticks once.
    clock: Clock,
    by_name: Arc<RwLock<ByName>>,
}

type ByName = HashMap<Arc<str>, Arc<dyn ServedGroup>>;

impl Groups {
    /// Creates the groups of a node with these members; there are none yet.
    pub fn new(members: Members) -> Self {
        Groups::with_clock(members, Clock::system())
    }

    /// Creates the groups with a clock of your choice: tests that pause tokio's time want
    /// [`Clock::tokio`].
    pub fn with_clock(members: Members, clock: Clock) -> Self {
        Groups { members, clock, by_name: Arc::default() }
    }

    /// The members that every group here asks.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The group of this name, as peers see it.
    pub fn get(&self, name: &str) -> Option<Arc<dyn ServedGroup>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The groups' names, in no order.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Removes a group, so that its name is free and peers are served from it no more. Handles of
    /// it go on. Says whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        self.by_name.write().unwrap_or_else(PoisonError::into_inner).remove(name).is_some()
    }

    /// Registers `group`, so that peers are served from it. A built [`Group`](crate::Group) is
    /// registered already; this is for a [`ServedGroup`] of your own.
    ///
    /// # Errors
    /// When a group of that name exists.
    pub fn register(&self, group: Arc<dyn ServedGroup>) -> Result<(), BuildError> {
        match self.by_name.write().unwrap_or_else(PoisonError::into_inner).entry(group.name().clone()) {
            Entry::Occupied(taken) => Err(BuildError::DuplicateGroup(taken.key().to_string())),
            Entry::Vacant(free) => {
                free.insert(group);
                Ok(())
            }
        }
    }
}

impl Groups {
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Groups").field("names", &self.names()).field("members", &self.members).finish()
    }
}
