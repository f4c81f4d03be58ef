//! The store itself.

use std::{fmt, time::Duration};

use redis::{InfoDict, Value, cmd};
use zitadel_introspect::store::{
    Bid, Id, LEAST_KEPT, LogEntry, LogId, MOST_ENTRIES, Page, Place, SharedStore, StoreError, StoreFuture,
};

use crate::{connection::Connection, scripts::Scripts};

/// A store on Valkey or Redis, from [`Valkey::builder`].
pub struct Valkey {
    pub(crate) connection: Connection,
    pub(crate) scripts: Scripts,
    /// Without the password.
    pub(crate) shown: String,
}

/// What the read script answers: epoch, end, tail, heartbeat, seconds, microseconds, entries.
type ReadAnswer = (Vec<u8>, u64, Vec<u8>, Option<Vec<u8>>, u64, u32, Vec<(String, Vec<Vec<u8>>)>);

struct Keys {
    log: String,
    meta: String,
    lease: String,
}

impl Keys {
    /// One hash tag, so that all of them lie on one node of a cluster.
    fn of(log: LogId) -> Self {
        let key = |name: &str| format!("{{zi:{log}}}:{name}");
        Self { log: key("log"), meta: key("meta"), lease: key("lease") }
    }
}

fn verdict_key(log: LogId, name: &[u8; 32]) -> Vec<u8> {
    [format!("{{zi:{log}}}:v:").as_bytes(), name].concat()
}

fn broken() -> StoreError {
    StoreError::new("the store holds something else than a log")
}

fn id(bytes: &[u8]) -> Result<Id, StoreError> {
    bytes.try_into().map_err(|_| broken())
}

fn entry((number, fields): (String, Vec<Vec<u8>>)) -> Result<LogEntry, StoreError> {
    let number = number.split_once('-').and_then(|(number, _)| number.parse().ok()).ok_or_else(broken)?;
    let [p, before, i, own, e, sealed] = <[Vec<u8>; 6]>::try_from(fields).map_err(|_| broken())?;
    if (p.as_slice(), i.as_slice(), e.as_slice()) != (b"p", b"i", b"e") {
        return Err(broken());
    }
    Ok(LogEntry { number, before: id(&before)?, id: id(&own)?, sealed })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

impl Valkey {
    async fn lease(&self, log: LogId, who: Id, millis: u64) -> Result<Option<Duration>, StoreError> {
        let keys = Keys::of(log);
        let mut call = self.scripts.lead.key(keys.lease);
        call.arg(&who[..]).arg(millis);
        let time: Option<(u64, u32)> = self
            .connection
            .with(|mut connection| async move { call.invoke_async(&mut connection).await })
            .await?;
        Ok(time.map(|(seconds, micros)| Duration::new(seconds, micros.saturating_mul(1000))))
    }
}

impl SharedStore for Valkey {
    fn append<'a>(&'a self, log: LogId, fresh: Id, own: Id, sealed: &'a [u8]) -> StoreFuture<'a, Place> {
        Box::pin(async move {
            let keys = Keys::of(log);
            let mut call = self.scripts.append.key(keys.log);
            call.key(keys.meta).arg(&fresh[..]).arg(&own[..]).arg(sealed).arg(LEAST_KEPT);
            let (epoch, number): (Vec<u8>, u64) = self
                .connection
                .with(|mut connection| async move { call.invoke_async(&mut connection).await })
                .await?;
            Ok(Place { epoch: id(&epoch)?, number })
        })
    }

    fn read(&self, log: LogId, fresh: Id, behind: Place) -> StoreFuture<'_, Page> {
        Box::pin(async move {
            let keys = Keys::of(log);
            let mut call = self.scripts.read.key(keys.log);
            call.key(keys.meta).arg(&fresh[..]).arg(&behind.epoch[..]).arg(behind.number).arg(MOST_ENTRIES);
            let (epoch, number, tail, heartbeat, seconds, micros, entries): ReadAnswer = self
                .connection
                .with(|mut connection| async move { call.invoke_async(&mut connection).await })
                .await?;
            Ok(Page {
                end: Place { epoch: id(&epoch)?, number },
                tail: id(&tail)?,
                heartbeat,
                entries: entries.into_iter().map(entry).collect::<Result<_, _>>()?,
                time: Duration::new(seconds, micros.saturating_mul(1000)),
            })
        })
    }

    fn begin_anew(&self, log: LogId, old: Id, fresh: Id) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let keys = Keys::of(log);
            let mut call = self.scripts.begin_anew.key(keys.log);
            call.key(keys.meta).arg(&old[..]).arg(&fresh[..]);
            self.connection
                .with(|mut connection| async move { call.invoke_async::<u8>(&mut connection).await })
                .await?;
            Ok(())
        })
    }

    fn lead(&self, log: LogId, bid: Bid) -> StoreFuture<'_, Option<Duration>> {
        Box::pin(self.lease(log, bid.who, millis(bid.lasts)))
    }

    fn resign(&self, log: LogId, who: Id) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.lease(log, who, 0).await.map(|_| ()) })
    }

    fn put_heartbeat<'a>(
        &'a self,
        log: LogId,
        who: Id,
        place: Place,
        tail: Id,
        sealed: &'a [u8],
    ) -> StoreFuture<'a, bool> {
        Box::pin(async move {
            let keys = Keys::of(log);
            let mut call = self.scripts.heartbeat.key(keys.lease);
            call.key(keys.log).key(keys.meta).arg(&who[..]).arg(&place.epoch[..]);
            call.arg(place.number).arg(&tail[..]).arg(sealed);
            self.connection
                .with(|mut connection| async move { call.invoke_async(&mut connection).await })
                .await
        })
    }

    fn take<'a>(&'a self, log: LogId, name: &'a [u8; 32]) -> StoreFuture<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            let mut get = cmd("GET");
            get.arg(verdict_key(log, name));
            self.connection.with(|mut connection| async move { get.query_async(&mut connection).await }).await
        })
    }

    fn put<'a>(
        &'a self,
        log: LogId,
        name: &'a [u8; 32],
        sealed: &'a [u8],
        lifetime: Duration,
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let mut set = cmd("SET");
            set.arg(verdict_key(log, name)).arg(sealed).arg("PX").arg(millis(lifetime));
            self.connection
                .with(|mut connection| async move { set.query_async::<()>(&mut connection).await })
                .await
        })
    }

    fn advise(&self) -> StoreFuture<'_, Vec<String>> {
        Box::pin(async move {
            let info: Value = self
                .connection
                .with(|mut connection| async move { cmd("INFO").query_async(&mut connection).await })
                .await?;
            let info: InfoDict = redis::from_redis_value(info).map_err(|_| broken())?;
            Ok(advice(&info))
        })
    }
}

fn advice(info: &InfoDict) -> Vec<String> {
    let mut advice = Vec::new();
    let text = |name: &str| info.get::<String>(name);
    let version = text("redis_version").unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
    if (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default()) < (6, 2) {
        advice.push(format!("its version {version} is too old: 6.2 is needed"));
    }
    if let Some(policy) = text("maxmemory_policy").filter(|policy| policy != "noeviction") {
        advice.push(format!(
            "its maxmemory-policy is {policy}: it may drop the log, and all verdicts lapse then; choose noeviction, or a \
            database of its own"
        ));
    }
    if text("aof_enabled").is_some_and(|enabled| enabled == "0") {
        advice.push(
            "it keeps no append-only file: after its restart every verdict is asked for anew; set appendonly to yes"
                .to_owned(),
        );
    }
    advice
}

impl fmt::Debug for Valkey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Valkey").field("url", &self.shown).finish_non_exhaustive()
    }
}
