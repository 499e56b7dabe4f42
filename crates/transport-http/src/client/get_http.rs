//! golang/groupcache's GET, as it is sent. The head of its answer comes when the load has ended.

use bytes::Bytes;
use http::{HeaderName, StatusCode, header, response};
use peercache_groupcache::{Error, ErrorKind, PeerReply, PeerRequest};
use tokio::time::Instant;

use crate::{
    client::connection::Connection,
    client::failure::{Failure, RequestError},
    client::peer_state::PeerState,
    client::request::{Answer, Request},
    client::response_body::ResponseBody,
    wire::error_codes::{self, ERROR_WORD, MAX_TEXT_BYTES},
    wire::{escape, protobuf, reply_meta},
};

/// The longest escaped key, in bytes. Servers and proxies take request lines of 8 KiB and more, and
/// few take much more.
const MAX_ESCAPED_KEY_BYTES: usize = 8 * 1024;

/// The content type of golang's values.
const PROTOBUF: &str = "application/x-protobuf";

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
    let answer = Request::get(&path)?.send(peer, connection).await?;
    let may_be_go = answer.may_be_go();
    let Answer { head, from } = answer;
    let mut codings = head.headers.get_all(header::CONTENT_ENCODING).iter();
    if let Some(coding) = codings.find(|coding| *coding != "identity") {
        return Err(Failure::Coded(String::from_utf8_lossy(coding.as_bytes()).into_owned()).into());
    }
    let body = ResponseBody::new(connection, peer.config.peer_timeout);
    match from {
        Ok(_) => read_ours(&head, body, request.max_value_bytes).await,
        Err(_) if may_be_go => Ok(read_go(&head, body, request.max_value_bytes).await?),
        Err(impostor) => Err(Failure::from(impostor).into()),
    }
}

/// Reads an answer of one of ours, which says more than Go's.
async fn read_ours(
    head: &response::Parts,
    mut body: ResponseBody<'_>,
    max_value_bytes: usize,
) -> Result<Result<PeerReply, Error>, RequestError> {
    let meta = reply_meta::of_headers(&head.headers);
    let since = Instant::now();
    if head.status == StatusCode::OK {
        let value = read_value(&mut body, max_value_bytes).await?;
        let value = value.ok_or_else(|| Failure::garbage("a body without a value"))?;
        return Ok(Ok(PeerReply::new(value).meta(meta.unwrap_or_default().after(since.elapsed()))));
    }
    let kind = kind_of(head.status).ok_or(Failure::Status(head.status))?;
    let text = body.start(NO_SUCH_GROUP.len() + MAX_TEXT_BYTES).await?;
    check_group(head.status, &text)?;
    // The word says more than the status can.
    let word = head.headers.get(ERROR_WORD).and_then(|word| error_codes::kind_of_word(word.as_bytes()));
    Ok(match (word.unwrap_or(kind), meta) {
        (ErrorKind::NotFound, Some(meta)) => Ok(PeerReply::not_found().meta(meta.after(since.elapsed()))),
        (kind, _) => Err(error_codes::error_of(kind, &text)),
    })
}

/// Reads an answer of golang/groupcache. It counts only in exactly the form that library gives it:
/// anybody else may be at a member's address, and a proxy before it.
async fn read_go(
    head: &response::Parts,
    mut body: ResponseBody<'_>,
    max_value_bytes: usize,
) -> Result<Result<PeerReply, Error>, Failure> {
    match head.status {
        StatusCode::OK if has(head, header::CONTENT_TYPE, PROTOBUF) => {
            let value = read_value(&mut body, max_value_bytes).await?;
            // An empty body is how Go writes nil.
            Ok(Ok(PeerReply::new(value.unwrap_or_default())))
        }
        StatusCode::OK => Err(Failure::garbage("a 200 without golang's content type")),
        StatusCode::INTERNAL_SERVER_ERROR if is_go_error(head) => {
            let text = body.start(MAX_TEXT_BYTES).await?;
            Ok(Err(error_codes::error_of(ErrorKind::LoadFailed, &text)))
        }
        StatusCode::NOT_FOUND => {
            check_group(head.status, &body.start(NO_SUCH_GROUP.len() + MAX_TEXT_BYTES).await?)?;
            Err(Failure::Status(head.status))
        }
        status => Err(Failure::Status(status)),
    }
}

/// Whether an error has the form that Go's `http.Error` gives it.
pub(super) fn is_go_error(head: &response::Parts) -> bool {
    has(head, header::X_CONTENT_TYPE_OPTIONS, "nosniff") && has(head, header::CONTENT_TYPE, "text/plain; charset=utf-8")
}

/// Whether it has this header once, and with this value.
fn has(head: &response::Parts, name: HeaderName, value: &str) -> bool {
    let mut headers = head.headers.get_all(name).iter();
    headers.next().is_some_and(|header| header == value) && headers.next().is_none()
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

/// The value of a 200; `None` for an empty body.
async fn read_value(body: &mut ResponseBody<'_>, max_value_bytes: usize) -> Result<Option<Bytes>, Failure> {
    let body = body.collect(max_value_bytes.saturating_add(protobuf::MAX_OVERHEAD_BYTES)).await?;
    if body.is_empty() {
        return Ok(None);
    }
    let value = protobuf::value_of(body).map_err(Failure::garbage)?;
    let value = value.ok_or_else(|| Failure::garbage("a body without a value"))?;
    if value.len() <= max_value_bytes { Ok(Some(value)) } else { Err(Failure::TooLong(max_value_bytes)) }
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
fn check_group(status: StatusCode, text: &[u8]) -> Result<(), Failure> {
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
