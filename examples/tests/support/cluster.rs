//! Nodes of `role` as real processes, and the requests that people and operators make.

use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use reqwest::{
    Body, Client, Method, RequestBuilder, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use tokio::process::Command;

use super::{child::Process, eventually, ports};

/// The program under test.
pub const ROLE: &str = env!("CARGO_BIN_EXE_role");

/// Nodes of `role` that know each other, as real processes.
pub struct Cluster {
    pub nodes: Vec<Node>,
    /// Those of each node.
    flags: Vec<Vec<String>>,
}

/// One node, which may be running.
pub struct Node {
    pub front: String,
    pub peer: String,
    pub admin: String,
    pub process: Process,
    client: Client,
}

/// The answer of a node.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub cache: Option<String>,
    pub body: Vec<u8>,
}

impl Cluster {
    /// Starts `count` nodes with these flags and those for their addresses, and waits until all are
    /// ready.
    pub async fn start(count: usize, flags: &[&str]) -> Self {
        Cluster::start_beside(&[], count, flags).await
    }

    /// Starts nodes with `others` in their list, which are no nodes of ours.
    pub async fn start_beside(others: &[String], count: usize, flags: &[&str]) -> Self {
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        Cluster::start_each("http", others, vec![flags; count]).await
    }

    /// Starts a node for each list of flags. Their addresses begin with `scheme`.
    pub async fn start_each(scheme: &str, others: &[String], flags: Vec<Vec<String>>) -> Self {
        let programs = vec![Path::new(ROLE); flags.len()];
        Cluster::start_programs(&programs, scheme, others, flags).await
    }

    /// Starts a node of each of these programs, which are `role` in one release or another.
    pub async fn start_programs(
        programs: &[&Path],
        scheme: &str,
        others: &[String],
        mut flags: Vec<Vec<String>>,
    ) -> Self {
        let addresses: Vec<[u16; 3]> = flags.iter().map(|_| [ports::free(), ports::free(), ports::free()]).collect();
        let peers: Vec<String> = addresses.iter().map(|ports| format!("{scheme}://127.0.0.1:{}", ports[1])).collect();
        let all = [peers.as_slice(), others].concat().join(",");
        for (flags, peer) in flags.iter_mut().zip(peers) {
            flags.extend(["--self-url".to_owned(), peer, "--peers".to_owned(), all.clone()]);
        }
        let of_all = programs.iter().zip(addresses).zip(&flags);
        let nodes: Vec<Node> = of_all.map(|((program, ports), flags)| Node::start(program, ports, flags)).collect();
        for node in &nodes {
            node.ready().await;
        }
        Cluster { nodes, flags }
    }

    /// Starts a node that has ended again, on the same ports.
    pub async fn restart(&mut self, index: usize) {
        let old = &self.nodes[index];
        let ports = [&old.front, &old.peer, &old.admin].map(|address| port(address));
        let node = Node::start(Path::new(ROLE), ports, &self.flags[index]);
        node.ready().await;
        self.nodes[index] = node;
    }

    /// The node that owns `key`, as the first one answers.
    pub async fn owner(&self, key: impl AsRef<[u8]>) -> usize {
        let owner = self.nodes[0].owner(key).await;
        self.nodes.iter().position(|node| node.peer == owner).unwrap_or_else(|| panic!("{owner:?} is no member"))
    }

    /// Keys that begin with `prefix` and are owned by the node `owner`.
    pub async fn keys_of(&self, owner: usize, prefix: &str, count: usize) -> Vec<String> {
        let mut keys = Vec::new();
        for number in 0.. {
            if keys.len() == count {
                break;
            }
            let key = format!("{prefix}{number}");
            if self.owner(&key).await == owner {
                keys.push(key);
            }
        }
        keys
    }

    /// One key that begins with `prefix` and is owned by the node `owner`.
    pub async fn key_of(&self, owner: usize, prefix: &str) -> String {
        self.keys_of(owner, prefix, 1).await.remove(0)
    }
}

fn port(address: &str) -> u16 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

impl Node {
    /// Starts one on these ports. Its name is what `--self-url` says.
    fn start(program: &Path, ports: [u16; 3], flags: &[String]) -> Self {
        let [front, peer, admin] = ports.map(|port| format!("127.0.0.1:{port}"));
        let mut command = clean(program);
        command.args(["--listen", &front, "--peer-listen", &peer, "--admin-listen", &admin]);
        command.arg("--exit-with-stdin").args(flags);
        let name = flags.iter().position(|flag| flag == "--self-url").map(|index| flags[index + 1].clone());
        let peer = name.expect("every node is given its name");
        let process = Process::start(format!("the node {peer}"), command);
        let [front, admin] = [front, admin].map(|address| format!("http://{address}"));
        Node { front, peer, admin, process, client: client() }
    }

    pub async fn ready(&self) {
        eventually(&format!("{} being ready", self.peer), async || (self.readyz().await == Some(200)).then_some(()))
            .await;
    }

    /// The status of `/readyz`, if there is an answer.
    pub async fn readyz(&self) -> Option<u16> {
        let answer = self.client.get(format!("{}/readyz", self.admin)).send().await;
        answer.ok().map(|answer| answer.status().as_u16())
    }

    /// The member that owns `key`, as this node sees it.
    pub async fn owner(&self, key: impl AsRef<[u8]>) -> String {
        let url = format!("{}/owner?key={}", self.admin, escaped(key));
        let answer = self.client.get(url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.text().await.unwrap()
    }

    pub async fn peers(&self) -> String {
        self.client.get(format!("{}/peers", self.admin)).send().await.unwrap().text().await.unwrap()
    }

    /// The state of the node and its members, as it shows them.
    pub async fn status(&self) -> serde_json::Value {
        let answer = self.client.get(format!("{}/status.json", self.admin)).send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    /// Sets the member list, and returns the status and the text.
    pub async fn set_members(&self, body: impl Into<String>) -> (u16, String) {
        let url = format!("{}/peers", self.admin);
        let answer = self.client.put(url).body(body.into()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub async fn raw(&self, name: impl AsRef<[u8]>) -> Reply {
        self.ask("raw", name, None).await.unwrap()
    }

    pub async fn role(&self, name: impl AsRef<[u8]>) -> Reply {
        self.ask("role", name, None).await.unwrap()
    }

    /// Asks for a value whose load has failed, until there is an answer: a node does not ask a
    /// failed origin again at once.
    pub async fn raw_after_failure(&self, name: impl AsRef<[u8]>) -> Reply {
        eventually("an answer from an origin that has recovered", async || {
            Some(self.raw(&name).await).filter(|reply| reply.status != 502)
        })
        .await
    }

    /// Asks for the value with a deadline.
    pub async fn raw_within(&self, name: impl AsRef<[u8]>, timeout_ms: u64) -> Reply {
        self.ask("raw", name, Some(timeout_ms)).await.unwrap()
    }

    pub async fn ask(
        &self,
        path: &str,
        name: impl AsRef<[u8]>,
        timeout_ms: Option<u64>,
    ) -> Result<Reply, reqwest::Error> {
        let mut request = self.client.get(format!("{}/{path}?name={}", self.front, escaped(name)));
        if let Some(ms) = timeout_ms {
            request = request.header("x-timeout-ms", ms);
        }
        Reply::read(request.send().await?).await
    }

    /// Gives `name` a new role.
    pub async fn put(&self, name: impl AsRef<[u8]>, role: impl Into<Body>) -> Said {
        let role: Body = role.into();
        let request = self.client.put(self.role_url(name));
        // The client says nothing of an empty body, which would be none at all.
        let is_empty = role.as_bytes().is_some_and(<[u8]>::is_empty);
        let request = if is_empty { request.header(CONTENT_LENGTH, 0) } else { request };
        self.change(request.body(role)).await
    }

    /// Deletes the role of `name`.
    pub async fn delete(&self, name: impl AsRef<[u8]>) -> Said {
        self.change(self.client.delete(self.role_url(name))).await
    }

    /// Changes something within a deadline.
    pub async fn change_within(&self, method: Method, name: impl AsRef<[u8]>, timeout_ms: u64) -> Said {
        let request = self.client.request(method, self.role_url(name)).header("x-timeout-ms", timeout_ms);
        self.change(request.body("new")).await
    }

    async fn change(&self, request: RequestBuilder) -> Said {
        let answer = request.send().await.unwrap();
        let content_type = answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
        Said { status: answer.status().as_u16(), content_type, body: answer.text().await.unwrap() }
    }

    fn role_url(&self, name: impl AsRef<[u8]>) -> String {
        format!("{}/role?name={}", self.front, escaped(name))
    }
}

/// The answer of a node to a change.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    pub status: u16,
    pub content_type: String,
    pub body: String,
}

impl Said {
    /// The answer that every node knows.
    pub fn known() -> Self {
        Said {
            status: 200,
            content_type: "text/plain; charset=utf-8".to_owned(),
            body: "every node knows\n".to_owned(),
        }
    }

    /// The answer that these members could not be told.
    pub fn missed(members: &[&str]) -> Self {
        let body = format!("{{\"missed\":{members:?}}}").replace(", ", ",");
        Said { status: 207, content_type: "application/json".to_owned(), body }
    }
}

impl Reply {
    async fn read(answer: Response) -> Result<Self, reqwest::Error> {
        let status = answer.status().as_u16();
        let cache = answer.headers().get("x-cache").map(|value| value.to_str().unwrap().to_owned());
        Ok(Reply { status, cache, body: answer.bytes().await?.into() })
    }

    /// Status and `x-cache` in a line, for short expectations.
    pub fn brief(&self) -> String {
        format!("{} {}", self.status, self.cache.as_deref().unwrap_or("-"))
    }

    /// The body, which is text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// The program under test, without the variables of this process's environment that it would read.
pub fn role() -> Command {
    clean(Path::new(ROLE))
}

fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROLE_") {
            command.env_remove(name);
        }
    }
    command
}

pub fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

/// A key with every byte that is not a letter or a digit as `%XX`.
pub fn escaped(key: impl AsRef<[u8]>) -> String {
    percent_encode(key.as_ref(), NON_ALPHANUMERIC).to_string()
}
