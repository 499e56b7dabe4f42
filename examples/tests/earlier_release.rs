//! `role` beside the `role` of before members said who they are, each serving the other.
mod support;

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use support::{
    cluster::{Cluster, ROLE, Said},
    origin::Origin,
    required::{find_program, skip},
};
use tokio::{process::Command, time::timeout};

/// The last commit without identities.
const COMMIT: &str = "8ef2a79";

/// The time in which that commit is built, on a machine that has other things to do.
const BUILD_TIME: Duration = Duration::from_secs(20 * 60);

const KEYS: usize = 300;

/// Builds `role` as it was, if the history is here.
async fn role_of_before() -> Option<PathBuf> {
    let (Some(git), Some(tar)) = (find_program("git", []), find_program("tar", [])) else {
        skip("git", "there is no git or no tar on the PATH");
        return None;
    };
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(COMMIT);
    std::fs::create_dir_all(&dir).unwrap();
    let archive = dir.join("sources.tar");
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut get = Command::new(git);
    get.current_dir(here).args(["archive", "--output"]).arg(&archive).arg(COMMIT);
    if let Err(said) = run(get).await {
        skip("git", &format!("its history lacks {COMMIT}: {said}"));
        return None;
    }
    let mut unpack = Command::new(tar);
    unpack.current_dir(&dir).args(["-x", "-m", "-f"]).arg(&archive);
    run(unpack).await.unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.current_dir(&dir).args(["build", "--locked", "--quiet", "--package", "peercache-examples", "--bin", "role"]);
    // No symbols, which take a third of the time, and nothing of this build's settings.
    build.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_TARGET_DIR", dir.join("target")).env_remove("RUSTFLAGS");
    run(build).await.unwrap();
    Some(dir.join("target/debug/role"))
}

async fn run(mut command: Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(BUILD_TIME, output).await.expect("it does not hang").unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_before_and_one_of_now_serve_each_other_for_every_key() {
    let Some(before) = role_of_before().await else { return };
    let origin = Origin::start().await;
    let flags = ["--origin", &origin.flag()].map(str::to_owned).to_vec();
    let cluster = Cluster::start_programs(&[&before, Path::new(ROLE)], "http", &[], vec![flags; 2]).await;
    let mut owned = [0; 2];
    for number in 0..KEYS {
        let key = format!("user:{number}");
        let owner = cluster.owner(&key).await;
        owned[owner] += 1;
        assert_eq!(cluster.nodes[1].owner(&key).await, cluster.nodes[owner].peer, "{key}");
        // The other one fetches it; then the owner has it.
        for (node, source) in [(1 - owner, "200 peer"), (owner, "200 main")] {
            let reply = cluster.nodes[node].raw(&key).await;
            assert_eq!((reply.brief().as_str(), reply.text()), (source, &*format!("the {key}")), "{key} at {node}");
        }
        assert_eq!(origin.loads(&key), 1, "{key}");
    }
    assert!(owned.iter().all(|keys| *keys > KEYS / 5), "{owned:?}");
    // Changes made at either reach both.
    for number in 0..KEYS / 10 {
        let key = format!("user:{number}");
        for (at, role) in [(0, "set there"), (1, "set here")] {
            assert_eq!(cluster.nodes[at].put(&key, role).await, Said::known(), "{key} at {at}");
            for node in &cluster.nodes {
                assert_eq!(node.raw(&key).await.text(), role, "{key} at {}", node.peer);
            }
        }
        let at = number % 2;
        assert_eq!(cluster.nodes[at].delete(&key).await, Said::known(), "{key} at {at}");
        for node in &cluster.nodes {
            assert_eq!(node.raw(&key).await.text(), format!("the {key}"), "{key} at {}", node.peer);
        }
    }
}
