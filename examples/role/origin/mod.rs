//! The origin of roles, which is asked when no member has them cached.
mod http;
mod postgres;
mod sqlite;

use std::{fmt::Display, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use peercache::{BoxError, Error, ErrorKind, Key, LoadError, Loaded, Loader};

/// The origin of this process, as the group's loader. Clones are the same one.
#[derive(Clone)]
pub enum Origin {
    Sqlite(sqlite::Sqlite),
    Postgres(Arc<postgres::Postgres>),
    Http(Arc<http::Http>),
}

/// The address of an origin, checked but not yet asked.
#[derive(Clone, Debug)]
pub enum OriginUrl {
    Sqlite(PathBuf),
    /// Its `Debug` form keeps the password to itself.
    Postgres(Box<tokio_postgres::Config>),
    Http(http::Template),
}

/// The change of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put(Bytes),
    Delete,
}

/// The reason why a change was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// SQL origins hold text and nothing else.
    #[error("the {0} is no text that an SQL origin can hold")]
    NotText(&'static str),
    /// The origin has not changed.
    #[error("the origin failed, and nothing was written")]
    Failed(#[source] BoxError),
    /// The origin got the change, and did not answer.
    #[error("the origin failed, and it is not known whether anything was written")]
    Unknown(#[source] BoxError),
}

impl Origin {
    /// Whether changes are written here. An HTTP origin is only read.
    pub fn is_written(&self) -> bool {
        !matches!(self, Origin::Http(_))
    }

    /// Writes a change to an SQL origin; an HTTP origin is left alone.
    ///
    /// It begins within `timeout`, and ends soon after.
    pub async fn write(&self, name: Key, change: Change, timeout: Duration) -> Result<(), WriteError> {
        match self {
            Origin::Sqlite(database) => database.write(name, change, timeout).await,
            Origin::Postgres(database) => database.write(&name, &change, timeout).await,
            Origin::Http(_) => Ok(()),
        }
    }
}

impl WriteError {
    fn failed(cause: impl Into<BoxError>) -> Self {
        WriteError::Failed(cause.into())
    }
}

impl Change {
    /// The role as text, for origins that hold text.
    fn text(&self) -> Result<Option<&str>, WriteError> {
        match self {
            Change::Put(role) => std::str::from_utf8(role).map(Some).map_err(|_| WriteError::NotText("role")),
            Change::Delete => Ok(None),
        }
    }
}

impl Loader for Origin {
    type Value = Bytes;

    async fn load(&self, key: Key) -> Result<Loaded<Bytes>, LoadError> {
        let role = match self {
            Origin::Sqlite(database) => database.role(key).await?,
            Origin::Postgres(database) => database.role(&key).await?,
            Origin::Http(server) => server.role(&key).await?,
        };
        Ok(Loaded::new(role))
    }
}

/// The statement that makes the table, for people.
const MAKE_TABLE: &str = "CREATE TABLE roles(name TEXT PRIMARY KEY, role TEXT NOT NULL)";

impl OriginUrl {
    /// Checks what must be there when the service starts: an SQLite file, and the table. A
    /// PostgreSQL server that does not answer now may do so later.
    ///
    /// # Errors
    /// A sentence that says what is missing, and how to make it.
    pub async fn check(&self) -> Result<(), String> {
        match self {
            OriginUrl::Sqlite(path) => sqlite::check(path),
            OriginUrl::Postgres(config) => postgres::check(config).await,
            OriginUrl::Http(_) => Ok(()),
        }
    }

    /// Makes the origin, which answers roles of at most `role_bytes_max` bytes.
    ///
    /// Nothing is opened before the first load, and an origin that is away for a while is found
    /// again.
    pub fn origin(&self, role_bytes_max: usize) -> Result<Origin, reqwest::Error> {
        Ok(match self {
            OriginUrl::Sqlite(path) => Origin::Sqlite(sqlite::Sqlite::new(path.clone(), role_bytes_max)),
            OriginUrl::Postgres(config) => Origin::Postgres(Arc::new(postgres::Postgres::new(config, role_bytes_max))),
            OriginUrl::Http(template) => Origin::Http(Arc::new(http::Http::new(template.clone(), role_bytes_max)?)),
        })
    }
}

impl FromStr for OriginUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
        match scheme {
            "sqlite" if rest.is_empty() || rest.starts_with("//") => {
                Err("write sqlite:PATH with the path as it is, such as sqlite:roles.db or sqlite:/var/lib/roles.db"
                    .into())
            }
            "sqlite" => Ok(OriginUrl::Sqlite(rest.into())),
            "postgres" | "postgresql" => postgres::parse(text).map(|config| OriginUrl::Postgres(Box::new(config))),
            "http" => http::Template::parse(text).map(OriginUrl::Http),
            "https" => Err("role asks its origin without TLS; write http://HOST:PORT/PATH?key={key}".into()),
            _ => Err("write sqlite:PATH, postgres://USER@HOST/DATABASE or http://HOST:PORT/PATH?key={key}".into()),
        }
    }
}

/// The answer of an SQL origin: the length of the role, and the role unless it is too long.
///
/// The query leaves a role out that is too long, so that a role of a gigabyte costs no memory here.
struct Row {
    role_bytes: i64,
    role: Option<Bytes>,
}

impl Row {
    fn into_role(self, role_bytes_max: usize) -> Result<Bytes, LoadError> {
        self.role.ok_or_else(|| too_large(self.role_bytes, role_bytes_max))
    }
}

fn too_large(role_bytes: impl Display, role_bytes_max: usize) -> LoadError {
    let message = format!("the role has {role_bytes} bytes, more than {role_bytes_max}");
    Error::with_message(ErrorKind::ValueTooLarge, message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(text: &str) -> String {
        text.parse::<OriginUrl>().unwrap_err()
    }

    #[test]
    fn three_kinds_are_known_by_their_scheme() {
        let parsed = ["sqlite:a b.db", "postgres://u@h/d", "http://h:1/p?key={key}"].map(str::parse::<OriginUrl>);
        assert!(matches!(&parsed[0], Ok(OriginUrl::Sqlite(path)) if path.as_os_str() == "a b.db"));
        assert!(matches!(&parsed[1], Ok(OriginUrl::Postgres(_))));
        assert!(matches!(&parsed[2], Ok(OriginUrl::Http(_))));
    }

    #[test]
    fn a_wrong_origin_is_told_what_to_write() {
        assert!(sentence("mysql://h/d").contains("write sqlite:PATH, postgres://"));
        assert!(sentence("roles.db").contains("write sqlite:PATH, postgres://"));
        assert!(sentence("sqlite:").contains("write sqlite:PATH"));
        assert!(sentence("sqlite://roles.db").contains("write sqlite:PATH"));
        assert!(sentence("https://h/?key={key}").contains("write http://"));
        assert!(sentence("http://h/").contains("{key}"));
        assert!(sentence("postgres://u@h/d?sslmode=require").contains("sslmode"));
    }

    #[test]
    fn a_password_is_not_shown() {
        let origin: OriginUrl = "postgres://u:tell-nobody@h/d".parse().unwrap();
        assert!(!format!("{origin:?}").contains("tell-nobody"));
    }
}
