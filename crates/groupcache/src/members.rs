//! The members of the cluster as this node knows them, and how one member list replaces another.

pub(crate) mod departed;
pub(crate) mod failure_log;
pub(crate) mod followers;
pub(crate) mod health;
pub(crate) mod member;
pub(crate) mod placement;
pub(crate) mod remote;
pub(crate) mod undelivered;
pub(crate) mod view;
pub(crate) mod watch;

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError, RwLock, Weak},
};

use futures_util::future::join_all;
use tokio::runtime::Handle;

use crate::{
    error::BuildError,
    limits::MAX_MEMBERS,
    members::departed::DepartedMembers,
    members::followers::{Followers, Following, OnRingChange},
    members::member::{Member, PeerStatus},
    members::placement::{NativePlacement, Placement},
    members::view::{MembersConfig, View},
    peer::Connect,
};

/// The members and the keys that they own. A cheap handle: clones see the same list.
///
/// Names are compared byte for byte and never rewritten: `http://a:80` and `http://a:80/` are two
/// members, and every member must be named alike in all lists.
#[derive(Clone)]
pub struct Members {
    state: Arc<MembersState>,
}

/// The state that all handles share.
struct MembersState {
    config: MembersConfig,
    view: RwLock<Arc<View>>,
    /// The lock of a change: held while a list replaces another, so that two calls of
    /// [`Members::set`] follow each other, and no group begins in between.
    changing: Mutex<()>,
    incarnation: u64,
    departed: DepartedMembers,
}

/// Sets up a [`Members`].
#[must_use]
pub struct MembersBuilder {
    config: MembersConfig,
    members: Option<Vec<Member>>,
}

impl Members {
    /// The most members a list may have. The native table for this many takes about 0.3 s to build;
    /// a longer list is a mistake.
    pub const MAX: usize = MAX_MEMBERS;

    /// This node by itself: it owns every key. The list cannot be changed to name others.
    pub fn alone() -> Self {
        let config = MembersConfig {
            self_name: "self".to_owned(),
            client_only: false,
            connect: None,
            placement: Box::new(NativePlacement),
            followers: Followers::default(),
        };
        let view = View::alone(&config);
        Members::new(config, view)
    }

    /// A list of members, in which this node is `self_name`, and the others are reached through
    /// `connect`.
    pub fn builder(self_name: impl Into<String>, connect: impl Connect) -> MembersBuilder {
        let config = MembersConfig {
            self_name: self_name.into(),
            client_only: false,
            connect: Some(Box::new(connect)),
            placement: Box::new(NativePlacement),
            followers: Followers::default(),
        };
        MembersBuilder { config, members: None }
    }

    /// Replaces the whole list. A get in flight finishes with the owner that it has chosen; if it
    /// has to start again, it takes the new list.
    ///
    /// The ring is built in the calling thread, which takes some milliseconds, and every group then
    /// moves the entries that changed hands. Peers named before and again are kept, with their
    /// connections. For the list that is in force, in whatever order, nothing is done.
    ///
    /// # Errors
    /// A list that is empty, too long, names a member twice, leaves this node out (unless it is
    /// `client_only`) or names a member that the transport cannot reach. The old list stays in
    /// force then.
    pub fn set<M: Into<Member>>(&self, members: impl IntoIterator<Item = M>) -> Result<(), BuildError> {
        let members = members.into_iter().map(Into::into).collect();
        let groups = self.replace(members)?;
        // With no lock held: this drops values of a user's type, and perhaps the last handle of a
        // group.
        groups.iter().for_each(|group| group.reassign());
        Ok(())
    }

    /// Replaces the list, and returns the groups whose entries may have changed hands.
    fn replace(&self, members: Vec<Member>) -> Result<Vec<Arc<dyn OnRingChange>>, BuildError> {
        let _changing = self.state.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.view();
        if old.members() == members {
            return Ok(Vec::new());
        }
        let new = Arc::new(View::new(members, &self.state.config, Some(&old))?);
        if new.is_equal(&old) {
            return Ok(Vec::new());
        }
        let groups = self.state.config.followers.alive();

        // Before the new list is in force: from then on gets ask its members, those that return
        // too.
        let group_names: Vec<Arc<str>> = groups.iter().map(|group| group.name().clone()).collect();
        self.state.departed.remember(&old, &new);
        self.state.departed.queue_for_returned(&old, &new, &group_names);

        tracing::info!(members = new.names().len(), digest = new.digest(), "member list in force");
        *self.state.view.write().unwrap_or_else(PoisonError::into_inner) = new.clone();

        // Without a runtime, delivery starts when a get first asks for one of the keys.
        if let Ok(runtime) = Handle::try_current() {
            new.remotes().for_each(|remote| remote.start_delivery(&runtime));
        }
        new.remotes().for_each(|remote| remote.peer.connect_ahead());
        Ok(groups)
    }

    /// The list in force now.
    pub fn view(&self) -> Arc<View> {
        self.state.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The other members with their health, in the order of the list.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.view().remotes().map(|remote| remote.status()).collect()
    }

    /// Tells all other members that this node is there: one that it was down for asks it again at
    /// once. To be awaited when the node is about to answer, after its ports are open. It takes a
    /// second at most, and less if all members answer.
    pub async fn announce(&self) {
        let view = self.view();
        join_all(view.remotes().map(|remote| remote.watch.announce())).await;
    }

    /// Records that a member has said that it is there. If it is down here it is asked for a sign
    /// of life, and is up when this returns, unless it cannot be reached from here.
    pub async fn announced_by(&self, name: &str) {
        let view = self.view();
        if let Some(remote) = view.remotes().find(|remote| remote.name == name) {
            remote.watch.announced().await;
        }
    }

    /// This node's own name.
    pub fn self_name(&self) -> &str {
        &self.state.config.self_name
    }

    /// Calls `group` after every later change of the ring, until the result is dropped.
    pub(crate) fn follow(&self, group: Weak<dyn OnRingChange>) -> Following {
        let _changing = self.state.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.state.config.followers.add(group)
    }

    /// The number of groups that follow.
    #[cfg(test)]
    pub(crate) fn followers(&self) -> usize {
        self.state.config.followers.len()
    }

    /// A number chosen at random by this process. It tells the stamps of a process from those of an
    /// earlier one that had the same name.
    pub(crate) fn incarnation(&self) -> u64 {
        self.state.incarnation
    }

    /// Counts an update that this node makes or applies, so that a member that returns is known to
    /// have missed it.
    pub(crate) fn count_update(&self) {
        self.state.departed.count_update();
    }

    fn new(config: MembersConfig, view: View) -> Self {
        let state = MembersState {
            config,
            view: RwLock::new(Arc::new(view)),
            changing: Mutex::default(),
            incarnation: RandomState::new().hash_one(0),
            departed: DepartedMembers::default(),
        };
        Members { state: Arc::new(state) }
    }
}

impl MembersBuilder {
    /// The members, this node among them. Defaults to this node alone.
    pub fn members<M: Into<Member>>(mut self, members: impl IntoIterator<Item = M>) -> Self {
        self.members = Some(members.into_iter().map(Into::into).collect());
        self
    }

    /// Whether the list may leave this node out. It then owns no keys and only asks the members,
    /// who need not know of it. Defaults to false.
    pub fn client_only(mut self, client_only: bool) -> Self {
        self.config.client_only = client_only;
        self
    }

    /// The placement of keys on members. Defaults to [`NativePlacement`].
    pub fn placement(mut self, placement: impl Placement) -> Self {
        self.config.placement = Box::new(placement);
        self
    }

    /// Checks the list and builds the ring.
    ///
    /// # Errors
    /// Those of [`Members::set`].
    pub fn build(self) -> Result<Members, BuildError> {
        let members = self.members.unwrap_or_else(|| vec![Member::new(self.config.self_name.clone())]);
        let view = View::new(members, &self.config, None)?;
        Ok(Members::new(self.config, view))
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members")
            .field("self_name", &self.self_name())
            .field("view", &self.view())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for MembersBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MembersBuilder")
            .field("self_name", &self.config.self_name)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}
