//! The decision on who is answered, from the head of a request, before a byte of its body is read.
//!
//! The paths of ours alone are for members. golang's GET has a rule of its own, since Go members
//! can show neither a secret nor a certificate of ours.

use std::net::IpAddr;

use axum::response::Response;
use http::{HeaderValue, header, request::Parts};
use peercache_groupcache::{Member, Members};

use crate::{
    address::{MemberAddress, may_be_public},
    auth::{
        gate::{Admitted, Gate, Provable, Refusal, Repeats},
        keyring::body_hash,
        log_limit::LogLimit,
    },
    dialect::Dialect,
    membership::Membership,
    server::{connection::Origin, response::text},
    wire::identity::{Asker, HEADER},
};

/// The rules by which requests are admitted, and the header that answers carry.
pub(super) struct Access {
    gate: Gate,
    membership: Membership,
    dialect: Dialect,
    members: Members,
    /// The refusals by reason, by whom they met, and by the name that it gave.
    log_limit: LogLimit<(Refusal, Option<IpAddr>, Box<str>)>,
}

impl Access {
    pub(super) fn new(membership: Membership, dialect: Dialect, members: Members) -> Self {
        Access { gate: membership.gate(), membership, dialect, members, log_limit: LogLimit::default() }
    }

    /// Admits a request to a path of ours alone.
    ///
    /// A member that reaches itself is refused with 421 as one that reaches another is. No earlier
    /// release needs the error in a frame that it was answered with once: who asks itself is of
    /// this very release.
    pub(super) async fn admit(&self, head: &Parts, repeats: Repeats) -> Result<Admitted, Refusal> {
        if self.membership.has_tls() && !origin(head).has_certificate {
            return Err(Refusal::NoCertificate);
        }
        self.check_host(head)?;
        self.gate.admit(head, repeats).await
    }

    /// Admits a request to golang's path; `Ok(None)` is one that shows no secret and needs none.
    ///
    /// One with our header is for this member or for none, on this path as on the others. A
    /// signature that is there has to be good, and a challenge is met with a 401, even where GETs
    /// are open: the asker believes only an answer that is proved.
    pub(super) async fn admit_http_get(&self, head: &Parts) -> Result<Option<Admitted>, Refusal> {
        self.check_host(head)?;
        let asker = match self.gate.identify(head) {
            Ok(asker) => Some(asker),
            Err(Refusal::Stranger) => None,
            Err(refusal) => return Err(refusal),
        };
        let is_open = self.is_open(head);
        let must_sign = |signed: bool| self.gate.demands_signatures() && (signed || !is_open);
        match asker {
            Some(asker) if must_sign(asker.signature.is_some() || asker.challenge.is_some()) => {
                let admitted = self.gate.verify(asker, head, Repeats::Allowed).await?;
                // The body of a GET is never read, and what is signed has none.
                if admitted.is_body(|| body_hash(b"")) { Ok(Some(admitted)) } else { Err(Refusal::BadSignature) }
            }
            _ if is_open => Ok(None),
            _ => Err(Refusal::GetsClosed),
        }
    }

    /// Uses up the count of an update whose body is there. Returns the answer to one that was made
    /// before, or that is to be made again since its nonce ended meanwhile.
    pub(super) fn use_up(&self, head: &Parts, admitted: &Admitted) -> Option<Response> {
        let refusal = self.gate.use_up(admitted).err()?;
        self.note(head, refusal);
        Some(answer_to(refusal))
    }

    /// Checks the host of a request where only this machine may ask, and nothing else says who.
    ///
    /// A page of the web can have its own name resolve to this machine, and its scripts send what
    /// header they like then. The request still says the page's name, which nobody else uses here:
    /// the members are all on this machine, and are asked by `localhost` or an IP address.
    fn check_host(&self, head: &Parts) -> Result<(), Refusal> {
        let is_socket_file = matches!(origin(head), Origin { is_local: true, address: None, .. });
        if self.membership.is_protected() || self.membership.trusts_network() || is_socket_file {
            return Ok(());
        }
        let said = head.headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
        let mut hosts = said.chain(head.uri.authority().map(|authority| authority.as_str().as_bytes()));
        if hosts.any(may_be_public) { Err(Refusal::ForeignHost) } else { Ok(()) }
    }

    /// Whether a GET that is not signed is answered.
    fn is_open(&self, head: &Parts) -> bool {
        let Origin { is_local, has_certificate, .. } = origin(head);
        if self.membership.is_protected() {
            return has_certificate || self.membership.gets_are_open();
        }
        self.membership.trusts_network()
            || self.dialect != Dialect::Native
            || (is_local && are_on_loopback(self.members.view().members()))
    }

    /// The answer to a request that is refused.
    ///
    /// It says which member of which cluster this is, as every answer does, and nothing else.
    pub(super) async fn refuse(&self, head: &Parts, refusal: Refusal) -> Response {
        self.note(head, refusal);
        let provable = match refusal {
            Refusal::Unsigned | Refusal::IsSelf => self.gate.provable(head).await,
            _ => None,
        };
        self.identified(answer_to(refusal), provable.as_ref())
    }

    /// Counts a refusal, and logs it once a minute for each reason and asker. Members begin with a
    /// request that they are to sign, and one that has reached itself says so where it asked.
    fn note(&self, head: &Parts, refusal: Refusal) {
        self.membership.trust_counters().count_refusal(refusal);
        if matches!(refusal, Refusal::Unsigned | Refusal::IsSelf) {
            return;
        }
        let address = origin(head).address;
        let name = Asker::read(&head.headers).map(|asker| asker.identity.name).unwrap_or_default();
        if self.log_limit.is_due((refusal, address, name.clone())) {
            let (_, reason) = refusal.status();
            let address = address.map(tracing::field::display);
            tracing::warn!(reason, asker = ?name, address, "a request to the peers' port is refused");
        }
    }

    /// The answer with this node's header.
    pub(super) fn identified(&self, mut answer: Response, provable: Option<&Provable>) -> Response {
        let header = self.gate.header(provable, answer.status());
        answer.headers_mut().insert(HEADER, header);
        answer
    }
}

/// The answer to a request that is refused, without this node's header.
fn answer_to(refusal: Refusal) -> Response {
    let (status, words) = refusal.status();
    let mut answer = text(status, format!("{words}\n"));
    if refusal == Refusal::Unsigned {
        // A 401 has to name a scheme (RFC 9110, section 15.5.2).
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("peercache"));
    }
    answer
}

/// The connection of a request, as the [`Server`](crate::Server) tells it. Another server tells
/// nothing, and its clients may be anywhere.
fn origin(head: &Parts) -> Origin {
    head.extensions.get().copied().unwrap_or_default()
}

/// Whether all members are on this machine. A node without a cluster has no address.
fn are_on_loopback(members: &[Member]) -> bool {
    let is_alone = members.len() == 1;
    members.iter().all(|member| MemberAddress::read(&member.address).map_or(is_alone, |at| at.is_on_loopback()))
}
