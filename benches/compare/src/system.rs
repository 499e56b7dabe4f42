//! Systems that are compared.

use std::path::PathBuf;

use crate::args::System;

/// Origin of a system's server and of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Both are our Rust harness, with a feature of this name if one is needed.
    Rust { feature: Option<&'static str> },
    /// Both are the Go program of the same name.
    Go,
    /// The server is a program of the machine, in the Debian package of this name; the client is
    /// our Rust harness.
    Installed { program: &'static str, feature: Option<&'static str> },
}

impl System {
    pub fn kind(self) -> Kind {
        match self {
            System::Ours => Kind::Rust { feature: None },
            System::Groupcache | System::GroupcacheNg => Kind::Rust { feature: Some(self.name()) },
            System::Golang | System::GroupcacheGo => Kind::Go,
            System::Redis => Kind::Installed { program: "redis-server", feature: Some("redis") },
            System::Memcached => Kind::Installed { program: "memcached", feature: None },
        }
    }

    /// Exactly what is compared, for the record.
    pub fn description(self) -> &'static str {
        match self {
            System::Ours => "two members, this tree's `Node` as built by default, budget for all keys, no hot copies",
            System::Golang => {
                "two members, github.com/golang/groupcache v0.0.0-20241129210726-2c02b8208cf8, http.Transport with 512 \
                 idle connections per host, compression off, nothing cached by the asking member"
            }
            System::GroupcacheGo => {
                "two members, github.com/groupcache/groupcache-go/v3 v3.2.0, http.Transport with 512 idle connections \
                 per host, compression off, nothing cached by the asking member"
            }
            System::Groupcache => "two members, crate groupcache 0.3.0 (gRPC), hot cache of no capacity",
            System::GroupcacheNg => "two members, crate groupcache-ng 0.4.0 (gRPC), hot cache of no capacity",
            System::Redis => {
                "redis-server as installed, without persistence; crate redis 1.8.1, GET, or MGET for a batch"
            }
            System::Memcached => "memcached as installed, text protocol, get of one or many keys",
        }
    }

    /// Whether it has loaders, which can be slow.
    pub fn loads(self) -> bool {
        matches!(self, System::Ours | System::Golang | System::GroupcacheGo)
    }
}

/// The programs of a system's server and of its client.
#[derive(Clone, Debug)]
pub struct Program {
    pub system: System,
    pub server: PathBuf,
    pub client: PathBuf,
    /// The version of what the machine brought: a server, or the Go toolchain.
    pub version: Option<String>,
}
