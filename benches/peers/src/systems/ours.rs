//! Our node as its builders give it, but for a budget that holds all and for hot copies, which
//! would answer in place of the owner.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use peercache::{Bytes, Group, Never, Node, loader_fn_with};
use tokio::net::TcpListener;

use super::Serving;
use crate::{setting::Setting, system::System};

pub struct Ours {
    node: Node,
    group: Group<Bytes>,
}

pub async fn serve(setting: &Setting) -> Result<Serving> {
    let listener = TcpListener::bind(setting.server).await?;
    let (node, _) = member(setting, setting.server)?;
    Ok(Box::pin(async move { node.serve(listener).await.context("the listener broke") }))
}

/// One of the two members. The owner loads values, the one who asks nothing but emptiness.
fn member(setting: &Setting, itself: SocketAddr) -> Result<(Node, Group<Bytes>)> {
    let node = Node::builder(name(itself)).members([setting.server, setting.client].map(name)).build()?;
    let owner = (itself == setting.server).then(|| setting.clone());
    let loader = loader_fn_with(owner, |owner, key| async move {
        Ok(match owner {
            Some(setting) => setting.load(key.as_bytes()).await,
            None => Bytes::new(),
        })
    });
    let group = node.group("roles", loader).max_bytes(setting.cache_bytes()).hot_admission(Never).build()?;
    Ok((node, group))
}

fn name(address: SocketAddr) -> String {
    format!("http://{address}")
}

impl Ours {
    pub async fn join(setting: &Setting) -> Result<Self> {
        let listener = TcpListener::bind(setting.client).await?;
        let (node, group) = member(setting, setting.client)?;
        tokio::spawn(node.serve(listener));
        Ok(Ours { node, group })
    }
}

impl System for Ours {
    async fn get(&self, _: usize, key: &str) -> Result<usize> {
        Ok(self.group.get(key).await?.len())
    }

    async fn get_many(&self, _: usize, keys: &[&str]) -> Result<usize> {
        let mut bytes = 0;
        for value in self.group.get_many(keys).await {
            bytes += value?.len();
        }
        Ok(bytes)
    }

    fn is_far(&self, key: &str) -> bool {
        let members = self.node.members();
        members.view().owner_name(key) != members.self_name()
    }

    async fn crossed(&self) -> Result<u64> {
        Ok(self.group.stats().peer_loads)
    }
}
