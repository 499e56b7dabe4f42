//! A member of the cluster as the list names it, and another one as this node sees it.

use std::time::Duration;

use crate::members::health::PeerState;

/// A process in the member list: the name that it goes by, and where it is reached.
///
/// A name alone is a member that is reached at its name, `http://10.0.0.2:9090` for instance; so
/// lists are mostly lists of names. Names are compared byte for byte and never rewritten.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Member {
    /// The name by which all members know it. Keys are placed by it, and it says who is meant.
    pub name: String,
    /// The URL at which it is reached. Connections go there, and a certificate names its host.
    pub address: String,
    /// The zone that it runs in, if that is known. Nothing depends on it yet.
    pub zone: Option<String>,
    /// The share of the keys that it takes, beside those of others. Nothing depends on it yet.
    pub weight: u32,
}

impl Member {
    /// A member of this name, which is reached at its name.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Member { address: name.clone(), name, zone: None, weight: 1 }
    }

    /// Sets the URL at which it is reached. Defaults to the name.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// Sets the zone that it runs in. Defaults to none.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Sets its weight. Defaults to 1.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }
}

/// Another member, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// Whether it is asked.
    pub state: PeerState,
    /// The time for which it has been in this state: since it was first in the list, if that has
    /// never changed.
    pub since: Duration,
    /// The reason for which it is down, in words for a person. `None` if it is up.
    pub why: Option<String>,
    /// The number of updates that it has missed and that wait for it, of all groups.
    pub undelivered: usize,
}

impl From<String> for Member {
    fn from(name: String) -> Self {
        Member::new(name)
    }
}

impl From<&str> for Member {
    fn from(name: &str) -> Self {
        Member::new(name)
    }
}

impl From<&String> for Member {
    fn from(name: &String) -> Self {
        Member::new(name)
    }
}
