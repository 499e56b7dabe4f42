pub(crate) mod placement;
pub(crate) mod undelivered;

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use tokio::runtime::Handle;

use crate::{
    error::BuildError,
    members::placement::MAX_MEMBERS,
    members::placement::{NativePlacement, Placement, Ring},
    members::undelivered::{Removal, Undelivered},
    peer::{Connect, Peer},
};

/// Who the members are and which keys they own. A cheap handle: clones see the same list.
///
/// Names are compared byte for byte and never rewritten: `http://a:80` and `http://a:80/` are two members, and every
/// member must be named alike in all lists.
#[derive(Clone)]
pub struct Members {
    shared: Arc<Shared>,
}

struct Shared {
    site: MembersConfig,
    view: RwLock<Arc<View>>,
    /// Groups that move their entries when the ring changes. Its lock also makes changes take turns.
    groups: Mutex<Vec<Weak<dyn OnRingChange>>>,
    incarnation: u64,
    /// Grows with every change to a group that this node made or was told of.
    changes: AtomicU64,
    /// What is known of members that have left the list, for when they return.
    departed: Mutex<HashMap<String, Departed>>,
}

/// A member that has left the list.
enum Departed {
    /// It had missed no change. So many changes there had been then.
    Clean { changes: u64 },
    /// It had.
    Owed,
}

/// The most members that have left and are remembered. Beyond that they are forgotten, as if they had never been here.
const DEPARTED_MAX: usize = 4 * Members::MAX;

/// What stays while lists come and go.
struct MembersConfig {
    self_name: String,
    client_only: bool,
    connect: Option<Box<dyn Connect>>,
    placement: Box<dyn Placement>,
}

/// A group, as the member list sees it.
pub(crate) trait OnRingChange: Send + Sync {
    fn name(&self) -> &Arc<str>;

    /// The ring has changed: entries that changed hands are moved between main and hot.
    fn reassign(&self);
}

/// One member list with its ring, fixed. A get uses one view from beginning to end.
pub struct View {
    names: Vec<String>,
    /// One for each name; this node's own is `None`.
    remotes: Vec<Option<Arc<Remote>>>,
    ring: Box<dyn Ring>,
}

/// Another member.
pub(crate) struct Remote {
    pub(crate) name: String,
    pub(crate) peer: Arc<dyn Peer>,
    /// The changes that it has missed.
    pub(crate) backlog: Undelivered,
}

/// Who owns a key, seen from this node.
pub(crate) enum Owner<'a> {
    Local,
    Remote(&'a Arc<Remote>),
}

/// Sets up a [`Members`].
#[must_use]
pub struct MembersBuilder {
    site: MembersConfig,
    names: Option<Vec<String>>,
}

impl Members {
    /// The most members a list may have. The native table for this many takes about 0.3 s to build; a longer list
    /// is a mistake.
    pub const MAX: usize = MAX_MEMBERS;

    /// This node by itself: it owns every key. The list cannot be changed to name others.
    pub fn alone() -> Self {
        let self_name = "self".to_owned();
        let names = vec![self_name.clone()];
        let site = MembersConfig { self_name, client_only: false, connect: None, placement: Box::new(NativePlacement) };
        let view = View { ring: site.placement.ring(&names), names, remotes: vec![None] };
        Members::with(site, view)
    }

    /// A list of members, of whom this node is `self_name`, reached through `connect`.
    pub fn builder(self_name: impl Into<String>, connect: impl Connect) -> MembersBuilder {
        let site = MembersConfig {
            self_name: self_name.into(),
            client_only: false,
            connect: Some(Box::new(connect)),
            placement: Box::new(NativePlacement),
        };
        MembersBuilder { site, names: None }
    }

    /// Replaces the whole list. Gets that are under way finish with the list they began with.
    ///
    /// The ring is built in the calling thread, which takes some milliseconds, and every group then moves the entries
    /// that changed hands. Peers named before and again are kept, with their connections.
    ///
    /// # Errors
    /// A list that is empty, too long, names a member twice, leaves this node out (unless it is `client_only`) or
    /// names a member that the transport cannot reach. The old list stays in force then.
    pub fn set<N: Into<String>>(&self, names: impl IntoIterator<Item = N>) -> Result<(), BuildError> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let mut groups = self.shared.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.view();
        let view = self.shared.site.view(names, Some(&old))?;
        groups.retain(|group| group.strong_count() > 0);
        self.shared.remember_departed(&old, &view);
        self.shared.welcome_back(&old, &view, &groups);
        tracing::info!(members = view.names.len(), digest = view.digest(), "member list in force");
        let view = Arc::new(view);
        *self.shared.view.write().unwrap_or_else(PoisonError::into_inner) = view.clone();
        // Who came back and is owed something is told now if there is a runtime, else when it is first needed.
        if let Ok(runtime) = Handle::try_current() {
            view.remotes().for_each(|remote| remote.catch_up(&runtime));
        }
        view.remotes().for_each(|remote| remote.peer.connect_ahead());
        groups.iter().filter_map(Weak::upgrade).for_each(|group| group.reassign());
        Ok(())
    }

    /// The list in force now.
    pub fn view(&self) -> Arc<View> {
        self.shared.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// This node's own name.
    pub fn self_name(&self) -> &str {
        &self.shared.site.self_name
    }

    /// Has `group` told of every later change of the ring.
    pub(crate) fn follow(&self, group: Weak<dyn OnRingChange>) {
        self.shared.groups.lock().unwrap_or_else(PoisonError::into_inner).push(group);
    }

    /// Chosen at random by this process, so that what an earlier one at the same name said is known as such.
    pub(crate) fn incarnation(&self) -> u64 {
        self.shared.incarnation
    }

    /// Counts a change, so that a member that is away meanwhile is known to have missed it.
    pub(crate) fn note_change(&self) {
        self.shared.changes.fetch_add(1, SeqCst);
    }

    fn with(site: MembersConfig, view: View) -> Self {
        let shared = Shared {
            site,
            view: RwLock::new(Arc::new(view)),
            groups: Mutex::default(),
            incarnation: RandomState::new().hash_one(0),
            changes: AtomicU64::new(0),
            departed: Mutex::default(),
        };
        Members { shared: Arc::new(shared) }
    }
}

impl Shared {
    fn remember_departed(&self, old: &View, new: &View) {
        let mut departed = self.departed.lock().unwrap_or_else(PoisonError::into_inner);
        for remote in old.remotes().filter(|remote| !new.names.contains(&remote.name)) {
            if departed.len() >= DEPARTED_MAX {
                departed.clear();
            }
            let state = if remote.backlog.is_empty() {
                Departed::Clean { changes: self.changes.load(SeqCst) }
            } else {
                Departed::Owed
            };
            departed.insert(remote.name.clone(), state);
        }
    }

    /// A member that was away while something changed has to forget all that it has before it is asked.
    fn welcome_back(&self, old: &View, new: &View, groups: &[Weak<dyn OnRingChange>]) {
        let mut departed = self.departed.lock().unwrap_or_else(PoisonError::into_inner);
        for remote in new.remotes().filter(|remote| !old.names.contains(&remote.name)) {
            let clean = match departed.remove(&remote.name) {
                None => true,
                Some(Departed::Owed) => false,
                Some(Departed::Clean { changes }) => changes == self.changes.load(SeqCst),
            };
            if !clean {
                groups
                    .iter()
                    .filter_map(Weak::upgrade)
                    .for_each(|group| remote.backlog.add(group.name(), &Removal::All));
            }
        }
    }
}

impl MembersConfig {
    fn view(&self, names: Vec<String>, old: Option<&View>) -> Result<View, BuildError> {
        check(&names, &self.self_name, self.client_only)?;
        let known: HashMap<&str, &Arc<Remote>> =
            old.iter().flat_map(|old| old.remotes()).map(|remote| (remote.name.as_str(), remote)).collect();
        let mut remotes = Vec::with_capacity(names.len());
        for name in &names {
            remotes.push(match known.get(name.as_str()) {
                _ if *name == self.self_name => None,
                Some(&remote) => Some(remote.clone()),
                None => Some(self.remote(name)?),
            });
        }
        Ok(View { ring: self.placement.ring(&names), names, remotes })
    }

    fn remote(&self, name: &str) -> Result<Arc<Remote>, BuildError> {
        let bad = |why: String| BuildError::MemberName { name: name.to_owned(), why };
        let Some(connect) = &self.connect else {
            return Err(bad("this node was built to be alone".to_owned()));
        };
        let peer = connect.connect(name).map_err(|error| bad(error.to_string()))?;
        Ok(Arc::new(Remote { name: name.to_owned(), peer, backlog: Undelivered::default() }))
    }
}

fn check(names: &[String], self_name: &str, client_only: bool) -> Result<(), BuildError> {
    if names.is_empty() {
        return Err(BuildError::NoMembers);
    }
    if names.len() > Members::MAX {
        return Err(BuildError::TooManyMembers(names.len()));
    }
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(BuildError::DuplicateMember(twice[0].clone()));
    }
    if !client_only && !names.iter().any(|name| name == self_name) {
        return Err(BuildError::SelfMissing(self_name.to_owned()));
    }
    Ok(())
}

impl View {
    /// The members, in the order of the list.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The name of the member that owns `key`, healthy or not.
    pub fn owner_name(&self, key: impl AsRef<[u8]>) -> &str {
        &self.names[self.ring.owner(key.as_ref())]
    }

    /// Equal at two members exactly when they place all keys alike.
    pub fn digest(&self) -> u64 {
        self.ring.digest()
    }

    pub(crate) fn owner(&self, key: &[u8]) -> Owner<'_> {
        match &self.remotes[self.ring.owner(key)] {
            None => Owner::Local,
            Some(remote) => Owner::Remote(remote),
        }
    }

    /// The position of the key's owner in the list; `None` for this node.
    pub(crate) fn remote_position(&self, key: &[u8]) -> Option<usize> {
        let position = self.ring.owner(key);
        self.remotes[position].is_some().then_some(position)
    }

    /// All members but this node.
    pub(crate) fn remotes(&self) -> impl Iterator<Item = &Arc<Remote>> {
        self.remotes.iter().flatten()
    }

    pub(crate) fn owns(&self, key: &[u8]) -> bool {
        matches!(self.owner(key), Owner::Local)
    }
}

impl MembersBuilder {
    /// The members, this node among them. Defaults to this node alone.
    pub fn members<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.names = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Whether the list may leave this node out. It then owns no keys and only asks the members, who need not know of
    /// it. Defaults to false.
    pub fn client_only(mut self, client_only: bool) -> Self {
        self.site.client_only = client_only;
        self
    }

    /// How keys are placed. Defaults to [`NativePlacement`].
    pub fn placement(mut self, placement: impl Placement) -> Self {
        self.site.placement = Box::new(placement);
        self
    }

    /// Checks the list and builds the ring.
    ///
    /// # Errors
    /// As [`Members::set`].
    pub fn build(self) -> Result<Members, BuildError> {
        let names = self.names.unwrap_or_else(|| vec![self.site.self_name.clone()]);
        let view = self.site.view(names, None)?;
        Ok(Members::with(self.site, view))
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members")
            .field("self_name", &self.shared.site.self_name)
            .field("view", &self.view())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("names", &self.names).field("digest", &self.digest()).finish_non_exhaustive()
    }
}
