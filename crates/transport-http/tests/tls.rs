//! Mutual TLS: connections of members and of others, and the answers on them.

mod support;

use std::{fs, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use peercache_transport_http::{Listener, Membership, PeerServer, Secrets, Server, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use support::{groups, raw, read_to_close, signing::Asker, soon, status_and_body};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

const SECRET: &str = "the first secret, of more than 32 bytes";

/// The empty key of the group `echo`.
const ECHO: &[u8] = b"\x01\0\0\0\0\0\0\x04\0\0\x03\xe8\x02\0\0\0\0\0\0\x0c\0\0\0\0\x02\0\0\0echo\x03\0\0\0\0\0\0\0";
const ECHOED: &str = "\x11\0\0\0\0\0\0\0";

/// An authority, which signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
struct Certified {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        Authority::named("the authority")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn certify(&self, host: &str) -> Certified {
        self.sign(&CertificateParams::new([host.to_owned()]).unwrap())
    }

    fn certify_for_2020(&self, host: &str) -> Certified {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Certified {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Certified { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A client that trusts this authority, with or without a certificate to show.
    fn client(&self, shown: Option<&Certified>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            None => config.with_no_client_auth(),
            Some(shown) => {
                let chain = vec![CertificateDer::from_pem_slice(shown.certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }
}

/// The files of a member, in a directory that goes with them.
struct Files(PathBuf);

impl Files {
    /// `test` tells the directories of this file's tests apart.
    fn new(test: &str, authority: &Authority, certified: &Certified) -> Self {
        let directory = std::env::temp_dir().join(format!("peercache-tls-{}-{test}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let files = Files(directory);
        fs::write(files.0.join("ca.pem"), authority.0.pem()).unwrap();
        files.write(certified);
        files
    }

    fn write(&self, certified: &Certified) {
        fs::write(self.0.join("key.pem"), &certified.key).unwrap();
        fs::write(self.0.join("cert.pem"), &certified.certificate).unwrap();
    }

    fn tls(&self) -> Tls {
        Tls::from_files(self.0.join("cert.pem"), self.0.join("key.pem"), self.0.join("ca.pem")).unwrap()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A node that speaks TLS. Dropping it shuts it down.
struct TlsNode {
    address: SocketAddr,
    url: String,
    _stop: oneshot::Sender<()>,
}

async fn node(tls: Tls, set: impl FnOnce(Membership) -> Membership) -> TlsNode {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("https://{address}");
    let server = PeerServer::new(groups()).membership(set(Membership::new(&url).tls(tls)));
    let listener = server.listener(listener).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = Server::new(server.router()).header_read_timeout(Duration::from_millis(300)).max_connections(2);
    tokio::spawn(serving.serve(listener, async move { drop(stopped.await) }));
    TlsNode { address, url, _stop: stop }
}

async fn connect(client: &TlsConnector, node: &TlsNode, host: &str) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(node.address).await?;
    soon(client.connect(ServerName::try_from(host.to_owned()).unwrap(), stream)).await
}

/// The answer to a request, or why there is none. A client learns only after its handshake that its
/// certificate is refused.
async fn ask(client: &TlsConnector, node: &TlsNode, request: &[u8]) -> io::Result<String> {
    let mut stream = connect(client, node, "127.0.0.1").await?;
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn request(method: &str, path: &str, header: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}content-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A native get, of a member that signs with this secret if the nonce of an answer is given.
fn native_get(node: &TlsNode, secret: Option<&str>, answer: &str) -> Vec<u8> {
    const PATH: &str = "/_peercache/v1/get";
    let mut asker = Asker::new("", &node.url, secret);
    if answer.contains("; nonce=") {
        asker.learn(answer);
    }
    request("POST", PATH, &format!("peercache: {}\r\n", asker.header("POST", PATH, 0, ECHO)), ECHO)
}

fn plain_get() -> Vec<u8> {
    request("GET", "/_groupcache/echo/k", "", b"")
}

#[tokio::test]
async fn a_member_is_answered_and_its_certificate_is_enough_for_a_plain_get() {
    let authority = Authority::new();
    let files = Files::new("member", &authority, &authority.certify("127.0.0.1"));
    let node = node(files.tls(), |membership| membership).await;
    let client = authority.client(Some(&authority.certify("another.host")));
    let answer = ask(&client, &node, &native_get(&node, None, "")).await.unwrap();
    assert_eq!(status_and_body(&answer), (200, ECHOED));
    assert_eq!(status_and_body(&ask(&client, &node, &plain_get()).await.unwrap()), (200, "\n\x01k"));
    assert_eq!(
        status_and_body(&ask(&client, &node, &request("POST", "/_peercache/v1/get", "", ECHO)).await.unwrap()).0,
        403
    );
}

/// The certificates that count are those of the listener's authority, whatever the membership's is.
#[tokio::test]
async fn a_listener_of_another_authority_takes_that_ones_certificates() {
    let (members, others) = (Authority::new(), Authority::named("another"));
    let of_members = Files::new("authority", &members, &members.certify("127.0.0.1"));
    let of_others = Files::new("authority-other", &others, &others.certify("127.0.0.1"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("https://{address}");
    let server = PeerServer::new(groups()).membership(Membership::new(&url).tls(of_members.tls()));
    let (stop, stopped) = oneshot::channel::<()>();
    let listener = Listener::tls(listener, of_others.tls());
    tokio::spawn(Server::new(server.router()).serve(listener, async move { drop(stopped.await) }));
    let node = TlsNode { address, url, _stop: stop };
    let of_other = others.client(Some(&others.certify("any.host")));
    let answer = ask(&of_other, &node, &native_get(&node, None, "")).await.unwrap();
    assert_eq!(status_and_body(&answer), (200, ECHOED));
    ask(&others.client(Some(&members.certify("any.host"))), &node, &plain_get()).await.unwrap_err();
}

#[tokio::test]
async fn others_get_no_connection() {
    let (authority, other) = (Authority::new(), Authority::named("another"));
    let files = Files::new("others", &authority, &authority.certify("127.0.0.1"));
    let node = node(files.tls(), |membership| membership).await;
    for (shown, why) in [
        (None, "CertificateRequired"),
        (Some(other.certify("127.0.0.1")), "UnknownCA"),
        (Some(authority.certify_for_2020("127.0.0.1")), "CertificateExpired"),
    ] {
        let error = ask(&authority.client(shown.as_ref()), &node, &plain_get()).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error} is not {why}");
    }
    // Those who do not speak TLS at all.
    assert!(!raw(node.address, &plain_get()).await.contains("HTTP/1.1"));
    // The node itself is checked, too.
    let member = authority.client(Some(&authority.certify("127.0.0.1")));
    let error = connect(&member, &node, "127.0.0.2").await.unwrap_err();
    assert!(
        error.to_string().contains("NotValidForName") || error.to_string().contains("not valid for name"),
        "{error}"
    );
    connect(&other.client(None), &node, "127.0.0.1").await.unwrap_err();
}

#[tokio::test]
async fn where_gets_are_open_strangers_get_values_and_nothing_else() {
    let authority = Authority::new();
    let files = Files::new("open", &authority, &authority.certify("127.0.0.1"));
    let node = node(files.tls(), |membership| membership.open_gets(true)).await;
    let (stranger, member) = (authority.client(None), authority.client(Some(&authority.certify("a.host"))));
    assert_eq!(status_and_body(&ask(&stranger, &node, &plain_get()).await.unwrap()), (200, "\n\x01k"));
    let answer = ask(&stranger, &node, &native_get(&node, None, "")).await.unwrap();
    assert_eq!(status_and_body(&answer).0, 403, "{answer}");
    let answer = ask(&member, &node, &native_get(&node, None, "")).await.unwrap();
    assert_eq!(status_and_body(&answer).0, 200, "{answer}");
    // An untrusted certificate is worse than none.
    let untrusted = authority.client(Some(&Authority::new().certify("127.0.0.1")));
    ask(&untrusted, &node, &plain_get()).await.unwrap_err();
}

#[tokio::test]
async fn a_secret_is_asked_for_beside_the_certificate() {
    let authority = Authority::new();
    let files = Files::new("secret", &authority, &authority.certify("127.0.0.1"));
    let secrets = Secrets::new([SECRET]).unwrap();
    let node = node(files.tls(), |membership| membership.secrets(secrets).open_gets(true)).await;
    let (stranger, member) = (authority.client(None), authority.client(Some(&authority.certify("a.host"))));
    let unsigned = ask(&member, &node, &native_get(&node, Some(SECRET), "")).await.unwrap();
    assert_eq!(status_and_body(&unsigned).0, 401);
    let signed = native_get(&node, Some(SECRET), &unsigned);
    assert_eq!(status_and_body(&ask(&member, &node, &signed).await.unwrap()), (200, ECHOED));
    assert_eq!(status_and_body(&ask(&stranger, &node, &signed).await.unwrap()).0, 403);
}

#[tokio::test]
async fn new_connections_use_new_certificates() {
    let authority = Authority::new();
    let files = Files::new("new", &authority, &authority.certify("127.0.0.1"));
    let tls = files.tls();
    let node = node(tls.clone(), |membership| membership).await;
    let client = authority.client(Some(&authority.certify("a.host")));
    let mut old = connect(&client, &node, "127.0.0.1").await.unwrap();
    let renewed = authority.certify("127.0.0.1");
    files.write(&renewed);
    tls.reload();
    let new = connect(&client, &node, "127.0.0.1").await.unwrap();
    let shown = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let renewed = CertificateDer::from_pem_slice(renewed.certificate.as_bytes()).unwrap();
    assert!(shown(&new) == renewed && shown(&old) != renewed);
    old.write_all(&plain_get()).await.unwrap();
    assert_eq!(status_and_body(&read_to_close(&mut old).await), (200, "\n\x01k"));
}

#[tokio::test]
async fn a_handshake_that_does_not_come_holds_no_connection() {
    let authority = Authority::new();
    let files = Files::new("silent", &authority, &authority.certify("127.0.0.1"));
    let node = node(files.tls(), |membership| membership).await;
    let client = authority.client(Some(&authority.certify("a.host")));
    // As many as there may be connections, and one of them has begun.
    let mut silent = [TcpStream::connect(node.address).await.unwrap(), TcpStream::connect(node.address).await.unwrap()];
    silent[0].write_all(b"\x16\x03\x01").await.unwrap();
    assert_eq!(status_and_body(&ask(&client, &node, &plain_get()).await.unwrap()).0, 200);
    for mut stream in silent {
        assert_eq!(read_to_close(&mut stream).await, "");
    }
}
