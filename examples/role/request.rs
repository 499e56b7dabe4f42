//! A request for one name: what it asks for, and how long its caller waits.
use std::{future::Future, time::Duration};

use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use peercache::{Answer, Error, Group};
use tokio::time::{Instant, timeout_at};

use crate::form;

const TIMEOUT_HEADER: &str = "x-timeout-ms";
/// The longest deadline that a caller can set. A longer one means this.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// The name that a request asks for, and its deadline.
pub struct RoleRequest {
    pub name: Vec<u8>,
    timeout: Option<Duration>,
    received: Instant,
}

impl RoleRequest {
    /// Reads query and headers, or returns a sentence that says what is missing.
    pub fn read(query: Option<&str>, headers: &HeaderMap) -> Result<Self, &'static str> {
        let name = form::field(query, "name").ok_or("write whom you ask for: ?name=NAME\n")?;
        let timeout = headers.get(TIMEOUT_HEADER).map(milliseconds).transpose()?;
        Ok(RoleRequest { name, timeout, received: Instant::now() })
    }

    /// Gets the role, by the deadline if there is one.
    pub async fn answer(&self, roles: &Group<Bytes>) -> Result<Answer<Bytes>, Error> {
        let get = roles.get(&self.name);
        match self.timeout {
            Some(timeout) => get.timeout(timeout).detailed().await,
            None => get.detailed().await,
        }
    }

    /// The answer of `work`, or `None` if the deadline is over first.
    pub async fn within<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match self.timeout {
            Some(timeout) => timeout_at(self.received + timeout, work).await.ok(),
            None => Some(work.await),
        }
    }
}

fn milliseconds(value: &HeaderValue) -> Result<Duration, &'static str> {
    let digits = value.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let digits = digits.ok_or("write x-timeout-ms as a number of milliseconds\n")?;
    // A number that does not fit is beyond the longest deadline as well.
    Ok(Duration::from_millis(digits.parse().unwrap_or(u64::MAX)).min(MAX_TIMEOUT))
}
