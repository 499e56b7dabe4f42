//! Ports that the nodes of a cluster use, and whether they are free.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result, bail};

/// Most nodes of one cluster: one more, and the peers' ports would run into the operators'.
pub const MAX_NODES: u16 = 90;

const PEER_OFFSET: u16 = 90;
const ADMIN_OFFSET: u16 = 190;

/// The three ports of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub front: u16,
    pub peer: u16,
    pub admin: u16,
}

impl Ports {
    /// The address of the front, where people ask.
    pub fn front_url(&self) -> String {
        url(self.front)
    }

    /// The name of the node in the peer list.
    pub fn peer_url(&self) -> String {
        url(self.peer)
    }

    /// The address where operators ask.
    pub fn admin_url(&self) -> String {
        url(self.admin)
    }

    fn named(&self) -> [(&'static str, u16); 3] {
        [("front", self.front), ("peers", self.peer), ("admin", self.admin)]
    }
}

/// The address of a port of this machine, as `role` and curl write it.
pub fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// The ports of all nodes of a cluster. Nodes count from 1.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    base: u16,
    nodes: u16,
}

impl Plan {
    /// The ports of `nodes` nodes above `base`; otherwise a sentence that says what to write
    /// instead.
    pub fn new(base: u16, nodes: u16) -> Result<Self, String> {
        let base_max = u16::MAX - ADMIN_OFFSET - nodes;
        if base <= base_max {
            return Ok(Self { base, nodes });
        }
        Err(format!(
            "--base-port {base} leaves no room for the ports of {nodes} nodes below 65536: write {base_max} or less"
        ))
    }

    /// The number of nodes.
    pub fn nodes(&self) -> u16 {
        self.nodes
    }

    /// The port that all others are counted from. No node uses it.
    pub fn base(&self) -> u16 {
        self.base
    }

    /// The ports of every node, the first one's first.
    pub fn each(&self) -> impl Iterator<Item = Ports> {
        let base = self.base;
        (1..=self.nodes).map(move |number| Ports {
            front: base + number,
            peer: base + PEER_OFFSET + number,
            admin: base + ADMIN_OFFSET + number,
        })
    }

    /// Errors with a sentence for each port that cannot be had and what to do about it.
    pub fn check_free(&self) -> Result<()> {
        let troubles = self.troubles();
        if troubles.is_empty() {
            return Ok(());
        }
        let mut sentences: Vec<String> = troubles.iter().map(Trouble::to_string).collect();
        sentences.push(match self.free_base() {
            Some(base) => {
                format!(
                    "stop the program that uses them, or take other ports: `cargo xtask cluster --base-port {base}`"
                )
            }
            None => "stop the program that uses them, or take other ports with --base-port".to_owned(),
        });
        bail!(sentences.join("\n       "))
    }

    fn troubles(&self) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        for (ports, node) in self.each().zip(1..) {
            for (purpose, port) in ports.named() {
                if let Err(error) = bind(port) {
                    troubles.push(Trouble { port, purpose, node, kind: error.kind() });
                }
            }
        }
        troubles
    }

    /// Another base, some blocks further up, whose ports are all free now.
    fn free_base(&self) -> Option<u16> {
        let bases = (1..=5).filter_map(|blocks| self.base.checked_add(blocks * BLOCK_PORTS));
        bases
            .filter_map(|base| Self::new(base, self.nodes).ok())
            .find(|plan| plan.troubles().is_empty())
            .map(|p| p.base)
    }
}

struct Trouble {
    port: u16,
    purpose: &'static str,
    node: u16,
    kind: ErrorKind,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, purpose, node, .. } = self;
        match self.kind {
            ErrorKind::AddrInUse => write!(f, "port {port} ({purpose} of node {node}) is in use by another program"),
            ErrorKind::PermissionDenied => write!(f, "port {port} ({purpose} of node {node}) needs privileges we lack"),
            kind => write!(f, "port {port} ({purpose} of node {node}) cannot be had: {kind}"),
        }
    }
}

fn bind(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

/// Ports from one block's start to the next: room for the largest plan.
const BLOCK_PORTS: u16 = 300;
/// Below the ports that systems hand out to outgoing connections (from 32768 on Linux): a node that
/// is killed and started again finds its ports as it left them.
const BLOCKS: std::ops::Range<u16> = 10_000 / BLOCK_PORTS..32_000 / BLOCK_PORTS;

/// Ports that no other block of this machine uses while this one lives.
pub struct Block {
    pub plan: Plan,
    /// The base port is bound for as long as the block is ours, so that two tours never take the
    /// same block.
    _claim: TcpListener,
}

impl Block {
    /// Claims a block of free ports, from a random place on.
    pub fn claim(nodes: u16) -> Result<Self> {
        let first = RandomState::new().build_hasher().finish() % u64::from(BLOCKS.end - BLOCKS.start);
        let blocks = BLOCKS.cycle().skip(first as usize).take(BLOCKS.len());
        let mut blocks = blocks.filter_map(|block| Self::claim_at(block * BLOCK_PORTS, nodes));
        blocks
            .next()
            .context("no free ports between 10000 and 32000 on 127.0.0.1: stop some of the programs that use them")
    }

    fn claim_at(base: u16, nodes: u16) -> Option<Self> {
        let claim = bind(base).ok()?;
        let plan = Plan::new(base, nodes).ok()?;
        plan.troubles().is_empty().then_some(Self { plan, _claim: claim })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_are_those_of_the_contract() {
        let plan = Plan::new(9000, 3).unwrap();
        let ports: Vec<_> = plan.each().map(|p| (p.front, p.peer, p.admin)).collect();
        assert_eq!(ports, [(9001, 9091, 9191), (9002, 9092, 9192), (9003, 9093, 9193)]);
    }

    #[test]
    fn ninety_nodes_share_no_port() {
        let plan = Plan::new(9000, MAX_NODES).unwrap();
        let ports: BTreeSet<u16> = plan.each().flat_map(|p| [p.front, p.peer, p.admin]).collect();
        assert_eq!(ports.len(), 3 * usize::from(MAX_NODES));
        assert!(ports.last() < Some(&(plan.base() + BLOCK_PORTS)));
    }

    #[test]
    fn the_last_port_may_be_65535() {
        let plan = Plan::new(65_255, MAX_NODES).unwrap();
        assert_eq!(plan.each().last().unwrap().admin, 65_535);
    }

    #[test]
    fn ports_beyond_65535_are_refused_with_what_to_write() {
        let sentence = Plan::new(65_256, MAX_NODES).unwrap_err();
        assert!(sentence.ends_with("write 65255 or less"), "{sentence}");
    }

    #[test]
    fn a_port_in_use_is_named_with_its_purpose_and_a_way_out() {
        let taken = bind(0).unwrap();
        let port = taken.local_addr().unwrap().port();
        let plan = Plan::new(port - ADMIN_OFFSET - 1, 1).unwrap();
        let sentence = plan.check_free().unwrap_err().to_string();
        assert!(sentence.contains(&format!("port {port} (admin of node 1) is in use")), "{sentence}");
        assert!(sentence.contains("--base-port"), "{sentence}");
    }

    #[test]
    fn two_claims_never_share_a_block() {
        let (first, second) = (Block::claim(3).unwrap(), Block::claim(3).unwrap());
        assert_ne!(first.plan.base(), second.plan.base());
        assert!(Block::claim_at(first.plan.base(), 3).is_none());
    }
}
