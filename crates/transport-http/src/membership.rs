//! Facts that a node's pool and its server share: who the node is, and whom it trusts.

use std::{fmt, net::SocketAddr, sync::Arc};

use peercache_groupcache::{BuildError, Member};

use crate::{
    address::{MemberAddress, is_loopback},
    auth::{
        credentials::Credentials,
        gate::Gate,
        secrets::Secrets,
        trust_stats::{TrustCounters, TrustStats},
    },
    dialect::Dialect,
    node_id::NodeId,
    wire::identity::{MAX_CLUSTER_BYTES, MAX_NAME_BYTES},
};

/// The identity of this node, and whom it believes: one value for its pool and its server alike.
///
/// `HttpPool::builder().membership(membership.clone())` and
/// `PeerServer::new(groups).membership(membership)`; the facade's `Node` does both.
///
/// One pool and one server share it. A second pool of the same process needs a membership of its
/// own: updates are counted by pool, and a member takes no count twice.
#[derive(Clone)]
pub struct Membership {
    node: NodeId,
    name: String,
    cluster: String,
    secrets: Option<Secrets>,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::Tls>,
    trusts_network: bool,
    opens_gets: bool,
    trust_counters: Arc<TrustCounters>,
}

impl Membership {
    /// The member that the list names `name`, of the cluster without a name, with neither secret
    /// nor TLS.
    pub fn new(name: impl Into<String>) -> Self {
        Membership {
            node: NodeId::random(),
            name: name.into(),
            cluster: String::new(),
            secrets: None,
            #[cfg(feature = "tls")]
            tls: None,
            trusts_network: false,
            opens_gets: false,
            trust_counters: Arc::default(),
        }
    }

    /// Sets the cluster's name. Members of another cluster are refused, and their answers are not
    /// believed. Defaults to the empty name.
    #[must_use]
    pub fn cluster(mut self, cluster: impl Into<String>) -> Self {
        self.cluster = cluster.into();
        self
    }

    /// Sets the secrets that members share: every request is signed with the first, and
    /// who knows none is told nothing. Defaults to none.
    #[must_use]
    pub fn secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = Some(secrets);
        self
    }

    /// Sets the certificates for mutual TLS: members are then `https://`. Defaults to none.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: crate::tls::Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Allows members beyond this machine with neither secret nor TLS, because everybody who can
    /// reach the peers' port may read, set and clear every group anyway. Defaults to no.
    #[must_use]
    pub fn trust_network(mut self, trusts_network: bool) -> Self {
        self.trusts_network = trusts_network;
        self
    }

    /// Sets whether golang/groupcache's GETs are answered to everybody where a secret or TLS is
    /// set, for Go members, which can show neither. Defaults to false.
    #[must_use]
    pub fn open_gets(mut self, opens_gets: bool) -> Self {
        self.opens_gets = opens_gets;
        self
    }

    /// The random id of this process.
    pub fn node_id(&self) -> NodeId {
        self.node
    }

    /// The name by which members know this node.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The numbers of requests that were refused, and of answers that were not believed.
    pub fn trust_stats(&self) -> TrustStats {
        self.trust_counters.stats()
    }

    pub(crate) fn trust_counters(&self) -> &TrustCounters {
        &self.trust_counters
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::new(self.node, &self.cluster, &self.name, self.secrets.clone())
    }

    pub(crate) fn gate(&self) -> Gate {
        Gate::new(self.node, &self.cluster, &self.name, self.secrets.clone())
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tls_files(&self) -> Option<&crate::tls::Tls> {
        self.tls.as_ref()
    }

    pub(crate) fn gets_are_open(&self) -> bool {
        self.opens_gets
    }

    pub(crate) fn has_secret(&self) -> bool {
        self.secrets.is_some()
    }

    pub(crate) fn has_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Whether strangers are kept out by more than a header.
    pub(crate) fn is_protected(&self) -> bool {
        self.has_secret() || self.has_tls()
    }

    /// Checks what can be checked without a list.
    pub(crate) fn check(&self, dialect: Dialect) -> Result<(), BuildError> {
        if self.cluster.len() > MAX_CLUSTER_BYTES {
            return Err(setting("cluster", "a name of at most 255 bytes"));
        }
        if self.name.len() > MAX_NAME_BYTES {
            return Err(setting("name", "at most 1 KiB"));
        }
        if dialect != Dialect::Native && self.is_protected() && !self.opens_gets {
            return Err(setting(
                "open_gets",
                "true where a Go dialect is used together with a secret or TLS, for Go members can show neither; \
                 plain GETs are then answered to everybody",
            ));
        }
        Ok(())
    }

    /// Checks a list of members, wherever it comes from.
    ///
    /// `own_client` is whether the pool asks through an HTTP client of the user's own, whose TLS is
    /// not ours to know.
    pub(crate) fn check_list(&self, members: &[Member], dialect: Dialect, own_client: bool) -> Result<(), BuildError> {
        let mut addresses: Vec<(MemberAddress, &Member)> = Vec::with_capacity(members.len());
        for member in members {
            let bad = |why: String| BuildError::MemberName { name: member.name.clone(), why };
            if member.name.len() > MAX_NAME_BYTES {
                return Err(bad("its name is longer than 1 KiB".to_owned()));
            }
            let address = MemberAddress::read(&member.address).map_err(|why| bad(why.to_owned()))?;
            self.check_scheme(&address, own_client).map_err(|why| bad(why.to_owned()))?;
            if let Some((_, other)) = addresses.iter().find(|(known, _)| *known == address) {
                return Err(bad(format!("it is another spelling of the address of {:?}", other.name)));
            }
            addresses.push((address, member));
        }
        // This node alone is asked by nobody: what it listens on is checked when it serves.
        let is_alone = matches!(members, [only] if only.name == self.name);
        let beyond = addresses.iter().find(|(address, _)| !address.is_on_loopback());
        match beyond {
            Some((_, member)) if !is_alone && !self.may_leave_loopback(dialect, own_client) => {
                Err(BuildError::MemberName { name: member.name.clone(), why: unprotected("it is not on this machine") })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn check_scheme(&self, address: &MemberAddress, own_client: bool) -> Result<(), &'static str> {
        if address.is_https() && !self.has_tls() && !own_client {
            return Err(if cfg!(feature = "tls") {
                "it is reached over TLS: give this node its certificates (`tls`, or --tls-cert, --tls-key and \
                 --tls-ca), or write http://"
            } else {
                "it is reached over TLS: turn on the feature `tls` and give this node its certificates, or write \
                 http://"
            });
        }
        if self.has_tls() && !address.is_https() {
            return Err("it is http:// where this node speaks TLS; write https://");
        }
        Ok(())
    }

    /// Checks the address at which peers are to be served, by a node that asks in `dialect`. Others
    /// than this machine may reach it only where there is a secret, TLS, or a network that is
    /// trusted; a Go dialect needs the latter.
    ///
    /// # Errors
    /// An address beyond this machine with none of the three. The sentence names them.
    pub fn check_listener(&self, address: SocketAddr, dialect: Dialect) -> Result<(), BuildError> {
        if is_loopback(address.ip()) || self.may_leave_loopback(dialect, false) {
            return Ok(());
        }
        Err(BuildError::Transport(unprotected(&format!("peers cannot be served on {address}: others can reach it"))))
    }

    /// Whether everybody on the network may ask.
    pub(crate) fn trusts_network(&self) -> bool {
        self.trusts_network
    }

    /// Whether members beyond this machine may be asked, and answered.
    ///
    /// Go members show no secret, so in a Go dialect a secret protects nothing of what they are
    /// asked.
    pub(crate) fn may_leave_loopback(&self, dialect: Dialect, own_client: bool) -> bool {
        self.trusts_network || if dialect == Dialect::Native { self.is_protected() } else { own_client }
    }
}

/// The sentence that names the three ways to protect `what`, which others can reach.
fn unprotected(what: &str) -> String {
    format!(
        "{what}, and nothing says who may speak: share a secret (`secret`, or --secret-file), use mutual TLS (`tls`, \
         or --tls-cert, --tls-key and --tls-ca), or say that everybody on the network is trusted (`trust_network`, or \
         --trust-network)"
    )
}

fn setting(name: &'static str, expected: &'static str) -> BuildError {
    BuildError::Setting { name, expected: expected.into() }
}

/// Says nothing of the secrets.
impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("name", &self.name)
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}
