//! The processor time of a fetch whose request is signed, or goes over TLS, beside one that is
//! neither: both members in this process, in turn, in many rounds.

use std::{fs, sync::Arc, time::Duration};

use peercache::{Bytes, Group, Never, Node, NodeBuilder, Tls, loader_fn};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::time::{ClockId, clock_gettime};
use tokio::{net::TcpListener, runtime::Runtime, task::JoinSet};

use crate::{number::Number, pairs::Effort};

/// Enough for a key to be fetched again and again, since no copy is kept.
const KEYS: usize = 512;

/// The size of most values.
const VALUE_BYTES: usize = 1024;

/// Fetches of one measurement, by the number of callers.
const FETCHES: [(usize, u64); 2] = [(1, 400), (64, 6_400)];

/// The ways in which members trust each other, the yardstick first.
const WAYS: [Way; 3] = [Way::Plain, Way::Secret, Way::Tls];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Secret,
    Tls,
}

/// A member that asks another for every key.
struct Asker {
    group: Group<Bytes>,
    keys: Arc<[String]>,
}

pub fn measure(effort: Effort) -> Vec<Number> {
    let runtime = Runtime::new().expect("a runtime starts");
    let askers = WAYS.map(|way| runtime.block_on(Asker::start(way)));
    // Connections, nonces and handshakes first.
    for asker in &askers {
        runtime.block_on(asker.fetch(64, 1_000));
    }
    let rounds = if effort.rounds > 1 { 31 } else { 1 };
    let mut numbers = Vec::new();
    for (callers, fetches) in FETCHES {
        let mut times: [Vec<f64>; 3] = Default::default();
        for round in 0..rounds {
            for place in 0..WAYS.len() {
                let way = (place + round) % WAYS.len();
                let time = runtime.block_on(askers[way].fetch(callers, fetches));
                times[way].push(time.as_nanos() as f64 / fetches as f64);
            }
        }
        for (way, name) in [(1, "secret"), (2, "tls")] {
            let ratios = times[way].iter().zip(&times[0]).map(|(ours, plain)| ours / plain);
            numbers.push(Number {
                name: format!("fetch-{name}-cpu-{callers}"),
                ours: median(times[way].iter().copied()),
                rival: Some(median(times[0].iter().copied())),
                ratio: Some(median(ratios)),
                undisturbed: None,
            });
        }
    }
    numbers
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Asker {
    async fn start(way: Way) -> Self {
        let listeners = [listener().await, listener().await];
        let scheme = if way == Way::Tls { "https" } else { "http" };
        let names =
            listeners.each_ref().map(|listener| format!("{scheme}://{}", listener.local_addr().expect("it is bound")));
        let tls = (way == Way::Tls).then(certificates);
        let nodes = names.each_ref().map(|name| {
            let node = Node::builder(name).members(&names);
            trusting(way, node, tls.as_ref()).build().expect("the members are good")
        });
        let groups = nodes.each_ref().map(|node| {
            let loader = loader_fn(|_| async { Ok(Bytes::from_static(&[7; VALUE_BYTES])) });
            node.group("fetched", loader).hot_admission(Never).build().expect("the settings are good")
        });
        for (node, listener) in nodes.iter().zip(listeners) {
            tokio::spawn(node.serve(listener));
        }
        let owned_by_other = |key: &String| nodes[0].owner(key) == names[1];
        let keys = (0..).map(|nth| format!("key-{nth}")).filter(owned_by_other).take(KEYS).collect();
        let [group, _] = groups;
        Asker { group, keys }
    }

    /// Fetches so many keys by so many callers: the processor time of this process.
    async fn fetch(&self, callers: usize, fetches: u64) -> Duration {
        let before = processor_time();
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let (group, keys) = (self.group.clone(), self.keys.clone());
            let own = fetches as usize / callers;
            tasks.spawn(async move {
                for nth in 0..own {
                    let key = &keys[(caller * 37 + nth) % KEYS];
                    group.get(key).await.expect("its owner answers");
                }
            });
        }
        tasks.join_all().await;
        processor_time() - before
    }
}

fn trusting(way: Way, node: NodeBuilder, tls: Option<&Tls>) -> NodeBuilder {
    match (way, tls) {
        (Way::Secret, _) => node.secret([7; 32]),
        (_, Some(tls)) => node.tls(tls.clone()),
        (_, None) => node,
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("there is a free port")
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Certificates of an authority of our own, for this machine.
fn certificates() -> Tls {
    let mut authority = CertificateParams::new(Vec::new()).expect("no names are good names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = || KeyPair::generate().expect("a key is made");
    let authority = CertifiedIssuer::self_signed(authority, key()).expect("it signs itself");
    let member = key();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .and_then(|params| params.signed_by(&member, &authority))
        .expect("the authority signs it");
    let folder = tempfile::tempdir().expect("there is a place for files");
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file can be written");
        path
    };
    let files = [file("member", certificate.pem()), file("key", member.serialize_pem()), file("ca", authority.pem())];
    let [member, key, authority] = files;
    // The folder stays: the files are looked at again.
    let _ = folder.keep();
    Tls::from_files(member, key, authority).expect("they belong together")
}
