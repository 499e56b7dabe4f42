//! `role` as a process: its flags, its signals and its end.
#![cfg(unix)]
mod support;

use std::net::TcpListener;

use rustix::process::Signal;
use support::{
    child::Process,
    cluster::{Cluster, role},
    eventually,
    load::Crowd,
    origin::Origin,
    ports, within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};

/// An origin that nobody is at.
const ORIGIN: &str = "http://127.0.0.1:1/{key}";

/// A node by itself and its origin.
async fn node_with(flags: &[&str]) -> (Cluster, Origin) {
    let origin = Origin::start().await;
    let template = origin.flag();
    let flags = [flags, &["--origin", &template]].concat();
    (Cluster::start(1, &flags).await, origin)
}

/// Runs `role` with these flags, and returns its exit code and its words.
async fn refused(mut role: Command, flags: &[&str]) -> (Option<i32>, String) {
    let output =
        within("the exit of a node that cannot start", role.args(flags).kill_on_drop(true).output()).await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn a_wrong_flag_is_told_what_to_write_instead() {
    let wrong: [(&[&str], &str); 20] = [
        (&["--dialect", "mailgun"], "write native (peers are role, too) or golang"),
        (&["--cache-bytes", "1MB"], "such as 64MiB"),
        (&["--cache-bytes", "-1"], "such as 64MiB"),
        (&["--ttl-ms", "-1"], "write milliseconds, 0 to"),
        (&["--ttl-ms", "2s"], "write milliseconds, 0 to"),
        (&["--stale-ms", "-1"], "write milliseconds, 0 to"),
        (&["--stale-ms", "4294967296"], "write milliseconds, 0 to 4294967295, without a unit"),
        (&["--hot-ttl-ms", "-1"], "write milliseconds"),
        (&["--hot-ttl-ms", "30s"], "write milliseconds"),
        (&["--load-timeout-ms", "0"], "write milliseconds, 1 to"),
        (&["--peer-timeout-ms", "5"], "write milliseconds, 30 to"),
        (&["--listen", "9000"], "write HOST:PORT, such as 127.0.0.1:9000"),
        (&["--origin", "roles.db"], "write sqlite:PATH"),
        (&["--origin", "http://127.0.0.1:1/"], "write {key} where the key goes"),
        (&["--peers", "127.0.0.1:9090"], "http://127.0.0.1:9090"),
        (&["--peers", "http://127.0.0.1:9091"], "--peers does not name this node, http://127.0.0.1:9090"),
        (&["--peers", "http://127.0.0.1:9090,http://127.0.0.1:9090"], "correct --self-url or --peers"),
        (&["--self-url", "http://127.0.0.1:9090/"], "correct --self-url or --peers"),
        (&["--log", "loud"], "write off, error, warn, info, debug or trace"),
        (&["--peer", "http://127.0.0.1:9090"], "'--peers'"),
    ];
    for (flags, sentence) in wrong {
        let (code, said) = refused(role(), flags).await;
        assert_eq!(code, Some(2), "{flags:?}");
        assert!(said.contains(sentence), "{flags:?}: {said}");
    }
}

#[tokio::test]
async fn every_flag_is_a_variable_too() {
    let flags = "LISTEN PEER_LISTEN ADMIN_LISTEN SELF_URL PEERS ORIGIN CACHE_BYTES TTL_MS STALE_MS HOT_TTL_MS \
                 LOAD_TIMEOUT_MS PEER_TIMEOUT_MS DIALECT LOG";
    // The flags of who may speak are tested in `trust.rs`.
    for flag in flags.split(' ') {
        let mut role = role();
        role.env(format!("ROLE_{flag}"), "?");
        let (code, said) = refused(role, &[]).await;
        let flag = flag.to_lowercase().replace('_', "-");
        assert_eq!(code, Some(2), "{flag}");
        assert!(said.contains(&format!("--{flag} ")), "{flag}: {said}");
    }
}

#[tokio::test]
async fn flags_win_over_variables() {
    let mut role = role();
    role.env("ROLE_DIALECT", "native").env("ROLE_CACHE_BYTES", "1MiB");
    let (_, said) = refused(role, &["--dialect", "flag", "--cache-bytes", "1MiB"]).await;
    assert!(said.contains("'flag'"), "{said}");
}

#[tokio::test]
async fn a_variable_that_is_empty_is_not_set() {
    let mut role = role();
    for flag in ["PEERS", "CACHE_BYTES", "ORIGIN", "HOT_TTL_MS", "LOG"] {
        role.env(format!("ROLE_{flag}"), "");
    }
    let (_, said) = refused(role, &["--dialect", "flag"]).await;
    assert!(said.contains("'flag'"), "{said}");
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = refused(role(), &["--listen", &address, "--origin", ORIGIN]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains(&address) && said.contains("--listen"), "{said}");
}

/// Starts a node by a shell that does `first` before it becomes the node. Returns its front and its
/// admin port too.
async fn start_in_shell(first: &str, and_then: &str) -> (Process, String, String) {
    let [front, peer, admin] = [(); 3].map(|()| format!("127.0.0.1:{}", ports::free()));
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{first} exec \"$0\" \"$@\" {and_then}"), env!("CARGO_BIN_EXE_role")]);
    shell.args(["--listen", &front, "--peer-listen", &peer, "--admin-listen", &admin]);
    shell.args(["--self-url", &format!("http://{peer}"), "--origin", ORIGIN]);
    let node = Process::start("the node", shell);
    eventually("readiness", async || is_ready(&admin).await.then_some(())).await;
    (node, front, admin)
}

async fn is_ready(admin: &str) -> bool {
    // A connection of its own each time.
    reqwest::get(format!("http://{admin}/readyz")).await.is_ok_and(|answer| answer.status() == 200)
}

#[tokio::test]
async fn a_node_runs_with_its_standard_input_closed() {
    let (mut node, ..) = start_in_shell("", "<&-").await;
    node.signal(Signal::TERM);
    assert!(node.exited().await.success());
}

#[tokio::test]
async fn a_crowd_at_the_front_does_not_shut_operators_out() {
    let (_node, front, admin) = start_in_shell("ulimit -S -n 100;", "").await;
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(within("a connection", TcpStream::connect(&front)).await.unwrap());
    }
    tokio::select! {
        _ = crowd[0].readable() => panic!("the first of the crowd was sent away before the operator was let in"),
        ready = is_ready(&admin) => assert!(ready),
    }
}

/// Connections that are kept for their next request give their files to new ones.
#[tokio::test]
async fn at_the_limit_of_open_files_idle_callers_make_room() {
    let (node, front, _) = start_in_shell("ulimit -n 100;", "").await;
    let mut kept = Vec::new();
    for _ in 0..200 {
        let mut stream = within("a connection", TcpStream::connect(&front)).await.unwrap();
        stream.write_all(b"GET /nowhere HTTP/1.1\r\nhost: gate\r\n\r\n").await.unwrap();
        let mut start = [0; 12];
        within("an answer", stream.read_exact(&mut start)).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 404");
        kept.push(stream);
    }
    assert_eq!(node.stderr().matches("cannot accept a connection").count(), 1, "{}", node.stderr());
}

#[tokio::test]
async fn a_node_ends_with_its_standard_input_if_it_was_told_to() {
    let (mut cluster, _origin) = node_with(&[]).await;
    cluster.nodes[0].process.close_stdin();
    assert!(cluster.nodes[0].process.exited().await.success());
}

#[tokio::test]
async fn a_request_in_progress_is_answered_before_the_exit() {
    for signal in [Signal::TERM, Signal::INT] {
        let (mut cluster, origin) = node_with(&[]).await;
        let node = &cluster.nodes[0];
        let (reply, ()) = tokio::join!(node.raw("gated"), async {
            origin.is_asked("gated", 1).await;
            node.process.signal(signal);
            eventually("draining", async || (node.readyz().await == Some(503)).then_some(())).await;
            eventually("the front being closed", async || node.ask("raw", "a", None).await.is_err().then_some(()))
                .await;
            // Nothing but a request in progress would delay the exit for longer than this.
            let mut looks = 0;
            eventually("many looks", async || {
                assert_eq!(node.readyz().await, Some(503), "operators can watch to the end");
                looks += 1;
                (looks == 100).then_some(())
            })
            .await;
            origin.open_gate();
        });
        assert_eq!(reply.brief(), "200 origin");
        assert!(cluster.nodes[0].process.exited().await.success());
    }
}

#[tokio::test]
async fn a_second_signal_exits_at_once() {
    let (mut cluster, origin) = node_with(&[]).await;
    let node = &cluster.nodes[0];
    let (reply, ()) = tokio::join!(node.ask("raw", "gated", None), async {
        origin.is_asked("gated", 1).await;
        node.process.signal(Signal::TERM);
        eventually("draining", async || (node.readyz().await == Some(503)).then_some(())).await;
        node.process.signal(Signal::TERM);
    });
    assert!(reply.is_err(), "the gate is closed still");
    assert_eq!(cluster.nodes[0].process.exited().await.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_under_load_loses_no_request() {
    let origin = Origin::start().await;
    let mut cluster = Cluster::start(3, &["--origin", &origin.flag()]).await;
    let crowds: Vec<Crowd> = cluster.nodes.iter().map(|node| Crowd::gather(&node.front, 20)).collect();
    let all_busy = async |least: usize| {
        eventually("answers", async || crowds.iter().all(|crowd| crowd.answered() >= least).then_some(())).await;
    };
    all_busy(200).await;
    cluster.nodes[1].process.signal(Signal::TERM);
    assert!(cluster.nodes[1].process.exited().await.success());
    let (first, last) = (crowds[0].answered(), crowds[2].answered());
    eventually("answers from those who are left", async || {
        (crowds[0].answered() > first + 200 && crowds[2].answered() > last + 200).then_some(())
    })
    .await;
    for crowd in crowds {
        let (_, lost) = crowd.disperse().await;
        assert_eq!(lost, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_restart_on_the_same_ports_succeeds_at_once() {
    let (mut cluster, _origin) = node_with(&[]).await;
    for sudden in [true, false] {
        // A connection that is open at the end keeps its port busy for a while.
        assert_eq!(cluster.nodes[0].raw("a").await.status, 200);
        if sudden {
            cluster.nodes[0].process.kill().await;
        } else {
            cluster.nodes[0].process.signal(Signal::TERM);
            cluster.nodes[0].process.exited().await;
        }
        cluster.restart(0).await;
    }
    assert_eq!(cluster.nodes[0].raw("a").await.brief(), "200 origin");
}
