//! The flags of `role`, and the variables of the same names.

mod values;

use std::{env, ffi::OsStr, fmt::Display, path::PathBuf, time::Duration};

use clap::{
    CommandFactory, FromArgMatches, Parser,
    builder::{FalseyValueParser, Resettable},
    error::ErrorKind,
};
use tracing_subscriber::filter::Targets;

use crate::origin::OriginUrl;

pub use values::member;
use values::{address, dialect, log_filter, millis, size, truth};

/// Fathers at the barracks gate ask what their sons have become: a service whose processes share
/// one cache.
///
/// Every flag can also be given as an environment variable (--peer-listen is ROLE_PEER_LISTEN);
/// flags win.
#[derive(Debug, Parser)]
#[command(name = "role", version)]
pub struct Config {
    /// The front: where people ask
    #[arg(
        long,
        env = "ROLE_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9000",
        value_parser = address
    )]
    pub listen: String,

    /// The address where peers ask
    #[arg(
        long,
        env = "ROLE_PEER_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9090",
        value_parser = address
    )]
    pub peer_listen: String,

    /// The address where operators ask
    #[arg(
        long,
        env = "ROLE_ADMIN_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9190",
        value_parser = address
    )]
    pub admin_listen: String,

    /// This node as the peer list names it, letter for letter
    #[arg(
        long,
        env = "ROLE_SELF_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:9090",
        value_parser = member
    )]
    pub self_url: String,

    /// All members, this node among them, separated by commas; PUT /peers at the admin port
    /// replaces the list of a running node [default: this node alone]
    #[arg(long, env = "ROLE_PEERS", value_name = "URL", value_delimiter = ',', value_parser = member)]
    pub peers: Vec<String>,

    /// The origin of roles: sqlite:PATH, postgres://USER@HOST/DATABASE or
    /// http://HOST:PORT/PATH?key={key}
    #[arg(long, env = "ROLE_ORIGIN", value_name = "ORIGIN", default_value = "sqlite:roles.db", hide_env_values = true)]
    pub origin: OriginUrl,

    /// The memory that the cache may take: bytes, or KiB, MiB, GiB
    #[arg(
        long,
        env = "ROLE_CACHE_BYTES",
        allow_negative_numbers = true,
        value_name = "SIZE",
        default_value = "1MiB",
        value_parser = size
    )]
    pub cache_bytes: usize,

    /// The time for which a role is answered without asking the origin again, in milliseconds; 0 is
    /// for ever
    #[arg(
        long,
        env = "ROLE_TTL_MS",
        allow_negative_numbers = true,
        value_name = "MS",
        default_value = "0",
        value_parser = millis::<0>
    )]
    pub ttl_ms: Duration,

    /// The time after that in which the old role is still answered while a new one is loaded, in
    /// milliseconds
    #[arg(
        long,
        env = "ROLE_STALE_MS",
        allow_negative_numbers = true,
        value_name = "MS",
        default_value = "0",
        value_parser = millis::<0>
    )]
    pub stale_ms: Duration,

    /// The time for which it is remembered that the origin does not have a name, in milliseconds; 0
    /// is not at all
    #[arg(
        long,
        env = "ROLE_NEGATIVE_TTL_MS",
        allow_negative_numbers = true,
        value_name = "MS",
        default_value = "1000",
        value_parser = millis::<0>
    )]
    pub negative_ttl_ms: Duration,

    /// The longest life of a copy at a node that does not own the key, in milliseconds; 0 keeps no
    /// copies
    #[arg(
        long,
        env = "ROLE_HOT_TTL_MS",
        allow_negative_numbers = true,
        value_name = "MS",
        default_value = "30000",
        value_parser = millis::<0>
    )]
    pub hot_ttl_ms: Duration,

    /// The longest load at the origin, or write to it, in milliseconds
    #[arg(
        long,
        env = "ROLE_LOAD_TIMEOUT_MS",
        allow_negative_numbers = true,
        value_name = "MS",
        default_value = "30000",
        value_parser = millis::<1>
    )]
    pub load_timeout_ms: Duration,

    /// The longest silence of a peer before this node turns elsewhere, in milliseconds
    #[arg(
        long,
        env = "ROLE_PEER_TIMEOUT_MS",
        allow_negative_numbers = true,
        value_name = "MS",
        default_value = "1000",
        value_parser = millis::<30>
    )]
    pub peer_timeout_ms: Duration,

    /// The time for which a connection to the front may be idle between two requests, in
    /// milliseconds
    #[arg(
        long,
        env = "ROLE_IDLE_TIMEOUT_MS",
        allow_negative_numbers = true,
        value_name = "MS",
        default_value = "75000",
        value_parser = millis::<1>
    )]
    pub idle_timeout_ms: Duration,

    /// The time after SIGTERM in which the listeners still take new connections while /readyz says
    /// 503, in milliseconds
    #[arg(
        long,
        env = "ROLE_LINGER_MS",
        allow_negative_numbers = true,
        value_name = "MS",
        default_value = "500",
        value_parser = millis::<0>
    )]
    pub linger_ms: Duration,

    /// The dialect in which this node asks its peers, and the placement of keys: native or golang
    #[arg(long, env = "ROLE_DIALECT", value_name = "DIALECT", default_value = "native", value_parser = dialect)]
    pub dialect: Dialect,

    /// The cluster's name; members of another one are refused [default: the empty name]
    #[arg(long, env = "ROLE_CLUSTER", value_name = "NAME", default_value = "", hide_default_value = true)]
    pub cluster: String,

    /// A file of secrets that all members share, one a line, of at least 32 bytes each: the first
    /// is used, all are accepted. It is read again when it changes
    #[arg(long, env = "ROLE_SECRET_FILE", value_name = "PATH")]
    pub secret_file: Option<PathBuf>,

    /// This node's certificate with its chain, in PEM, for mutual TLS at the peer port: members are
    /// then https://. The three files are read again when they change
    #[arg(long, env = "ROLE_TLS_CERT", value_name = "PATH")]
    pub tls_cert: Option<PathBuf>,

    /// The key of that certificate, in PEM
    #[arg(long, env = "ROLE_TLS_KEY", value_name = "PATH")]
    pub tls_key: Option<PathBuf>,

    /// The authority that signed all members' certificates, in PEM
    #[arg(long, env = "ROLE_TLS_CA", value_name = "PATH")]
    pub tls_ca: Option<PathBuf>,

    /// Answer plain GETs to everybody even where a secret or TLS is set, for Go members, which can
    /// show neither
    #[arg(long, env = "ROLE_OPEN_GETS", value_parser = truth)]
    pub open_gets: bool,

    /// Allow members that are not on loopback with neither secret nor TLS: everybody who reaches
    /// the peer port can then read and change every role
    #[arg(long, env = "ROLE_TRUST_NETWORK", value_parser = truth)]
    pub trust_network: bool,

    /// The log on standard error: a level, or levels by module such as info,peercache=debug
    #[arg(long, env = "ROLE_LOG", value_name = "FILTER", default_value = "info", value_parser = log_filter)]
    pub log: Targets,

    /// Exit as soon as standard input ends, so that this process does not outlive the one that
    /// started it
    #[arg(long, env = "ROLE_EXIT_WITH_STDIN", value_parser = FalseyValueParser::new())]
    pub exit_with_stdin: bool,
}

/// The kind of cluster that this node joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Members are peercache nodes: its exchange and its placement.
    Native,
    /// Members are golang/groupcache processes, too: their exchange and their placement.
    Golang,
}

impl Config {
    /// Reads the flags and variables that this process was started with.
    ///
    /// If they are wrong, it ends with a sentence that says what to write instead.
    pub fn read() -> Self {
        let set = Config::command()
            .mut_args(|flag| if flag.get_env().is_some_and(is_set_empty) { flag.env(Resettable::Reset) } else { flag });
        let config = Config::from_arg_matches(&set.get_matches()).unwrap_or_else(|error| error.exit());
        if !config.members().contains(&config.self_url) {
            Config::refuse(format!(
                "--peers does not name this node, {}; add it to --peers, or write --self-url as it stands there",
                config.self_url
            ));
        }
        config
    }

    /// Ends this process with exit code 2 and a sentence, as a wrong flag does.
    pub fn refuse(sentence: impl Display) -> ! {
        Config::command().error(ErrorKind::ValueValidation, sentence).exit()
    }

    /// The first member list.
    pub fn members(&self) -> Vec<String> {
        if self.peers.is_empty() { vec![self.self_url.clone()] } else { self.peers.clone() }
    }
}

/// Whether a variable is set to nothing, which counts as not set: files that list all variables
/// leave some empty.
fn is_set_empty(variable: &OsStr) -> bool {
    env::var_os(variable).is_some_and(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_contract() {
        let config = Config::parse_from(["role"]);
        let shown = format!(
            "{} {} {} {} {:?} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {} {}",
            config.listen,
            config.peer_listen,
            config.admin_listen,
            config.self_url,
            config.members(),
            config.cache_bytes,
            config.ttl_ms,
            config.stale_ms,
            config.negative_ttl_ms,
            config.hot_ttl_ms,
            config.load_timeout_ms,
            config.peer_timeout_ms,
            config.idle_timeout_ms,
            config.linger_ms,
            config.dialect,
            config.cluster,
            config.secret_file,
            config.open_gets,
            config.trust_network,
        );
        assert_eq!(
            shown,
            "127.0.0.1:9000 127.0.0.1:9090 127.0.0.1:9190 http://127.0.0.1:9090 [\"http://127.0.0.1:9090\"] 1048576 \
             0ns 0ns 1s 30s 30s 1s 75s 500ms Native \"\" None false false"
        );
    }
}
