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
        peer.hear();
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
    /// Whether it may be of a Go process: that has no header of ours, and so none that is damaged.
    pub(super) fn may_be_go(&self) -> bool {
        self.from == Err(Impostor::Stranger) && !self.head.headers.contains_key(HEADER)
    }

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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{HeaderMap, request::Parts};
    use peercache_groupcache::{Change, Connect, Member, Peer, PeerError, PeerRequest, PeerUpdate, Reply};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::oneshot,
    };

    use crate::{
        auth::{
            gate::{Admitted, Gate, Repeats},
            keyring::body_hash,
            secrets::Secrets,
        },
        client::pool::HttpPool,
        dialect::Dialect,
        membership::Membership,
        node_id::NodeId,
        wire::{
            identity::{Asker, HEADER},
            paths::UPDATE_PATH,
        },
    };

    const ONE: &str = "the first secret, of more than 32 bytes";
    const TWO: &str = "the second secret, of more than 32 bytes";
    const VALUE: &[u8] = b"\x11\0\0\0\0\0\0\x01v";

    /// A request as it came: its head, and its body.
    type Came = (Parts, Vec<u8>);

    /// The requests that a peer got, in words: whether they were signed and had a body.
    type Seen = Arc<Mutex<Vec<String>>>;

    async fn read(stream: &mut TcpStream) -> Option<Came> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let mut words = lines.next().unwrap().split(' ');
        let mut request = http::Request::builder().method(words.next().unwrap()).uri(words.next().unwrap());
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let length = head.headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        Some((head, body))
    }

    fn words((head, body): &Came) -> String {
        let asker = Asker::read(&head.headers).unwrap();
        let signed = if asker.signature.is_some() { "signed" } else { "unsigned" };
        format!("{} {signed} {}", head.method, if body.is_empty() { "empty" } else { "full" })
    }

    /// A peer that answers as this says; `None` closes the connection.
    async fn peer_that<F>(answer: impl Fn(Came) -> F + Clone + Send + Sync + 'static) -> (String, Seen)
    where
        F: Future<Output = Option<Vec<u8>>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Seen::default();
        let kept = seen.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, seen) = (answer.clone(), kept.clone());
                tokio::spawn(async move {
                    while let Some(came) = read(&mut stream).await {
                        seen.lock().unwrap().push(words(&came));
                        let Some(answer) = answer(came).await else { return };
                        stream.write_all(&answer).await.unwrap();
                    }
                });
            }
        });
        (url, seen)
    }

    fn secrets(secrets: &[&str]) -> Option<Secrets> {
        (!secrets.is_empty()).then(|| Secrets::new(secrets).unwrap())
    }

    fn gate(known: &[&str]) -> Arc<Gate> {
        Arc::new(Gate::new(NodeId::random(), "", "b", secrets(known)))
    }

    /// The answer of a member behind this gate: `v` to who is admitted.
    async fn answer_of(gate: &Gate, (head, body): Came) -> Vec<u8> {
        let repeats = if head.uri.path() == UPDATE_PATH { Repeats::Refused } else { Repeats::Allowed };
        let admitted = gate.admit(&head, repeats).await;
        let status = admitted.as_ref().map_or_else(|refusal| refusal.status().0, |_| http::StatusCode::OK);
        assert!(admitted.as_ref().is_ok_and(|admitted| admitted.is_body(|| body_hash(&body))) || !status.is_success());
        let first = gate.provable(&head).await.filter(|_| status == http::StatusCode::UNAUTHORIZED);
        let provable = admitted.as_ref().ok().and_then(Admitted::provable).or(first.as_ref());
        let header = gate.header(provable, status);
        let body = if status.is_success() { VALUE } else { b"no" };
        written(status.as_u16(), header.to_str().unwrap(), body)
    }

    fn written(status: u16, header: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 {status} X\r\npeercache: {header}\r\ncontent-length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    async fn member(gate: Arc<Gate>) -> (String, Seen) {
        peer_that(move |came| {
            let gate = gate.clone();
            async move { Some(answer_of(&gate, came).await) }
        })
        .await
    }

    /// The member `b` at this address, as the member `a` with these secrets sees it.
    fn connect_in(dialect: Dialect, url: &str, known: &[&str]) -> Arc<dyn Peer> {
        let mut membership = Membership::new("a").open_gets(true);
        if let Some(secrets) = secrets(known) {
            membership = membership.secrets(secrets);
        }
        let mut member = Member::from("b");
        member.address = url.to_owned();
        HttpPool::builder().dialect(dialect).membership(membership).build().unwrap().connect(&member).unwrap()
    }

    fn connect(url: &str, known: &[&str]) -> Arc<dyn Peer> {
        connect_in(Dialect::Native, url, known)
    }

    async fn ask(peer: &Arc<dyn Peer>) -> String {
        ask_group(peer, "g").await
    }

    async fn ask_group(peer: &Arc<dyn Peer>, group: &str) -> String {
        let (tx, rx) = oneshot::channel();
        peer.get(PeerRequest::new(group, "k"), Reply::new(move |answer| drop(tx.send(answer))));
        match rx.await.unwrap() {
            Ok(reply) => format!("{:?}", reply.value.unwrap()),
            Err(error @ (PeerError::Failed(_) | PeerError::Unreachable(_) | PeerError::Silent(_))) => error.to_string(),
            Err(error) => panic!("{error:?}"),
        }
    }

    fn take(seen: &Seen) -> Vec<String> {
        std::mem::take(&mut seen.lock().unwrap())
    }

    #[tokio::test]
    async fn the_first_contact_costs_an_empty_request() {
        let (url, seen) = member(gate(&[ONE])).await;
        let peer = connect(&url, &[ONE]);
        assert_eq!(ask(&peer).await, "b\"v\"");
        assert_eq!(take(&seen), ["POST unsigned empty", "POST signed full"]);
        assert_eq!(ask(&peer).await, "b\"v\"");
        assert_eq!(take(&seen), ["POST signed full"]);
    }

    #[tokio::test]
    async fn a_nonce_that_is_over_costs_one_more_request() {
        let current = Arc::new(Mutex::new(gate(&[ONE])));
        let gates = current.clone();
        let (url, seen) = peer_that(move |came| {
            let gate = gates.lock().unwrap().clone();
            async move { Some(answer_of(&gate, came).await) }
        })
        .await;
        let peer = connect(&url, &[ONE]);
        assert_eq!(ask(&peer).await, "b\"v\"");
        take(&seen);
        // The member is another process now, with a nonce of its own.
        *current.lock().unwrap() = gate(&[ONE]);
        assert_eq!(ask(&peer).await, "b\"v\"");
        assert_eq!(take(&seen), ["POST signed full", "POST signed full"]);
    }

    #[tokio::test]
    async fn a_peer_that_never_takes_a_nonce_has_failed() {
        let gate = gate(&[ONE]);
        let (url, seen) = peer_that(move |came| {
            let gate = gate.clone();
            async move {
                let header = gate.header(gate.provable(&came.0).await.as_ref(), http::StatusCode::UNAUTHORIZED);
                Some(written(401, header.to_str().unwrap(), b"no"))
            }
        })
        .await;
        let words = ask(&connect(&url, &[ONE])).await;
        assert!(words.ends_with("answered 401 Unauthorized"), "{words}");
        assert_eq!(take(&seen).len(), 2);
    }

    #[tokio::test]
    async fn nothing_is_signed_with_a_strangers_nonce() {
        for proof in ["", "; proof=00000000000000000000000000000000"] {
            let header = format!("1; node=00000000000000ff; name=b; nonce=000000000000000000000000000000ff{proof}");
            let (url, seen) = peer_that(move |_| {
                let header = header.clone();
                async move { Some(written(401, &header, b"no")) }
            })
            .await;
            let words = ask(&connect(&url, &[ONE])).await;
            assert!(words.contains("does not prove that it knows the secret"), "{words}");
            assert_eq!(take(&seen), ["POST unsigned empty"], "{proof}");
        }
    }

    #[tokio::test]
    async fn who_shares_no_secret_is_not_believed() {
        for (ours, theirs, outcome) in [
            (&[ONE][..], &[][..], "does not prove that it knows the secret"),
            (&[ONE], &[TWO], "does not prove that it knows the secret"),
            // The old one was dropped there.
            (&[ONE, TWO], &[TWO], "does not prove that it knows the secret"),
            (&[], &[ONE], "answered 401 Unauthorized"),
            (&[TWO, ONE], &[ONE, TWO], "b\"v\""),
            (&[TWO, ONE], &[TWO], "b\"v\""),
            (&[], &[], "b\"v\""),
        ] {
            let (url, _) = member(gate(theirs)).await;
            let peer = connect(&url, ours);
            for _ in 0..2 {
                let words = ask(&peer).await;
                assert!(words.ends_with(outcome), "{ours:?} {theirs:?}: {words}");
            }
        }
    }

    /// A proxy that passes requests on until it has an answer with a value, and gives that from
    /// then on.
    #[tokio::test]
    async fn a_replayed_answer_is_not_believed() {
        let gate = gate(&[ONE]);
        let recorded: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
        let (url, _) = peer_that(move |came| {
            let (gate, recorded) = (gate.clone(), recorded.clone());
            async move {
                let known = recorded.lock().unwrap().clone();
                if known.is_some() {
                    return known;
                }
                let answer = answer_of(&gate, came).await;
                if answer.ends_with(VALUE) {
                    *recorded.lock().unwrap() = Some(answer.clone());
                }
                Some(answer)
            }
        })
        .await;
        let peer = connect(&url, &[ONE]);
        assert_eq!(ask(&peer).await, "b\"v\"");
        for group in ["g", "h"] {
            let words = ask_group(&peer, group).await;
            assert!(words.ends_with("does not prove that it knows the secret"), "{words}");
        }
    }

    #[tokio::test]
    async fn an_update_that_is_sent_again_has_a_new_count() {
        let gate = gate(&[ONE]);
        let counts: Arc<Mutex<Vec<u64>>> = Arc::default();
        let kept = counts.clone();
        let (url, _) = peer_that(move |came| {
            let (gate, counts) = (gate.clone(), kept.clone());
            async move {
                let signature = Asker::read(&came.0.headers).unwrap().signature;
                let is_first = signature.is_some() && counts.lock().unwrap().is_empty();
                counts.lock().unwrap().extend(signature.map(|signature| signature.count));
                let answer = answer_of(&gate, came).await;
                // The first is made, and nobody learns of it.
                (!is_first).then_some(answer)
            }
        })
        .await;
        let (tx, rx) = oneshot::channel();
        let update = PeerUpdate::new("g", 7, Change::Clear);
        connect(&url, &[ONE]).update(update, super::Duration::from_secs(60), Reply::new(|ack| drop(tx.send(ack))));
        // Admitted: what it says, a value, is no acknowledgement.
        let words = rx.await.unwrap().unwrap_err().to_string();
        assert!(words.contains("sent what is not an answer"), "{words}");
        let counts = counts.lock().unwrap().clone();
        assert!(counts.len() == 2 && counts[0] < counts[1], "{counts:?}");
    }

    #[tokio::test]
    async fn many_at_first_contact_are_all_answered() {
        let (url, seen) = member(gate(&[ONE])).await;
        let peer = connect(&url, &[ONE]);
        // Of as many groups: keys of one would go together.
        let asked: Vec<_> = (0..64)
            .map(|n| {
                let peer = peer.clone();
                tokio::spawn(async move { ask_group(&peer, &format!("g{n}")).await })
            })
            .collect();
        for answer in asked {
            assert_eq!(answer.await.unwrap(), "b\"v\"");
        }
        assert!(take(&seen).len() <= 2 * 64);
    }

    /// A member that answers plain GETs to everybody proves itself to who signs.
    #[tokio::test]
    async fn in_a_go_dialect_a_member_that_proves_itself_is_asked_natively_from_then_on() {
        let gate = gate(&[ONE]);
        let (url, seen) = peer_that(move |came| {
            let gate = gate.clone();
            async move {
                if came.0.method != http::Method::GET {
                    return Some(answer_of(&gate, came).await);
                }
                let provable = gate.provable(&came.0).await;
                let header = gate.header(provable.as_ref(), http::StatusCode::OK);
                Some(written(200, header.to_str().unwrap(), b"\x0a\x01v"))
            }
        })
        .await;
        let peer = connect_in(Dialect::Golang, &url, &[ONE]);
        assert_eq!([ask(&peer).await, ask(&peer).await], ["b\"v\"", "b\"v\""]);
        assert_eq!(take(&seen), ["GET unsigned empty", "GET signed empty", "POST signed full"]);
    }

    #[tokio::test]
    async fn requests_say_whom_they_mean_by_its_name() {
        let to: Arc<Mutex<Option<Box<str>>>> = Arc::default();
        let kept = to.clone();
        let (url, _) = peer_that(move |(head, _): Came| {
            *kept.lock().unwrap() =
                Asker::read(&HeaderMap::from_iter([(HEADER, head.headers[HEADER].clone())])).and_then(|asker| asker.to);
            async { None }
        })
        .await;
        let words = ask(&connect(&url, &[])).await;
        assert!(words.starts_with("peer b closed"), "{words}");
        assert_eq!(to.lock().unwrap().as_deref(), Some("b"));
    }
}
