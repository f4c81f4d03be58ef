//! The one connection, made when it is needed.

use std::{
    process,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{AsyncConnectionConfig, Client, RedisError, aio::MultiplexedConnection};
use zitadel_introspect::store::StoreError;

/// Shorter than the time in which the core gives an operation up: a connection that has fallen silent is given up too.
const TIMEOUT: Duration = Duration::from_millis(250);
/// Answers of a server that is not the one to ask any more: another connection may lead to the right one.
const NOT_HERE: [&str; 4] = ["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN"];

pub(crate) struct Connection {
    client: Client,
    /// With the process that made it: a child of `fork` must not use its parent's. Held for no longer than a clone takes.
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
        if outcome.as_ref().is_err_and(is_of_the_connection) {
            *self.made() = None;
        }
        outcome.map_err(|error| told(&error))
    }

    async fn get(&self) -> Result<MultiplexedConnection, RedisError> {
        let own = process::id();
        let made = self.made().as_ref().filter(|(process, _)| *process == own).cloned();
        if let Some((_, connection)) = made {
            return Ok(connection);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        *self.made() = Some((own, connection.clone()));
        Ok(connection)
    }

    fn made(&self) -> MutexGuard<'_, Option<(u32, MultiplexedConnection)>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_of_the_connection(error: &RedisError) -> bool {
    let is_not_here = error.code().is_some_and(|code| NOT_HERE.contains(&code));
    error.is_io_error() || error.is_unrecoverable_error() || is_not_here
}

/// The text of an error: those of the crate show neither passwords nor what was sent.
fn told(error: &RedisError) -> StoreError {
    StoreError::new(error.to_string())
}
