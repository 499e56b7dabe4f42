//! `role` and whom it trusts: the flags that say so, and secrets and certificates that change while
//! people ask.
#![cfg(unix)]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use axum::{Router, http::StatusCode, response::Html};
use peercache::Server;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustix::process::Signal;
use support::{
    child::Process,
    cluster::{Cluster, Node, Reply, Said, role},
    eventually,
    load::Crowd,
    origin::Origin,
    ports, within,
};
use tempfile::TempDir;

const OLD: &str = "the old secret, which is longer than 32 bytes";
const NEW: &str = "the new secret, which is longer than 32 bytes";

/// Runs `role` with these flags and variables, and returns its exit code and its words.
async fn refused(flags: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut role = role();
    role.args(["--origin", "http://127.0.0.1:1/?key={key}"]);
    let output = role.args(flags).envs(variables.iter().copied()).kill_on_drop(true).output();
    let output = within("the exit of a node that cannot start", output).await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Replaces a file as a whole, so that nobody reads half of it.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

#[tokio::test]
async fn a_start_that_may_not_be_is_told_what_to_write_instead() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (good, short) = (file("good", OLD), file("short", "too short\n"));
    let beyond = "http://127.0.0.1:9090,http://10.0.0.2:9090";
    let ports = [(); 3].map(|()| format!("127.0.0.1:{}", ports::free()));
    let everywhere = format!("0.0.0.0:{}", ports::free());
    let wrong: [(&[&str], &str); 15] = [
        (&["--peers", beyond], "--trust-network"),
        (&["--peers", beyond], "--secret-file"),
        (&["--peers", beyond], "--tls-cert"),
        (&["--listen", &ports[0], "--admin-listen", &ports[2], "--peer-listen", &everywhere], "--trust-network"),
        (&["--dialect", "golang", "--secret-file", &good], "add --open-gets"),
        (&["--dialect", "golang", "--secret-file", &good, "--open-gets", "--peers", beyond], "--trust-network"),
        (&["--self-url", "https://127.0.0.1:9090"], "add --tls-cert, --tls-key and --tls-ca, or write http://"),
        (&["--secret-file", "/nowhere/at/all"], "/nowhere/at/all cannot be used"),
        (&["--secret-file", &short], "openssl rand -hex 32"),
        (&["--tls-cert", &good], "give all three, or none"),
        (&["--tls-key", &good, "--tls-ca", &good], "give all three, or none"),
        (&["--tls-cert", &good, "--tls-key", &good, "--tls-ca", &good], "correct --tls-cert, --tls-key or --tls-ca"),
        (&["--peers", "http://127.0.0.1:9090,http://0.0.0.0:9090", "--trust-network"], "wildcard"),
        (&["--peers", "http://127.0.0.1:9090,HTTP://127.0.0.1:9090"], "another spelling"),
        (&["--trust-network", "true"], "unexpected argument 'true'"),
    ];
    for (flags, sentence) in wrong {
        let (code, said) = refused(flags, &[]).await;
        assert_eq!(code, Some(2), "{flags:?}: {said}");
        assert!(said.contains(sentence), "{flags:?}: {said}");
        assert!(!said.contains("too short"), "nothing of a secret is said: {said}");
    }
}

#[tokio::test]
async fn the_flags_are_variables_too() {
    let beyond = "http://127.0.0.1:9090,http://10.0.0.2:9090";
    for (variable, value, flags, sentence) in [
        ("ROLE_TRUST_NETWORK", "yes", &[][..], "write true or false"),
        ("ROLE_OPEN_GETS", "?", &[], "write true or false"),
        ("ROLE_TRUST_NETWORK", "false", &["--peers", beyond], "--trust-network"),
        ("ROLE_SECRET_FILE", "/nowhere", &[], "/nowhere cannot be used"),
        ("ROLE_TLS_CERT", "/nowhere", &[], "give all three"),
        ("ROLE_TLS_KEY", "/nowhere", &[], "give all three"),
        ("ROLE_TLS_CA", "/nowhere", &[], "give all three"),
        // The last is refused for its list, and not for what the variable has allowed.
        ("ROLE_TRUST_NETWORK", "true", &["--peers", "http://127.0.0.1:9090,http://0.0.0.0:1"], "wildcard"),
    ] {
        let (code, said) = refused(flags, &[(variable, value)]).await;
        assert_eq!(code, Some(2), "{variable}: {said}");
        assert!(said.contains(sentence), "{variable}: {said}");
    }
}

#[tokio::test]
async fn a_bad_list_is_refused_with_a_sentence() {
    let origin = Origin::start().await;
    let cluster = Cluster::start(1, &["--origin", &origin.flag()]).await;
    let node = &cluster.nodes[0];
    for (other, sentence) in [
        ("http://10.0.0.2:9090", "--trust-network"),
        ("http://0.0.0.0:9090", "wildcard"),
        ("http://169.254.169.254:80", "link-local"),
        ("http://a:b@127.0.0.1:9090", "a user or a password"),
        ("http://127.0.0.1:0", "port is 0"),
        ("https://127.0.0.1:9090", "--tls-cert"),
        ("ftp://127.0.0.1:9090", "http://HOST:PORT"),
        (&node.peer.to_uppercase(), "another spelling"),
    ] {
        let (status, said) = node.set_members(format!("[{:?},{other:?}]", node.peer)).await;
        assert_eq!(status, 400, "{other}: {said}");
        assert!(said.contains(sentence), "{other}: {said}");
    }
    assert_eq!(node.peers().await, format!("[{:?}]", node.peer), "the list is as it was");
}

#[tokio::test]
async fn a_name_with_another_port_is_a_warning() {
    let [front, peer, admin] = [(); 3].map(|()| format!("127.0.0.1:{}", ports::free()));
    let mut command = role();
    command.args(["--listen", &front, "--peer-listen", &peer, "--admin-listen", &admin, "--exit-with-stdin"]);
    command.args(["--self-url", "http://127.0.0.1:1", "--origin", "http://127.0.0.1:1/?key={key}"]);
    let process = Process::start("the node", command);
    let warning = format!("not the port of --peer-listen, {}", &peer[10..]);
    eventually("a warning", async || process.stderr().contains(&warning).then_some(())).await;
}

/// Files of one kind, one for each of three nodes.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Self {
        Files { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, node: usize, name: &str) -> PathBuf {
        self.dir.path().join(format!("{node}-{name}"))
    }

    fn flag(&self, node: usize, name: &str) -> String {
        self.path(node, name).to_str().unwrap().to_owned()
    }
}

/// Waits until a node has read `what` for the `times`-th time since it started, told by SIGHUP.
async fn reread(node: &Node, what: &str, times: usize) {
    node.process.signal(Signal::HUP);
    has_read(node, what, times).await;
}

/// Waits until a node has read `what` for the `times`-th time since it started, told or not.
async fn has_read(node: &Node, what: &str, times: usize) {
    let line = format!("read again what={what:?}");
    let is_done = async || (node.process.stderr().matches(&line).count() >= times).then_some(());
    eventually(&format!("{} reading {what}", node.peer), is_done).await;
}

/// People at each node, who have been answered a hundred times.
async fn crowds(cluster: &Cluster) -> Vec<Crowd> {
    let crowds: Vec<Crowd> = cluster.nodes.iter().map(|node| Crowd::gather(&node.front, 6)).collect();
    more_answers(&crowds).await;
    crowds
}

/// Waits until each crowd has had a hundred answers more.
async fn more_answers(crowds: &[Crowd]) {
    let enough: Vec<usize> = crowds.iter().map(|crowd| crowd.answered() + 100).collect();
    let is_enough = || crowds.iter().zip(&enough).all(|(crowd, enough)| crowd.answered() >= *enough);
    eventually("answers", async || is_enough().then_some(())).await;
}

async fn no_answer_was_lost(crowds: Vec<Crowd>, origin: &Origin) {
    for crowd in crowds {
        let (answered, lost) = crowd.disperse().await;
        assert!(answered > 0 && lost.is_empty(), "{answered} were answered; {lost:?}");
    }
    assert_eq!(origin.loads_of_all(), origin.keys(), "every key was loaded once");
}

/// New keys of every node are fetched by all others, and updates reach all.
async fn all_serve_each_other(cluster: &Cluster, origin: &Origin, prefix: &str) {
    for owner in 0..cluster.nodes.len() {
        for key in cluster.keys_of(owner, &format!("{prefix} {owner} "), 3).await {
            for node in &cluster.nodes {
                assert_eq!(node.raw(&key).await.text(), format!("the {key}"));
            }
            assert_eq!(origin.loads(&key), 1, "{key}");
            assert_eq!(cluster.nodes[0].put(&key, "new").await, Said::known(), "{key}");
            for node in &cluster.nodes {
                assert_eq!(node.raw(&key).await.text(), "new");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_changed_in_three_steps_while_people_ask() {
    let (origin, files) = (Origin::start().await, Files::new());
    let flags = (0..3).map(|node| {
        replace(&files.path(node, "secrets"), OLD);
        let secrets = files.flag(node, "secrets");
        // Without copies every get of another's key is an exchange.
        ["--origin", &origin.flag(), "--hot-ttl-ms", "0", "--secret-file", &secrets].map(str::to_owned).to_vec()
    });
    let cluster = Cluster::start_each("http", &[], flags.collect()).await;
    let crowds = crowds(&cluster).await;
    for (step, secrets) in [format!("{OLD}\n{NEW}\n"), format!("{NEW}\n{OLD}\n"), format!("{NEW}\n")].iter().enumerate()
    {
        for (index, node) in cluster.nodes.iter().enumerate() {
            replace(&files.path(index, "secrets"), secrets);
            // The first notices by itself, since it is asked.
            if index == 0 {
                has_read(node, "secrets", step + 1).await;
            } else {
                reread(node, "secrets", step + 1).await;
            }
            more_answers(&crowds).await;
        }
    }
    no_answer_was_lost(crowds, &origin).await;
    all_serve_each_other(&cluster, &origin, "after").await;
    // A node that was forgotten is told nothing more, and is asked for nothing.
    replace(&files.path(2, "secrets"), OLD);
    reread(&cluster.nodes[2], "secrets", 4).await;
    let key = cluster.key_of(2, "forgotten").await;
    let before = origin.loads(&key);
    assert_eq!(cluster.nodes[0].raw(&key).await.status, 200);
    assert_eq!(cluster.nodes[2].raw(&key).await.brief(), "200 origin", "it was asked for nothing");
    assert_eq!(origin.loads(&key), before + 2);
    assert_eq!(cluster.nodes[0].delete(&key).await, Said::missed(&[&cluster.nodes[2].peer]));
}

/// An authority of members' certificates.
fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Gives a node a new certificate of this authority.
fn certify(files: &Files, node: usize, authority: &CertifiedIssuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    replace(&files.path(node, "key"), &key.serialize_pem());
    replace(&files.path(node, "cert"), &certificate.pem());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_changed_in_three_steps_while_people_ask() {
    let (origin, files) = (Origin::start().await, Files::new());
    let (old, new) = (authority("old"), authority("new"));
    let flags = (0..3).map(|node| {
        certify(&files, node, &old);
        replace(&files.path(node, "ca"), &old.pem());
        let [cert, key, ca] = ["cert", "key", "ca"].map(|name| files.flag(node, name));
        let flags = ["--origin", &origin.flag(), "--hot-ttl-ms", "0", "--tls-cert", &cert, "--tls-key", &key];
        flags.into_iter().chain(["--tls-ca", &ca]).map(str::to_owned).collect()
    });
    let cluster = Cluster::start_each("https", &[], flags.collect()).await;
    all_serve_each_other(&cluster, &origin, "before").await;
    let crowds = crowds(&cluster).await;
    for step in 0..3 {
        for (index, node) in cluster.nodes.iter().enumerate() {
            match step {
                0 => replace(&files.path(index, "ca"), &(old.pem() + &new.pem())),
                1 => certify(&files, index, &new),
                _ => replace(&files.path(index, "ca"), &new.pem()),
            }
            reread(node, "TLS certificates", step + 1).await;
            more_answers(&crowds).await;
        }
    }
    no_answer_was_lost(crowds, &origin).await;
    // A member that left and returned is connected to again, with what the files say now.
    let all = cluster.nodes[0].peers().await;
    for node in &cluster.nodes {
        assert_eq!(node.set_members(format!("[{:?}]", node.peer)).await.0, 204);
        assert_eq!(node.set_members(all.clone()).await.0, 204);
    }
    all_serve_each_other(&cluster, &origin, "after").await;
}

/// A server that is no node has a member's address, as `python3 -m http.server` would.
#[tokio::test(flavor = "multi_thread")]
async fn an_impostor_at_a_members_address_costs_no_answer() {
    let origin = Origin::start().await;
    let listener = peercache::listen("127.0.0.1:0").await.unwrap();
    let impostor = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(async || (StatusCode::NOT_FOUND, Html("<h1>Error response</h1>")));
    tokio::spawn(Server::new(app).serve(listener, std::future::pending()));
    let cluster = Cluster::start_beside(std::slice::from_ref(&impostor), 2, &["--origin", &origin.flag()]).await;
    let mut keys = Vec::new();
    for number in 0.. {
        let key = format!("k{number}");
        if cluster.nodes[0].owner(&key).await == impostor {
            keys.push(key);
        }
        if keys.len() == 80 {
            break;
        }
    }
    let mut right = 0;
    for key in &keys {
        let Reply { status, body, .. } = cluster.nodes[0].raw(key).await;
        right += usize::from(status == 200 && body == format!("the {key}").into_bytes());
    }
    assert_eq!(right, 80);
    assert!(origin.loads_of_all() <= 88, "{} loads of 80 keys", origin.loads_of_all());
    assert_eq!(cluster.nodes[0].delete(&keys[0]).await, Said::missed(&[&impostor]), "it cannot be told");
}
