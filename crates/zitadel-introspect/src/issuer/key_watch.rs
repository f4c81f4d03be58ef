//! Loads a new key file while the verifier runs: the old key stays in use until the issuer has accepted the new key.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    error::causes::causes,
    error::config::ConfigError,
    error::issuer::IssuerError,
    issuer::client_auth::{Credentials, Key, KeyFile, Owner},
    issuer::introspection::Introspection,
};

/// How often the file is checked.
const INTERVAL: Duration = Duration::from_secs(2);
/// A key that the issuer did not accept is tried again: first after `INTERVAL`, then after longer delays, up to this
/// delay.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Why a new key was not taken up. The previous key stays in use.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The key did not come from a file.
    #[error("there is no key file to read again; restart with the new credentials")]
    NoFile,
    /// The file holds no usable key.
    #[error("the new key file cannot be used, and the previous key stays in use")]
    File(#[source] ConfigError),
    /// The file holds the key of another API application, which has another project and other roles.
    #[error("the new key file belongs to another client; restart to use that client")]
    OtherClient,
    /// The issuer did not accept the new key, or could not be asked.
    #[error("the new key was not accepted, and the previous key stays in use")]
    Issuer(#[source] IssuerError),
}

/// The `Display` text with its causes: `main` prints this when it returns the error.
impl fmt::Debug for ReloadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&causes(self))
    }
}

/// Watches the file of one client's key.
#[derive(Clone)]
pub(crate) struct KeyWatch {
    client_id: String,
    is_single_use: bool,
    /// The file as it was when its key was taken up or refused for good.
    seen: Arc<Mutex<KeyFile>>,
}

impl KeyWatch {
    pub(crate) fn new(file: KeyFile, client_id: &str, is_single_use: bool) -> Self {
        Self { client_id: client_id.to_owned(), is_single_use, seen: Arc::new(Mutex::new(file)) }
    }

    /// Checks the file as long as the verifier exists.
    pub(crate) async fn run(self, asking: Weak<Introspection>) {
        let mut refused = None;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let Some(asking) = asking.upgrade() else { return };
            let Some(changed) = self.changed().await else {
                refused = None;
                continue;
            };
            let before = refused.take().filter(|refused: &RefusedFile| refused.file == changed);
            if let Some(before) = before.as_ref().filter(|before| Instant::now() < before.try_at) {
                refused = Some(before.clone());
                continue;
            }
            match self.take_up(&asking).await {
                Ok(()) => {}
                // Perhaps the issuer is away, or does not know the key yet.
                Err(error @ ReloadError::Issuer(_)) => {
                    refused = Some(RefusedFile::new(changed, before, &error));
                }
                Err(error) => {
                    tracing::error!(error = %causes(&error), "A NEW KEY FILE WAS NOT TAKEN UP");
                    self.remember(changed);
                }
            }
        }
    }

    /// Reads the file, and uses its key if the issuer accepts the key.
    pub(crate) async fn take_up(&self, asking: &Introspection) -> Result<(), ReloadError> {
        let path = self.seen.lock().unwrap_or_else(PoisonError::into_inner).path.clone();
        let read = tokio::task::spawn_blocking(move || KeyFile::open(&path, Owner::Application));
        let (key, file) =
            read.await.map_err(|_| ReloadError::Issuer(IssuerError::Lost))?.map_err(ReloadError::File)?;
        if key.client_id != self.client_id {
            return Err(ReloadError::OtherClient);
        }
        self.use_key(key, asking).await.map_err(ReloadError::Issuer)?;
        if let Some(file) = file {
            file.warn_if_others_can_read();
            self.remember(file);
        }
        Ok(())
    }

    async fn use_key(&self, key: Key, asking: &Introspection) -> Result<(), IssuerError> {
        let key_id = key.id.clone();
        let credentials = Credentials::of_key(key, self.is_single_use);
        asking.try_credentials(&credentials).await?;
        asking.set_credentials(credentials);
        tracing::info!(key_id = ?key_id, "a new key file was taken up: the issuer accepts its key");
        Ok(())
    }

    async fn changed(&self) -> Option<KeyFile> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tokio::task::spawn_blocking(move || seen.changed()).await.ok().flatten()
    }

    fn remember(&self, file: KeyFile) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }
}

/// A file whose key the issuer did not accept, and when it is tried again.
#[derive(Clone)]
struct RefusedFile {
    file: KeyFile,
    delay: Duration,
    try_at: Instant,
}

impl RefusedFile {
    /// `before` is the previous refusal of the same file: only the first refusal is logged as an error.
    fn new(file: KeyFile, before: Option<Self>, error: &ReloadError) -> Self {
        if before.is_some() {
            tracing::debug!(error = %causes(error), "the new key file is still not accepted, and is tried again");
        } else {
            tracing::error!(error = %causes(error), "A NEW KEY FILE WAS NOT TAKEN UP, and is tried again");
        }
        let delay = before.map_or(INTERVAL, |before| (before.delay * 2).min(LONGEST_DELAY));
        Self { file, delay, try_at: Instant::now() + delay }
    }
}
