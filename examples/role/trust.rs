//! Trust, as the flags say it: secrets, certificates, or everybody on the network.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::anyhow;
use axum::http::Uri;
use peercache::{BuildError, NodeBuilder, Secrets, Tls};

use crate::{
    config::{Config, Dialect},
    signals::Hangups,
};

/// The files that say who may speak. Clones share what was read.
#[derive(Clone)]
pub struct Trust {
    secrets: Option<Secrets>,
    tls: Option<Tls>,
}

impl Trust {
    /// Reads the files that the flags name.
    ///
    /// The error is a sentence that says what to write instead.
    pub fn read(config: &Config) -> anyhow::Result<Self> {
        let secrets = config.secret_file.as_ref().map(Secrets::from_file).transpose().map_err(|why| {
            anyhow!(
                "{why}; name a file with one secret of at least 32 bytes a line with --secret-file \
                 (openssl rand -hex 32 makes one)"
            )
        })?;
        let files = certificate_files(config)?;
        let tls = files.map(|[certificate, key, authority]| Tls::from_files(certificate, key, authority)).transpose();
        let tls = tls.map_err(|why| anyhow!("{why}; correct --tls-cert, --tls-key or --tls-ca"))?;
        let trust = Trust { secrets, tls };
        trust.check(config)?;
        Ok(trust)
    }

    /// Refuses what the library would refuse too, in words of flags.
    fn check(&self, config: &Config) -> anyhow::Result<()> {
        let is_protected = self.secrets.is_some() || self.tls.is_some();
        if config.dialect == Dialect::Golang && is_protected && !config.open_gets {
            return Err(anyhow!(
                "Go members can show neither a secret nor a certificate; add --open-gets to answer their plain GETs, \
                 or write --dialect native"
            ));
        }
        let is_https = |url: &str| url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
        match config.members().into_iter().find(|member| is_https(member) != self.tls.is_some()) {
            Some(member) if is_https(&member) => {
                Err(anyhow!("{member} is asked over TLS; add --tls-cert, --tls-key and --tls-ca, or write http://"))
            }
            Some(member) => Err(anyhow!(
                "{member} is asked without TLS, where --tls-cert is given; write https:// in --self-url and --peers"
            )),
            None => Ok(()),
        }
    }

    /// A node's builder with what the flags say.
    pub fn build_in(&self, mut node: NodeBuilder, config: &Config) -> NodeBuilder {
        node = node.cluster(&config.cluster).open_gets(config.open_gets);
        if let Some(secrets) = &self.secrets {
            node = node.secrets(secrets.clone());
        }
        if let Some(tls) = &self.tls {
            node = node.tls(tls.clone());
        }
        if config.trust_network { node.trust_network() } else { node }
    }

    /// Reads the files again at each SIGHUP, for as long as this process lives.
    pub async fn reload_at(self, mut hangups: Hangups) {
        loop {
            hangups.next().await;
            tracing::info!("SIGHUP: looking at the files of secrets and certificates");
            let files = self.clone();
            // Reading files may take its time. An error means that the runtime goes down.
            drop(tokio::task::spawn_blocking(move || files.reload()).await);
        }
    }

    fn reload(&self) {
        if let Some(secrets) = &self.secrets {
            secrets.reload();
        }
        if let Some(tls) = &self.tls {
            tls.reload();
        }
    }
}

/// The certificate, its key and the authority, if they are given.
fn certificate_files(config: &Config) -> anyhow::Result<Option<[&PathBuf; 3]>> {
    match (&config.tls_cert, &config.tls_key, &config.tls_ca) {
        (Some(certificate), Some(key), Some(authority)) => Ok(Some([certificate, key, authority])),
        (None, None, None) => Ok(None),
        _ => Err(anyhow!("--tls-cert, --tls-key and --tls-ca belong together; give all three, or none")),
    }
}

/// The sentence for a node that is refused at the start, with the flags to correct.
pub fn refusal(error: &BuildError) -> String {
    match error {
        BuildError::Setting { name: "cluster", expected } => format!("--cluster must be {expected}"),
        BuildError::Setting { name: "name", expected } => format!("--self-url must be {expected}"),
        BuildError::Setting { name: "peer_timeout", expected } => format!("--peer-timeout-ms must be {expected}"),
        BuildError::Setting { .. } | BuildError::Transport(_) => error.to_string(),
        // It names the flags itself.
        BuildError::MemberName { why, .. } if why.contains("--") => error.to_string(),
        _ => format!("{error}; correct --self-url or --peers"),
    }
}

/// Warns of a name at which peers would not reach this listener. A proxy in between may make it
/// right.
pub fn warn_of_other_port(self_url: &str, listener: SocketAddr) {
    let port = self_port(self_url);
    if port.is_some_and(|port| port != listener.port()) {
        tracing::warn!(
            "peers ask for this node at {self_url}, which is not the port of --peer-listen, {}; \
             is there a proxy between them?",
            listener.port()
        );
    }
}

fn self_port(url: &str) -> Option<u16> {
    let uri: Uri = url.parse().ok()?;
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    Some(uri.port_u16().unwrap_or(default))
}

#[cfg(test)]
mod tests {
    use peercache::Node;

    use super::*;

    #[test]
    fn a_refusal_names_the_flags_to_correct() {
        let refused = |node: NodeBuilder| refusal(&node.build().expect_err("it is refused"));
        let node = || Node::builder("http://127.0.0.1:1").members(["http://127.0.0.1:1"]);
        let cluster = refused(node().cluster("c".repeat(256)));
        assert_eq!(cluster, "--cluster must be a name of at most 255 bytes");
        let long = format!("http://{}", "a".repeat(1024));
        assert_eq!(refused(Node::builder(&long).members([&long])), "--self-url must be at most 1 KiB");
        let twice = refused(node().members(["http://127.0.0.1:1"; 2]));
        assert!(twice.ends_with("twice; correct --self-url or --peers"), "{twice}");
        let beyond = refused(node().members(["http://127.0.0.1:1", "http://192.0.2.1:1"]));
        assert!(beyond.contains("--trust-network") && !beyond.contains("correct"), "{beyond}");
    }

    #[test]
    fn the_port_of_a_url_may_be_left_out() {
        let urls = ["http://a:9090", "http://a", "https://a", "https://[::1]:1/base"];
        assert_eq!(urls.map(self_port), [Some(9090), Some(80), Some(443), Some(1)]);
    }
}
