//! Mutual TLS between members: one certificate for both sides, checked by both.

use std::{fmt, fs, path::PathBuf, sync::Arc};

use peercache_groupcache::{BoxError, BuildError};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};

use crate::{
    address::Host,
    auth::{keyring::body_hash, reload::Reload},
};

/// The longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The files with which a member speaks TLS 1.3 with others: its certificate, with which it both
/// asks and answers, the key, and the authority that signed all members' certificates. A cheap
/// handle: clones share what is read from the files.
///
/// A member's certificate names its host, as the member list has it: a DNS name or an IP address
/// among the subject alternative names. Askers check that. Answerers check that a certificate is
/// there and is the authority's.
#[derive(Clone)]
pub struct Tls {
    configs: Reload<Configs>,
}

/// Both sides' settings, made of one reading of the files.
pub(crate) struct Configs {
    pub(crate) client: Arc<ClientConfig>,
    /// Demands a certificate.
    pub(crate) server: Arc<ServerConfig>,
    /// Takes connections without one, for a server that answers plain GETs to anybody.
    pub(crate) open_server: Arc<ServerConfig>,
    hash: [u8; 32],
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    authority: PathBuf,
}

impl Tls {
    /// Reads a certificate with its chain, its key and the authority's certificates from PEM files.
    /// They are read again when they have changed, within a second of the next connection. If they
    /// cannot be used then, what was read before stays in force and the log says so. Connections
    /// that are open go on with what they began with, for an hour at most.
    ///
    /// # Errors
    /// A file that cannot be read, or files that do not belong together.
    pub fn from_files(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        authority: impl Into<PathBuf>,
    ) -> Result<Self, BuildError> {
        let files = Files { certificate: certificate.into(), key: key.into(), authority: authority.into() };
        let configs = Reload::new("TLS certificates", move |last| files.read(last));
        let configs = configs.map_err(|why| BuildError::Transport(format!("TLS cannot be set up: {why}")))?;
        Ok(Tls { configs })
    }

    /// Looks at the files now, as after a SIGHUP.
    pub fn reload(&self) {
        self.configs.look();
    }

    pub(crate) async fn current(&self) -> Arc<Configs> {
        self.configs.current().await
    }
}

/// The name that a certificate must have for this host.
pub(crate) fn server_name(host: &Host) -> Result<ServerName<'static>, BoxError> {
    match host {
        Host::Ip(ip) => Ok(ServerName::IpAddress((*ip).into())),
        Host::Name(name) => Ok(ServerName::try_from(name.clone())?),
    }
}

impl Files {
    /// The configurations, unless the files are as they were.
    fn read(&self, last: Option<&Configs>) -> Result<Option<Configs>, BoxError> {
        let certificate = read_file(&self.certificate)?;
        let key = zeroize::Zeroizing::new(read_file(&self.key)?);
        let authority = read_file(&self.authority)?;
        let hash = hash_of([&certificate, &key, &authority]);
        if last.is_some_and(|last| last.hash == hash) {
            return Ok(None);
        }
        let name = |path: &PathBuf, why: BoxError| -> BoxError { format!("{}: {why}", path.display()).into() };
        let chain = certificates(&certificate).map_err(|why| name(&self.certificate, why))?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|why| name(&self.key, why.into()))?;
        let mut roots = RootCertStore::empty();
        for root in certificates(&authority).map_err(|why| name(&self.authority, why))? {
            roots.add(root).map_err(|why| name(&self.authority, why.into()))?;
        }
        Configs::new(&chain, &key, Arc::new(roots), hash).map(Some)
    }
}

impl Configs {
    fn new(
        chain: &[CertificateDer<'static>],
        key: &PrivateKeyDer<'static>,
        roots: Arc<RootCertStore>,
        hash: [u8; 32],
    ) -> Result<Self, BoxError> {
        let provider = Arc::new(ring::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(chain.to_vec(), key.clone_key())?;
        // A resumed session would go on with a certificate that has expired since.
        client.resumption = Resumption::disabled();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
        let (strict, open) = (verifier.clone().build()?, verifier.allow_unauthenticated().build()?);
        let server = |verifier| server_config(provider.clone(), verifier, chain.to_vec(), key.clone_key());
        Ok(Configs { client: Arc::new(client), server: server(strict)?, open_server: server(open)?, hash })
    }
}

fn server_config(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn tokio_rustls::rustls::server::danger::ClientCertVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, BoxError> {
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    let mut config = config.with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
    // As on the other side: every connection shows its certificate again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BoxError> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() { Err("there is no certificate in it".into()) } else { Ok(found) }
}

fn read_file(path: &PathBuf) -> Result<Vec<u8>, BoxError> {
    let named = |why: &dyn fmt::Display| -> BoxError { format!("{}: {why}", path.display()).into() };
    let length = fs::metadata(path).map_err(|why| named(&why))?.len();
    if length > MAX_FILE_BYTES {
        return Err(named(&"it is longer than 1 MiB"));
    }
    fs::read(path).map_err(|why| named(&why))
}

fn hash_of(files: [&[u8]; 3]) -> [u8; 32] {
    let hashes: Vec<u8> = files.into_iter().flat_map(body_hash).collect();
    body_hash(&hashes)
}

/// Says nothing of the key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}
