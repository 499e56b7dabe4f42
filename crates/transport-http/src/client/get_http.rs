//! golang/groupcache's GET, as it is sent. The head of its answer comes when the load has ended.

use bytes::Bytes;
use http::{StatusCode, header};
use peercache_groupcache::{Error, ErrorKind, PeerReply, PeerRequest};
use tokio::time::Instant;

use crate::{
    client::connection::Connection,
    client::failure::{Failure, RequestError},
    client::peer_state::PeerState,
    client::request,
    client::response_body::ResponseBody,
    wire::error_codes::{self, MAX_TEXT_BYTES},
    wire::identity_header::{ERROR_WORD, Identity},
    wire::{escape, protobuf, reply_meta},
};

/// The longest escaped key, in bytes. Servers and proxies take request lines of 8 KiB and more, and
/// few take much more.
const MAX_ESCAPED_KEY_BYTES: usize = 8 * 1024;

/// The start of a 404 that does not mean "not found".
const NO_SUCH_GROUP: &[u8] = b"no such group: ";

/// Asks the peer for one key.
pub(super) async fn fetch(
    peer: &PeerState,
    connection: &mut dyn Connection,
    request: &PeerRequest,
) -> Result<Result<PeerReply, Error>, RequestError> {
    let Some(path) = path(&peer.config.base_path, &request.group, request.key.as_bytes()) else {
        return Err(RequestError::NotCarried);
    };
    // A Go peer's head comes after the load, so silence before it means nothing: only the timeout
    // of the whole fetch bounds it.
    let head = connection.send(request::get(&peer.config, &path)?).await?;
    let identity = Identity::read(&head.headers);
    peer.observe_identity(identity)?;
    // Only our own nodes are believed.
    let meta = identity.and_then(|_| reply_meta::of_headers(&head.headers));
    let since = Instant::now();
    if let Some(coding) = head.headers.get(header::CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        return Err(Failure::Coded(String::from_utf8_lossy(coding.as_bytes()).into_owned()).into());
    }
    let word = head.headers.get(ERROR_WORD).and_then(|word| error_codes::kind_of_word(word.as_bytes()));
    let mut body = ResponseBody::new(connection, peer.config.peer_timeout);
    if head.status == StatusCode::OK {
        let value = read_value(&mut body, request.max_value_bytes).await?;
        return Ok(Ok(PeerReply::new(value).meta(meta.unwrap_or_default().after(since.elapsed()))));
    }
    let kind = kind_of(head.status).ok_or(Failure::Status(head.status))?;
    let text = body.start(NO_SUCH_GROUP.len() + MAX_TEXT_BYTES).await?;
    check_not_found(head.status, &text)?;
    // The word says more than the status can.
    Ok(match (word.unwrap_or(kind), meta) {
        (ErrorKind::NotFound, Some(meta)) => Ok(PeerReply::not_found().meta(meta.after(since.elapsed()))),
        (kind, _) => Err(error_codes::error_of(kind, &text)),
    })
}

/// The path of a request; `None` when it would not arrive as it was sent.
fn path(base: &str, group: &str, key: &[u8]) -> Option<String> {
    let carried = escape::survives_in_path(group.as_bytes())
        && escape::survives_in_path(key)
        && escape::escaped_len(key) <= MAX_ESCAPED_KEY_BYTES;
    if !carried {
        return None;
    }
    let mut path = String::with_capacity(base.len() + 3 * (group.len() + key.len()) + 1);
    path.push_str(base);
    escape::escape_into(&mut path, group.as_bytes());
    path.push('/');
    escape::escape_into(&mut path, key);
    Some(path)
}

async fn read_value(body: &mut ResponseBody<'_>, max_value_bytes: usize) -> Result<Bytes, Failure> {
    let body = body.collect(max_value_bytes.saturating_add(protobuf::MAX_OVERHEAD_BYTES)).await?;
    let value = protobuf::value_of(body).map_err(Failure::garbage)?;
    if value.len() <= max_value_bytes { Ok(value) } else { Err(Failure::TooLong(max_value_bytes)) }
}

/// The error of the key that a status stands for; `None` when it is an error of the peer.
fn kind_of(status: StatusCode) -> Option<ErrorKind> {
    Some(match status {
        StatusCode::NOT_FOUND => ErrorKind::NotFound,
        StatusCode::INTERNAL_SERVER_ERROR => ErrorKind::LoadFailed,
        StatusCode::SERVICE_UNAVAILABLE => ErrorKind::Overloaded,
        StatusCode::GATEWAY_TIMEOUT => ErrorKind::LoadTimedOut,
        _ => return None,
    })
}

/// Tells a key that the owner does not have from an owner that does not have the group.
fn check_not_found(status: StatusCode, text: &[u8]) -> Result<(), Failure> {
    match text.strip_prefix(NO_SUCH_GROUP) {
        Some(group) if status == StatusCode::NOT_FOUND => Err(Failure::UnknownGroup(error_codes::text_from(group))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_a_go_server_reads_them() {
        let path = |group, key: &[u8]| path("/_groupcache/", group, key).unwrap();
        assert_eq!(path("g/h", b"a b+c/%2F"), "/_groupcache/g%2Fh/a%20b%2Bc%2F%252F");
        assert_eq!(path("g", b""), "/_groupcache/g/");
        assert_eq!(path("g", b"\xff\xfe"), "/_groupcache/g/%FF%FE");
        assert_eq!(path("g", b"..."), "/_groupcache/g/...");
    }

    #[test]
    fn keys_that_a_path_does_not_carry() {
        let long = [b'a'; MAX_ESCAPED_KEY_BYTES + 1];
        let carried = |group, key: &[u8]| path("/_groupcache/", group, key).is_some();
        assert!(!carried("g", b".") && !carried("g", b"..") && !carried("..", b"k") && !carried(".", b"k"));
        assert!(!carried("g", &long) && carried("g", &long[1..]));
        assert!(!carried("g", &[0xff; MAX_ESCAPED_KEY_BYTES / 3 + 1]));
    }
}
