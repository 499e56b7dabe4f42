//! An HTTP server as origin.

use bytes::{Bytes, BytesMut};
use peercache::{Key, LoadError};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use reqwest::{Client, Response, StatusCode, Url, redirect::Policy};
use tokio::sync::Semaphore;

use super::too_large;

/// The bytes of a key that are escaped: all but `A-Za-z0-9-._~`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PLACEHOLDER: &str = "{key}";

/// Bodies longer than this are read by a few loads at a time, so that hundreds of loads do not have
/// hundreds of the longest bodies in memory.
const LONG_BODY_BYTES: usize = 1 << 20;
const LONG_BODIES_MAX: usize = 4;
/// The most idle connections that are kept open.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// The most bytes read of an answer that is not wanted, so that its connection can be used again.
const UNWANTED_BODY_BYTES_MAX: usize = 16 << 10;

/// An HTTP server that answers 200 with the role or 404.
pub struct Http {
    client: Client,
    /// Keeps no connection, for the second try of a request.
    unpooled: Client,
    template: Template,
    role_bytes_max: usize,
    long_bodies: Semaphore,
}

/// The address of a role, with `{key}` where the key goes.
#[derive(Clone, Debug)]
pub struct Template {
    server: Url,
    path_and_query: String,
}

/// The reason why the origin gave no role.
#[derive(Debug, thiserror::Error)]
enum OriginError {
    #[error("the origin answered {0}")]
    Status(StatusCode),
    #[error("a key of dots cannot be asked for in the path of a URL; have {PLACEHOLDER} in the query of --origin")]
    Path,
}

impl Http {
    pub fn new(template: Template, role_bytes_max: usize) -> Result<Self, reqwest::Error> {
        let client = |idle| Client::builder().no_proxy().redirect(Policy::none()).pool_max_idle_per_host(idle).build();
        let (client, unpooled) = (client(IDLE_CONNECTIONS_MAX)?, client(0)?);
        Ok(Http { client, unpooled, template, role_bytes_max, long_bodies: Semaphore::new(LONG_BODIES_MAX) })
    }

    /// The role of `name`, which may be any bytes.
    pub async fn role(&self, name: &Key) -> Result<Bytes, LoadError> {
        let response = self.ask(&self.template.url(name.as_bytes())?).await?;
        match response.status() {
            StatusCode::OK => self.body(response).await,
            status => {
                read_and_discard(response).await;
                Err(match status {
                    StatusCode::NOT_FOUND => LoadError::not_found(),
                    _ => OriginError::Status(status).into(),
                })
            }
        }
    }

    /// Asks for a URL, and once more on a new connection if the server has closed a kept one: it
    /// may do so at any time, and a GET changes nothing.
    async fn ask(&self, url: &Url) -> reqwest::Result<Response> {
        match self.client.get(url.clone()).send().await {
            Err(error) if error.is_request() && !error.is_connect() && !error.is_timeout() => {
                self.unpooled.get(url.clone()).send().await
            }
            asked => asked,
        }
    }

    /// Reads the whole body, unless it is too long. Then no more of it is read.
    async fn body(&self, mut response: Response) -> Result<Bytes, LoadError> {
        let announced = usize::try_from(response.content_length().unwrap_or(0)).unwrap_or(usize::MAX);
        if announced > self.role_bytes_max {
            return Err(too_large(announced, self.role_bytes_max));
        }
        let mut permit = None;
        let mut body = BytesMut::new();
        while let Some(piece) = response.chunk().await? {
            let body_bytes = body.len() + piece.len();
            if body_bytes > self.role_bytes_max {
                return Err(too_large(body_bytes, self.role_bytes_max));
            }
            if body_bytes > LONG_BODY_BYTES && permit.is_none() {
                permit = Some(self.long_bodies.acquire().await?);
                body.reserve(announced.saturating_sub(body.len()));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }
}

async fn read_and_discard(mut response: Response) {
    let mut read_bytes = 0;
    while let Ok(Some(piece)) = response.chunk().await {
        read_bytes += piece.len();
        if read_bytes > UNWANTED_BODY_BYTES_MAX {
            return;
        }
    }
}

impl Template {
    /// Parses a template, and checks that every key arrives as it is.
    ///
    /// A URL that the parser rewrites could change keys, too.
    pub fn parse(text: &str) -> Result<Self, String> {
        let example = "http://HOST:PORT/PATH?key={key}";
        let server = text.strip_prefix("http://").ok_or_else(|| format!("write {example}"))?;
        let (authority, path_and_query) = match server.find(['/', '?', '#']) {
            Some(end) => server.split_at(end),
            None => (server, ""),
        };
        if !path_and_query.contains(PLACEHOLDER) {
            return Err(format!("write {PLACEHOLDER} where the key goes: {example}"));
        }
        let server =
            Url::parse(&format!("http://{authority}/")).map_err(|error| format!("{error}; write {example}"))?;
        let template = Template { server, path_and_query: path_and_query.to_owned() };
        match template.expand("x") {
            Some(_) => Ok(template),
            None => Err(format!(
                "{path_and_query} would not be sent as it is; begin it with /, and escape what is not plain"
            )),
        }
    }

    fn url(&self, key: &[u8]) -> Result<Url, OriginError> {
        self.expand(&percent_encode(key, ESCAPED).to_string()).ok_or(OriginError::Path)
    }

    /// The URL for an escaped key, unless the parser would change it: it takes `.` and `..` out of
    /// paths.
    fn expand(&self, key: &str) -> Option<Url> {
        let wanted = self.path_and_query.replace(PLACEHOLDER, key);
        let url = self.server.join(&wanted).ok()?;
        let sent = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        (sent == wanted).then_some(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(template: &str, key: &[u8]) -> Result<String, String> {
        Template::parse(template)?.url(key).map(String::from).map_err(|error| error.to_string())
    }

    #[test]
    fn every_byte_arrives_as_itself() {
        let all: Vec<u8> = (0..=255).collect();
        let url = sent("http://h:1/p?key={key}", &all).unwrap();
        let escaped = url.strip_prefix("http://h:1/p?key=").unwrap();
        assert!(escaped.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)), "{escaped}");
        assert_eq!(percent_encoding::percent_decode_str(escaped).collect::<Vec<u8>>(), all);
    }

    #[test]
    fn plain_characters_are_not_escaped() {
        assert_eq!(sent("http://h/?key={key}", b"Az09-._~ ").unwrap(), "http://h/?key=Az09-._~%20");
    }

    #[test]
    fn dots_are_keys_in_a_query_and_an_error_in_a_path() {
        assert_eq!(sent("http://h/p?key={key}", b"..").unwrap(), "http://h/p?key=..");
        assert_eq!(sent("http://h/p/{key}", b"...").unwrap(), "http://h/p/...");
        assert!(sent("http://h/p/{key}", b"..").unwrap_err().contains("key of dots"));
    }

    #[test]
    fn an_empty_key_is_asked_for_like_any_other() {
        assert_eq!(sent("http://h/p?key={key}&v=1", b"").unwrap(), "http://h/p?key=&v=1");
    }

    #[test]
    fn a_template_that_would_not_be_sent_as_it_is_is_refused() {
        for template in [
            "http://h/p",
            "http://{key}/p",
            "http:///p?key={key}",
            "http://h?key={key}",
            "http://h/../p?key={key}",
            "http://h/a b?key={key}",
            "http://h/p?key={key}#there",
            "http://h//other/{key}",
        ] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }
}
