use http::{HeaderMap, HeaderName, HeaderValue};

use crate::node_id::NodeId;

/// Says that the other side is one of ours, on requests and answers alike: `peercache: 1; node=0123456789abcdef`.
const GREETING: HeaderName = HeaderName::from_static("peercache");

/// The word for an error, beside the status that golang's dialect has for it: statuses are few.
pub(crate) const ERROR_WORD: HeaderName = HeaderName::from_static("peercache-error");

/// The newest version of `/_peercache/vN/` that we speak. We speak all before it, too.
pub(crate) const VERSION: u32 = 1;

/// Where a native get goes.
pub(crate) const GET_PATH: &str = "/_peercache/v1/get";

/// Where a change is told.
pub(crate) const UPDATE_PATH: &str = "/_peercache/v1/update";

/// What a node says of itself with every request and answer. Parameters that we do not know are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) version: u32,
    pub(crate) node: NodeId,
}

impl Greeting {
    pub(crate) fn new(node: NodeId) -> Self {
        Greeting { version: VERSION, node }
    }

    pub(crate) fn to_header(self) -> (HeaderName, HeaderValue) {
        let text = format!("{}; node={}", self.version, self.node);
        (GREETING, HeaderValue::try_from(text).expect("digits and letters make a header value"))
    }

    /// The greeting of whoever sent these headers; `None` from strangers.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut parts = headers.get(GREETING)?.to_str().ok()?.split(';').map(str::trim);
        let version = parts.next()?.parse().ok().filter(|version| *version >= 1)?;
        let node = parts.find_map(|part| part.strip_prefix("node="))?.parse().ok()?;
        Some(Greeting { version, node })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Option<Greeting> {
        Greeting::read(&HeaderMap::from_iter([(GREETING, HeaderValue::from_static(text))]))
    }

    #[test]
    fn reads_what_it_writes() {
        let greeting = Greeting::new(NodeId::random());
        assert_eq!(Greeting::read(&HeaderMap::from_iter([greeting.to_header()])), Some(greeting));
    }

    #[test]
    fn a_later_version_with_more_to_say_is_understood() {
        let greeting = read("7; keys=64; node=00000000000000ff; mood=good").unwrap();
        assert_eq!((greeting.version, greeting.node.to_string().as_str()), (7, "00000000000000ff"));
    }

    #[test]
    fn anything_else_is_a_stranger() {
        for text in ["", "0; node=00000000000000ff", "1", "1; node=", "one; node=00000000000000ff", "1; node=ff"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
