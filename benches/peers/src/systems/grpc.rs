//! The two public crates that do the same over gRPC. They have the same faces, but for a token; the
//! hot cache has room for nothing, so that each get is a fetch.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// Counts what the crates report as fetched from a peer, and nothing else.
struct Fetches(Arc<AtomicU64>);

impl Fetches {
    fn install() -> Arc<AtomicU64> {
        let count = Arc::new(AtomicU64::new(0));
        metrics::set_global_recorder(Fetches(count.clone())).expect("nobody else records");
        count
    }
}

impl Recorder for Fetches {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match key.name() {
            "groupcache_remote_load_total" => Counter::from_arc(self.0.clone()),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// A module for one of the crates; what follows the name is given to its builder after the loader.
macro_rules! rival {
    ($module:ident, $name:ident $(, $token:expr)?) => {
        pub mod $module {
            use std::net::SocketAddr;

            use anyhow::{Context, Result, anyhow};
            use bytes::Bytes;
            use tokio::net::TcpListener;
            use tonic::transport::{Server, server::TcpIncoming};

            use super::*;
            use crate::{setting::Setting, system::System, systems::Serving};

            pub struct Rival {
                member: $name::Groupcache<Bytes>,
                fetches: Arc<AtomicU64>,
            }

            /// Loads values at the owner, and emptiness at the member that asks.
            struct Load(Option<Setting>);

            #[async_trait::async_trait]
            impl $name::ValueLoader for Load {
                type Value = Bytes;

                async fn load(&self, key: &str) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
                    Ok(match &self.0 {
                        Some(setting) => setting.load(key.as_bytes()).await,
                        None => Bytes::new(),
                    })
                }
            }

            fn member(itself: SocketAddr, load: Load) -> $name::Groupcache<Bytes> {
                let builder = $name::Groupcache::builder(itself.into(), load $(, $token)?);
                builder.hot_cache(moka::future::Cache::new(0)).build()
            }

            pub async fn serve(setting: &Setting) -> Result<Serving> {
                let listener = TcpListener::bind(setting.server).await?;
                let member = member(setting.server, Load(Some(setting.clone())));
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                let serving = Server::builder().add_service(member.grpc_service()).serve_with_incoming(incoming);
                Ok(Box::pin(async move { serving.await.context("the listener broke") }))
            }

            impl Rival {
                pub async fn join(setting: &Setting) -> Result<Self> {
                    let fetches = Fetches::install();
                    let member = member(setting.client, Load(None));
                    member.add_peer(setting.server.into()).await.map_err(|error| anyhow!("{error:?}"))?;
                    Ok(Rival { member, fetches })
                }
            }

            impl System for Rival {
                async fn get(&self, _: usize, key: &str) -> Result<usize> {
                    Ok(self.member.get(key).await.map_err(|error| anyhow!("{error:?}"))?.len())
                }

                async fn crossed(&self) -> Result<u64> {
                    Ok(self.fetches.load(Relaxed))
                }
            }
        }
    };
}

#[cfg(feature = "groupcache")]
rival!(original, groupcache);
#[cfg(feature = "groupcache-ng")]
rival!(ng, groupcache_ng, tokio_util::sync::CancellationToken::new());
