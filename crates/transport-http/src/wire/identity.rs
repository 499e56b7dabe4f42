//! The `peercache` header, on every request and answer of ours: who asks whom, and who answers.

use std::{borrow::Cow, fmt::Write};

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::{
    auth::keyring::{BodyHash, KeyId, Tag},
    node_id::NodeId,
};

/// Says that the other side is one of ours.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("peercache");

/// The newest version of `/_peercache/vN/` that we speak. We speak all before it, too.
pub(crate) const VERSION: u32 = 1;

/// The longest header that is read, in bytes. Two names of 1 KiB fit, if they are URLs.
const MAX_BYTES: usize = 8 * 1024;

/// The longest name of a cluster, in bytes.
pub(crate) const MAX_CLUSTER_BYTES: usize = 255;

/// The longest name of a member, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 1024;

/// The bytes that a name escapes: all but letters, digits and what URLs are made of.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':')
    .remove(b'/')
    .remove(b'[')
    .remove(b']');

/// A process of a member, as it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) version: u32,
    pub(crate) node: NodeId,
    /// Empty for the default cluster, and where nothing is said of it.
    pub(crate) cluster: Box<str>,
    /// The name by which members know it; empty where nothing is said of it.
    pub(crate) name: Box<str>,
}

/// The header of a request: who asks, and whom it means to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) identity: Identity,
    /// The member that is meant; `None` from an earlier release, which does not say it.
    pub(crate) to: Option<Box<str>>,
    pub(crate) signature: Option<Signature>,
    /// A random number that is to be proved with the secret, while there is no nonce to sign with.
    pub(crate) challenge: Option<Tag>,
}

/// The signature of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) nonce: u128,
    pub(crate) count: u64,
    pub(crate) key: KeyId,
    pub(crate) body: BodyHash,
    pub(crate) tag: Tag,
}

/// The header of an answer: who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answerer {
    pub(crate) identity: Identity,
    /// The nonce that the next requests are to be signed with, where there is a secret.
    pub(crate) nonce: Option<u128>,
    /// Proof that the answer is of a member that knows the secret.
    pub(crate) proof: Option<Tag>,
}

impl Identity {
    fn write(&self, text: &mut String) {
        write!(text, "{}; node={}", self.version, self.node).expect("a string takes all");
        write_name(text, "cluster", &self.cluster);
        write_name(text, "name", &self.name);
    }

    fn read(parameters: &Parameters<'_>) -> Option<Self> {
        let cluster = parameters.name("cluster", MAX_CLUSTER_BYTES)?;
        let name = parameters.name("name", MAX_NAME_BYTES)?;
        Some(Identity {
            version: parameters.version,
            node: parameters.value("node")?.parse().ok()?,
            cluster: cluster.unwrap_or_default(),
            name: name.unwrap_or_default(),
        })
    }
}

impl Asker {
    /// The header of a request.
    pub(crate) fn header(&self) -> HeaderValue {
        let mut text = String::with_capacity(512);
        self.identity.write(&mut text);
        write_name(&mut text, "to", self.to.as_deref().unwrap_or_default());
        if let Some(challenge) = &self.challenge {
            write_hex(&mut text, "challenge", challenge);
        }
        if let Some(Signature { nonce, count, key, body, tag }) = self.signature {
            write!(text, "; nonce={nonce:032x}; count={count}").expect("a string takes all");
            for (name, bytes) in [("key", &key[..]), ("body", &body), ("mac", &tag)] {
                write_hex(&mut text, name, bytes);
            }
        }
        HeaderValue::try_from(text).expect("what is escaped makes a header value")
    }

    /// Whether it is of an earlier release, which says neither cluster nor names.
    pub(crate) fn is_of_before(&self) -> bool {
        self.identity.cluster.is_empty() && self.identity.name.is_empty() && self.to.is_none()
    }

    /// The asker of a request; `None` from strangers, and from those who cannot be understood.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let parameters = Parameters::read(headers)?;
        let identity = Identity::read(&parameters)?;
        let to = parameters.name("to", MAX_NAME_BYTES)?.filter(|to| !to.is_empty());
        let signature = if parameters.value("mac").is_some() { Some(Signature::read(&parameters)?) } else { None };
        let challenge = match parameters.value("challenge") {
            Some(text) => Some(hex(text)?),
            None => None,
        };
        Some(Asker { identity, to, signature, challenge })
    }
}

impl Signature {
    fn read(parameters: &Parameters<'_>) -> Option<Self> {
        Some(Signature {
            nonce: parameters.nonce()?,
            count: decimal(parameters.value("count")?)?,
            key: hex(parameters.value("key")?)?,
            body: hex(parameters.value("body")?)?,
            tag: hex(parameters.value("mac")?)?,
        })
    }
}

impl Answerer {
    /// The header of an answer.
    pub(crate) fn header(&self) -> HeaderValue {
        let mut text = String::with_capacity(512);
        self.identity.write(&mut text);
        if let Some(nonce) = self.nonce {
            write!(text, "; nonce={nonce:032x}").expect("a string takes all");
        }
        if let Some(proof) = &self.proof {
            write_hex(&mut text, "proof", proof);
        }
        HeaderValue::try_from(text).expect("what is escaped makes a header value")
    }

    /// The answerer; `None` of strangers, and of those who cannot be understood.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let parameters = Parameters::read(headers)?;
        let identity = Identity::read(&parameters)?;
        let nonce = if parameters.value("nonce").is_some() { Some(parameters.nonce()?) } else { None };
        let proof = match parameters.value("proof") {
            Some(text) => Some(hex(text)?),
            None => None,
        };
        Some(Answerer { identity, nonce, proof })
    }
}

/// The parameters of a header behind its version. Those that are unknown are passed over.
struct Parameters<'a> {
    version: u32,
    pairs: Vec<(&'a str, &'a str)>,
}

/// More than we know of, and few enough to be looked through.
const MAX_PARAMETERS: usize = 32;

impl<'a> Parameters<'a> {
    fn read(headers: &'a HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(HEADER).iter();
        let (header, None) = (all.next()?, all.next()) else { return None };
        let text = header.to_str().ok().filter(|text| text.len() <= MAX_BYTES)?;
        let mut parts = text.split(';').map(str::trim);
        let version = decimal(parts.next()?)?;
        let version = u32::try_from(version).ok().filter(|version| *version >= 1)?;
        let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(10);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            // Said twice is said unclearly.
            if pairs.len() == MAX_PARAMETERS || pairs.iter().any(|(known, _)| *known == name) {
                return None;
            }
            pairs.push((name, value));
        }
        Some(Parameters { version, pairs })
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// A name that may be absent; `None` for one that cannot be read.
    #[expect(clippy::option_option, reason = "absent is fine where unreadable is not")]
    fn name(&self, name: &str, max_bytes: usize) -> Option<Option<Box<str>>> {
        let Some(text) = self.value(name) else { return Some(None) };
        let text = percent_decode_str(text).decode_utf8().ok()?;
        (text.len() <= max_bytes).then(|| Some(Cow::into_owned(text).into_boxed_str()))
    }

    fn nonce(&self) -> Option<u128> {
        hex::<16>(self.value("nonce")?).map(u128::from_be_bytes)
    }
}

/// Nothing is written of a name that is empty.
fn write_name(text: &mut String, parameter: &str, name: &str) {
    if !name.is_empty() {
        write!(text, "; {parameter}={}", utf8_percent_encode(name, ESCAPED)).expect("a string takes all");
    }
}

fn write_hex(text: &mut String, parameter: &str, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.push_str("; ");
    text.push_str(parameter);
    text.push('=');
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
}

/// Exactly `N` bytes in hexadecimal digits of lower case, as they are written.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Digits alone: no sign.
fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|digit| digit.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(HEADER, HeaderValue::from_str(text).unwrap())])
    }

    fn identity() -> Identity {
        Identity {
            version: 1,
            node: "0123456789abcdef".parse().unwrap(),
            cluster: "orders".into(),
            name: "http://a:9090".into(),
        }
    }

    #[test]
    fn a_request_without_a_secret() {
        let asker = Asker { identity: identity(), to: Some("http://b:9090".into()), signature: None, challenge: None };
        let text = "1; node=0123456789abcdef; cluster=orders; name=http://a:9090; to=http://b:9090";
        assert_eq!(asker.header(), text);
        assert_eq!(Asker::read(&headers(text)), Some(asker));
    }

    #[test]
    fn a_request_that_is_signed() {
        let signature = Signature { nonce: 7, count: 300, key: [1, 2, 3, 4], body: [5; 32], tag: [6; 16] };
        let asker = Asker {
            identity: identity(),
            to: Some("http://b:9090".into()),
            signature: Some(signature),
            challenge: None,
        };
        let text = format!(
            "1; node=0123456789abcdef; cluster=orders; name=http://a:9090; to=http://b:9090; \
             nonce=00000000000000000000000000000007; count=300; key=01020304; body={}; mac={}",
            "05".repeat(32),
            "06".repeat(16),
        );
        assert_eq!(asker.header(), text.as_str());
        assert_eq!(Asker::read(&headers(&text)), Some(asker));
    }

    #[test]
    fn an_answer() {
        let answerer = Answerer { identity: identity(), nonce: Some(7), proof: Some([9; 16]) };
        let text = format!(
            "1; node=0123456789abcdef; cluster=orders; name=http://a:9090; \
             nonce=00000000000000000000000000000007; proof={}",
            "09".repeat(16),
        );
        assert_eq!(answerer.header(), text.as_str());
        assert_eq!(Answerer::read(&headers(&text)), Some(answerer));
    }

    #[test]
    fn a_header_of_before_is_of_no_cluster_and_no_name() {
        let asker = Asker::read(&headers("1; node=00000000000000ff")).unwrap();
        assert_eq!((&*asker.identity.cluster, &*asker.identity.name, asker.to, asker.signature), ("", "", None, None));
    }

    #[test]
    fn a_later_version_with_more_to_say_is_understood() {
        let answerer = Answerer::read(&headers("7; keys=64; node=00000000000000ff; mood=good")).unwrap();
        assert_eq!((answerer.identity.version, answerer.identity.node.to_string().as_str()), (7, "00000000000000ff"));
    }

    #[test]
    fn anything_else_is_a_stranger() {
        for text in [
            "",
            "0; node=00000000000000ff",
            "+1; node=00000000000000ff",
            "1",
            "1; node=",
            "one; node=00000000000000ff",
            "1; node=ff",
            "1; node=00000000000000ff; node=00000000000000ff",
            "1; node=00000000000000ff; cluster=%ff",
            "1; node=00000000000000ff; cluster=a; cluster=a",
        ] {
            assert!(Asker::read(&headers(text)).is_none() && Answerer::read(&headers(text)).is_none(), "{text:?}");
        }
        for text in ["mac=00", "mac=0g", "mac=", "proof=+1"] {
            let text = format!("1; node=00000000000000ff; {text}");
            assert!(Asker::read(&headers(&text)).is_none() || Answerer::read(&headers(&text)).is_none(), "{text:?}");
        }
        let long = format!("1; node=00000000000000ff; cluster={}", "a".repeat(MAX_CLUSTER_BYTES + 1));
        assert!(Asker::read(&headers(&long)).is_none());
        let mut twice = headers("1; node=00000000000000ff");
        twice.append(HEADER, HeaderValue::from_static("1; node=00000000000000ff"));
        assert!(Asker::read(&twice).is_none());
    }

    fn any_identity() -> impl Strategy<Value = Identity> {
        (any::<u32>(), any::<u64>(), "\\PC{0,20}", "\\PC{0,40}").prop_map(|(version, node, cluster, name)| Identity {
            version: version.max(1),
            node: format!("{node:016x}").parse().unwrap(),
            cluster: cluster.into(),
            name: name.into(),
        })
    }

    proptest! {
        #[test]
        fn every_asker_comes_back(
            identity in any_identity(),
            to in prop::option::of("\\PC{1,40}"),
            signature in prop::option::of(any::<(u128, u64, KeyId, BodyHash, Tag)>()),
            challenge: Option<Tag>,
        ) {
            let signature = signature.map(|(nonce, count, key, body, tag)| Signature { nonce, count, key, body, tag });
            let asker = Asker { identity, to: to.map(Into::into), signature, challenge };
            prop_assert_eq!(Asker::read(&HeaderMap::from_iter([(HEADER, asker.header())])), Some(asker));
        }

        #[test]
        fn every_answerer_comes_back(identity in any_identity(), nonce: Option<u128>, proof: Option<Tag>) {
            let answerer = Answerer { identity, nonce, proof };
            prop_assert_eq!(Answerer::read(&HeaderMap::from_iter([(HEADER, answerer.header())])), Some(answerer));
        }

        #[test]
        fn any_header_is_read_or_refused(text: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&text) {
                let headers = HeaderMap::from_iter([(HEADER, value)]);
                let _ = (Asker::read(&headers), Answerer::read(&headers));
            }
        }
    }
}
