//! A request to a peer: shown with this node's identity, signed where there is a secret, and its
//! answer checked.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Uri, response};
use tokio::time::timeout;

use crate::{
    auth::credentials::{Checked, Impostor, Signing},
    client::connection::Connection,
    client::failure::Failure,
    client::peer_state::PeerState,
    client::protocol_state::Event,
    client::response_body,
    wire::identity::{HEADER, Identity},
};

/// A request to a member, without the header that says who asks.
pub(super) struct Request {
    method: Method,
    uri: Uri,
    body: Bytes,
    /// Whether the member is not to take it twice.
    is_counted: bool,
    /// The longest time for which the head of its answer is waited for.
    max_silence: Option<Duration>,
}

/// The head of an answer, and who gave it.
pub(super) struct Answer {
    pub(super) head: response::Parts,
    pub(super) from: Result<Identity, Impostor>,
}

impl Request {
    /// A GET of this path.
    pub(super) fn get(path: &str) -> Result<Self, Failure> {
        let uri = Uri::try_from(path).map_err(|error| Failure::Send(error.into()))?;
        Ok(Request { method: Method::GET, uri, body: Bytes::new(), is_counted: false, max_silence: None })
    }

    /// A POST of this body to a native path.
    pub(super) fn post(path: &'static str, body: Bytes) -> Self {
        let uri = Uri::from_static(path);
        Request { method: Method::POST, uri, body, is_counted: false, max_silence: None }
    }

    /// Numbers the request, so that a recorded copy of it does nothing.
    pub(super) fn counted(mut self) -> Self {
        self.is_counted = true;
        self
    }

    /// Bounds the wait for the head of the answer.
    pub(super) fn max_silence(mut self, max_silence: Duration) -> Self {
        self.max_silence = Some(max_silence);
        self
    }

    /// Sends the request, and once more when the peer hands out a nonce for it:
    ///
    /// ```text
    /// first contact:      unsigned, without the body -> nonce -> signed
    /// the nonce is over:  signed -> 401 and a nonce -> signed again
    /// ```
    ///
    /// Each time that it is called, the request has a new count.
    pub(super) async fn send(&self, peer: &PeerState, connection: &mut dyn Connection) -> Result<Answer, Failure> {
        if let Some(answer) = self.send_once(peer, connection).await? {
            return Ok(answer);
        }
        // The body of the refusal, so that the connection can be used again.
        response_body::drain(connection, peer.config.peer_timeout, || ()).await;
        self.send_once(peer, connection).await?.ok_or(Failure::Status(StatusCode::UNAUTHORIZED))
    }

    /// The answer; `None` when the request is to be signed with another nonce.
    async fn send_once(&self, peer: &PeerState, connection: &mut dyn Connection) -> Result<Option<Answer>, Failure> {
        let credentials = &peer.config.credentials;
        let request = (&self.method, self.uri.path(), &self.body[..]);
        let (shown, signing) = credentials.show(&peer.session, &peer.name, request, self.is_counted).await;
        let body = match signing {
            Signing::Done => self.body.clone(),
            Signing::NeedsNonce => Bytes::new(),
        };
        let sent = connection.send(self.with(shown.header.clone(), body)?);
        let head = match self.max_silence {
            Some(max_silence) => timeout(max_silence, sent).await.map_err(|_| Failure::Silent(max_silence))??,
            None => sent.await?,
        };
        let from = match credentials.check(&peer.session, &peer.name, &shown, &head).await {
            Ok(Checked::SignAgain) => return Ok(None),
            Ok(Checked::Believed(identity)) => Ok(identity),
            Err(impostor) => Err(impostor),
        };
        peer.protocol.observe(match &from {
            Ok(_) => Event::Identified,
            Err(_) => Event::NotIdentified,
        });
        Ok(Some(Answer { head, from }))
    }

    fn with(&self, header: HeaderValue, body: Bytes) -> Result<http::Request<Bytes>, Failure> {
        http::Request::builder()
            .method(self.method.clone())
            .uri(self.uri.clone())
            .header(HEADER, header)
            .body(body)
            .map_err(|error| Failure::Send(error.into()))
    }
}

impl Answer {
    /// The head of the answer, if it is of the member that was asked, whatever its status.
    pub(super) fn believed(self) -> Result<response::Parts, Failure> {
        self.from.map_err(Failure::from)?;
        Ok(self.head)
    }

    /// The head of a native answer, which frames follow.
    pub(super) fn frames_follow(self) -> Result<(), Failure> {
        match self.believed()?.status {
            StatusCode::OK => Ok(()),
            status => Err(Failure::Status(status)),
        }
    }
}
