//! The secrets that the members of a cluster share, given as they are or by a file.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use peercache_groupcache::BuildError;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::auth::keyring::{BadSecrets, KeyId, Keyring};

/// The longest file of secrets that is read, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// How long between two looks at the file.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The same when a request was signed with a secret that is not known: strangers have it read ten times a second.
const EARLY_LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The secrets that members sign their requests with. The first signs, all verify. A cheap handle: clones share what
/// is read anew from a file.
///
/// To change a secret without a refused request, in three steps, each on every member before the next: append the new
/// one, move it to the front, drop the old one.
#[derive(Clone)]
pub struct Secrets {
    shared: Arc<Shared>,
}

struct Shared {
    keyring: RwLock<Arc<Keyring>>,
    file: Option<SecretFile>,
}

struct SecretFile {
    path: PathBuf,
    last_look: Mutex<Instant>,
}

impl Secrets {
    /// These secrets, of at least 32 bytes each.
    ///
    /// # Errors
    /// No secret at all, one that is too short, or more than 16.
    pub fn new<S: AsRef<[u8]>>(secrets: impl IntoIterator<Item = S>) -> Result<Self, BuildError> {
        let secrets: Vec<Zeroizing<Vec<u8>>> =
            secrets.into_iter().map(|secret| Zeroizing::new(secret.as_ref().to_vec())).collect();
        let keyring =
            Keyring::new(secrets.iter().map(|secret| secret.as_slice())).map_err(|why| bad(why.to_string()))?;
        Ok(Secrets { shared: Arc::new(Shared { keyring: RwLock::new(Arc::new(keyring)), file: None }) })
    }

    /// The secrets in a file, one a line; empty lines are skipped. The file is read again when it has changed, within a
    /// second of the next request. If it cannot be used then, the secrets of before stay in force and the log says so.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds no secrets as [`Secrets::new`] takes them.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self, BuildError> {
        let path = path.into();
        let keyring = read(&path).map_err(|why| bad(format!("{} cannot be used: {why}", path.display())))?;
        let file = SecretFile { path, last_look: Mutex::new(Instant::now()) };
        Ok(Secrets { shared: Arc::new(Shared { keyring: RwLock::new(Arc::new(keyring)), file: Some(file) }) })
    }

    /// Reads the file again now, as after a SIGHUP. Secrets that did not come from a file stay as they are.
    pub fn reload(&self) {
        let Some(file) = &self.shared.file else { return };
        match read(&file.path) {
            Ok(keyring) => *self.shared.keyring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keyring),
            Err(why) => {
                let path = file.path.display();
                tracing::warn!(%path, %why, "the secrets cannot be read again; those of before stay in force");
            }
        }
    }

    /// The keys in force, after a look at the file if the last one is a second ago.
    pub(crate) async fn current(&self) -> Arc<Keyring> {
        if self.is_due(LOOK_INTERVAL) {
            self.reload_aside().await;
        }
        self.keyring()
    }

    /// The keys in force if they know `id`. An unknown one is reason to look at the file before its time: another
    /// member may have read it a moment earlier.
    pub(crate) async fn knowing(&self, id: KeyId) -> Option<Arc<Keyring>> {
        let keyring = self.current().await;
        if keyring.find(id).is_some() {
            return Some(keyring);
        }
        if !self.is_due(EARLY_LOOK_INTERVAL) {
            return None;
        }
        self.reload_aside().await;
        let keyring = self.keyring();
        keyring.find(id).is_some().then_some(keyring)
    }

    fn keyring(&self) -> Arc<Keyring> {
        self.shared.keyring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_due(&self, interval: Duration) -> bool {
        let Some(file) = &self.shared.file else { return false };
        let mut last_look = file.last_look.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last_look.elapsed() >= interval;
        if is_due {
            *last_look = Instant::now();
        }
        is_due
    }

    /// Reading a file may take its time, which is not the runtime's.
    async fn reload_aside(&self) {
        let secrets = self.clone();
        // An error means that the runtime goes down, and with it the request.
        drop(tokio::task::spawn_blocking(move || secrets.reload()).await);
    }
}

fn read(path: &Path) -> Result<Keyring, Unusable> {
    let length = fs::metadata(path)?.len();
    if length > MAX_FILE_BYTES {
        return Err(Unusable::TooLong);
    }
    let text = Zeroizing::new(fs::read(path)?);
    let lines = text.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    Ok(Keyring::new(lines.filter(|line| !line.is_empty()))?)
}

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is longer than 64 KiB")]
    TooLong,
    #[error(transparent)]
    Secrets(#[from] BadSecrets),
}

fn bad(expected: String) -> BuildError {
    BuildError::Transport(expected)
}

/// Says nothing of the secrets.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.shared.file.as_ref().map(|file| &file.path);
        f.debug_struct("Secrets").field("file", &path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "the first secret, of more than 32 bytes";
    const TWO: &str = "the second secret, of more than 32 bytes";

    fn ids(secrets: &[&str]) -> Vec<KeyId> {
        secrets.iter().map(|secret| Secrets::new([secret]).unwrap().keyring().first().id()).collect()
    }

    #[tokio::test]
    async fn a_file_is_read_again_when_it_has_changed() {
        let path = std::env::temp_dir().join(format!("peercache-secrets-{}", std::process::id()));
        fs::write(&path, format!("{ONE}\n")).unwrap();
        let secrets = Secrets::from_file(&path).unwrap();
        let [one, two] = ids(&[ONE, TWO])[..] else { unreachable!("two secrets have two ids") };
        assert!(secrets.knowing(one).await.is_some() && secrets.knowing(two).await.is_none());
        fs::write(&path, format!("\r\n{TWO}\r\n\n{ONE}")).unwrap();
        secrets.reload();
        assert!(secrets.knowing(one).await.is_some());
        assert_eq!(secrets.keyring().first().id(), two);
        fs::write(&path, "short\n").unwrap();
        secrets.reload();
        assert_eq!(secrets.keyring().first().id(), two, "what cannot be used changes nothing");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_cannot_be_used_is_said_without_the_secret() {
        let error = Secrets::new(["short"]).unwrap_err().to_string();
        assert!(error.contains("32 bytes") && !error.contains("short\""), "{error}");
        assert!(Secrets::from_file("/nowhere/at/all").unwrap_err().to_string().contains("/nowhere/at/all"));
    }

    #[test]
    fn nothing_of_a_secret_is_shown() {
        assert_eq!(format!("{:?}", Secrets::new([ONE]).unwrap()), "Secrets { file: None, .. }");
    }
}
