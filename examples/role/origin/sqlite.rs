//! A table of an SQLite file as origin.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use peercache::{Key, LoadError};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, types::ValueRef};
use tokio::{sync::Semaphore, time};

use super::{Change, MAKE_TABLE, Row, WriteError};

/// The most loads and writes that use the file at a time, each in a thread of its own; others wait.
/// More would mostly wait for the same disk.
const CONNECTIONS_MAX: usize = 4;
/// The time that a load or a write waits while another node or program has the file locked. Readers
/// lock out writers alone, and a writer locks out all others while it commits.
const LOCKED_MAX: Duration = Duration::from_secs(5);

const QUERY: &str =
    "SELECT octet_length(role), CASE WHEN octet_length(role) <= ?2 THEN role END FROM roles WHERE name = ?1";
const PUT: &str = "INSERT INTO roles(name, role) VALUES (?1, ?2) ON CONFLICT(name) DO UPDATE SET role = excluded.role";
const DELETE: &str = "DELETE FROM roles WHERE name = ?1";

/// A table `roles(name, role)` in an SQLite file. Clones are the same one.
#[derive(Clone)]
pub struct Sqlite {
    pool: Arc<Pool>,
    permits: Arc<Semaphore>,
}

struct Pool {
    path: PathBuf,
    role_bytes_max: usize,
    /// The connections not in use, at most [`CONNECTIONS_MAX`].
    idle: Mutex<Vec<(Option<FileId>, Connection)>>,
}

/// Checks that the file and its table are there.
pub fn check(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let make = format!("make it with: {MAKE_TABLE}");
    if !path.exists() {
        return Err(format!("--origin: there is no file {shown}; {make}"));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let table = Connection::open_with_flags(path, flags).and_then(|connection| {
        connection.busy_timeout(LOCKED_MAX)?;
        connection.prepare(QUERY).map(drop)
    });
    match table {
        Err(error) if error.to_string().contains("no such table") => {
            Err(format!("--origin: {shown} has no table roles; {make}"))
        }
        Err(error) if matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase)) => {
            Err(format!("--origin: {shown} is no SQLite file: {error}"))
        }
        // A file that is locked now, or cannot be read, may be in order later.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The file that a path names now: it may be replaced by another of the same name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    /// `None` if there is no file, or none that can be told from another.
    #[cfg(unix)]
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok()?;
        Some(FileId(metadata.dev(), metadata.ino()))
    }

    #[cfg(not(unix))]
    fn of(_: &Path) -> Option<Self> {
        None
    }
}

impl Sqlite {
    pub fn new(path: PathBuf, role_bytes_max: usize) -> Self {
        let pool = Pool { path, role_bytes_max, idle: Mutex::default() };
        Sqlite { pool: Arc::new(pool), permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }

    /// The role of `name`. Names are text here, so one that is not UTF-8 is not found.
    pub async fn role(&self, name: Key) -> Result<Bytes, LoadError> {
        if name.as_str().is_err() {
            return Err(LoadError::not_found());
        }
        let permit = self.permits.clone().acquire_owned().await?;
        let pool = self.pool.clone();
        tokio::task::spawn_blocking(move || {
            // The permit ends with the read, even if its load has timed out meanwhile.
            let _permit = permit;
            let row = pool.read(name.as_str()?)?;
            row.ok_or_else(LoadError::not_found)?.into_role(pool.role_bytes_max)
        })
        .await?
    }

    /// Writes the role of `name`, or deletes it. A name that is not UTF-8 is never there.
    pub async fn write(&self, name: Key, change: Change, timeout: Duration) -> Result<(), WriteError> {
        if name.as_str().is_err() {
            return if change == Change::Delete { Ok(()) } else { Err(WriteError::NotText("name")) };
        }
        change.text()?;
        let permit = time::timeout(timeout, self.permits.clone().acquire_owned()).await.map_err(WriteError::failed)?;
        let permit = permit.map_err(WriteError::failed)?;
        let pool = self.pool.clone();
        // Not cut short, so that its outcome is known. It waits for locks alone, and not for long.
        let written = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            pool.write(name.as_str().expect("it was looked at"), change.text().expect("it was looked at"))
        });
        written.await.map_err(|panic| WriteError::Unknown(panic.into()))?.map_err(WriteError::failed)
    }
}

impl Pool {
    fn read(&self, name: &str) -> rusqlite::Result<Option<Row>> {
        self.with_connection(|connection| self.query(connection, name))
    }

    fn write(&self, name: &str, role: Option<&str>) -> rusqlite::Result<()> {
        let rows = self.with_connection(|connection| match role {
            Some(role) => connection.prepare_cached(PUT)?.execute((name, role)),
            None => connection.prepare_cached(DELETE)?.execute((name,)),
        });
        rows.map(drop)
    }

    fn with_connection<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        // Before the file is opened: one that is replaced meanwhile is opened again the next time.
        let file = FileId::of(&self.path);
        let connection = self.idle(file).map_or_else(|| self.connect(), Ok)?;
        let result = work(&connection)?;
        // Only a connection that has just worked is worth keeping.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((file, connection));
        Ok(result)
    }

    /// A kept connection to this file; those to another, which had its name before, are closed.
    fn idle(&self, file: Option<FileId>) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let (kept, replaced): (Vec<_>, Vec<_>) = idle.drain(..).partition(|(other, _)| *other == file);
        *idle = kept;
        let connection = idle.pop();
        drop(idle);
        drop(replaced);
        connection.map(|(_, connection)| connection)
    }

    /// Opens the file for reading and writing, even for a service that only reads.
    ///
    /// After a crash of a writer the next reader must roll the file back. A file on a read-only
    /// disk is opened read-only.
    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(LOCKED_MAX)?;
        Ok(connection)
    }

    fn query(&self, connection: &Connection, name: &str) -> rusqlite::Result<Option<Row>> {
        let role_bytes_max = i64::try_from(self.role_bytes_max).unwrap_or(i64::MAX);
        connection
            .prepare_cached(QUERY)?
            .query_row((name, role_bytes_max), |row| {
                let role = match row.get_ref(1)? {
                    ValueRef::Text(role) | ValueRef::Blob(role) => Some(Bytes::copy_from_slice(role)),
                    _ => None,
                };
                Ok(Row { role_bytes: row.get(0)?, role })
            })
            .optional()
    }
}

#[cfg(test)]
mod tests {
    use peercache::{ErrorKind, Group, Node};

    use super::{super::Origin, *};

    fn file_with(rows: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roles.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE roles(name TEXT PRIMARY KEY, role TEXT NOT NULL)").unwrap();
        for row in rows {
            connection.execute("INSERT INTO roles VALUES (?1, ?2)", *row).unwrap();
        }
        (dir, path)
    }

    /// A group that caches nothing, not even failures, of roles of ten bytes.
    fn roles(path: &Path) -> Group<Bytes> {
        let node = Node::builder("http://127.0.0.1:1").build().unwrap();
        let origin = Origin::Sqlite(Sqlite::new(path.to_owned(), 10));
        node.group("roles", origin).max_bytes(0).error_backoff(Duration::ZERO, Duration::ZERO).build().unwrap()
    }

    async fn role(path: &Path, name: &(impl AsRef<[u8]> + ?Sized)) -> Result<Bytes, ErrorKind> {
        roles(path).get(name).await.map_err(|error| error.kind())
    }

    #[tokio::test]
    async fn any_text_is_a_name() {
        let names = ["张三", "", "a'b", "a\0b", "a"];
        let rows = names.map(|name| (name, "here"));
        let (_dir, path) = file_with(&rows);
        for name in names {
            assert_eq!(role(&path, name).await.unwrap(), "here", "{name:?}");
        }
        for name in ["A", "a\0", "张三 ", "%"] {
            assert_eq!(role(&path, name).await, Err(ErrorKind::NotFound), "{name:?}");
        }
    }

    #[tokio::test]
    async fn a_name_that_is_no_text_is_not_found() {
        let (_dir, path) = file_with(&[]);
        assert_eq!(role(&path, b"\xff").await, Err(ErrorKind::NotFound));
    }

    #[tokio::test]
    async fn the_limit_counts_bytes_and_the_last_one_is_inside() {
        let (_dir, path) = file_with(&[("ten", "排长排a"), ("eleven", "排长排ab"), ("none", "")]);
        assert_eq!(role(&path, "ten").await.unwrap(), "排长排a");
        assert_eq!(role(&path, "eleven").await, Err(ErrorKind::ValueTooLarge));
        assert_eq!(role(&path, "none").await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_is_noticed() {
        let (_dir, path) = file_with(&[("张三", "班长")]);
        let roles = roles(&path);
        assert_eq!(roles.get("张三").await.unwrap(), "班长");
        let (_other, newer) = file_with(&[("张三", "排长")]);
        std::fs::rename(&newer, &path).unwrap();
        assert_eq!(roles.get("张三").await.unwrap(), "排长");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(roles.get("张三").await.unwrap_err().kind(), ErrorKind::LoadFailed);
    }

    #[test]
    fn what_is_missing_at_the_start_is_named_with_the_way_to_make_it() {
        let (dir, path) = file_with(&[]);
        assert_eq!(check(&path), Ok(()));
        let missing = check(&dir.path().join("none.db")).unwrap_err();
        assert!(missing.contains("no file") && missing.contains("CREATE TABLE roles"), "{missing}");
        let empty = dir.path().join("empty.db");
        Connection::open(&empty).unwrap().execute_batch("CREATE TABLE other(name TEXT)").unwrap();
        assert!(check(&empty).unwrap_err().contains("no table roles"));
        let text = dir.path().join("text.db");
        std::fs::write(&text, "this is a text and not a database".repeat(100)).unwrap();
        assert!(check(&text).unwrap_err().contains("no SQLite file"));
    }

    #[tokio::test]
    async fn a_missing_file_is_a_failed_load_until_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roles.db");
        let roles = roles(&path);
        assert_eq!(roles.get("张三").await.unwrap_err().kind(), ErrorKind::LoadFailed);
        assert!(!path.exists(), "asking makes no file");

        let (_other, filled) = file_with(&[("张三", "班长")]);
        std::fs::rename(filled, &path).unwrap();
        assert_eq!(roles.get("张三").await.unwrap(), "班长");
    }
}
