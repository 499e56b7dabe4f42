//! The proof that a member shows with its requests, and the proof that it asks of answers.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use http::{HeaderValue, Method, response};
use tokio::time::Instant;

use crate::{
    auth::{
        keyring::{Answered, KeyId, Signed, Tag, body_hash},
        nonces::random,
        secrets::Secrets,
    },
    node_id::NodeId,
    wire::identity::{Answerer, Asker, Identity, Signature, VERSION},
};

/// The identity and the secrets of this member, for all whom it asks.
#[derive(Debug)]
pub(crate) struct Credentials {
    identity: Identity,
    secrets: Option<Secrets>,
    since: Instant,
}

/// The facts that are remembered of one peer between requests.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// The nonce that it handed out last.
    nonce: Mutex<Option<u128>>,
    /// The last count of a request that must not be made twice.
    count: AtomicU64,
    /// The last count of any other. It is there so that no two are signed alike: the answer to one
    /// would prove itself as the answer to the other. Peers look at none of them, so they do not
    /// push those of the former out of a peer's window.
    repeatable_count: AtomicU64,
}

/// A request as it is shown, to check the answer by.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) header: HeaderValue,
    proof: Expected,
}

/// The proof that an answer has to have.
#[derive(Debug)]
enum Expected {
    /// None: there is no secret.
    Nothing,
    /// One over this challenge, with any of the secrets.
    Challenge(Tag),
    /// One over this tag, with the secret that signed.
    Signature(KeyId, Tag),
}

/// Whether a header signs its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signing {
    /// It does, or there is no secret to sign with.
    Done,
    /// The peer has not handed out a nonce yet. The request is to be sent without its body, and the
    /// refusal has a nonce.
    NeedsNonce,
}

/// The end of a check that found no impostor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// The answer is of the member that was asked.
    Believed(Identity),
    /// It proved that it knows the secret, and handed out a nonce: with that, the request is to be
    /// made again.
    SignAgain,
}

/// The reasons why an answer is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Impostor {
    #[error("it is no member: its answer lacks the peercache header")]
    Stranger,
    #[error("it is a member of another cluster, {0:?}")]
    OtherCluster(Box<str>),
    #[error("it is another member, {0:?}")]
    OtherMember(Box<str>),
    #[error("its answer does not prove that it knows the secret")]
    NoProof,
    #[error("it is this node itself")]
    IsSelf,
}

impl Credentials {
    /// The credentials of the member `name` of `cluster`.
    pub(crate) fn new(node: NodeId, cluster: &str, name: &str, secrets: Option<Secrets>) -> Self {
        let identity = Identity { version: VERSION, node, cluster: cluster.into(), name: name.into() };
        Credentials { identity, secrets, since: Instant::now() }
    }

    /// A session with a peer of which nothing is known.
    ///
    /// A member may leave the list and return, while its process remembers our counts. They go on
    /// from the time, in microseconds, by which none was reached before.
    pub(crate) fn session(&self) -> Session {
        let start = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX / 2);
        Session { nonce: Mutex::default(), count: start.into(), repeatable_count: start.into() }
    }

    /// The header of a request to the member `to`. `counted` is for requests that must not be made
    /// twice.
    pub(crate) async fn show(
        &self,
        session: &Session,
        to: &str,
        (method, path, body): (&Method, &str, &[u8]),
        counted: bool,
    ) -> (Shown, Signing) {
        let identity = self.identity.clone();
        let mut asker = Asker { identity, to: Some(to.into()), signature: None, challenge: None };
        let Some(secrets) = &self.secrets else {
            return (Shown { header: asker.header(), proof: Expected::Nothing }, Signing::Done);
        };
        let Some(nonce) = session.nonce() else {
            // A nonce is taken of a member alone: a stranger could hand out another member's, and
            // pass on what was signed with it.
            let challenge = random().to_be_bytes();
            asker.challenge = Some(challenge);
            return (Shown { header: asker.header(), proof: Expected::Challenge(challenge) }, Signing::NeedsNonce);
        };
        let keyring = secrets.current().await;
        let keys = keyring.first();
        let count = if counted { &session.count } else { &session.repeatable_count }.fetch_add(1, Relaxed) + 1;
        let body = body_hash(body);
        let tag = keys.sign(Signed {
            version: self.identity.version,
            cluster: &self.identity.cluster,
            to,
            name: &self.identity.name,
            node: self.identity.node.to_u64(),
            nonce,
            count,
            method: method.as_str(),
            path,
            body: &body,
        });
        asker.signature = Some(Signature { nonce, count, key: keys.id(), body, tag });
        (Shown { header: asker.header(), proof: Expected::Signature(keys.id(), tag) }, Signing::Done)
    }

    /// Whether an answer, whatever its status, is of the member that was asked.
    pub(crate) async fn check(
        &self,
        session: &Session,
        to: &str,
        shown: &Shown,
        head: &response::Parts,
    ) -> Result<Checked, Impostor> {
        let Answerer { identity, nonce, proof } = Answerer::read(&head.headers).ok_or(Impostor::Stranger)?;
        let is_self = identity.node == self.identity.node;
        let Some(secrets) = &self.secrets else {
            if is_self {
                return Err(Impostor::IsSelf);
            }
            return self.is_meant(&identity, to).map(|()| Checked::Believed(identity));
        };
        // Everybody can say that it is this node. It has to prove that, too.
        if !is_self {
            self.is_meant(&identity, to)?;
        }
        let nonce = nonce.ok_or(Impostor::NoProof)?;
        let answered = |request| Answered {
            version: identity.version,
            request,
            status: head.status.as_u16(),
            name: &identity.name,
            node: identity.node.to_u64(),
            nonce,
        };
        let proof = proof.ok_or(Impostor::NoProof)?;
        let (is_proved, is_signed) = match &shown.proof {
            Expected::Nothing => (false, false),
            Expected::Challenge(challenge) => {
                (secrets.current().await.any_has_proved(answered(challenge), &proof), false)
            }
            Expected::Signature(key, tag) => {
                let keyring = secrets.knowing(*key).await.ok_or(Impostor::NoProof)?;
                (keyring.find(*key).is_some_and(|keys| keys.has_proved(answered(tag), &proof)), true)
            }
        };
        if !is_proved {
            return Err(Impostor::NoProof);
        }
        if is_self {
            return Err(Impostor::IsSelf);
        }
        if !is_signed || head.status == http::StatusCode::UNAUTHORIZED {
            session.set_nonce(nonce);
            return Ok(Checked::SignAgain);
        }
        session.set_nonce(nonce);
        Ok(Checked::Believed(identity))
    }

    /// Checks that an answerer is of this cluster, and the member `to`.
    fn is_meant(&self, identity: &Identity, to: &str) -> Result<(), Impostor> {
        if identity.cluster != self.identity.cluster {
            return Err(Impostor::OtherCluster(identity.cluster.clone()));
        }
        // An earlier release, which says no name, is taken at its word where nothing has to be
        // shown.
        let may_be_nameless = self.identity.cluster.is_empty() && self.secrets.is_none();
        if *identity.name != *to && !(identity.name.is_empty() && may_be_nameless) {
            return Err(Impostor::OtherMember(identity.name.clone()));
        }
        Ok(())
    }
}

impl Session {
    fn nonce(&self) -> Option<u128> {
        *self.nonce.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_nonce(&self, nonce: u128) {
        *self.nonce.lock().unwrap_or_else(PoisonError::into_inner) = Some(nonce);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http::{HeaderMap, Request, Response, StatusCode, request};

    use super::*;
    use crate::{
        auth::gate::{Admitted, Gate, Refusal, Repeats},
        wire::identity::HEADER,
    };

    const ONE: &str = "the first secret, of more than 32 bytes";
    const TWO: &str = "the second secret, of more than 32 bytes";
    const PATH: &str = "/_peercache/v1/update";

    struct Side {
        credentials: Credentials,
        gate: Gate,
        session: Session,
    }

    fn side(cluster: &str, name: &str, secrets: &[&str]) -> Side {
        let (node, secrets) = (NodeId::random(), (!secrets.is_empty()).then(|| Secrets::new(secrets).unwrap()));
        Side {
            credentials: Credentials::new(node, cluster, name, secrets.clone()),
            gate: Gate::new(node, cluster, name, secrets),
            session: Session::default(),
        }
    }

    fn head(header: HeaderValue, body: &[u8]) -> (request::Parts, Vec<u8>) {
        let request = Request::post(PATH).header(HEADER, header).body(body.to_vec()).unwrap();
        request.into_parts()
    }

    /// One request of `a` to `b`, and what both make of it.
    async fn ask(a: &Side, b: &Side, to: &str, body: &[u8]) -> (Result<bool, Refusal>, Result<Checked, Impostor>) {
        let (shown, _) = a.credentials.show(&a.session, to, (&Method::POST, PATH, body), true).await;
        let (head, body) = head(shown.header.clone(), body);
        let admitted = b.gate.admit(&head, Repeats::Refused).await;
        let admitted = admitted.and_then(|admitted| b.gate.use_up(&admitted).map(|()| admitted));
        let status = admitted.as_ref().map_or_else(|refusal| refusal.status().0, |_| StatusCode::OK);
        let first = match &admitted {
            Err(Refusal::Unsigned | Refusal::IsSelf) => b.gate.provable(&head).await,
            _ => None,
        };
        let provable = admitted.as_ref().ok().and_then(Admitted::provable).or(first.as_ref());
        let answer = Response::builder().status(status).header(HEADER, b.gate.header(provable, status));
        let (answer, ()) = answer.body(()).unwrap().into_parts();
        let believed = a.credentials.check(&a.session, to, &shown, &answer).await;
        (admitted.map(|admitted| admitted.is_body(|| body_hash(&body))), believed)
    }

    #[tokio::test]
    async fn members_without_a_secret_know_each_other() {
        let (a, b) = (side("orders", "a", &[]), side("orders", "b", &[]));
        let (admitted, believed) = ask(&a, &b, "b", b"body").await;
        assert_eq!(admitted, Ok(true));
        assert!(matches!(believed, Ok(Checked::Believed(identity)) if *identity.name == *"b"));
    }

    #[tokio::test]
    async fn the_wrong_member_and_the_wrong_cluster_are_refused_on_both_sides() {
        let (a, b, c) = (side("orders", "a", &[]), side("orders", "b", &[]), side("users", "c", &[]));
        assert_eq!(ask(&a, &b, "x", b"").await, (Err(Refusal::OtherMember), Err(Impostor::OtherMember("b".into()))));
        assert_eq!(
            ask(&a, &c, "c", b"").await,
            (Err(Refusal::OtherCluster), Err(Impostor::OtherCluster("users".into())))
        );
        assert_eq!(ask(&a, &a, "a", b"").await, (Err(Refusal::IsSelf), Err(Impostor::IsSelf)));
    }

    #[tokio::test]
    async fn with_a_secret_the_first_contact_brings_the_nonce() {
        let (a, b) = (side("", "a", &[ONE]), side("", "b", &[ONE]));
        let (_, signing) = a.credentials.show(&a.session, "b", (&Method::POST, PATH, b""), true).await;
        assert_eq!(signing, Signing::NeedsNonce);
        assert_eq!(ask(&a, &b, "b", b"").await.0, Err(Refusal::Unsigned));
        let (admitted, believed) = ask(&a, &b, "b", b"body").await;
        assert_eq!(admitted, Ok(true));
        believed.unwrap();
    }

    #[tokio::test]
    async fn no_secret_and_a_wrong_one_are_refused() {
        let (plain, one, two) = (side("", "p", &[]), side("", "one", &[ONE]), side("", "two", &[TWO]));
        assert_eq!(ask(&plain, &one, "one", b"").await.0, Err(Refusal::Unsigned));
        // Who wants a proof does not believe one who has none to give.
        assert_eq!(ask(&one, &plain, "p", b"").await.1, Err(Impostor::NoProof));
        // Nothing is signed for one who does not prove that it knows the secret.
        assert_eq!(ask(&two, &one, "one", b"").await, (Err(Refusal::Unsigned), Err(Impostor::NoProof)));
        assert_eq!(two.session.nonce(), None);
        two.session.set_nonce(7);
        assert_eq!(ask(&two, &one, "one", b"").await, (Err(Refusal::BadSignature), Err(Impostor::NoProof)));
    }

    #[tokio::test]
    async fn while_a_secret_changes_both_are_taken() {
        let (old, appended) = (side("", "old", &[ONE]), side("", "appended", &[ONE, TWO]));
        let (moved, new) = (side("", "moved", &[TWO, ONE]), side("", "new", &[TWO]));
        for (from, to, name) in [
            (&old, &appended, "appended"),
            (&appended, &old, "old"),
            (&appended, &moved, "moved"),
            (&moved, &appended, "appended"),
            (&moved, &new, "new"),
            (&new, &moved, "moved"),
        ] {
            *from.session.nonce.lock().unwrap() = None;
            assert_eq!(ask(from, to, name, b"").await.0, Err(Refusal::Unsigned), "{name}");
            let (admitted, believed) = ask(from, to, name, b"body").await;
            assert_eq!(admitted, Ok(true), "{name}");
            believed.unwrap();
        }
    }

    #[tokio::test]
    async fn a_captured_request_is_good_for_nothing() {
        let (a, b, c) = (side("", "a", &[ONE]), side("", "b", &[ONE]), side("", "c", &[ONE]));
        assert!(ask(&a, &b, "b", b"").await.0.is_err());
        let (shown, _) = a.credentials.show(&a.session, "b", (&Method::POST, PATH, b"body"), true).await;
        let (captured, body) = head(shown.header.clone(), b"body");
        let admitted = [0, 1].map(|_| b.gate.admit(&captured, Repeats::Refused));
        let [first, second] = admitted.map(|admitted| admitted.now_or_never().unwrap().unwrap());
        assert!(first.is_body(|| body_hash(&body)));
        b.gate.use_up(&first).expect("heads alone use nothing up");
        // Made again, while the first was under way and later.
        assert_eq!(b.gate.use_up(&second).unwrap_err(), Refusal::Repeated);
        assert_eq!(b.gate.admit(&captured, Repeats::Refused).await.unwrap_err(), Refusal::Repeated);
        // Sent to somebody else.
        assert_eq!(c.gate.admit(&captured, Repeats::Allowed).await.unwrap_err(), Refusal::OtherMember);
        // With another body, path or method.
        assert!(!b.gate.admit(&captured, Repeats::Allowed).await.unwrap().is_body(|| body_hash(b"bodz")));
        let mut other = captured.clone();
        other.uri = "/_peercache/v1/get".parse().unwrap();
        assert_eq!(b.gate.admit(&other, Repeats::Allowed).await.unwrap_err(), Refusal::BadSignature);
        let mut other = captured.clone();
        other.method = Method::PUT;
        assert_eq!(b.gate.admit(&other, Repeats::Allowed).await.unwrap_err(), Refusal::BadSignature);
    }

    #[tokio::test]
    async fn a_captured_request_is_good_for_nothing_after_more_askers_than_are_remembered() {
        let (a, b) = (side("", "a", &[ONE]), side("", "b", &[ONE]));
        assert!(ask(&a, &b, "b", b"").await.0.is_err());
        let (shown, _) = a.credentials.show(&a.session, "b", (&Method::POST, PATH, b"body"), true).await;
        let (captured, _) = head(shown.header.clone(), b"body");
        b.gate.use_up(&b.gate.admit(&captured, Repeats::Refused).await.unwrap()).unwrap();
        // Each of these processes is one more asker, and knows the nonce.
        for _ in 0..8 * 1024 {
            let other = side("", "a", &[ONE]);
            other.session.set_nonce(a.session.nonce().unwrap());
            match ask(&other, &b, "b", b"body").await.0 {
                Ok(true) => {}
                Err(Refusal::Unsigned) => break,
                end => panic!("{end:?}"),
            }
        }
        assert_eq!(b.gate.admit(&captured, Repeats::Refused).await.unwrap_err(), Refusal::Unsigned);
        assert!(ask(&a, &b, "b", b"body").await.0.is_err(), "the nonce is another one");
        assert_eq!(ask(&a, &b, "b", b"body").await.0, Ok(true));
    }

    #[tokio::test]
    async fn who_says_that_it_is_this_node_has_to_prove_it() {
        let (a, b) = (side("", "a", &[ONE]), side("", "b", &[ONE]));
        // The list has this node a second time, as "x".
        assert_eq!(ask(&a, &a, "x", b"").await, (Err(Refusal::Unsigned), Err(Impostor::IsSelf)));
        a.session.set_nonce(a.gate.nonce());
        assert_eq!(ask(&a, &a, "x", b"").await, (Err(Refusal::IsSelf), Err(Impostor::IsSelf)));
        // A stranger that has heard the id.
        let stranger = Gate::new(a.credentials.identity.node, "", "x", None);
        let (shown, _) = b.credentials.show(&b.session, "a", (&Method::POST, PATH, b""), true).await;
        let said = Asker::read(&HeaderMap::from_iter([(HEADER, shown.header.clone())])).unwrap();
        let header = Asker { identity: a.credentials.identity.clone(), ..said }.header();
        let (forged, _) = head(header, b"");
        assert_eq!(a.gate.admit(&forged, Repeats::Allowed).await.unwrap_err(), Refusal::Unsigned);
        let answer = Response::builder().header(HEADER, stranger.header(None, StatusCode::OK));
        let (answer, ()) = answer.body(()).unwrap().into_parts();
        let (shown, _) = a.credentials.show(&a.session, "x", (&Method::POST, PATH, b""), true).await;
        assert_eq!(a.credentials.check(&a.session, "x", &shown, &answer).await, Err(Impostor::NoProof));
    }

    #[tokio::test]
    async fn each_character_of_a_captured_header_matters() {
        let (a, b) = (side("orders", "a", &[ONE]), side("orders", "b", &[ONE]));
        assert!(ask(&a, &b, "b", b"").await.0.is_err());
        let (shown, _) = a.credentials.show(&a.session, "b", (&Method::POST, PATH, b"body"), true).await;
        let text = shown.header.to_str().unwrap().to_owned();
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'2' { b'3' } else { b'2' };
            let (head, body) = head(HeaderValue::from_bytes(&changed).unwrap(), b"body");
            let admitted = b.gate.admit(&head, Repeats::Allowed).await;
            // A changed separator may leave a header that says the same in other words; never one
            // that says something else.
            let is_taken = admitted.is_ok_and(|admitted| admitted.is_body(|| body_hash(&body)));
            let says_the_same =
                Asker::read(&head.headers) == Asker::read(&HeaderMap::from_iter([(HEADER, shown.header.clone())]));
            assert!(!is_taken || says_the_same, "{}", String::from_utf8_lossy(&changed));
        }
    }

    #[tokio::test]
    async fn a_replayed_answer_is_not_believed() {
        let (a, b) = (side("", "a", &[ONE]), side("", "b", &[ONE]));
        assert!(ask(&a, &b, "b", b"").await.0.is_err());
        let (first, _) = a.credentials.show(&a.session, "b", (&Method::POST, PATH, b"one"), true).await;
        let (second, _) = a.credentials.show(&a.session, "b", (&Method::POST, PATH, b"two"), true).await;
        let admitted = b.gate.admit(&head(first.header.clone(), b"one").0, Repeats::Refused).await.unwrap();
        let answer = |status: StatusCode| {
            let header = b.gate.header(admitted.provable(), StatusCode::OK);
            Response::builder().status(status).header(HEADER, header).body(()).unwrap().into_parts().0
        };
        let check = async |shown, answer| a.credentials.check(&a.session, "b", shown, &answer).await;
        check(&first, answer(StatusCode::OK)).await.unwrap();
        assert_eq!(check(&second, answer(StatusCode::OK)).await, Err(Impostor::NoProof));
        assert_eq!(check(&first, answer(StatusCode::NOT_FOUND)).await, Err(Impostor::NoProof));
    }

    #[tokio::test(start_paused = true)]
    async fn counts_go_on_when_a_member_returns() {
        let (mut a, b) = (side("", "a", &[ONE]), side("", "b", &[ONE]));
        for _ in 0..2 {
            a.session = a.credentials.session();
            assert!(ask(&a, &b, "b", b"").await.0.is_err());
            for _ in 0..3 {
                assert_eq!(ask(&a, &b, "b", b"body").await.0, Ok(true));
            }
            tokio::time::advance(std::time::Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn no_two_requests_are_signed_alike() {
        let (a, b) = (side("", "a", &[ONE]), side("", "b", &[ONE]));
        assert!(ask(&a, &b, "b", b"").await.0.is_err());
        for counted in [true, false] {
            let show = async || a.credentials.show(&a.session, "b", (&Method::POST, PATH, b"body"), counted).await.0;
            assert_ne!(show().await.header, show().await.header);
        }
    }

    #[tokio::test]
    async fn a_member_of_before_is_taken_in_the_default_cluster_without_a_secret() {
        let before = HeaderValue::from_static("1; node=00000000000000ff");
        let (head, _) = head(before.clone(), b"");
        side("", "b", &[]).gate.admit(&head, Repeats::Allowed).await.unwrap();
        assert!(side("", "b", &[ONE]).gate.admit(&head, Repeats::Allowed).await.is_err());
        assert!(side("orders", "b", &[]).gate.admit(&head, Repeats::Allowed).await.is_err());
        let (answer, ()) = Response::builder().header(HEADER, before).body(()).unwrap().into_parts();
        for (cluster, secrets, is_taken) in [("", &[][..], true), ("orders", &[], false), ("", &[ONE], false)] {
            let a = side(cluster, "a", secrets);
            let (shown, _) = a.credentials.show(&a.session, "b", (&Method::POST, PATH, b""), true).await;
            assert_eq!(a.credentials.check(&a.session, "b", &shown, &answer).await.is_ok(), is_taken, "{cluster}");
        }
    }
}
