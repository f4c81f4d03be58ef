//! Events, as ZITADEL sends them to an Actions v2 target: kept in order, and posted where a target is set.

use std::{
    net::IpAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpStream;

/// One event, in the form and spelling of ZITADEL's webhooks.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// Which user, grant, project or session changed.
    #[serde(rename = "aggregateID")]
    pub aggregate_id: String,
    /// `user`, `usergrant`, `project`, `session`, `oidc_session`.
    #[serde(rename = "aggregateType")]
    pub aggregate_type: &'static str,
    /// The organization that the aggregate belongs to; for a session the instance.
    #[serde(rename = "resourceOwner")]
    pub resource_owner: String,
    /// The instance.
    #[serde(rename = "instanceID")]
    pub instance_id: String,
    /// The aggregate's version, such as `v1`.
    pub version: &'static str,
    /// Counts the events of one aggregate.
    pub sequence: u64,
    /// Such as `user.grant.added`.
    pub event_type: &'static str,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// Who made the change, not whom it concerns.
    #[serde(rename = "userID", skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// What changed, by event type.
    #[serde(rename = "event_payload", skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// Microseconds since 1970. The events of one change share one time.
    #[serde(skip)]
    pub(crate) created: i64,
    /// When the event search begins to show the event; `None` for never.
    #[serde(skip)]
    pub(crate) visible_from: Option<Instant>,
}

/// What an event is about.
pub(crate) struct Aggregate {
    pub(crate) id: String,
    pub(crate) kind: &'static str,
    pub(crate) owner: String,
}

/// Where events are posted.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) uri: Uri,
    pub(crate) signing_key: String,
}

impl Target {
    /// `None` for an address that is not plain http on this machine: nothing leaves it.
    pub(crate) fn on_this_machine(url: &str, signing_key: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let host = uri.host().unwrap_or_default();
        let is_loopback =
            host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        let is_ours = uri.scheme_str() == Some("http") && is_loopback;
        is_ours.then(|| Self { uri, signing_key: signing_key.to_owned() })
    }
}

/// How webhooks are delivered; chosen by [`Issuer::deliver`](crate::Issuer::deliver).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Webhooks {
    /// Each is sent once, at once.
    #[default]
    Once,
    /// None is sent: ZITADEL never tries again.
    Lost,
    /// Each is sent twice, the second time as it was.
    Twice,
    /// Each is sent so much later.
    Late(Duration),
    /// Each is sent with an empty payload, as ZITADEL v4.1 does.
    Empty,
}

/// An event for a target, with how far the instance's clock is ahead, in seconds.
pub(crate) type Delivery = (Target, Event, i64, Webhooks);

/// Posts one signed event; if the target does not answer, the event is lost.
pub(crate) async fn deliver((target, mut event, clock_ahead, webhooks): Delivery) {
    match webhooks {
        Webhooks::Lost => return,
        Webhooks::Late(time) => tokio::time::sleep(time).await,
        Webhooks::Empty => event.payload = Some(serde_json::json!({})),
        Webhooks::Once | Webhooks::Twice => {}
    }
    let body = serde_json::to_string(&event).expect("an event is plain data");
    let machine = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let now = i64::try_from(machine.as_secs()).unwrap_or(i64::MAX).saturating_add(clock_ahead);
    let signature = signature(&target.signing_key, now, &body);
    let times = if webhooks == Webhooks::Twice { 2 } else { 1 };
    for _ in 0..times {
        let posting = post(&target, &signature, body.clone());
        let _ = tokio::time::timeout(Duration::from_secs(5), posting).await;
    }
}

/// `t=<unix>,v1=<hex>`: HMAC-SHA256 over `<t>.<body>`.
fn signature(key: &str, now: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let tag = hmac::sign(&key, format!("{now}.{body}").as_bytes());
    let digits = tag.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let hex: String = digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect();
    format!("t={now},v1={hex}")
}

async fn post(target: &Target, signature: &str, body: String) -> Result<(), Box<dyn std::error::Error>> {
    let authority = target.uri.authority().ok_or("a target has a host")?;
    let stream = TcpStream::connect((authority.host(), authority.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let path = target.uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(header::HOST, authority.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .header("ZITADEL-Signature", signature)
        .body(Full::new(Bytes::from(body)))?;
    let connection = tokio::spawn(connection);
    sender.send_request(request).await?;
    connection.abort();
    Ok(())
}
