//! `role --dialect golang` in one ring with a real golang/groupcache process.
mod support;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use support::{
    child::Process,
    cluster::{Cluster, Said, client, escaped},
    origin::Origin,
    ports,
    required::{find_program, skip},
    within,
};
use tempfile::TempDir;
use tokio::{process::Command, task::JoinSet};

const KEYS: usize = 1_000;
/// Keys that a URL carries only escaped, and that the two sides do not escape alike.
const STRANGE_KEYS: [&[u8]; 9] = [b"a b", b"a+b", b"a%2Fb", b"/", b"a/b", b"//", "é".as_bytes(), b"\xFF\xFE", b""];
const WORKERS: usize = 20;

/// Two nodes of ours and one of Go's, and their origin.
struct Ring {
    cluster: Cluster,
    golang: Golang,
    origin: Origin,
}

struct Golang {
    address: String,
    client: reqwest::Client,
    _process: Process,
}

impl Ring {
    async fn start() -> Option<Self> {
        let (program, _dir) = build().await?;
        let origin = Origin::start().await;
        let address = format!("http://127.0.0.1:{}", ports::free());
        let flags = ["--dialect", "golang", "--origin", &origin.flag()];
        let cluster = Cluster::start_beside(std::slice::from_ref(&address), 2, &flags).await;

        let names = [&cluster.nodes[0].peer, &cluster.nodes[1].peer, &address].map(String::as_str).join(",");
        let mut command = Command::new(program);
        command.args(["-listen", &address[7..], "-self", &address, "-peers", &names]);
        command.args(["-origin", origin.flag().trim_end_matches("{key}")]);
        let mut process = Process::start("the Go peer", command);
        assert_eq!(process.line().await, format!("listening on {address}"));
        let golang = Golang { address, client: client(), _process: process };
        Some(Ring { cluster, golang, origin })
    }
}

/// Builds the Go program, if Go and its modules can be found.
async fn build() -> Option<(std::path::PathBuf, TempDir)> {
    let Some(go) = find_program("go", []) else {
        skip("go", "there is no go on the PATH; install Go");
        return None;
    };
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("golang-peer");
    let run = async |arguments: &[&str]| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golang");
        let mut command = Command::new(&go);
        // The build depends on the module alone: no other toolchain, workspace or flags.
        command.env("GOTOOLCHAIN", "local").env("GOWORK", "off").env("GOFLAGS", "-mod=readonly -buildvcs=false");
        command.args(arguments).current_dir(source).kill_on_drop(true);
        let output = within("go", command.output()).await.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    if let (false, said) = run(&["mod", "download"]).await {
        skip("go", &format!("its modules cannot be had: {said}"));
        return None;
    }
    let (built, said) = run(&["build", "-o", program.to_str().unwrap(), "."]).await;
    assert!(built, "{said}");
    Some((program, dir))
}

/// A key that begins with `prefix` and is owned by `owner`.
async fn key_of(ring: &Ring, owner: &str, prefix: &str) -> String {
    for number in 0.. {
        let key = format!("{prefix}{number}");
        if ring.cluster.nodes[0].owner(&key).await == owner {
            return key;
        }
    }
    unreachable!("a member owns a share of the keys")
}

impl Golang {
    async fn owner(&self, key: &[u8]) -> String {
        let url = format!("{}/owner?key={}", self.address, escaped(key));
        self.client.get(url).send().await.unwrap().text().await.unwrap()
    }

    async fn get(&self, key: &[u8]) -> (u16, Vec<u8>) {
        let answer = self.client.get(format!("{}/get?key={}", self.address, escaped(key))).send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap().into())
    }
}

fn keys() -> Vec<Vec<u8>> {
    let numbered = (STRANGE_KEYS.len()..KEYS).map(|number| format!("user:{number}").into_bytes());
    STRANGE_KEYS.iter().map(|key| key.to_vec()).chain(numbered).collect()
}

/// Asks for one key everywhere, and returns its owner, or a sentence that says what was wrong.
async fn try_key(ring: &Ring, key: &[u8]) -> Result<String, String> {
    let owner = ring.golang.owner(key).await;
    for node in &ring.cluster.nodes {
        let named = node.owner(key).await;
        if named != owner {
            return Err(format!("{} says {named} owns it, Go says {owner}", node.peer));
        }
    }
    let value = [b"the ", key].concat();
    // Members that do not own it come first, so that they must fetch it.
    let mut nodes: Vec<_> = ring.cluster.nodes.iter().collect();
    nodes.sort_by_key(|node| node.peer == owner);
    let golang_owns = owner == ring.golang.address;
    if !golang_owns {
        let fetched = ring.golang.get(key).await;
        if fetched != (200, value.clone()) {
            return Err(format!("Go got {fetched:?}"));
        }
    }
    for node in nodes {
        let reply = node.raw(key).await;
        let expected = if node.peer == owner { "200 main" } else { "200 peer" };
        if (reply.brief().as_str(), &reply.body) != (expected, &value) {
            return Err(format!("{} got {reply:?} instead of {expected}", node.peer));
        }
    }
    if golang_owns && ring.golang.get(key).await != (200, value) {
        return Err("Go lost what it had loaded".to_owned());
    }
    match ring.origin.loads(key) {
        1 => Ok(owner),
        loads => Err(format!("it was loaded {loads} times")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_keys_have_one_agreed_owner_who_loads_them_once() {
    let Some(ring) = Ring::start().await else { return };
    let ring = Arc::new(ring);
    let mut workers = JoinSet::new();
    for keys in keys().chunks(KEYS.div_ceil(WORKERS)) {
        let (ring, keys) = (ring.clone(), keys.to_vec());
        workers.spawn(async move {
            let mut owners = BTreeMap::<String, usize>::new();
            for key in keys {
                match try_key(&ring, &key).await {
                    Ok(owner) => *owners.entry(owner).or_default() += 1,
                    Err(wrong) => panic!("key {:?}: {wrong}", key.escape_ascii().to_string()),
                }
            }
            owners
        });
    }
    let mut owned = BTreeMap::<String, usize>::new();
    for (owner, keys) in within("a thousand keys", workers.join_all()).await.into_iter().flatten() {
        *owned.entry(owner).or_default() += keys;
    }
    assert_eq!((owned.values().sum(), owned.len()), (KEYS, 3), "{owned:?}");
    assert_eq!(ring.origin.loads_of_all(), KEYS);
}

#[tokio::test]
async fn an_error_of_a_go_owner_is_the_answer_and_so_is_one_of_ours() {
    let Some(ring) = Ring::start().await else { return };
    let theirs = key_of(&ring, &ring.golang.address, "broken").await;
    assert_eq!(ring.cluster.nodes[0].raw(&theirs).await.brief(), "502 -");
    assert_eq!(ring.origin.loads(&theirs), 1);

    let ours = key_of(&ring, &ring.cluster.nodes[1].peer, "broken").await;
    assert_eq!(ring.golang.get(ours.as_bytes()).await.0, 502);
    // Go takes any error for a failed peer and asks the origin itself; ours then loads no further.
    assert_eq!(ring.origin.loads(&ours), 2);
}

#[tokio::test]
async fn a_go_peer_cannot_be_told_of_a_change_and_is_named() {
    let Some(ring) = Ring::start().await else { return };
    for owner in [&ring.cluster.nodes[0].peer, &ring.cluster.nodes[1].peer, &ring.golang.address] {
        let key = key_of(&ring, owner, "k").await;
        let value = [b"the ", key.as_bytes()].concat();
        assert_eq!(ring.golang.get(key.as_bytes()).await, (200, value.clone()));
        for node in &ring.cluster.nodes {
            assert_eq!(node.raw(&key).await.body, value);
        }
        ring.origin.set(&key, "new");
        assert_eq!(ring.cluster.nodes[0].delete(&key).await, Said::missed(&[&ring.golang.address]));
        if *owner != ring.golang.address {
            for node in &ring.cluster.nodes {
                assert_eq!(node.raw(&key).await.text(), "new", "ours know");
            }
        }
        assert_eq!(ring.cluster.nodes[1].put(&key, "newer").await, Said::missed(&[&ring.golang.address]));
        if *owner != ring.golang.address {
            for node in &ring.cluster.nodes {
                assert_eq!(node.raw(&key).await.text(), "newer");
            }
        }
    }
}
