//! A table of a PostgreSQL server as origin.

use std::{
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use peercache::{BoxError, Key, LoadError};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::AbortHandle,
    time,
};
use tokio_postgres::{
    Client, Config, NoTls,
    config::SslMode,
    error::SqlState,
    types::{ToSql, Type},
};

use super::{Change, MAKE_TABLE, Row, WriteError};

/// The most loads and writes that use the server at a time; others wait. A server takes 100
/// connections by default, and there are other nodes.
const CONNECTIONS_MAX: usize = 8;
/// The time that the server may take to accept a connection, unless the URL says another.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time that the server may take to answer before the service starts.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The time that the server may take to acknowledge the bytes sent, unless the URL says another.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
/// The time that a late write has to end once the server was told to cancel it.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

const QUERY: &str =
    "SELECT octet_length(role)::int8, CASE WHEN octet_length(role) <= $2 THEN role END FROM roles WHERE name = $1";
const PUT: &str = "INSERT INTO roles(name, role) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET role = excluded.role";
const DELETE: &str = "DELETE FROM roles WHERE name = $1";

/// A table `roles(name, role)` at a PostgreSQL server.
pub struct Postgres {
    config: Config,
    role_bytes_max: usize,
    permits: Semaphore,
    /// The sessions not in use, at most [`CONNECTIONS_MAX`].
    idle: Mutex<Vec<Session>>,
}

/// A connection and the task that drives it, which end together.
///
/// A load that is given up drops its session, so that no session is kept with an answer
/// outstanding.
struct Session {
    client: Client,
    driver: AbortHandle,
}

/// Parses the settings in a URL.
pub fn parse(url: &str) -> Result<Config, String> {
    let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
        format!("{:#}; write postgres://USER:PASSWORD@HOST:PORT/DATABASE", anyhow::Error::new(error))
    })?;
    if config.get_hosts().is_empty() {
        return Err("write the host: postgres://USER@HOST/DATABASE".to_owned());
    }
    if config.get_ssl_mode() == SslMode::Require {
        return Err("role speaks to PostgreSQL without TLS; leave sslmode=require out".to_owned());
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(UNACKNOWLEDGED_MAX);
    }
    Ok(config)
}

/// Checks that the table is there, if the server answers.
///
/// # Errors
/// A sentence that says what is missing, and how to make it.
pub async fn check(config: &Config) -> Result<(), String> {
    let asked = time::timeout(CHECK_TIMEOUT, async { Session::connect(config).await?.query("", 0).await });
    match asked.await {
        Ok(Err(error)) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
            Err(format!("--origin: the PostgreSQL database has no table roles; make it with: {MAKE_TABLE}"))
        }
        Ok(Ok(_) | Err(_)) | Err(_) => Ok(()),
    }
}

impl Postgres {
    pub fn new(config: &Config, role_bytes_max: usize) -> Self {
        let permits = Semaphore::new(CONNECTIONS_MAX);
        Postgres { config: config.clone(), role_bytes_max, permits, idle: Mutex::default() }
    }

    /// The role of `name`. PostgreSQL's text is UTF-8 without NUL, so no other name is found.
    pub async fn role(&self, name: &Key) -> Result<Bytes, LoadError> {
        let name = match name.as_str() {
            Ok(name) if !name.contains('\0') => name,
            _ => return Err(LoadError::not_found()),
        };
        let _permit = self.permits.acquire().await?;
        let row = self.read(name).await?;
        row.ok_or_else(LoadError::not_found)?.into_role(self.role_bytes_max)
    }

    /// Asks on an idle session, and again on a new one if that fails: the server may have
    /// restarted.
    async fn read(&self, name: &str) -> Result<Option<Row>, tokio_postgres::Error> {
        if let Some(session) = self.idle_session() {
            match session.query(name, self.role_bytes_max).await {
                Ok(row) => return Ok(self.keep(session, row)),
                Err(error) => tracing::debug!(%error, "a kept connection to PostgreSQL failed; opening another"),
            }
        }
        let session = Session::connect(&self.config).await?;
        let row = session.query(name, self.role_bytes_max).await?;
        Ok(self.keep(session, row))
    }

    /// Writes the role of `name`, or deletes it. A name that PostgreSQL cannot store is never
    /// there.
    pub async fn write(&self, name: &Key, change: &Change, timeout: Duration) -> Result<(), WriteError> {
        let role = change.text()?;
        let name = match name.as_str() {
            Ok(name) if !name.contains('\0') => name,
            _ if role.is_none() => return Ok(()),
            _ => return Err(WriteError::NotText("name")),
        };
        if role.is_some_and(|role| role.contains('\0')) {
            return Err(WriteError::NotText("role"));
        }
        let begun = time::timeout(timeout, self.begin()).await.map_err(WriteError::failed)?;
        let (_permit, session) = begun.map_err(WriteError::failed)?;
        session.write(name, role, timeout).await?;
        self.keep(session, ());
        Ok(())
    }

    /// Takes a permit and a session that works at this moment.
    ///
    /// A write is never sent twice: the first may have been executed, and another's after it. So a
    /// session that has died unnoticed must be found out before.
    async fn begin(&self) -> Result<(SemaphorePermit<'_>, Session), BoxError> {
        let permit = self.permits.acquire().await?;
        if let Some(session) = self.idle_session()
            && session.client.check_connection().await.is_ok()
        {
            return Ok((permit, session));
        }
        Ok((permit, Session::connect(&self.config).await?))
    }

    fn idle_session(&self) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|session| !session.client.is_closed());
        idle.pop()
    }

    fn keep<T>(&self, session: Session, answer: T) -> T {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        answer
    }
}

impl Session {
    async fn connect(config: &Config) -> Result<Self, tokio_postgres::Error> {
        let (client, connection) = config.connect(NoTls).await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::info!(%error, "a connection to PostgreSQL ended");
            }
        });
        Ok(Session { client, driver: driver.abort_handle() })
    }

    async fn query(&self, name: &str, role_bytes_max: usize) -> Result<Option<Row>, tokio_postgres::Error> {
        let role_bytes_max = i32::try_from(role_bytes_max).unwrap_or(i32::MAX);
        let values: [(&(dyn ToSql + Sync), Type); 2] = [(&name, Type::TEXT), (&role_bytes_max, Type::INT4)];
        let Some(row) = self.client.query_typed_opt(QUERY, &values).await? else {
            return Ok(None);
        };
        let role: Option<&str> = row.try_get(1)?;
        let role = role.map(|role| Bytes::copy_from_slice(role.as_bytes()));
        Ok(Some(Row { role_bytes: row.try_get(0)?, role }))
    }

    async fn write(&self, name: &str, role: Option<&str>, timeout: Duration) -> Result<(), WriteError> {
        let mut written = pin!(self.execute(name, role));
        let outcome = match time::timeout(timeout, &mut written).await {
            Ok(outcome) => outcome,
            Err(_) => {
                // It must not be executed after its caller was told that it failed.
                let _ = time::timeout(CANCEL_TIMEOUT, self.client.cancel_token().cancel_query(NoTls)).await;
                time::timeout(CANCEL_TIMEOUT, written).await.map_err(|late| WriteError::Unknown(late.into()))?
            }
        };
        outcome.map(drop).map_err(|error| match error.as_db_error() {
            Some(_) => WriteError::failed(error),
            None => WriteError::Unknown(error.into()),
        })
    }

    async fn execute(&self, name: &str, role: Option<&str>) -> Result<u64, tokio_postgres::Error> {
        match role {
            Some(role) => self.client.execute_typed(PUT, &[(&name, Type::TEXT), (&role, Type::TEXT)]).await,
            None => self.client.execute_typed(DELETE, &[(&name, Type::TEXT)]).await,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
