//! Things that a step of the tour has at hand: the nodes, the origin, and keys that nobody has
//! asked for yet.

use anyhow::{Context, Result, ensure};

use super::origin::Origin;
use crate::http::{Answer, Client, percent_encode};
use crate::node::{self, Node, Spec};
use crate::ports::Ports;

/// Most keys that are looked through for one that a certain node owns. With a third of the keys
/// each, a node that owns none of these is left out by the ring.
const MAX_KEYS_LOOKED_THROUGH: usize = 200;

/// A cluster in the middle of its tour. Nodes are named by their index, from 0.
pub struct Tour {
    pub origin: Origin,
    pub nodes: Vec<Node>,
    specs: Vec<Spec>,
    client: Client,
    soldiers_used: usize,
}

impl Tour {
    /// A tour of nodes that are ready.
    pub fn new(specs: Vec<Spec>, nodes: Vec<Node>, origin: Origin) -> Self {
        Self { origin, nodes, specs, client: Client::new(), soldiers_used: 0 }
    }

    /// The client, for threads of a step.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The peer list as it should be.
    pub fn members(&self) -> Vec<String> {
        self.specs.iter().map(|spec| spec.ports.peer_url()).collect()
    }

    /// A name that no step has used yet. The origin knows it.
    pub fn fresh_key(&mut self) -> String {
        self.soldiers_used += 1;
        format!("小兵{:04}", self.soldiers_used)
    }

    /// A fresh key that belongs to `owner`, by the word of `witness`.
    pub fn fresh_key_of(&mut self, owner: usize, witness: usize) -> Result<String> {
        for _ in 0..MAX_KEYS_LOOKED_THROUGH {
            let key = self.fresh_key();
            if self.owner(witness, &key)? == self.ports(owner).peer_url() {
                return Ok(key);
            }
        }
        let (owner, witness) = (owner + 1, witness + 1);
        anyhow::bail!("node {witness} says that none of {MAX_KEYS_LOOKED_THROUGH} keys belongs to node {owner}")
    }

    /// Asks `node` where a key belongs.
    pub fn owner(&self, node: usize, key: &str) -> Result<String> {
        let url = format!("{}/owner?key={}", self.ports(node).admin_url(), percent_encode(key));
        let answer = self.client.get(&url)?;
        ensure!(answer.status == 200, "GET {url} answered {}", answer.status);
        Ok(answer.body)
    }

    /// The index of the node that owns a key, by the word of the first.
    pub fn owner_index(&self, key: &str) -> Result<usize> {
        let owner = self.owner(0, key)?;
        let index = self.specs.iter().position(|spec| spec.ports.peer_url() == owner);
        index.with_context(|| format!("node 1 says that {key} belongs to {owner:?}, which is no member"))
    }

    /// Asks `node` for a name, as people do.
    pub fn read(&self, node: usize, key: &str) -> Result<Answer> {
        self.client.get(&self.read_url(node, key))
    }

    /// Address at which people ask `node` for a name.
    pub fn read_url(&self, node: usize, key: &str) -> String {
        format!("{}/role?name={}", self.ports(node).front_url(), percent_encode(key))
    }

    /// The answer that every node should give, by the word of the origin. Asking counts as a
    /// request there.
    pub fn expected(&self, key: &str) -> Result<String> {
        Ok(sentence(key, &self.origin.role(key)?))
    }

    /// Gives a name a new role through `node`.
    pub fn put_role(&self, node: usize, key: &str, role: &str) -> Result<Answer> {
        self.client.put(&self.read_url(node, key), role)
    }

    /// Takes a name's role away through `node`.
    pub fn delete_role(&self, node: usize, key: &str) -> Result<Answer> {
        self.client.delete(&self.read_url(node, key))
    }

    /// Gives `node` a new peer list. Returns the status of its answer.
    pub fn put_peers(&self, node: usize, members: &[String]) -> Result<u16> {
        let list = serde_json::to_string(members)?;
        Ok(self.client.put(&self.peers_url(node), &list)?.status)
    }

    /// The peer list that `node` says it has, sorted.
    pub fn peers(&self, node: usize) -> Result<Vec<String>> {
        let url = self.peers_url(node);
        let body = self.client.get(&url)?.body;
        let mut members: Vec<String> =
            serde_json::from_str(&body).with_context(|| format!("GET {url} answered {body:?}"))?;
        members.sort();
        Ok(members)
    }

    /// Starts a node again that was killed, on the ports it had, and waits until it is ready.
    pub fn restart(&mut self, node: usize) -> Result<()> {
        self.nodes[node] = self.specs[node].start()?;
        node::wait_ready([&mut self.nodes[node]], |_| (), || false)?;
        Ok(())
    }

    /// The last words of nodes that have ended by themselves.
    pub fn obituaries(&mut self) -> Vec<String> {
        let unasked = self.nodes.iter_mut().filter(|node| !node.was_killed());
        unasked.filter_map(|node| node.ended().filter(|end| !end.success()).map(|end| node.describe_end(end))).collect()
    }

    fn peers_url(&self, node: usize) -> String {
        format!("{}/peers", self.ports(node).admin_url())
    }

    fn ports(&self, node: usize) -> &Ports {
        &self.specs[node].ports
    }
}

/// The answer of a node about somebody of this role.
pub fn sentence(name: &str, role: &str) -> String {
    format!("老人家,你儿子{name},现在是{role}了!\n")
}
