//! A member that signs, written from what `docs/wire.md` says.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// A member of a cluster that means to reach another; all fields as the header has them.
#[derive(Clone)]
pub struct Asker {
    pub node: String,
    pub cluster: String,
    pub name: String,
    pub to: String,
    pub secret: Option<String>,
    /// The nonce that the other one has handed out.
    pub nonce: Option<String>,
}

impl Asker {
    pub fn new(cluster: &str, to: &str, secret: Option<&str>) -> Self {
        Asker {
            node: "00000000000000ff".into(),
            cluster: cluster.into(),
            name: "http://asker:1".into(),
            to: to.into(),
            secret: secret.map(Into::into),
            nonce: None,
        }
    }

    /// Takes the nonce of an answer.
    pub fn learn(&mut self, answer: &str) {
        self.nonce = Some(parameter(answer, "nonce").expect("the answer hands out a nonce"));
    }

    /// The header of a request, signed if there are a secret and a nonce.
    pub fn header(&self, method: &str, path: &str, count: u64, body: &[u8]) -> String {
        let mut header = format!("1; node={}", self.node);
        for (name, value) in [("cluster", &self.cluster), ("name", &self.name), ("to", &self.to)] {
            if !value.is_empty() {
                header += &format!("; {name}={value}");
            }
        }
        if let (Some(secret), Some(nonce)) = (&self.secret, &self.nonce) {
            let key = hex(&derive(secret, "peercache 1 key id")[..4]);
            let (body_hash, mac) = (hex(&Sha256::digest(body)), hex(&self.mac(method, path, count, body)));
            header += &format!("; nonce={nonce}; count={count}; key={key}; body={body_hash}; mac={mac}");
        }
        header
    }

    /// Whether the answer proves that its sender knows the secret, and got this very request.
    pub fn is_proved(&self, answer: &str, method: &str, path: &str, count: u64, body: &[u8]) -> bool {
        let status: u16 = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let read = |name| parameter(answer, name).unwrap_or_default();
        let mut proof = Hmac::<Sha256>::new_from_slice(&self.derived("peercache 1 answers")).unwrap();
        proof.update(&1_u32.to_be_bytes());
        proof.update(&self.mac(method, path, count, body));
        proof.update(&status.to_be_bytes());
        text(&mut proof, &self.to);
        proof.update(&number(&read("node")).to_be_bytes()[8..]);
        proof.update(&number(&read("nonce")).to_be_bytes());
        read("proof") == hex(&proof.finalize().into_bytes()[..16])
    }

    fn mac(&self, method: &str, path: &str, count: u64, body: &[u8]) -> [u8; 16] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.derived("peercache 1 requests")).unwrap();
        mac.update(&1_u32.to_be_bytes());
        for part in [&self.cluster, &self.to, &self.name, method, path] {
            text(&mut mac, part);
        }
        mac.update(&number(&self.node).to_be_bytes()[8..]);
        mac.update(&number(self.nonce.as_ref().unwrap()).to_be_bytes());
        mac.update(&count.to_be_bytes());
        mac.update(&Sha256::digest(body));
        mac.finalize().into_bytes()[..16].try_into().unwrap()
    }

    fn derived(&self, label: &str) -> [u8; 32] {
        derive(self.secret.as_ref().unwrap(), label)
    }
}

fn derive(secret: &str, label: &str) -> [u8; 32] {
    Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(label).finalize().into_bytes().into()
}

fn text(mac: &mut Hmac<Sha256>, text: &str) {
    mac.update(&(text.len() as u64).to_be_bytes());
    mac.update(text.as_bytes());
}

fn number(hex: &str) -> u128 {
    u128::from_str_radix(hex, 16).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A parameter of the answer's `peercache` header.
fn parameter(answer: &str, name: &str) -> Option<String> {
    let header = answer.split("\r\npeercache: ").nth(1)?.split("\r\n").next()?;
    let found = header.split("; ").find_map(|part| part.strip_prefix(&format!("{name}=")));
    found.map(Into::into)
}
