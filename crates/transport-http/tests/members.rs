//! Members that ask each other with all that they may share: a cluster's name, secrets, TLS.

mod support;

use std::{fs, path::PathBuf, time::Duration};

use peercache_groupcache::{Change, Connect, Member, PeerRequest, PeerUpdate};
use peercache_transport_http::{Dialect, HttpPool, Membership, PeerServer, Secrets, Server, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use support::{WATCHDOG, ack, ask, groups, pool, send_update, updated_group, words_of};
use tokio::{net::TcpListener, sync::oneshot};

const SECRET: &str = "the first secret, of more than 32 bytes";

/// Certificates of one authority for a host, in files that go with them.
struct Files(PathBuf);

impl Files {
    fn new(test: &str, host: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("peercache-members-{}-{test}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([host.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
        fs::write(directory.join("cert.pem"), certificate.pem()).unwrap();
        fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
        Files(directory)
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

/// Gets and changes a value from one member at another, each of them with `set`.
async fn ask_each_other(scheme: &str, dialect: Dialect, set: impl Fn(Membership) -> Membership) {
    let groups = groups();
    let received = updated_group(&groups, "g", |nth| Ok(ack(nth as u64)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("{scheme}://{}", listener.local_addr().unwrap());
    let server = PeerServer::new(groups).membership(set(Membership::new("b"))).dialect(dialect);
    let listener = server.listener(listener).unwrap();
    let (_stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(Server::new(server.router()).serve(listener, async move { drop(stopped.await) }));
    let builder = HttpPool::builder().dialect(dialect).peer_timeout(Duration::from_secs(10));
    let peer = pool(builder.membership(set(Membership::new("a")))).connect(&Member::new("b").address(url)).unwrap();
    for key in ["k", "l", "m"] {
        let words = words_of(ask(&peer, PeerRequest::new("echo", key)).await);
        assert_eq!(words, format!("value b\"{key}\""), "{dialect:?}");
    }
    for ring in [1, 2] {
        send_update(&peer, PeerUpdate::new("g", ring, Change::Clear), WATCHDOG).await.unwrap();
    }
    assert_eq!(received.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn members_understand_each_other_in_every_mode() {
    let files = Files::new("modes", "127.0.0.1");
    let secret = |membership: Membership| membership.secrets(Secrets::new([SECRET]).unwrap());
    let tls = |membership: Membership| membership.tls(files.tls());
    for dialect in [Dialect::Native, Dialect::Golang] {
        let opened = |membership: Membership| membership.cluster("orders").open_gets(dialect == Dialect::Golang);
        ask_each_other("http", dialect, opened).await;
        ask_each_other("http", dialect, |membership| secret(opened(membership))).await;
        ask_each_other("https", dialect, |membership| tls(opened(membership))).await;
        ask_each_other("https", dialect, |membership| tls(secret(opened(membership)))).await;
    }
}
