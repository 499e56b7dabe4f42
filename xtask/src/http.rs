//! Asking a node, as curl would.

use std::time::Duration;

use anyhow::{Context, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::Agent;

/// Longest wait for one answer. Far more than a healthy node takes, so that running into it is a
/// finding.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest answer that is read: nothing we ask for comes near.
const MAX_BODY_BYTES: u64 = 1 << 20;

/// One request, one connection, unless it is told otherwise: an answer never depends on what
/// happened to an earlier connection.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
}

/// An answer, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// The header `x-cache`: where the node had the value from.
    pub cache: Option<String>,
    pub body: String,
}

impl Client {
    /// A client that takes no proxy from the environment and follows no redirects.
    pub fn new() -> Self {
        Self::with_idle_connections(0)
    }

    /// The same for those who ask often: a connection is used again.
    pub fn keeping_connections() -> Self {
        Self::with_idle_connections(1)
    }

    fn with_idle_connections(idle_max: usize) -> Self {
        let config = Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .max_idle_connections(idle_max)
            .timeout_global(Some(ANSWER_TIMEOUT));
        Self { agent: config.build().into() }
    }

    /// GET.
    pub fn get(&self, url: &str) -> Result<Answer> {
        let response = self.agent.get(url).call();
        response.map_err(Into::into).and_then(answer).with_context(|| format!("GET {url}"))
    }

    /// PUT with a body.
    pub fn put(&self, url: &str, body: &str) -> Result<Answer> {
        let response = self.agent.put(url).send(body);
        response.map_err(Into::into).and_then(answer).with_context(|| format!("PUT {url}"))
    }

    /// DELETE.
    pub fn delete(&self, url: &str) -> Result<Answer> {
        let response = self.agent.delete(url).call();
        response.map_err(Into::into).and_then(answer).with_context(|| format!("DELETE {url}"))
    }
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Result<Answer> {
    let cache = response.headers().get("x-cache").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let body = response.body_mut().with_config().limit(MAX_BODY_BYTES).read_to_vec()?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Answer { status: response.status().as_u16(), cache, body })
}

/// Bytes that are escaped: all but `A-Za-z0-9-._~`, which are safe anywhere in a URL.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Escapes a text as `%XX`, byte by byte.
pub fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_byte_by_byte() {
        assert_eq!(percent_encode("张三 a+b/~"), "%E5%BC%A0%E4%B8%89%20a%2Bb%2F~");
    }
}
