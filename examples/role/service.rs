//! The service: a node, its group and its three listeners, from the start to the end of the drain.

use std::{io, time::Duration};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use peercache::{BuildError, Dialect, GolangPlacement, Group, HttpPool, Node, Server};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    admin,
    config::{self, Config},
    front, open_files,
    origin::Origin,
    phase::{Phase, Phases},
    signals::{Hangups, Signals},
    trust::{self, Trust},
    update::Updates,
};

const GROUP: &str = "personsrole_cache";
/// The longest role, 32 MiB. A longer one is refused and never held whole.
const ROLE_BYTES_MAX: usize = 32 << 20;

/// The time that requests in progress have to finish after that.
const DRAIN_MAX: Duration = Duration::from_secs(25);
/// The time that operators' requests have to finish after all others.
const ADMIN_DRAIN_MAX: Duration = Duration::from_secs(1);
/// The part of it that is kept for changes, however long a request at the front goes on.
const CHANGES_DRAIN: Duration = Duration::from_secs(5);

/// Runs one node until a signal stops it.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    open_files::raise_limit();
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let hangups = Hangups::listen().context("cannot listen for SIGHUP")?;
    // Bad files and a bad member list are wrong flags like others.
    let trust = Trust::read(config).unwrap_or_else(|sentence| Config::refuse(sentence));
    let node = node(config, &trust).unwrap_or_else(|error| Config::refuse(trust::refusal(&error)));
    tokio::spawn(trust.reload_at(hangups));
    config.origin.check().await.unwrap_or_else(|sentence| Config::refuse(sentence));
    let origin = config.origin.origin(ROLE_BYTES_MAX)?;
    let roles = group(config, &node, origin.clone())?;
    let updates = Updates::new(roles.clone(), origin, ROLE_BYTES_MAX, config.load_timeout_ms);
    let mut service = Service::start(config, node, roles, updates).await?;
    tokio::select! {
        signal = signals.next() => tracing::info!("{signal}: draining; another signal exits at once"),
        failure = service.failure() => return Err(failure),
    }
    tokio::select! {
        () = service.drain() => Ok(()),
        signal = signals.next() => Err(anyhow!("a second signal, {signal}, before all requests were finished")),
    }
}

fn node(config: &Config, trust: &Trust) -> Result<Node, BuildError> {
    let pool = HttpPool::builder().peer_timeout(config.peer_timeout_ms);
    let node = trust.build_in(Node::builder(&config.self_url).members(config.members()), config);
    match config.dialect {
        config::Dialect::Native => node.transport(pool).build(),
        config::Dialect::Golang => node.transport(pool.dialect(Dialect::Golang)).placement(GolangPlacement).build(),
    }
}

fn group(config: &Config, node: &Node, origin: Origin) -> anyhow::Result<Group<Bytes>> {
    let group = node
        .group(GROUP, origin)
        .max_bytes(config.cache_bytes)
        .max_value_bytes(ROLE_BYTES_MAX)
        .load_timeout(config.load_timeout_ms)
        .update_timeout(config.peer_timeout_ms)
        .time_to_live(config.ttl_ms)
        .stale_while_revalidate(config.stale_ms)
        .stale_if_error(config.stale_ms)
        .negative_ttl(config.negative_ttl_ms)
        .hot_ttl(config.hot_ttl_ms)
        .build()?;
    Ok(group)
}

/// A running node with its three listeners.
struct Service {
    node: Node,
    updates: Updates,
    phases: Phases,
    front: Listener,
    peers: Listener,
    admin: Listener,
    front_stop: CancellationToken,
    admin_stop: CancellationToken,
    linger: Duration,
}

type Listener = JoinHandle<io::Result<()>>;

impl Service {
    async fn start(config: &Config, node: Node, roles: Group<Bytes>, updates: Updates) -> anyhow::Result<Self> {
        let peers = listen("--peer-listen", &config.peer_listen).await?;
        let peer_address = peers.local_addr()?;
        // A wrong flag like others, though the system says only now what the host of it means.
        // Nobody is let in before.
        node.check_listener(peer_address).unwrap_or_else(|error| Config::refuse(error));
        let front = listen("--listen", &config.listen).await?;
        let admin = listen("--admin-listen", &config.admin_listen).await?;
        trust::warn_of_other_port(&config.self_url, peer_address);
        tracing::info!(
            front = %front.local_addr()?,
            peers = %peer_address,
            admin = %admin.local_addr()?,
            "listening as {}",
            config.self_url
        );
        let phases = Phases::new();
        let (front_stop, admin_stop) = (CancellationToken::new(), CancellationToken::new());
        let front_server = Server::new(front::router(roles, updates.clone(), phases.clone()));
        let front_server = front_server.idle_timeout(config.idle_timeout_ms);
        let admin_server = Server::new(admin::router(node.clone(), phases.clone()));
        let service = Service {
            front: tokio::spawn(front_server.serve(front, front_stop.clone().cancelled_owned())),
            peers: tokio::spawn(node.serve(peers)),
            admin: tokio::spawn(admin_server.serve(admin, admin_stop.clone().cancelled_owned())),
            node,
            updates,
            phases,
            front_stop,
            admin_stop,
            linger: config.linger_ms,
        };
        // Those that this node was down for ask it again from now on.
        service.node.announce().await;
        service.phases.enter(Phase::Ready);
        Ok(service)
    }

    /// Waits for a listener to end by itself, which it should not.
    async fn failure(&mut self) -> anyhow::Error {
        let (which, ended) = tokio::select! {
            ended = &mut self.front => ("front", ended),
            ended = &mut self.peers => ("peer listener", ended),
            ended = &mut self.admin => ("admin listener", ended),
        };
        match ended.map_err(io::Error::other).flatten() {
            Ok(()) => anyhow!("the {which} ended"),
            Err(error) => anyhow::Error::new(error).context(format!("the {which} failed")),
        }
    }

    /// Finishes the requests in progress: those of people, of peers, and changes, side by side.
    ///
    /// The listeners take new connections for a while before, and each caller is told that the
    /// request is the last on its connection. Callers and load balancers turn elsewhere in it.
    async fn drain(&mut self) {
        self.phases.enter(Phase::Draining);
        tokio::time::sleep(self.linger).await;
        let Service { front, peers, updates, node, front_stop, .. } = self;
        let drained = timeout(DRAIN_MAX, async {
            front_stop.cancel();
            node.shutdown();
            let people = async {
                let _ = timeout(DRAIN_MAX - CHANGES_DRAIN, &mut *front).await;
                // Callers may have left before their changes were made.
                updates.finish().await;
                front.is_finished() || front.await.is_ok()
            };
            tokio::join!(people, peers)
        });
        if drained.await.is_err() {
            tracing::warn!("some requests or changes took longer than {DRAIN_MAX:?} and are cut off");
        }
        self.admin_stop.cancel();
        let _ = timeout(ADMIN_DRAIN_MAX, &mut self.admin).await;
    }
}

async fn listen(flag: &str, address: &str) -> anyhow::Result<TcpListener> {
    peercache::listen(address).await.with_context(|| format!("cannot listen on {address}; name a free one with {flag}"))
}
