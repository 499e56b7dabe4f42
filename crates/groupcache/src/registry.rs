//! The groups of one node, by name.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::runtime::Handle;

use crate::{carrier::NodeRuntime, clock::Clock, error::BuildError, members::Members, peer::served_group::ServedGroup};

/// The groups of one node, by name: a peer server answers from them. A cheap handle; a value, not a
/// global, so that three nodes fit in one process.
#[derive(Clone)]
pub struct Groups {
    members: Members,
    /// One for all groups of a node, so that it ticks once.
    clock: Clock,
    runtime: NodeRuntime,
    by_name: Arc<RwLock<ByName>>,
    /// The longest value of any group so far.
    max_value_bytes: Arc<AtomicUsize>,
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
        Groups {
            members,
            clock,
            runtime: NodeRuntime::default(),
            by_name: Arc::default(),
            max_value_bytes: Arc::default(),
        }
    }

    /// Has this runtime carry all work of all groups: loads, fetches and updates, from whatever
    /// runtime they are started. The first call counts. Defaults to the runtime that
    /// [serves](Self::served_in), and without one to the runtime of each caller.
    ///
    /// A caller of another runtime watches this one. When it has shown no sign of life for 100 ms,
    /// the caller begins again in its own runtime, and what comes late is ignored.
    pub fn run_in(&self, runtime: Handle) {
        self.runtime.give(runtime);
    }

    /// Notes that this runtime serves the groups to peers: it carries all work from now on, unless
    /// another was [given](Self::run_in). A server calls it, the latest call counts.
    pub fn served_in(&self, runtime: Handle) {
        self.runtime.serve(runtime);
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

    /// The longest value, in bytes, that any group registered so far takes. A server that is told
    /// of no other limit reads values up to this.
    pub fn max_value_bytes(&self) -> usize {
        self.max_value_bytes.load(Relaxed)
    }

    /// Removes a group, so that its name is free and peers are served from it no more. Handles of
    /// it go on. Says whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let removed = by_name.remove(name);
        if by_name.len() < by_name.capacity() / 4 {
            by_name.shrink_to_fit();
        }
        // The group may be dropped here, with all that it holds.
        drop(by_name);
        removed.is_some()
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
                self.max_value_bytes.fetch_max(group.max_value_bytes(), Relaxed);
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

    pub(crate) fn runtime(&self) -> &NodeRuntime {
        &self.runtime
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Groups").field("names", &self.names()).field("members", &self.members).finish()
    }
}

#[cfg(all(test, not(peercache_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{loader::Loaded, loader::loader_fn};

    fn group(groups: &Groups, name: &str, ttl: Duration) -> crate::Group<String> {
        let load = loader_fn(move |_| async move { Ok(Loaded::new("value".to_owned()).ttl(ttl)) });
        groups.group(name, load).max_bytes(100_000).expiry_jitter(0.0).build().expect("the settings are fine")
    }

    #[tokio::test(start_paused = true)]
    async fn groups_with_nothing_due_are_not_called_at_ticks() {
        let groups = Groups::with_clock(Members::alone(), Clock::tokio());
        let mut idle = Vec::new();
        for n in 0..100 {
            let group = group(&groups, &n.to_string(), Duration::ZERO);
            group.set("key", "value".to_owned()).await.expect("it fits");
            idle.push(group);
        }
        assert_eq!(groups.clock().due(), 0);
        let busy = group(&groups, "busy", Duration::from_secs(1));
        busy.get("key").await.expect("it loads");
        assert_eq!((groups.clock().due(), busy.stats().main.items), (1, 1));
        tokio::time::sleep(Duration::from_millis(1_020)).await;
        assert_eq!((groups.clock().due(), busy.stats().main.items), (0, 0), "what has expired is swept out");
        drop(idle);
    }

    #[tokio::test(start_paused = true)]
    async fn groups_that_are_gone_leave_nothing_behind() {
        let groups = Groups::with_clock(Members::alone(), Clock::tokio());
        for n in 0..20_000 {
            let (name, ttl) = (n.to_string(), Duration::from_secs(60));
            let group = group(&groups, &name, ttl);
            if n % 100 == 0 {
                group.get("key").await.expect("it loads");
            }
            assert!(groups.remove(&name));
        }
        // Tasks of loads that have ended may hold the last handle until they are done.
        tokio::task::yield_now().await;
        assert_eq!((groups.clock().due(), groups.members().followers(), groups.names().len()), (0, 0, 0));
        assert!(groups.by_name.read().expect("no panic").capacity() < 100);
    }
}
