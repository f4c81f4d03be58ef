//! The one connection, made when it is needed.

use std::{process, time::Duration};

use redis::{AsyncConnectionConfig, Client, RedisError, aio::MultiplexedConnection};
use tokio::sync::Mutex;
use zitadel_introspect::store::StoreError;

/// Shorter than the time in which the core gives an operation up: a connection that has fallen silent is given up too.
const TIMEOUT: Duration = Duration::from_millis(250);

pub(crate) struct Connection {
    client: Client,
    /// With the process that made it: a child of `fork` must not use its parent's.
    made: Mutex<Option<(u32, MultiplexedConnection)>>,
}

impl Connection {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, made: Mutex::default() }
    }

    /// Does something on the connection. After a failure that may be the connection's, the next operation makes a new one.
    pub(crate) async fn with<T, F>(
        &self,
        operation: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let connection = self.get().await.map_err(|error| told(&error))?;
        let outcome = operation(connection).await;
        if outcome.as_ref().is_err_and(|error| error.is_io_error() || error.is_unrecoverable_error()) {
            *self.made.lock().await = None;
        }
        outcome.map_err(|error| told(&error))
    }

    async fn get(&self) -> Result<MultiplexedConnection, RedisError> {
        let mut made = self.made.lock().await;
        if let Some((process, connection)) = &*made
            && *process == process::id()
        {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        *made = Some((process::id(), connection.clone()));
        Ok(connection)
    }
}

/// The text of an error: those of the crate show neither passwords nor what was sent.
fn told(error: &RedisError) -> StoreError {
    StoreError::new(error.to_string())
}
