//! `role` on SQLite, and the programs that make origins for it.
mod support;

use std::path::Path;

use reqwest::Method;
use rusqlite::{Connection, OptionalExtension};
use support::{
    child::Process,
    cluster::{Cluster, Said, client},
    eventually, within,
};
use tokio::{net::TcpStream, process::Command, task::JoinSet};

/// Makes a file of soldiers and says what the program said.
async fn seed(file: &Path, soldiers: usize) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_role-seed"));
    command.arg("--out").arg(file).args(["--soldiers", &soldiers.to_string()]).kill_on_drop(true);
    let output = within("role-seed", command.output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn node_on(file: &Path) -> Cluster {
    nodes_on(file, 1).await
}

async fn nodes_on(file: &Path, count: usize) -> Cluster {
    Cluster::start(count, &["--origin", &format!("sqlite:{}", file.display())]).await
}

/// The role in the file itself.
fn row(file: &Path, name: &str) -> Option<String> {
    let rows = Connection::open(file).unwrap();
    rows.query_row("SELECT role FROM roles WHERE name = ?1", (name,), |row| row.get(0)).optional().unwrap()
}

#[tokio::test]
async fn a_seeded_file_knows_the_three_and_the_generated() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("roles.db");
    assert_eq!(seed(&file, 5000).await, format!("5003 soldiers in {}\n", file.display()));
    let cluster = node_on(&file).await;
    for (name, role) in
        [("张三", "班长"), ("李四", "排长"), ("王五", "连长"), ("小兵0001", "上等兵"), ("小兵5000", "列兵")]
    {
        let reply = cluster.nodes[0].role(name).await;
        assert_eq!(String::from_utf8(reply.body).unwrap(), format!("老人家,你儿子{name},现在是{role}了!\n"));
    }
    for name in ["小兵5001", "赵六", "", "张三\0"] {
        assert_eq!(cluster.nodes[0].role(name).await.brief(), "404 -", "{name:?}");
    }
    assert_eq!(cluster.nodes[0].role(b"\xFF").await.brief(), "404 -");
}

#[tokio::test]
async fn seeding_again_replaces_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("roles.db");
    std::fs::write(&file, "this is no database").unwrap();
    for soldiers in [7, 3] {
        seed(&file, soldiers).await;
    }
    let count: i64 =
        Connection::open(&file).unwrap().query_row("SELECT count(*) FROM roles", (), |row| row.get(0)).unwrap();
    assert_eq!(count, 6);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[tokio::test]
async fn a_file_that_is_gone_for_a_while_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("roles.db");
    seed(&file, 0).await;
    let cluster = node_on(&file).await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!(cluster.nodes[0].raw("张三").await.brief(), "502 -");
    seed(&file, 0).await;
    assert_eq!(cluster.nodes[0].raw_after_failure("张三").await.brief(), "200 origin");
}

#[tokio::test]
async fn a_file_that_is_missing_at_the_start_is_told_how_to_make() {
    let dir = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", dir.path().join("roles.db").display());
    let mut role = support::cluster::role();
    role.args(["--origin", &file]).kill_on_drop(true);
    let output = within("the exit of a node without its file", role.output()).await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("there is no file") && said.contains("CREATE TABLE roles"), "{said}");
}

/// It is renamed over, as a new version of it would be.
#[tokio::test]
async fn a_file_that_is_replaced_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let [file, newer] = ["roles.db", "newer.db"].map(|name| dir.path().join(name));
    seed(&file, 0).await;
    seed(&newer, 0).await;
    Connection::open(&newer).unwrap().execute("UPDATE roles SET role = '元帅'", ()).unwrap();
    let cluster = node_on(&file).await;
    assert_eq!(cluster.nodes[0].raw("张三").await.text(), "班长");
    std::fs::rename(&newer, &file).unwrap();
    assert_eq!(cluster.nodes[0].raw("李四").await.text(), "元帅");
}

#[tokio::test]
async fn a_role_that_is_too_long_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("roles.db");
    seed(&file, 0).await;
    let rows = Connection::open(&file).unwrap();
    rows.execute("INSERT INTO roles VALUES ('longest', printf('%.*c', 33554432, 'x'))", ()).unwrap();
    rows.execute("INSERT INTO roles VALUES ('too long', printf('%.*c', 100000000, 'x'))", ()).unwrap();
    let cluster = node_on(&file).await;
    assert_eq!(cluster.nodes[0].raw("too long").await.brief(), "413 -");
    let peak = cluster.nodes[0].process.memory_bytes("VmHWM");
    assert!(peak < 90 << 20, "100 MB were never held, but {} MiB", peak >> 20);
    assert_eq!(cluster.nodes[0].raw("longest").await.body.len(), 32 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_cold_names_at_once_are_all_answered() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("roles.db");
    seed(&file, 200).await;
    let cluster = node_on(&file).await;
    let mut asked = JoinSet::new();
    for number in 1..=200 {
        let url = format!("{}/raw?name=小兵{number:04}", cluster.nodes[0].front);
        asked.spawn(async move { client().get(url).send().await.unwrap().status().as_u16() });
    }
    assert_eq!(within("all answers", asked.join_all()).await, vec![200; 200]);
}

#[tokio::test]
async fn a_change_is_written_first_and_then_seen_on_every_node() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("roles.db");
    seed(&file, 0).await;
    let cluster = nodes_on(&file, 3).await;
    // Somebody who is there, and somebody who is not yet.
    for name in ["张三", "赵六"] {
        for (node, role) in ["元帅", "a'b", ""].into_iter().enumerate() {
            for other in &cluster.nodes {
                other.raw(name).await;
            }
            assert_eq!(cluster.nodes[node].put(name, role).await, Said::known());
            assert_eq!(row(&file, name).as_deref(), Some(role));
            for other in &cluster.nodes {
                assert_eq!(other.raw(name).await.text(), role);
            }
        }
        assert_eq!(cluster.nodes[1].delete(name).await, Said::known());
        assert_eq!(row(&file, name), None);
        for other in &cluster.nodes {
            assert_eq!(other.raw(name).await.brief(), "404 -");
        }
    }
    assert_eq!(row(&file, "李四").as_deref(), Some("排长"), "nobody else was changed");
}

#[tokio::test]
async fn a_role_that_is_no_text_is_refused_and_a_name_that_is_none_is_never_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("roles.db");
    seed(&file, 0).await;
    let cluster = node_on(&file).await;
    let node = &cluster.nodes[0];
    let said = node.put("张三", b"\xFF".to_vec()).await;
    assert_eq!((said.status, said.body.as_str()), (400, "the role must be UTF-8 text; it goes to an SQL table\n"));
    let said = node.put(b"\xFF", "元帅").await;
    assert_eq!((said.status, said.body.as_str()), (400, "the name must be UTF-8 text; it goes to an SQL table\n"));
    assert_eq!(node.delete(b"\xFF").await, Said::known());
    assert_eq!(node.put("a\0b", "a\0b").await, Said::known());
    assert_eq!(node.raw("a\0b").await.text(), "a\0b");
    assert_eq!(row(&file, "张三").as_deref(), Some("班长"));
}

#[tokio::test]
async fn a_write_that_fails_is_a_502_and_what_is_cached_stays() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("roles.db");
    seed(&file, 0).await;
    let cluster = node_on(&file).await;
    let node = &cluster.nodes[0];
    assert_eq!(node.raw("张三").await.status, 200);
    let locked = Connection::open(&file).unwrap();
    locked.execute_batch("BEGIN IMMEDIATE").unwrap();
    for said in [node.put("张三", "元帅").await, node.delete("张三").await] {
        assert_eq!((said.status, said.body.as_str()), (502, "the origin failed, and nothing was written\n"));
    }
    assert_eq!(node.raw("张三").await.brief(), "200 main");
    locked.execute_batch("ROLLBACK").unwrap();
    assert_eq!(node.put("张三", "元帅").await, Said::known());
}

#[cfg(unix)]
#[tokio::test]
async fn a_change_whose_caller_has_left_is_made_before_the_exit() {
    use rustix::process::Signal;

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("roles.db");
    seed(&file, 0).await;
    let mut cluster = nodes_on(&file, 2).await;
    for node in &cluster.nodes {
        assert_eq!(node.raw("张三").await.text(), "班长");
    }
    let locked = Connection::open(&file).unwrap();
    locked.execute_batch("BEGIN IMMEDIATE").unwrap();
    let said = cluster.nodes[0].change_within(Method::PUT, "张三", 100).await;
    assert_eq!((said.status, said.body.as_str()), (504, "not within x-timeout-ms; the change goes on\n"));
    cluster.nodes[0].process.signal(Signal::TERM);
    let front = cluster.nodes[0].front[7..].to_owned();
    eventually("the front being closed", async || TcpStream::connect(&front).await.is_err().then_some(())).await;
    // Nothing but the change would delay the exit for longer than this.
    let mut looks = 0;
    eventually("many looks", async || {
        assert_eq!(cluster.nodes[0].readyz().await, Some(503), "operators can watch to the end");
        looks += 1;
        (looks == 50).then_some(())
    })
    .await;
    locked.execute_batch("ROLLBACK").unwrap();
    assert!(cluster.nodes[0].process.exited().await.success());
    assert_eq!(row(&file, "张三").as_deref(), Some("new"));
    assert_eq!(cluster.nodes[1].raw("张三").await.text(), "new");
}

#[tokio::test]
async fn a_file_that_is_not_there_is_not_made_by_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("roles.db");
    seed(&file, 0).await;
    let cluster = node_on(&file).await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!(cluster.nodes[0].put("张三", "元帅").await.status, 502);
    assert!(!file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_write_and_read_one_file_at_once_do_not_fail_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("roles.db");
    seed(&file, 100).await;
    let cluster = nodes_on(&file, 3).await;
    let mut asked = JoinSet::new();
    for number in 0..60 {
        let front = &cluster.nodes[number % 3].front;
        let write = client().put(format!("{front}/role?name=张三")).body(format!("role {number}"));
        asked.spawn(async move { write.send().await.unwrap().status().as_u16() });
        let read = client().get(format!("{front}/raw?name=小兵{:04}", number + 1));
        asked.spawn(async move { read.send().await.unwrap().status().as_u16() });
    }
    let statuses = within("all answers", asked.join_all()).await;
    assert_eq!(statuses, vec![200; 120]);
    let last = row(&file, "张三").unwrap();
    for node in &cluster.nodes {
        assert_eq!(node.raw("张三").await.text(), last);
    }
}

/// A started `role-origin` and its address.
async fn origin(flags: &[&str]) -> (Process, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_role-origin"));
    command.arg("--exit-with-stdin").args(flags);
    let mut process = Process::start("role-origin", command);
    let line = process.line().await;
    let address = line.strip_prefix("listening on ").expect(&line).to_owned();
    (process, address)
}

async fn text(url: String) -> (u16, String) {
    let answer = client().get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn an_origin_that_counts() {
    let (_process, origin) = origin(&[]).await;
    assert_eq!(text(format!("{origin}/role?key=张三")).await, (200, "班长".to_owned()));
    assert_eq!(text(format!("{origin}/role?key=小兵and+more")).await.0, 200);
    assert_eq!(text(format!("{origin}/role?key=%FF")).await.0, 404);
    assert_eq!(text(format!("{origin}/role?key=%FF")).await.0, 404);
    assert_eq!(text(format!("{origin}/role")).await.0, 400);
    assert_eq!(text(format!("{origin}/count")).await.1, "4");
    assert_eq!(text(format!("{origin}/count?key=%FF")).await.1, "2");
    assert_eq!(text(format!("{origin}/count?key=")).await.1, "0");
}

#[tokio::test]
async fn an_origin_as_slow_as_it_is_told_to_be() {
    let (_process, origin) = origin(&["--delay-ms", "3600000"]).await;
    let slow = tokio::spawn(text(format!("{origin}/role?key=slow")));
    eventually("the question being counted", async || {
        (text(format!("{origin}/count?key=slow")).await.1 == "1").then_some(())
    })
    .await;
    let quick = client().put(format!("{origin}/delay?ms=0")).send().await.unwrap();
    assert_eq!(quick.status(), 204);
    assert_eq!(text(format!("{origin}/role?key=quick")).await.0, 404);
    assert!(!slow.is_finished(), "it was asked when an answer took an hour");
    slow.abort();
    assert_eq!(client().put(format!("{origin}/delay?ms=much")).send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn an_origin_ends_with_its_standard_input() {
    let (mut process, _) = origin(&[]).await;
    process.close_stdin();
    assert!(process.exited().await.success());
}
