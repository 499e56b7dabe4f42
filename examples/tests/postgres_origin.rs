//! `role` on a real PostgreSQL server, started for the test on a port of its own.
#![cfg(unix)]
mod support;

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Signal, getuid};
use support::{
    child::Process,
    cluster::{Cluster, Said, client, role},
    eventually, ports,
    required::{find_program, skip},
    within,
};
use tempfile::TempDir;
use tokio::{process::Command, task::JoinSet};
use tokio_postgres::{Client, NoTls};

/// PostgreSQL does not run as root; this user is on every system and owns nothing.
const NOBODY: u32 = 65_534;

/// A server with a table of roles, if PostgreSQL is installed.
struct Postgres {
    dir: TempDir,
    port: u16,
    process: Process,
}

impl Postgres {
    async fn start() -> Option<Self> {
        let Some(initdb) = program("initdb") else {
            skip("postgres", "there is no initdb on the PATH or in /usr/lib/postgresql/*/bin; install PostgreSQL");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        if getuid().is_root() {
            chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut command = unprivileged(&initdb, dir.path());
        command.args(["--auth=trust", "--username=roles", "--encoding=UTF8", "--locale=C", "--no-sync", "-D", "data"]);
        let output = within("initdb", command.output()).await.unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));

        let port = ports::free();
        let process = run(dir.path(), port);
        let postgres = Postgres { dir, port, process };
        let table = "CREATE TABLE roles(name TEXT PRIMARY KEY, role TEXT NOT NULL)";
        postgres.client().await.batch_execute(table).await.unwrap();
        Some(postgres)
    }

    fn url(&self) -> String {
        format!("postgres://roles@127.0.0.1:{}/postgres", self.port)
    }

    /// A connection, once the server takes one.
    async fn client(&self) -> Client {
        let (client, connection) =
            eventually("a connection to PostgreSQL", async || tokio_postgres::connect(&self.url(), NoTls).await.ok())
                .await;
        tokio::spawn(connection);
        client
    }

    async fn insert(&self, name: &str, role: &str) {
        let row = format!("INSERT INTO roles VALUES ('{name}', {role})");
        self.client().await.batch_execute(&row).await.unwrap();
    }

    /// Shuts it down without waiting for its clients to disconnect.
    async fn stop(&mut self) {
        self.process.signal(Signal::INT);
        self.process.exited().await;
    }

    /// Starts it again on the same port.
    async fn start_again(&mut self) {
        self.process = run(self.dir.path(), self.port);
        drop(self.client().await);
    }

    async fn node(&self) -> Cluster {
        self.nodes(1, &[]).await
    }

    async fn nodes(&self, count: usize, flags: &[&str]) -> Cluster {
        let origin = format!("{}?application_name=role", self.url());
        Cluster::start(count, &[flags, &["--origin", &origin]].concat()).await
    }

    /// The role in the table itself.
    async fn row(&self, name: &str) -> Option<String> {
        let query = "SELECT role FROM roles WHERE name = $1";
        self.client().await.query_opt(query, &[&name]).await.unwrap().map(|row| row.get(0))
    }
}

impl Drop for Postgres {
    /// Stops the server in order, so that it gives back its shared memory. The system would not
    /// take that from a killed one.
    fn drop(&mut self) {
        if self.process.is_gone() {
            return;
        }
        self.process.signal(Signal::QUIT);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.process.is_gone() && Instant::now() < deadline {
            thread::yield_now();
        }
    }
}

fn run(dir: &Path, port: u16) -> Process {
    let postgres = program("postgres").expect("it is beside initdb");
    let mut command = unprivileged(&postgres, dir);
    command.args(["-D", "data", "-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
    command.args(["-c", "unix_socket_directories="]);
    Process::start("PostgreSQL", command)
}

fn unprivileged(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).kill_on_drop(true);
    if getuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// A program of PostgreSQL's, on the PATH or where Debian keeps them.
fn program(name: &str) -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    find_program(name, versions.map(|version| version.path().join("bin")))
}

#[tokio::test]
async fn names_are_text_and_any_other_is_not_found() {
    let Some(postgres) = Postgres::start().await else { return };
    postgres.insert("张三", "'班长'").await;
    postgres.insert("", "''").await;
    let cluster = postgres.node().await;
    assert_eq!(cluster.nodes[0].raw("张三").await.body, "班长".as_bytes());
    assert_eq!(cluster.nodes[0].raw("").await.brief(), "200 origin", "an empty role is a role");
    for name in [&b"nobody"[..], b"\xFF", b"a\0", b"' OR 1=1 --"] {
        assert_eq!(cluster.nodes[0].raw(name).await.brief(), "404 -", "{name:?}");
    }
}

#[tokio::test]
async fn a_table_that_is_missing_at_the_start_is_told_how_to_make() {
    let Some(postgres) = Postgres::start().await else { return };
    postgres.client().await.batch_execute("DROP TABLE roles").await.unwrap();
    let mut role = role();
    role.args(["--origin", &postgres.url()]).kill_on_drop(true);
    let output = within("the exit of a node without its table", role.output()).await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("has no table roles") && said.contains("CREATE TABLE roles"), "{said}");
}

#[tokio::test]
async fn a_role_that_is_too_long_is_refused() {
    let Some(postgres) = Postgres::start().await else { return };
    postgres.insert("longest", "repeat('长x', 8 << 20)").await;
    postgres.insert("too long", "repeat('长x', 8 << 20) || 'x'").await;
    postgres.insert("far too long", "repeat('x', 100000000)").await;
    let cluster = postgres.node().await;
    assert_eq!(cluster.nodes[0].raw("far too long").await.brief(), "413 -");
    let peak = cluster.nodes[0].process.memory_bytes("VmHWM");
    assert!(peak < 90 << 20, "100 MB were never held, but {} MiB", peak >> 20);
    assert_eq!(cluster.nodes[0].raw("too long").await.brief(), "413 -");
    assert_eq!(cluster.nodes[0].raw("longest").await.body.len(), 32 << 20);
}

#[tokio::test]
async fn a_server_that_was_restarted_is_used_at_once() {
    let Some(mut postgres) = Postgres::start().await else { return };
    for name in ["a", "b", "c"] {
        postgres.insert(name, "'here'").await;
    }
    let cluster = postgres.node().await;
    assert_eq!(cluster.nodes[0].raw("a").await.brief(), "200 origin");
    postgres.stop().await;
    postgres.start_again().await;
    assert_eq!(cluster.nodes[0].raw("b").await.brief(), "200 origin");
    postgres.stop().await;
    assert_eq!(cluster.nodes[0].raw("c").await.brief(), "502 -");
    postgres.start_again().await;
    assert_eq!(cluster.nodes[0].raw_after_failure("c").await.brief(), "200 origin");
}

#[tokio::test]
async fn a_connection_that_breaks_under_a_query_is_replaced() {
    let Some(postgres) = Postgres::start().await else { return };
    postgres.insert("a", "'here'").await;
    let admin = postgres.client().await;
    let cluster = postgres.node().await;
    assert_eq!(cluster.nodes[0].raw("first").await.brief(), "404 -", "now there is a kept connection");

    admin.batch_execute("BEGIN; LOCK TABLE roles").await.unwrap();
    let (reply, ()) = tokio::join!(cluster.nodes[0].raw("a"), async {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE application_name = 'role' AND wait_event_type = 'Lock'";
        eventually("a query that waits", async || {
            let ended = admin.query(end, &[]).await.unwrap();
            (!ended.is_empty()).then_some(())
        })
        .await;
        admin.batch_execute("COMMIT").await.unwrap();
    });
    assert_eq!(reply.brief(), "200 origin");
}

#[tokio::test]
async fn a_query_that_fails_is_a_502_and_does_no_lasting_harm() {
    let Some(postgres) = Postgres::start().await else { return };
    let admin = postgres.client().await;
    let cluster = postgres.node().await;
    admin.batch_execute("ALTER TABLE roles RENAME TO elsewhere").await.unwrap();
    assert_eq!(cluster.nodes[0].raw("a").await.brief(), "502 -");
    admin.batch_execute("ALTER TABLE elsewhere RENAME TO roles").await.unwrap();
    assert_eq!(cluster.nodes[0].raw_after_failure("a").await.brief(), "404 -");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_cold_names_at_once_share_a_few_connections() {
    let Some(postgres) = Postgres::start().await else { return };
    let admin = postgres.client().await;
    let rows = "INSERT INTO roles SELECT n::text, 'here' FROM generate_series(1, 200) n";
    admin.batch_execute(rows).await.unwrap();
    let cluster = postgres.node().await;
    let mut asked = JoinSet::new();
    for number in 1..=200 {
        let url = format!("{}/raw?name={number}", cluster.nodes[0].front);
        asked.spawn(async move { client().get(url).send().await.unwrap().status().as_u16() });
    }
    assert_eq!(within("all answers", asked.join_all()).await, vec![200; 200]);
    let query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'role'";
    let connections: i64 = admin.query_one(query, &[]).await.unwrap().get(0);
    assert!((1..=8).contains(&connections), "{connections}");
}

#[tokio::test]
async fn a_change_is_written_first_and_then_seen_on_every_node() {
    let Some(postgres) = Postgres::start().await else { return };
    postgres.insert("张三", "'班长'").await;
    let cluster = postgres.nodes(3, &[]).await;
    // Somebody who is there, and somebody who is not yet.
    for name in ["张三", "赵六"] {
        for (node, role) in ["元帅", "a'b", ""].into_iter().enumerate() {
            for other in &cluster.nodes {
                other.raw(name).await;
            }
            assert_eq!(cluster.nodes[node].put(name, role).await, Said::known());
            assert_eq!(postgres.row(name).await.as_deref(), Some(role));
            for other in &cluster.nodes {
                assert_eq!(other.raw(name).await.text(), role);
            }
        }
        assert_eq!(cluster.nodes[1].delete(name).await, Said::known());
        assert_eq!(postgres.row(name).await, None);
        for other in &cluster.nodes {
            assert_eq!(other.raw(name).await.brief(), "404 -");
        }
    }
}

#[tokio::test]
async fn a_role_that_is_no_text_is_refused_and_a_name_that_is_none_is_never_there() {
    let Some(postgres) = Postgres::start().await else { return };
    let cluster = postgres.node().await;
    for (name, role) in [(&b"a"[..], &b"\xFF"[..]), (b"a", b"a\0"), (b"\xFF", b"b"), (b"a\0", b"b")] {
        assert_eq!(cluster.nodes[0].put(name, role.to_vec()).await.status, 400, "{name:?} {role:?}");
    }
    for name in [&b"\xFF"[..], b"a\0"] {
        assert_eq!(cluster.nodes[0].delete(name).await, Said::known());
    }
    assert_eq!(postgres.row("a").await, None);
}

#[tokio::test]
async fn a_server_that_refuses_a_write_is_a_502_and_what_is_cached_stays() {
    let Some(mut postgres) = Postgres::start().await else { return };
    postgres.insert("a", "'here'").await;
    let cluster = postgres.node().await;
    let node = &cluster.nodes[0];
    assert_eq!(node.raw("a").await.brief(), "200 origin");
    let admin = postgres.client().await;
    admin.batch_execute("ALTER TABLE roles ADD CHECK (role <> 'forbidden')").await.unwrap();
    let nothing = (502, "the origin failed, and nothing was written\n".to_owned());
    let said = node.put("a", "forbidden").await;
    assert_eq!((said.status, said.body), nothing);
    assert_eq!(node.raw("a").await.brief(), "200 main");

    drop(admin);
    postgres.stop().await;
    let said = node.delete("a").await;
    assert_eq!((said.status, said.body), nothing);
    assert_eq!(node.raw("a").await.brief(), "200 main");
    postgres.start_again().await;
    assert_eq!(node.delete("a").await, Said::known());
    assert_eq!(node.raw("a").await.brief(), "404 -");
}

#[tokio::test]
async fn a_write_that_takes_too_long_is_cancelled() {
    let Some(postgres) = Postgres::start().await else { return };
    postgres.insert("a", "'here'").await;
    let admin = postgres.client().await;
    let cluster = postgres.nodes(1, &["--load-timeout-ms", "300"]).await;
    admin.batch_execute("BEGIN; LOCK TABLE roles IN EXCLUSIVE MODE").await.unwrap();
    let said = cluster.nodes[0].put("a", "gone").await;
    assert_eq!((said.status, said.body.as_str()), (502, "the origin failed, and nothing was written\n"));
    admin.batch_execute("COMMIT").await.unwrap();
    assert_eq!(cluster.nodes[0].put("b", "next").await, Said::known(), "the write that waited for the lock has gone");
    assert_eq!(postgres.row("a").await.as_deref(), Some("here"));
}

#[tokio::test]
async fn a_write_whose_fate_is_unknown_is_a_502_and_nothing_stays_cached() {
    let Some(postgres) = Postgres::start().await else { return };
    postgres.insert("a", "'here'").await;
    let cluster = postgres.node().await;
    assert_eq!(cluster.nodes[0].raw("a").await.brief(), "200 origin");
    // The write waits and gets no answer: its server process is killed, and all others restart.
    let admin = postgres.client().await;
    let slow =
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3600); RETURN NEW; END $$;
                CREATE TRIGGER die BEFORE UPDATE ON roles FOR EACH ROW EXECUTE FUNCTION die()";
    admin.batch_execute(slow).await.unwrap();
    let (said, ()) = tokio::join!(cluster.nodes[0].put("a", "perhaps"), async {
        let query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'role' AND wait_event = 'PgSleep'";
        let pid: i32 =
            eventually("a write that waits", async || admin.query_opt(query, &[]).await.unwrap().map(|row| row.get(0)))
                .await;
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    });
    assert_eq!(
        (said.status, said.body.as_str()),
        (502, "the origin failed, and it is not known whether anything was written\n")
    );
    drop(postgres.client().await);
    assert_eq!(cluster.nodes[0].raw("a").await.brief(), "200 origin", "it is asked again");
}
