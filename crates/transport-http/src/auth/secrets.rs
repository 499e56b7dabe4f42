//! The secrets that the members of a cluster share, given as they are or by a file.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use peercache_groupcache::{BoxError, BuildError};
use zeroize::Zeroizing;

use crate::auth::{
    keyring::{KeyId, Keyring, body_hash},
    reload::Reload,
};

/// The longest file of secrets that is read, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The secrets that members sign their requests with. The first signs, all verify. A cheap handle:
/// clones share what is read from a file.
///
/// To change a secret without a refused request, in three steps, each on every member before the
/// next: append the new one, move it to the front, drop the old one.
#[derive(Clone)]
pub struct Secrets {
    keyring: Reload<Loaded>,
}

struct Loaded {
    keyring: Arc<Keyring>,
    /// The hash of the file, to know it again.
    hash: [u8; 32],
}

impl Secrets {
    /// These secrets, of at least 32 bytes each.
    ///
    /// # Errors
    /// No secret at all, one that is too short, or more than 16.
    pub fn new<S: AsRef<[u8]>>(secrets: impl IntoIterator<Item = S>) -> Result<Self, BuildError> {
        let secrets: Vec<Zeroizing<Vec<u8>>> =
            secrets.into_iter().map(|secret| Zeroizing::new(secret.as_ref().to_vec())).collect();
        let keyring = Keyring::new(secrets.iter().map(|secret| secret.as_slice()));
        let keyring = Arc::new(keyring.map_err(|why| BuildError::Transport(why.to_string()))?);
        Ok(Secrets { keyring: Reload::fixed("secrets", Loaded { keyring, hash: [0; 32] }) })
    }

    /// The secrets in a file, one a line; empty lines are skipped. The file is read again when it
    /// has changed, within a second of the next request. If it cannot be used then, the secrets of
    /// before stay in force and the log says so.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds no secrets as [`Secrets::new`] takes them.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self, BuildError> {
        let path = path.into();
        let shown = path.display().to_string();
        let keyring = Reload::new("secrets", move |last| read(&path, last));
        let keyring = keyring.map_err(|why| BuildError::Transport(format!("{shown} cannot be used: {why}")))?;
        Ok(Secrets { keyring })
    }

    /// Looks at the file now, as after a SIGHUP. Secrets that did not come from a file stay as they
    /// are.
    pub fn reload(&self) {
        self.keyring.look();
    }

    /// The keys in force.
    pub(crate) async fn current(&self) -> Arc<Keyring> {
        self.keyring.current().await.keyring.clone()
    }

    /// The keys in force if they know `id`. An unknown one is reason to look at the file before its
    /// time: another member may have read it a moment earlier.
    pub(crate) async fn knowing(&self, id: KeyId) -> Option<Arc<Keyring>> {
        let mut keyring = self.current().await;
        if keyring.find(id).is_none() {
            keyring = self.keyring.current_early().await.keyring.clone();
        }
        keyring.find(id).is_some().then_some(keyring)
    }
}

fn read(path: &Path, last: Option<&Loaded>) -> Result<Option<Loaded>, BoxError> {
    if fs::metadata(path)?.len() > MAX_FILE_BYTES {
        return Err("it is longer than 64 KiB".into());
    }
    let text = Zeroizing::new(fs::read(path)?);
    let hash = body_hash(&text);
    if last.is_some_and(|last| last.hash == hash) {
        return Ok(None);
    }
    let lines = text.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let keyring = Arc::new(Keyring::new(lines.filter(|line| !line.is_empty()))?);
    Ok(Some(Loaded { keyring, hash }))
}

/// Says nothing of the secrets.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "the first secret, of more than 32 bytes";
    const TWO: &str = "the second secret, of more than 32 bytes";

    fn id(secret: &str) -> KeyId {
        Keyring::new([secret.as_bytes()]).unwrap().first().id()
    }

    #[tokio::test]
    async fn a_file_is_read_again_when_it_has_changed() {
        let path = std::env::temp_dir().join(format!("peercache-secrets-{}", std::process::id()));
        fs::write(&path, format!("{ONE}\n")).unwrap();
        let secrets = Secrets::from_file(&path).unwrap();
        assert!(secrets.knowing(id(ONE)).await.is_some() && secrets.knowing(id(TWO)).await.is_none());
        fs::write(&path, format!("\r\n{TWO}\r\n\n{ONE}")).unwrap();
        secrets.reload();
        assert!(secrets.knowing(id(ONE)).await.is_some());
        assert_eq!(secrets.current().await.first().id(), id(TWO));
        fs::write(&path, "short\n").unwrap();
        secrets.reload();
        assert_eq!(secrets.current().await.first().id(), id(TWO), "what cannot be used changes nothing");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_cannot_be_used_is_said_without_the_secret() {
        let error = Secrets::new(["short"]).unwrap_err().to_string();
        assert!(error.contains("32 bytes") && error.contains("number 1"), "{error}");
        assert!(Secrets::from_file("/nowhere/at/all").unwrap_err().to_string().contains("/nowhere/at/all"));
    }

    #[test]
    fn nothing_of_a_secret_is_shown() {
        assert_eq!(format!("{:?}", Secrets::new([ONE]).unwrap()), "Secrets { .. }");
    }
}
