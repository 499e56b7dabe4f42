//! One member list with its ring: which lists are accepted, and who owns a key under one.

use std::{collections::HashMap, fmt, sync::Arc};

use crate::{
    error::BuildError,
    limits::MAX_MEMBERS,
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
    Ok(Arc::new(Remote::new(member.name.clone(), member.address.clone(), peer)))
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("names", &self.names).field("digest", &self.digest()).finish_non_exhaustive()
    }
}
