//! golang/groupcache's GET, asked. Plainly: its answer begins when the load has ended.

use bytes::Bytes;
use http::{Method, StatusCode, Uri, header};
use peercache_groupcache::{Error, ErrorKind, PeerReply, PeerRequest};
use tokio::time::{Instant, timeout};

use crate::{
    client::connection::Line,
    client::failure::Failure,
    client::peer::{NoAnswer, Shared},
    client::response_body::{self, Chunks},
};
use crate::{
    wire::error_codes::{self, TEXT_BYTES_MAX},
    wire::identity_header::{ERROR_WORD, Greeting},
    wire::{escape, protobuf, reply_meta},
};

/// The longest escaped key, in bytes. Servers and proxies take request lines of 8 KiB and more, and few take much more.
const ESCAPED_KEY_BYTES_MAX: usize = 8 * 1024;

/// How a 404 begins that does not mean "not found".
const NO_SUCH_GROUP: &[u8] = b"no such group: ";

/// What the peer answers to a GET of this key.
pub(super) async fn ask(
    peer: &Shared,
    line: &mut dyn Line,
    request: &PeerRequest,
) -> Result<Result<PeerReply, Error>, NoAnswer> {
    let Some(path) = path(&peer.site.base_path, &request.group, request.key.as_bytes()) else {
        return Err(NoAnswer::NotCarried);
    };
    // A Go peer's head comes after the load, so silence before it means nothing: the bound of the whole fetch holds.
    let head = line.send(get(peer, &path)?).await?;
    let greeting = Greeting::read(&head.headers);
    peer.meet(greeting)?;
    let meta = greeting.and_then(|_| reply_meta::of_headers(&head.headers));
    let since = Instant::now();
    if let Some(coding) = head.headers.get(header::CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        return Err(Failure::Coded(String::from_utf8_lossy(coding.as_bytes()).into_owned()).into());
    }
    let word = head.headers.get(ERROR_WORD).and_then(|word| error_codes::kind_of_word(word.as_bytes()));
    let mut chunks = Chunks::new(line, peer.site.peer_timeout);
    Ok(match head.status {
        StatusCode::OK => {
            let value = value(&mut chunks, request.value_bytes_max).await?;
            Ok(PeerReply::new(value).meta(meta.unwrap_or_default().after(since.elapsed())))
        }
        status => {
            let kind = kind_of(status).ok_or(Failure::Status(status))?;
            let text = chunks.head(NO_SUCH_GROUP.len() + TEXT_BYTES_MAX).await?;
            check_not_found(status, &text)?;
            match (word.unwrap_or(kind), meta) {
                (ErrorKind::NotFound, Some(meta)) => Ok(PeerReply::not_found().meta(meta.after(since.elapsed()))),
                (kind, _) => Err(error_codes::error_of(kind, &text)),
            }
        }
    })
}

/// Whether the peer is one of ours, found out by asking for nothing. A path without a key is refused by whatever answers
/// under the base path, ours and Go's, and makes none of them load.
pub(super) async fn find_out(peer: &Shared, line: &mut dyn Line) -> Result<bool, Failure> {
    match ask_for_nothing(peer, line).await {
        // The connection may have been a stale one.
        Err(Failure::Closed(_)) if line.was_kept() => ask_for_nothing(peer, line).await,
        found_out => found_out,
    }
}

async fn ask_for_nothing(peer: &Shared, line: &mut dyn Line) -> Result<bool, Failure> {
    // Nothing is loaded for it, so the head has no reason to be late.
    let silence_max = peer.site.peer_timeout;
    let head = timeout(silence_max, line.send(get(peer, &peer.site.base_path)?)).await;
    let head = head.map_err(|_| Failure::Silent(silence_max))??;
    let greeting = Greeting::read(&head.headers);
    peer.meet(greeting)?;
    response_body::finish(line, silence_max, || ()).await;
    Ok(greeting.is_some())
}

/// The path of a request; `None` when it would not arrive as it was sent.
fn path(base: &str, group: &str, key: &[u8]) -> Option<String> {
    let carried = escape::survives_in_path(group.as_bytes())
        && escape::survives_in_path(key)
        && escape::escaped_len(key) <= ESCAPED_KEY_BYTES_MAX;
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

fn get(peer: &Shared, path: &str) -> Result<http::Request<Bytes>, Failure> {
    let (header, greeting) = &peer.site.greeting;
    http::Request::builder()
        .method(Method::GET)
        .uri(Uri::try_from(path).map_err(|error| Failure::Send(error.into()))?)
        .header(header, greeting)
        .body(Bytes::new())
        .map_err(|error| Failure::Send(error.into()))
}

async fn value(chunks: &mut Chunks<'_>, value_bytes_max: usize) -> Result<Bytes, Failure> {
    let body = chunks.collect(value_bytes_max.saturating_add(protobuf::OVERHEAD_BYTES_MAX)).await?;
    let value = protobuf::value_of(body).map_err(Failure::garbage)?;
    match value.len() <= value_bytes_max {
        true => Ok(value),
        false => Err(Failure::TooLong(value_bytes_max)),
    }
}

/// What a status says about the key; `None` when it says something about the peer.
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
    fn what_a_path_does_not_carry() {
        let long = [b'a'; ESCAPED_KEY_BYTES_MAX + 1];
        let carried = |group, key: &[u8]| path("/_groupcache/", group, key).is_some();
        assert!(!carried("g", b".") && !carried("g", b"..") && !carried("..", b"k") && !carried(".", b"k"));
        assert!(!carried("g", &long) && carried("g", &long[1..]));
        assert!(!carried("g", &[0xff; ESCAPED_KEY_BYTES_MAX / 3 + 1]));
    }
}
