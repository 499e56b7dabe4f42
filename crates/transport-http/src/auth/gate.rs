//! The gate of a server: decides from the head of a request, before a byte of its body is read.

use std::{fmt, sync::Arc};

use http::{HeaderValue, StatusCode, request::Parts};
use tokio::time::Instant;

use crate::{
    auth::{
        keyring::{Answered, BodyHash, KeyId, Keyring, Signed, Tag},
        nonces::Nonces,
        replay::{Use, UsedCounts},
        secrets::Secrets,
    },
    node_id::NodeId,
    wire::identity::{Answerer, Asker, Identity, Signature, VERSION},
};

/// The rules by which a member admits requests, and the header by which its answers are known.
pub(crate) struct Gate {
    identity: Identity,
    /// The header of all answers where there is no secret.
    plain_header: HeaderValue,
    secrets: Option<Secrets>,
    nonces: Nonces,
    used_counts: UsedCounts,
}

/// A request that is answered.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    /// The hash of the body that was signed.
    body: Option<BodyHash>,
    /// The count that it uses up; `None` where it may be made again.
    count: Option<Count>,
    provable: Option<Provable>,
}

/// The count of a signed request that is made once.
#[derive(Clone, Copy, Debug)]
struct Count {
    node: u64,
    nonce: u128,
    count: u64,
}

/// The part of a request that its answer proves the secret with: its tag, or its challenge.
#[derive(Debug)]
pub(crate) struct Provable {
    keyring: Arc<Keyring>,
    key: KeyId,
    request: Tag,
}

/// The reasons why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It lacks our header, or has one that cannot be understood.
    Stranger,
    /// It is of a member of another cluster.
    OtherCluster,
    /// It is meant for another member.
    OtherMember,
    /// It was sent by this very process, as far as it has to prove that.
    IsSelf,
    /// It is not signed, or with a nonce that is over. It is to be repeated with the nonce in the
    /// answer.
    Unsigned,
    /// Its signature is wrong, or of a secret that is not known here.
    BadSignature,
    /// Its count was used before.
    Repeated,
    /// Its connection shows no certificate of a member, where members speak TLS.
    NoCertificate,
    /// It is one of golang's GETs, which this node does not answer to everybody.
    GetsClosed,
    /// It is to a host of the web, where only this machine may ask: of a page whose name was
    /// pointed here.
    ForeignHost,
}

/// Whether a request may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeats {
    Allowed,
    Refused,
}

impl Gate {
    /// A gate of the member `name`, in `cluster`.
    pub(crate) fn new(node: NodeId, cluster: &str, name: &str, secrets: Option<Secrets>) -> Self {
        let identity = Identity { version: VERSION, node, cluster: cluster.into(), name: name.into() };
        Gate {
            plain_header: Answerer { identity: identity.clone(), nonce: None, proof: None }.header(),
            identity,
            secrets,
            nonces: Nonces::new(Instant::now()),
            used_counts: UsedCounts::default(),
        }
    }

    /// Whether requests have to be signed.
    pub(crate) fn demands_signatures(&self) -> bool {
        self.secrets.is_some()
    }

    /// Admits a request by its head.
    pub(crate) async fn admit(&self, head: &Parts, repeats: Repeats) -> Result<Admitted, Refusal> {
        self.verify(self.identify(head)?, head, repeats).await
    }

    /// Reads who asks, and checks that it is of this cluster and means this member.
    pub(crate) fn identify(&self, head: &Parts) -> Result<Asker, Refusal> {
        let asker = Asker::read(&head.headers).ok_or(Refusal::Stranger)?;
        if self.is_self(&asker) {
            // Everybody can say so. Where there is a secret it has to be signed like anything else.
            return if self.demands_signatures() { Ok(asker) } else { Err(Refusal::IsSelf) };
        }
        if asker.identity.cluster != self.identity.cluster {
            return Err(Refusal::OtherCluster);
        }
        match &asker.to {
            Some(to) if *to != self.identity.name => Err(Refusal::OtherMember),
            // An earlier release, which says no name, is taken at its word where nothing has to be
            // shown.
            None if self.secrets.is_some() || !asker.is_of_before() => Err(Refusal::Stranger),
            _ => Ok(asker),
        }
    }

    fn is_self(&self, asker: &Asker) -> bool {
        asker.identity.node == self.identity.node
    }

    /// Checks the signature of an asker that was identified, where there is a secret.
    pub(crate) async fn verify(&self, asker: Asker, head: &Parts, repeats: Repeats) -> Result<Admitted, Refusal> {
        let Some(secrets) = &self.secrets else {
            return Ok(Admitted::default());
        };
        let is_self = self.is_self(&asker);
        let signature = asker.signature.ok_or(Refusal::Unsigned)?;
        let keyring = secrets.knowing(signature.key).await.ok_or(Refusal::BadSignature)?;
        let keys = keyring.find(signature.key).ok_or(Refusal::BadSignature)?;
        let signed = Signed {
            version: asker.identity.version,
            cluster: &asker.identity.cluster,
            to: asker.to.as_deref().unwrap_or_default(),
            name: &asker.identity.name,
            node: asker.identity.node.to_u64(),
            nonce: signature.nonce,
            count: signature.count,
            method: head.method.as_str(),
            path: head.uri.path(),
            body: &signature.body,
        };
        // The tag first: what a stranger makes up changes nothing here, and tells it nothing.
        if !keys.has_signed(signed, &signature.tag) {
            return Err(Refusal::BadSignature);
        }
        if !self.nonces.takes(signature.nonce, Instant::now()) {
            return Err(Refusal::Unsigned);
        }
        if is_self {
            return Err(Refusal::IsSelf);
        }
        let Signature { nonce, count, .. } = signature;
        let count = (repeats == Repeats::Refused).then_some(Count { node: signed.node, nonce, count });
        // Its body need not be read to know this.
        if count.is_some_and(|Count { node, count, .. }| !self.used_counts.is_free(node, count)) {
            return Err(Refusal::Repeated);
        }
        let provable = Provable { key: signature.key, request: signature.tag, keyring };
        Ok(Admitted { body: Some(signature.body), count, provable: Some(provable) })
    }

    /// Uses up the count of a request whose body is there. Until then a copy of its head, sent on
    /// by somebody on the way, must not take the place of the request itself.
    pub(crate) fn use_up(&self, admitted: &Admitted) -> Result<(), Refusal> {
        let Some(Count { node, nonce, count }) = admitted.count else { return Ok(()) };
        match self.used_counts.try_use(node, count) {
            Use::First if self.nonces.takes(nonce, Instant::now()) => Ok(()),
            // It came before, was forgotten with all others, and the nonce with them.
            Use::First => Err(Refusal::Unsigned),
            Use::Repeated => Err(Refusal::Repeated),
            Use::TooManyAskers => {
                // First the nonces, so that nothing that was used comes to an empty table.
                self.nonces.renew(Instant::now());
                self.used_counts.forget_all();
                Err(Refusal::Unsigned)
            }
        }
    }

    /// The part of a request that a 401 proves the secret with, so that nobody but a member can
    /// have an asker sign what it has to say.
    ///
    /// A nonce that is over came with a good tag, and the proof is over that; so did the request of
    /// this node to itself. A first contact has a challenge; it is proved with the first secret,
    /// which all members know while it is changed.
    pub(crate) async fn provable(&self, head: &Parts) -> Option<Provable> {
        let asker = Asker::read(&head.headers)?;
        let secrets = self.secrets.as_ref()?;
        if let Some(Signature { key, tag, .. }) = asker.signature {
            return Some(Provable { keyring: secrets.knowing(key).await?, key, request: tag });
        }
        let keyring = secrets.current().await;
        Some(Provable { key: keyring.first().id(), request: asker.challenge?, keyring })
    }

    /// The header of an answer, with a proof over what there is to prove.
    pub(crate) fn header(&self, provable: Option<&Provable>, status: StatusCode) -> HeaderValue {
        if self.secrets.is_none() {
            return self.plain_header.clone();
        }
        let nonce = self.nonces.current(Instant::now());
        let proof = provable.and_then(|provable| {
            let keys = provable.keyring.find(provable.key)?;
            Some(keys.prove(Answered {
                version: self.identity.version,
                request: &provable.request,
                status: status.as_u16(),
                name: &self.identity.name,
                node: self.identity.node.to_u64(),
                nonce,
            }))
        });
        Answerer { identity: self.identity.clone(), nonce: Some(nonce), proof }.header()
    }
}

#[cfg(test)]
impl Gate {
    /// The nonce that it hands out.
    pub(crate) fn nonce(&self) -> u128 {
        self.nonces.current(Instant::now())
    }
}

impl Admitted {
    /// Whether [`is_body`](Self::is_body) looks at the hash.
    pub(crate) fn is_signed(&self) -> bool {
        self.body.is_some()
    }

    /// The part of the request that its answer proves the secret with.
    pub(crate) fn provable(&self) -> Option<&Provable> {
        self.provable.as_ref()
    }

    /// Whether a body that is there as a whole is the one that was signed.
    pub(crate) fn is_body(&self, hash: impl FnOnce() -> BodyHash) -> bool {
        self.body.is_none_or(|body| body == hash())
    }
}

impl Refusal {
    /// The number of reasons.
    pub(crate) const COUNT: usize = Refusal::ForeignHost as usize + 1;

    /// The status, and a text for people.
    pub(crate) fn status(self) -> (StatusCode, &'static str) {
        match self {
            Refusal::Stranger => (StatusCode::FORBIDDEN, "members only: the request lacks the peercache header"),
            Refusal::OtherCluster => (StatusCode::PRECONDITION_FAILED, "this is a member of another cluster"),
            Refusal::OtherMember => (StatusCode::MISDIRECTED_REQUEST, "this is another member"),
            Refusal::IsSelf => (StatusCode::MISDIRECTED_REQUEST, "you have reached yourself"),
            Refusal::Unsigned => (StatusCode::UNAUTHORIZED, "sign the request with this nonce"),
            Refusal::BadSignature => (StatusCode::FORBIDDEN, "the request is not signed with a secret of this cluster"),
            Refusal::Repeated => (StatusCode::FORBIDDEN, "the request was made before"),
            Refusal::NoCertificate => (StatusCode::FORBIDDEN, "members only: the connection shows no certificate"),
            Refusal::GetsClosed => (StatusCode::FORBIDDEN, "members only: plain GETs are not answered here"),
            Refusal::ForeignHost => (StatusCode::FORBIDDEN, "this machine only: ask by localhost or an IP address"),
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("identity", &self.identity).finish_non_exhaustive()
    }
}
