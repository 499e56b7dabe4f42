//! One fetch from a peer over a real socket on 127.0.0.1, beside the `groupcache` crate (gRPC by
//! tonic).
//!
//! Two nodes in one process, on one runtime with two threads. One of them asks for keys that the
//! other owns and has cached, with values of 1 KB, and keeps no hot copies, so that each get is one
//! request and one answer. By 1 caller it says how long a fetch takes, by 64 at once how many go
//! through: an iteration is one fetch by any of them.
//!
//! By default our nodes ask by a client of their own, driven by hyper; `peercache, reqwest` asks by
//! a `reqwest::Client`, as a user's would be.
//!
//! `peercache, golang` asks as golang/groupcache does. Two of our nodes recognise each other by a
//! header and go over to the native exchange; there it is taken off the answers, as if the peer
//! were a Go process.
//!
//! `cargo bench -p peercache-benches --bench get_peer`

mod support;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    task::JoinSet,
};

use support::durations;

const VALUE_BYTES: usize = 1_000;

/// More than there are callers, so that no two of them ask for the same key at once.
const KEYS: usize = 1_000;

/// The far node owns about half of them.
const MAX_KEYS_TRIED: usize = 10 * KEYS;

fn main() {
    let mut criterion = durations::criterion();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts");
    fetch::<native::Pair>(&mut criterion, &runtime);
    fetch::<by_reqwest::Pair>(&mut criterion, &runtime);
    fetch::<golang::Pair>(&mut criterion, &runtime);
    fetch::<rival::Pair>(&mut criterion, &runtime);
    criterion.final_summary();
}

/// Two nodes that know each other.
trait Pair: Send + Sync + Sized + 'static {
    const NAME: &'static str;
    /// Loaders answer with the value that says which of the two loaded it.
    fn start() -> impl Future<Output = Self>;
    /// Asks the near one.
    fn get(&self, key: &str) -> impl Future<Output = Bytes> + Send;
}

fn fetch<P: Pair>(criterion: &mut Criterion, runtime: &Runtime) {
    let (pair, keys) = runtime.block_on(async {
        let pair = P::start().await;
        let keys = keys_of_far(&pair).await;
        (Arc::new(pair), Arc::new(keys))
    });
    let mut group = criterion.benchmark_group("get_peer");
    group.throughput(Throughput::Elements(1));
    for callers in [1, 64] {
        group.bench_function(format!("{}/{callers}", P::NAME), |bencher| {
            bencher.iter_custom(|iterations| runtime.block_on(timed(callers, iterations, &pair, &keys)));
        });
    }
}

/// Keys that the far node owns, which has loaded them when this returns.
async fn keys_of_far<P: Pair>(pair: &P) -> Vec<String> {
    let mut keys = Vec::with_capacity(KEYS);
    for number in 0..MAX_KEYS_TRIED {
        let key = format!("role:{number:011}");
        if pair.get(&key).await == far_value() {
            keys.push(key);
        }
        if keys.len() == KEYS {
            return keys;
        }
    }
    panic!("of {MAX_KEYS_TRIED} keys the far node answered {} only", keys.len());
}

/// The time in which the callers together do all iterations.
async fn timed<P: Pair>(callers: usize, iterations: u64, pair: &Arc<P>, keys: &Arc<Vec<String>>) -> Duration {
    let next = Arc::new(AtomicU64::new(0));
    let far_value = far_value();
    let caller = || {
        let (pair, keys, next, far_value) = (pair.clone(), keys.clone(), next.clone(), far_value.clone());
        async move {
            loop {
                let index = next.fetch_add(1, Relaxed);
                if index >= iterations {
                    return;
                }
                let value = pair.get(&keys[index as usize % KEYS]).await;
                assert!(value == far_value, "loaded here, not fetched");
            }
        }
    };
    let started = Instant::now();
    let tasks: JoinSet<()> = (0..callers).map(|_| caller()).collect();
    tasks.join_all().await;
    started.elapsed()
}

fn near_value() -> Bytes {
    Bytes::from_static(&[b'n'; VALUE_BYTES])
}

fn far_value() -> Bytes {
    Bytes::from_static(&[b'f'; VALUE_BYTES])
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("there is a free port")
}

/// Two of our nodes, as their builders give them.
mod native {
    use peercache::{Group, HttpPool, HttpPoolBuilder, Never, Node, loader_fn};

    use super::*;

    pub struct Pair {
        near: Group<Bytes>,
    }

    impl super::Pair for Pair {
        const NAME: &'static str = "peercache, native";

        async fn start() -> Self {
            let (far, near) = (listener().await, listener().await);
            let names = [&far, &near].map(name);
            let (far_node, _) = node(&names, 0, HttpPool::builder());
            let (near_node, group) = node(&names, 1, HttpPool::builder());
            tokio::spawn(far_node.serve(far));
            tokio::spawn(near_node.serve(near));
            Pair { near: group }
        }

        async fn get(&self, key: &str) -> Bytes {
            self.near.get(key).await.expect("it is fetched")
        }
    }

    pub fn name(listener: &TcpListener) -> String {
        format!("http://{}", listener.local_addr().expect("it is bound"))
    }

    /// One of two members, with its group.
    pub fn node(names: &[String; 2], which: usize, pool: HttpPoolBuilder) -> (Node, Group<Bytes>) {
        let node = Node::builder(&names[which]).members(names).transport(pool).build().expect("the names are good");
        let value = [far_value(), near_value()][which].clone();
        let loader = loader_fn(move |_| {
            let value = value.clone();
            async move { Ok(value) }
        });
        let group = node.group("roles", loader).hot_admission(Never).build().expect("the settings are good");
        (node, group)
    }
}

/// The same two, of whom the near one asks by a client that a user brings.
mod by_reqwest {
    use peercache::{Group, HttpPool};
    use reqwest::{Client, redirect::Policy};

    use super::{native::name, native::node, *};

    pub struct Pair {
        near: Group<Bytes>,
    }

    impl super::Pair for Pair {
        const NAME: &'static str = "peercache, reqwest";

        async fn start() -> Self {
            let (far, near) = (listener().await, listener().await);
            let names = [&far, &near].map(name);
            let client = Client::builder().no_proxy().redirect(Policy::none()).tcp_nodelay(true).build();
            let (far_node, _) = node(&names, 0, HttpPool::builder());
            let (_, group) = node(&names, 1, HttpPool::builder().client(client.expect("the settings are good")));
            tokio::spawn(far_node.serve(far));
            Pair { near: group }
        }

        async fn get(&self, key: &str) -> Bytes {
            self.near.get(key).await.expect("it is fetched")
        }
    }
}

/// The same two, of whom neither lets the other see that it is one of ours.
mod golang {
    use peercache::{Dialect, Group, HttpPool, Server};
    use tower::util::MapResponseLayer;

    use super::{native::name, native::node, *};

    pub struct Pair {
        near: Group<Bytes>,
    }

    impl super::Pair for Pair {
        const NAME: &'static str = "peercache, golang";

        async fn start() -> Self {
            let (far, near) = (listener().await, listener().await);
            let names = [&far, &near].map(name);
            let golang = || HttpPool::builder().dialect(Dialect::Golang);
            let (far_node, _) = node(&names, 0, golang());
            let (_, group) = node(&names, 1, golang());
            let router = far_node.router().layer(MapResponseLayer::new(without_identity));
            tokio::spawn(Server::new(router).serve(far, std::future::pending()));
            Pair { near: group }
        }

        async fn get(&self, key: &str) -> Bytes {
            self.near.get(key).await.expect("it is fetched")
        }
    }

    fn without_identity(mut answer: axum::response::Response) -> axum::response::Response {
        answer.headers_mut().remove("peercache");
        answer
    }
}

/// The `groupcache` crate, its hot cache with room for nothing.
mod rival {
    use groupcache::{Groupcache, ValueLoader, moka::future::Cache};
    use tonic::transport::{Server, server::TcpIncoming};

    use super::*;

    pub struct Pair {
        near: Groupcache<Bytes>,
    }

    struct Constant(Bytes);

    #[async_trait::async_trait]
    impl ValueLoader for Constant {
        type Value = Bytes;

        async fn load(&self, _: &str) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
            Ok(self.0.clone())
        }
    }

    impl super::Pair for Pair {
        const NAME: &'static str = "groupcache";

        async fn start() -> Self {
            let far = serve(far_value()).await;
            let near = serve(near_value()).await;
            near.add_peer(far.addr().into()).await.expect("it is connected");
            far.add_peer(near.addr().into()).await.expect("it is connected");
            Pair { near }
        }

        async fn get(&self, key: &str) -> Bytes {
            self.near.get(key).await.expect("it is fetched")
        }
    }

    async fn serve(value: Bytes) -> Groupcache<Bytes> {
        let listener = listener().await;
        let me = listener.local_addr().expect("it is bound").into();
        let node = Groupcache::builder(me, Constant(value)).hot_cache(Cache::new(0)).build();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(Server::builder().add_service(node.grpc_service()).serve_with_incoming(incoming));
        node
    }
}
