use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock, Weak},
};

use crate::{ConfigError, Connect, NativePlacement, Peer, Placement, Ring};

/// The most members a list may have. The native table for so many takes about 0.3 s to build; a longer list is a mistake.
pub const MEMBERS_MAX: usize = 1_000;

/// Who the members are and which keys they own. A cheap handle: clones see the same list.
///
/// Names are compared byte for byte and never rewritten: `http://a:80` and `http://a:80/` are two members, and every
/// member must be named alike in all lists.
#[derive(Clone)]
pub struct Members {
    shared: Arc<Shared>,
}

struct Shared {
    site: Site,
    view: RwLock<Arc<View>>,
    /// Groups that move their entries when the ring changes. Its lock also makes changes take turns.
    groups: Mutex<Vec<Weak<dyn Rehome>>>,
}

/// What stays while lists come and go.
struct Site {
    self_name: String,
    client_only: bool,
    connect: Option<Box<dyn Connect>>,
    placement: Box<dyn Placement>,
}

/// A group, as the member list sees it.
pub(crate) trait Rehome: Send + Sync {
    /// The ring has changed: entries that changed hands are moved between main and hot.
    fn rehome(&self);
}

/// One member list with its ring, fixed. A get uses one view from beginning to end.
pub struct View {
    names: Vec<String>,
    /// One for each name; this node's own is `None`.
    peers: Vec<Option<Arc<dyn Peer>>>,
    ring: Box<dyn Ring>,
}

/// Who owns a key, seen from this node.
pub(crate) enum Owner<'a> {
    Local,
    Remote(&'a Arc<dyn Peer>),
}

/// Sets up a [`Members`].
#[must_use]
pub struct MembersBuilder {
    site: Site,
    names: Option<Vec<String>>,
}

impl Members {
    /// This node by itself: it owns every key. The list cannot be changed to name others.
    pub fn alone() -> Self {
        let self_name = "self".to_owned();
        let names = vec![self_name.clone()];
        let site = Site { self_name, client_only: false, connect: None, placement: Box::new(NativePlacement) };
        let view = View { ring: site.placement.ring(&names), names, peers: vec![None] };
        Members::with(site, view)
    }

    /// A list of members, of whom this node is `self_name`, reached through `connect`.
    pub fn builder(self_name: impl Into<String>, connect: impl Connect) -> MembersBuilder {
        let site = Site {
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
    pub fn set<N: Into<String>>(&self, names: impl IntoIterator<Item = N>) -> Result<(), ConfigError> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let mut groups = self.shared.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.shared.site.view(names, Some(&self.view()))?;
        tracing::info!(members = view.names.len(), digest = view.digest(), "member list in force");
        *self.shared.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        groups.retain(|group| match group.upgrade() {
            Some(group) => {
                group.rehome();
                true
            }
            None => false,
        });
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
    pub(crate) fn follow(&self, group: Weak<dyn Rehome>) {
        self.shared.groups.lock().unwrap_or_else(PoisonError::into_inner).push(group);
    }

    fn with(site: Site, view: View) -> Self {
        let view = RwLock::new(Arc::new(view));
        Members { shared: Arc::new(Shared { site, view, groups: Mutex::default() }) }
    }
}

impl Site {
    fn view(&self, names: Vec<String>, old: Option<&View>) -> Result<View, ConfigError> {
        check(&names, &self.self_name, self.client_only)?;
        let known: HashMap<&str, &Arc<dyn Peer>> = old
            .iter()
            .flat_map(|old| old.names.iter().zip(&old.peers))
            .filter_map(|(name, peer)| Some((name.as_str(), peer.as_ref()?)))
            .collect();
        let mut peers = Vec::with_capacity(names.len());
        for name in &names {
            peers.push(match known.get(name.as_str()) {
                _ if *name == self.self_name => None,
                Some(&peer) => Some(peer.clone()),
                None => Some(self.peer(name)?),
            });
        }
        Ok(View { ring: self.placement.ring(&names), names, peers })
    }

    fn peer(&self, name: &str) -> Result<Arc<dyn Peer>, ConfigError> {
        let bad = |why: String| ConfigError::MemberName { name: name.to_owned(), why };
        let Some(connect) = &self.connect else {
            return Err(bad("this node was built to be alone".to_owned()));
        };
        connect.connect(name).map_err(|error| bad(error.to_string()))
    }
}

fn check(names: &[String], self_name: &str, client_only: bool) -> Result<(), ConfigError> {
    if names.is_empty() {
        return Err(ConfigError::NoMembers);
    }
    if names.len() > MEMBERS_MAX {
        return Err(ConfigError::TooManyMembers(names.len()));
    }
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(ConfigError::DuplicateMember(twice[0].clone()));
    }
    if !client_only && !names.iter().any(|name| name == self_name) {
        return Err(ConfigError::SelfMissing(self_name.to_owned()));
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
        match &self.peers[self.ring.owner(key)] {
            None => Owner::Local,
            Some(peer) => Owner::Remote(peer),
        }
    }

    pub(crate) fn owns(&self, key: &[u8]) -> bool {
        matches!(self.owner(key), Owner::Local)
    }
}

impl MembersBuilder {
    /// The members, this node among them. Defaults to this node alone.
    pub fn peers<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
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
    pub fn build(self) -> Result<Members, ConfigError> {
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
