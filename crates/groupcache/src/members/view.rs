//! One member list with its ring: which lists are accepted, and who owns a key under one.

use std::{collections::HashMap, fmt, sync::Arc};

use tokio::runtime::Handle;

use crate::{
    error::BuildError,
    limits::MAX_MEMBERS,
    members::followers::Followers,
    members::member::Member,
    members::placement::{Placement, Ring},
    members::remote::Remote,
    peer::Connect,
};

/// One member list with its ring, fixed. A get chooses the owner of its key under one view; if it
/// has to start again, it takes the view that is in force then.
pub struct View {
    members: Vec<Member>,
    /// The members' names, in the same order.
    names: Vec<String>,
    /// One for each name; this node's own is `None`.
    remotes: Vec<Option<Arc<Remote>>>,
    ring: Box<dyn Ring>,
}

/// The steps down a key's line, from its owner, at which somebody may stand in for it.
const MAX_STEPS: usize = 2;

/// The member that owns a key, seen from this node.
pub(crate) enum Owner<'a> {
    Local,
    Remote(&'a Arc<Remote>),
}

/// The parts of every view that do not depend on the list.
pub(crate) struct MembersConfig {
    pub(crate) self_name: String,
    pub(crate) client_only: bool,
    /// `None` for a node that was built to be alone.
    pub(crate) connect: Option<Box<dyn Connect>>,
    pub(crate) placement: Box<dyn Placement>,
    pub(crate) followers: Followers,
}

impl View {
    /// Checks the list and builds its ring. Members that are in `old` too are kept, with their
    /// connections and with the updates that they have missed.
    pub(crate) fn new(members: Vec<Member>, config: &MembersConfig, old: Option<&View>) -> Result<Self, BuildError> {
        let names: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
        check(&names, config)?;
        if let Some(connect) = &config.connect {
            connect.check(&members)?;
        }
        let known: HashMap<(&str, &str), &Arc<Remote>> =
            old.iter().flat_map(|old| old.remotes()).map(|remote| (remote.name_and_address(), remote)).collect();
        let mut remotes = Vec::with_capacity(members.len());
        for member in &members {
            remotes.push(match known.get(&(member.name.as_str(), member.address.as_str())) {
                _ if member.name == config.self_name => None,
                Some(&remote) => Some(remote.clone()),
                None => Some(connect(member, config)?),
            });
        }
        Ok(View { ring: config.placement.ring(&names), members, names, remotes })
    }

    /// The list of this node alone.
    pub(crate) fn alone(config: &MembersConfig) -> Self {
        let names = vec![config.self_name.clone()];
        let members = vec![Member::new(config.self_name.clone())];
        View { ring: config.placement.ring(&names), members, names, remotes: vec![None] }
    }

    /// The members, in the order of the list.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The members' names, in the order of the list.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The name of the member that owns `key`, healthy or not.
    pub fn owner_name(&self, key: impl AsRef<[u8]>) -> &str {
        &self.names[self.ring.owner(key.as_ref())]
    }

    /// The fingerprint of the ring: equal at two members that place all keys alike, and else only
    /// by chance.
    pub fn digest(&self) -> u64 {
        self.ring.digest()
    }

    /// Whether the other list has the same members, in whatever order, and places all keys alike.
    pub(crate) fn is_equal(&self, other: &View) -> bool {
        let sorted = |view: &View| {
            let mut members = view.members.clone();
            members.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            members
        };
        self.digest() == other.digest() && sorted(self) == sorted(other)
    }

    pub(crate) fn owner(&self, key: &[u8]) -> Owner<'_> {
        match &self.remotes[self.ring.owner(key)] {
            None => Owner::Local,
            Some(remote) => Owner::Remote(remote),
        }
    }

    pub(crate) fn owns(&self, key: &[u8]) -> bool {
        matches!(self.owner(key), Owner::Local)
    }

    /// The position of the key's owner in the list; `None` for this node.
    pub(crate) fn remote_position(&self, key: &[u8]) -> Option<usize> {
        let position = self.ring.owner(key);
        self.remotes[position].is_some().then_some(position)
    }

    /// The parts of all keys that the members own, from 0 to 1, in the order of the list; empty if
    /// the placement does not say.
    pub fn shares(&self) -> Vec<f64> {
        self.ring.shares()
    }

    /// The position of the member to ask for a key: its owner, or while that is down the next in
    /// line. `None` is this node: it is the owner, stands in for it, or has nobody to ask.
    pub(crate) fn route(
        &self,
        key: &[u8],
        has_missed: impl Fn(&Arc<Remote>) -> bool,
        runtime: &Handle,
    ) -> Option<usize> {
        let owner = self.remote_position(key)?;
        let remote = self.remotes[owner].as_ref()?;
        if !remote.watch.is_down() {
            return Some(owner);
        }
        remote.watch.probe_until_up(runtime);
        self.stand_in(key, owner, has_missed).filter(|position| self.remotes[*position].is_some())
    }

    /// The position of the member that stands in for the owner of a key. It may be this node's own.
    ///
    /// It is the next in line who is neither down nor has missed an update of the key, two steps
    /// away at most. It is nobody when more than half of the members are silent: then it is this
    /// node that hears nobody, and others ask the owner.
    pub(crate) fn stand_in(
        &self,
        key: &[u8],
        owner: usize,
        has_missed: impl Fn(&Arc<Remote>) -> bool,
    ) -> Option<usize> {
        let silent = self.remotes().filter(|remote| remote.watch.is_down_by_silence()).count();
        if silent * 2 > self.members.len() {
            return None;
        }
        let line = self.ring.line(key, 1 + MAX_STEPS);
        let next = line.into_iter().filter(|position| *position != owner).take(MAX_STEPS);
        let can_be_asked = |remote: &Arc<Remote>| {
            let has_missed = !cfg!(peercache_mutant = "stand_in_that_missed") && has_missed(remote);
            !remote.watch.is_down() && !has_missed
        };
        next.map(|position| (position, self.remotes.get(position)))
            .find(|(_, remote)| remote.is_some_and(|remote| remote.as_ref().is_none_or(can_be_asked)))
            .map(|(position, _)| position)
    }

    /// Whether this node answers for the key: it owns it, or acts for an owner that is down, for as
    /// long as it is.
    pub(crate) fn answers_for(&self, key: &[u8]) -> bool {
        let Some(owner) = self.remote_position(key) else { return true };
        self.remotes[owner].as_ref().is_some_and(|remote| remote.watch.is_down())
            && self.stand_in(key, owner, |_| false).is_some_and(|position| self.remotes[position].is_none())
    }

    /// The member at this position.
    pub(crate) fn at(&self, position: Option<usize>) -> Owner<'_> {
        match position.and_then(|position| self.remotes[position].as_ref()) {
            None => Owner::Local,
            Some(remote) => Owner::Remote(remote),
        }
    }

    /// All members but this node.
    pub(crate) fn remotes(&self) -> impl Iterator<Item = &Arc<Remote>> {
        self.remotes.iter().flatten()
    }

    /// All members but this node that the other list does not name, or not at their address: one
    /// that moved may be another process, and counts as one that left and returned.
    pub(crate) fn remotes_not_in<'a>(&'a self, other: &'a View) -> impl Iterator<Item = &'a Arc<Remote>> {
        self.remotes().filter(|remote| {
            let (name, address) = remote.name_and_address();
            !other.members.iter().any(|member| member.name == name && member.address == address)
        })
    }
}

fn check(names: &[String], config: &MembersConfig) -> Result<(), BuildError> {
    if names.is_empty() {
        return Err(BuildError::NoMembers);
    }
    if names.len() > MAX_MEMBERS {
        return Err(BuildError::TooManyMembers(names.len()));
    }
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(BuildError::DuplicateMember(twice[0].clone()));
    }
    if !config.client_only && !names.contains(&config.self_name) {
        return Err(BuildError::SelfMissing(config.self_name.clone()));
    }
    Ok(())
}

fn connect(member: &Member, config: &MembersConfig) -> Result<Arc<Remote>, BuildError> {
    let bad = |why: String| BuildError::MemberName { name: member.name.clone(), why };
    let Some(connect) = &config.connect else {
        return Err(bad("this node was built to be alone".to_owned()));
    };
    let peer = connect.connect(member).map_err(|error| bad(error.to_string()))?;
    Ok(Arc::new(Remote::new(member.name.clone(), member.address.clone(), peer, config.followers.clone())))
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("names", &self.names).field("digest", &self.digest()).finish_non_exhaustive()
    }
}
