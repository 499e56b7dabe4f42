//! The identity header, which tells our own nodes from others, and the native paths.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::node_id::NodeId;
#[cfg(feature = "server")]
pub(crate) use crate::wire::{
    error_codes::ERROR_WORD,
    paths::{GET_PATH, UPDATE_PATH},
};

/// Says that the sender is one of our nodes, on requests and answers alike:
/// `peercache: 1; node=0123456789abcdef`.
const HEADER: HeaderName = HeaderName::from_static("peercache");

/// The newest version of `/_peercache/vN/` that we speak. We speak all before it, too.
pub(crate) const VERSION: u32 = 1;

/// The identity of a node, as it is sent with every request and answer. Unknown parameters are
/// skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) version: u32,
    pub(crate) node: NodeId,
}

impl Identity {
    /// The identity of the node that sent these headers; `None` from others.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut parts = headers.get(HEADER)?.to_str().ok()?.split(';').map(str::trim);
        let version = parts.next()?.parse().ok().filter(|version| *version >= 1)?;
        let node = parts.find_map(|part| part.strip_prefix("node="))?.parse().ok()?;
        Some(Identity { version, node })
    }

    fn to_value(self) -> HeaderValue {
        let text = format!("{}; node={}", self.version, self.node);
        HeaderValue::try_from(text).expect("digits and letters make a header value")
    }
}

/// This node's own identity, ready to be sent.
#[derive(Clone)]
pub(crate) struct OwnIdentity {
    identity: Identity,
    value: HeaderValue,
}

impl OwnIdentity {
    pub(crate) fn new(node: NodeId) -> Self {
        let identity = Identity { version: VERSION, node };
        OwnIdentity { value: identity.to_value(), identity }
    }

    pub(crate) fn node_id(&self) -> NodeId {
        self.identity.node
    }

    /// Whether the other side is this node itself.
    pub(crate) fn is(&self, other: Identity) -> bool {
        other.node == self.identity.node
    }

    /// The header that says it.
    pub(crate) fn header(&self) -> (HeaderName, HeaderValue) {
        (HEADER, self.value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Option<Identity> {
        Identity::read(&HeaderMap::from_iter([(HEADER, HeaderValue::from_static(text))]))
    }

    #[test]
    fn reads_what_it_writes() {
        let own = OwnIdentity::new(NodeId::random());
        let read = Identity::read(&HeaderMap::from_iter([own.header()])).unwrap();
        assert_eq!(read, own.identity);
        assert!(own.is(read) && !OwnIdentity::new(NodeId::random()).is(read));
    }

    #[test]
    fn a_later_version_with_more_to_say_is_understood() {
        let identity = read("7; keys=64; node=00000000000000ff; mood=good").unwrap();
        assert_eq!((identity.version, identity.node.to_string().as_str()), (7, "00000000000000ff"));
    }

    #[test]
    fn any_other_header_is_no_identity() {
        for text in ["", "0; node=00000000000000ff", "1", "1; node=", "one; node=00000000000000ff", "1; node=ff"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
