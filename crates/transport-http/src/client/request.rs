//! The HTTP requests to a peer, each with this node's identity header.

use bytes::Bytes;
use http::{Method, Uri};

use crate::client::{config::PoolConfig, failure::Failure};

/// A GET of this path.
pub(super) fn get(config: &PoolConfig, path: &str) -> Result<http::Request<Bytes>, Failure> {
    let uri = Uri::try_from(path).map_err(|error| Failure::Send(error.into()))?;
    build(config, Method::GET, uri, Bytes::new())
}

/// A POST of this body to a native path.
pub(super) fn post(config: &PoolConfig, path: &'static str, body: Bytes) -> Result<http::Request<Bytes>, Failure> {
    build(config, Method::POST, Uri::from_static(path), body)
}

fn build(config: &PoolConfig, method: Method, uri: Uri, body: Bytes) -> Result<http::Request<Bytes>, Failure> {
    let (name, value) = config.identity.header();
    http::Request::builder()
        .method(method)
        .uri(uri)
        .header(name, value)
        .body(body)
        .map_err(|error| Failure::Send(error.into()))
}
