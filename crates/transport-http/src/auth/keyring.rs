//! The keys of some secrets: the first signs, all verify.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The shortest secret, in bytes: as long as the digest, as HMAC asks (RFC 2104, section 3).
pub(crate) const MIN_SECRET_BYTES: usize = 32;

/// The most secrets of one ring: some rotations at once, and no search worth timing.
pub(crate) const MAX_SECRETS: usize = 16;

/// Says which secret signed, without saying anything about it.
pub(crate) type KeyId = [u8; 4];

/// The first half of an HMAC-SHA256, which is as strong as forging goes (RFC 2104, section 5).
pub(crate) type Tag = [u8; 16];

/// The SHA-256 of a body.
pub(crate) type BodyHash = [u8; 32];

/// The parts of a request that its tag covers. Each is written with its length before it, so that
/// no two requests are one text.
#[derive(Clone, Copy)]
pub(crate) struct Signed<'a> {
    /// The newest version that the asker speaks.
    pub(crate) version: u32,
    pub(crate) cluster: &'a str,
    /// The member that is asked.
    pub(crate) to: &'a str,
    /// The asker's name and the id of its process.
    pub(crate) name: &'a str,
    pub(crate) node: u64,
    pub(crate) nonce: u128,
    pub(crate) count: u64,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) body: &'a BodyHash,
}

/// The parts of an answer that its proof covers: the request by its tag, who answers, and how.
#[derive(Clone, Copy)]
pub(crate) struct Answered<'a> {
    pub(crate) version: u32,
    pub(crate) request: &'a Tag,
    pub(crate) status: u16,
    pub(crate) name: &'a str,
    pub(crate) node: u64,
    /// The nonce that the answer hands out.
    pub(crate) nonce: u128,
}

/// The keys of one secret, one for each use, so that no answer can stand for a request.
pub(crate) struct Keys {
    id: KeyId,
    requests: Hmac<Sha256>,
    answers: Hmac<Sha256>,
}

/// The keys of some secrets, at least one.
#[derive(Debug)]
pub(crate) struct Keyring {
    keys: Vec<Keys>,
}

/// Secrets that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadSecrets {
    #[error("there is no secret")]
    None,
    #[error("a secret has at least {MIN_SECRET_BYTES} bytes, and number {0} is shorter")]
    Short(usize),
    #[error("there are more than {MAX_SECRETS} secrets")]
    TooMany,
}

impl Keyring {
    /// The keys of `secrets`, of which the first signs.
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, BadSecrets> {
        let mut keys = Vec::new();
        for (nth, secret) in secrets.into_iter().enumerate() {
            if secret.len() < MIN_SECRET_BYTES {
                return Err(BadSecrets::Short(nth + 1));
            }
            if nth >= MAX_SECRETS {
                return Err(BadSecrets::TooMany);
            }
            keys.push(Keys::of(secret));
        }
        if keys.is_empty() { Err(BadSecrets::None) } else { Ok(Keyring { keys }) }
    }

    /// The keys that sign.
    pub(crate) fn first(&self) -> &Keys {
        &self.keys[0]
    }

    /// Whether the answer is proved with any of the secrets.
    pub(crate) fn any_has_proved(&self, answered: Answered<'_>, proof: &Tag) -> bool {
        self.keys.iter().any(|keys| keys.has_proved(answered, proof))
    }

    /// The keys of this id, if they are known here.
    pub(crate) fn find(&self, id: KeyId) -> Option<&Keys> {
        self.keys.iter().find(|keys| keys.id == id)
    }
}

impl Keys {
    fn of(secret: &[u8]) -> Self {
        let derive =
            |label: &[u8]| Zeroizing::new(<[u8; 32]>::from(hmac(secret).chain_update(label).finalize().into_bytes()));
        let id = derive(b"peercache 1 key id");
        Keys {
            id: [id[0], id[1], id[2], id[3]],
            requests: hmac(&*derive(b"peercache 1 requests")),
            answers: hmac(&*derive(b"peercache 1 answers")),
        }
    }

    pub(crate) fn id(&self) -> KeyId {
        self.id
    }

    /// The tag of a request.
    pub(crate) fn sign(&self, signed: Signed<'_>) -> Tag {
        let mut mac = self.requests.clone();
        let Signed { version, cluster, to, name, node, nonce, count, method, path, body } = signed;
        mac.update(&version.to_be_bytes());
        for text in [cluster, to, name, method, path] {
            write(&mut mac, text);
        }
        mac.update(&node.to_be_bytes());
        mac.update(&nonce.to_be_bytes());
        mac.update(&count.to_be_bytes());
        mac.update(body);
        half(mac)
    }

    /// Whether `tag` is the request's, in a time that does not tell how much of it is.
    pub(crate) fn has_signed(&self, signed: Signed<'_>, tag: &Tag) -> bool {
        self.sign(signed).ct_eq(tag).into()
    }

    /// The proof in an answer.
    pub(crate) fn prove(&self, answered: Answered<'_>) -> Tag {
        let Answered { version, request, status, name, node, nonce } = answered;
        let mut mac = self.answers.clone();
        mac.update(&version.to_be_bytes());
        mac.update(request);
        mac.update(&status.to_be_bytes());
        write(&mut mac, name);
        mac.update(&node.to_be_bytes());
        mac.update(&nonce.to_be_bytes());
        half(mac)
    }

    /// Whether `proof` is the answer's.
    pub(crate) fn has_proved(&self, answered: Answered<'_>, proof: &Tag) -> bool {
        self.prove(answered).ct_eq(proof).into()
    }
}

/// The hash of a body that is there as a whole.
pub(crate) fn body_hash(body: &[u8]) -> BodyHash {
    Sha256::digest(body).into()
}

fn hmac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a key of HMAC may have any length")
}

fn write(mac: &mut Hmac<Sha256>, text: &str) {
    mac.update(&(text.len() as u64).to_be_bytes());
    mac.update(text.as_bytes());
}

fn half(mac: Hmac<Sha256>) -> Tag {
    let whole: [u8; 32] = mac.finalize().into_bytes().into();
    let mut tag = Tag::default();
    tag.copy_from_slice(&whole[..16]);
    tag
}

/// Says nothing of the keys.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::identity::{Answerer, Asker, Identity, Signature};

    const ONE: &[u8] = b"the first secret, of more than 32 bytes";
    const TWO: &[u8] = b"the second secret, of more than 32 bytes";

    fn signed(body: &BodyHash) -> Signed<'_> {
        Signed {
            version: 1,
            cluster: "orders",
            to: "http://b:1",
            name: "http://a:1",
            node: 1,
            nonce: 2,
            count: 3,
            method: "POST",
            path: "/_peercache/v1/get",
            body,
        }
    }

    fn keyring(secrets: &[&[u8]]) -> Keyring {
        Keyring::new(secrets.iter().copied()).unwrap()
    }

    #[test]
    fn a_tag_is_good_for_one_request() {
        let (keyring, body) = (keyring(&[ONE]), body_hash(b"body"));
        let (keys, request) = (keyring.first(), signed(&body));
        let tag = keys.sign(request);
        assert!(keys.has_signed(request, &tag));
        let other = body_hash(b"bodz");
        let others = [
            Signed { version: 2, ..request },
            Signed { cluster: "order", ..request },
            Signed { cluster: "", ..request },
            Signed { to: "http://c:1", ..request },
            Signed { name: "http://b:1", ..request },
            Signed { node: 2, ..request },
            Signed { nonce: 3, ..request },
            Signed { count: 4, ..request },
            Signed { method: "PUT", ..request },
            Signed { path: "/_peercache/v1/update", ..request },
            Signed { body: &other, ..request },
            // The same characters, cut elsewhere.
            Signed { cluster: "ordersh", to: "ttp://b:1", ..request },
        ];
        assert!(others.iter().all(|&other| !keys.has_signed(other, &tag)));
        for bit in 0..128 {
            let mut flipped = tag;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!keys.has_signed(request, &flipped), "bit {bit}");
        }
    }

    #[test]
    fn the_first_signs_and_all_verify() {
        let (old, both) = (keyring(&[ONE]), keyring(&[TWO, ONE]));
        let body = body_hash(b"");
        let of_old = old.first().sign(signed(&body));
        assert!(both.find(old.first().id()).unwrap().has_signed(signed(&body), &of_old));
        assert!(old.find(both.first().id()).is_none());
    }

    #[test]
    fn a_proof_is_good_for_one_answer() {
        let keyring = keyring(&[ONE]);
        let (keys, request) = (keyring.first(), [7; 16]);
        let answer = Answered { version: 1, request: &request, status: 200, name: "http://b:1", node: 1, nonce: 2 };
        let proof = keys.prove(answer);
        assert!(keys.has_proved(answer, &proof));
        let other = [8; 16];
        let others = [
            Answered { version: 2, ..answer },
            Answered { request: &other, ..answer },
            Answered { status: 404, ..answer },
            Answered { name: "http://c:1", ..answer },
            Answered { node: 2, ..answer },
            Answered { nonce: 3, ..answer },
        ];
        assert!(others.iter().all(|&other| !keys.has_proved(other, &proof)));
    }

    /// The tag is from Python:
    /// `hmac.new(hmac.new(secret, b"peercache 1 requests", "sha256").digest(), text, "sha256")`.
    #[test]
    fn a_tag_is_the_one_that_the_specification_says() {
        let body = body_hash(b"body");
        let tag = keyring(&[ONE]).first().sign(signed(&body));
        assert_eq!(hex(&tag), "cb6f501c8aea7433244ef4e51b1cc24e");
    }

    /// The example of `docs/wire.md`, whose numbers are from Python as well.
    #[test]
    fn a_header_and_a_proof_are_those_of_the_specification() {
        let (keyring, body) = (keyring(&[ONE]), body_hash(b"body"));
        let keys = keyring.first();
        let Signed { version, nonce, count, .. } = signed(&body);
        let identity = |node: &str, name: &str, cluster: &str| Identity {
            version,
            node: node.parse().unwrap(),
            cluster: cluster.into(),
            name: name.into(),
        };
        let tag = keys.sign(signed(&body));
        let asker = Asker {
            identity: identity("0000000000000001", "http://a:1", "orders"),
            to: Some("http://b:1".into()),
            signature: Some(Signature { nonce, count, key: keys.id(), body, tag }),
            challenge: None,
        };
        assert_eq!(
            asker.header(),
            "1; node=0000000000000001; cluster=orders; name=http://a:1; to=http://b:1; \
             nonce=00000000000000000000000000000002; count=3; key=970c56ad; \
             body=230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5; \
             mac=cb6f501c8aea7433244ef4e51b1cc24e"
        );
        let answered = Answered { version, request: &tag, status: 200, name: "http://b:1", node: 4, nonce };
        let proof = Some(keys.prove(answered));
        let identity = identity("0000000000000004", "http://b:1", "orders");
        assert_eq!(
            Answerer { identity, nonce: Some(nonce), proof }.header(),
            "1; node=0000000000000004; cluster=orders; name=http://b:1; \
             nonce=00000000000000000000000000000002; proof=3fa7b3584620f6f5faf8cccc852a0fbd"
        );
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn secrets_that_are_none_are_refused() {
        assert_eq!(Keyring::new([]).unwrap_err(), BadSecrets::None);
        assert_eq!(Keyring::new([ONE, b"short"]).unwrap_err(), BadSecrets::Short(2));
        assert_eq!(Keyring::new([ONE; 17]).unwrap_err(), BadSecrets::TooMany);
    }

    #[test]
    fn nothing_of_a_secret_is_shown() {
        assert_eq!(format!("{:?}", keyring(&[ONE])), "Keyring { keys: [Keys { .. }] }");
    }
}
