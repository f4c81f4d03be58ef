//! ZITADEL's event search over HTTP.

use std::{sync::Arc, time::Duration};

use http::{
    StatusCode,
    header::{AGE, CACHE_CONTROL, CONTENT_TYPE},
};
use reqwest::Response;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

use crate::{
    error::{feed::FeedError, issuer::IssuerError},
    events::{
        event::{Event, Micros, read_answer, text},
        table::AGGREGATES,
    },
    feed::{credentials::Tokens, reader::Query},
    issuer::{
        answer::{JSON, MAX_ERROR_BYTES, read_bounded, send_error},
        http::HttpClient,
    },
    random,
};

const PATH: &str = "/admin/v1/events/_search";
const TYPES_PATH: &str = "/admin/v1/events/types/_search";
/// The time for one search.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);
/// The largest answer.
pub(crate) const MOST_BYTES: usize = 8 * 1024 * 1024;
/// ZITADEL's error for a user without any role in an instance, which it sends as 404.
const NO_MEMBERSHIP: &str = "AUTHZ-cdgFk";

/// Which events are asked for.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) types: Vec<String>,
    pub(crate) aggregates: &'static [&'static str],
}

impl Filter {
    pub(crate) fn new<'a>(types: impl IntoIterator<Item = &'a str>) -> Self {
        Self { types: types.into_iter().map(str::to_owned).collect(), aggregates: &AGGREGATES }
    }
}

pub(crate) struct Search {
    http: Arc<HttpClient>,
    tokens: Tokens,
    url: Url,
}

impl Search {
    pub(crate) fn new(http: Arc<HttpClient>, tokens: Tokens) -> Self {
        let url = http.at(PATH);
        Self { http, tokens, url }
    }

    /// One page of a stretch of events; `is_first`: the first one of a round.
    pub(crate) async fn page(
        &mut self,
        filter: &Filter,
        query: &Query,
        is_first: bool,
    ) -> Result<Vec<(Micros, Event)>, FeedError> {
        let mut body = json!({
            "asc": query.since.is_some(),
            "limit": query.limit,
            "eventTypes": filter.types,
            "aggregateTypes": filter.aggregates,
        });
        if let Some(since) = query.since {
            // Another text each time: no cache on the way may answer. Later pages follow the one before exactly.
            let spread = if is_first { i64::try_from(random::u64() % 1000).unwrap_or_default() } else { 0 };
            let varied = since.before(spread);
            body["range"] = json!({"since": varied.to_text()});
            if let Some(until) = query.until {
                body["range"]["until"] = until.to_text().into();
            }
        }
        self.ask(&body).await
    }

    /// The events of one aggregate, the newest first.
    pub(crate) async fn of_aggregate(
        &mut self,
        aggregate: &str,
        id: &str,
        types: &[&str],
    ) -> Result<Vec<(Micros, Event)>, FeedError> {
        let body =
            json!({"limit": 20, "aggregateTypes": [aggregate], "aggregateId": id, "eventTypes": types});
        self.ask(&body).await
    }

    /// The time of the oldest event that is still shown.
    pub(crate) async fn oldest(&mut self, filter: &Filter) -> Result<Option<Micros>, FeedError> {
        let body = json!({
            "asc": true,
            "limit": 1,
            "eventTypes": filter.types,
            "aggregateTypes": filter.aggregates,
        });
        Ok(self.ask(&body).await?.first().map(|(created, _)| *created))
    }

    /// All event types that the issuer knows.
    pub(crate) async fn event_types(&mut self) -> Result<Vec<String>, FeedError> {
        #[derive(serde::Deserialize)]
        struct Known {
            #[serde(rename = "eventTypes")]
            types: Vec<Value>,
        }

        let url = self.http.at(TYPES_PATH);
        let answer = self.answer(&url, "{}").await?;
        let known: Known = serde_json::from_str(&answer).map_err(|_| {
            FeedError::Issuer(IssuerError::Unusable { problem: "it is no list of event types" })
        })?;
        Ok(known.types.iter().filter_map(|known| text(known.get("type"))).collect())
    }

    /// The newest events of one type.
    pub(crate) async fn newest(
        &mut self,
        aggregate: &str,
        kind: &str,
    ) -> Result<Vec<(Micros, Event)>, FeedError> {
        let body = json!({"limit": 1000, "aggregateTypes": [aggregate], "eventTypes": [kind]});
        self.ask(&body).await
    }

    async fn ask(&mut self, body: &Value) -> Result<Vec<(Micros, Event)>, FeedError> {
        let url = self.url.clone();
        let answer = self.answer(&url, &body.to_string()).await?;
        let unusable = IssuerError::Unusable { problem: "it is no list of events with their times" };
        read_answer(&answer).ok_or(FeedError::Issuer(unusable))
    }

    async fn answer(&mut self, url: &Url, body: &str) -> Result<String, FeedError> {
        let asking = async {
            let token = self.tokens.get().await?;
            self.exchange(url, body, &token).await
        };
        let answer = tokio::time::timeout(TIMEOUT, asking).await;
        let answer = answer.unwrap_or(Err(FeedError::Issuer(IssuerError::TimedOut)));
        if matches!(answer, Err(FeedError::Unauthorized | FeedError::Forbidden)) {
            self.tokens.forget();
        }
        answer
    }

    async fn exchange(&self, url: &Url, body: &str, token: &SecretString) -> Result<String, FeedError> {
        let attempt = |client: reqwest::Client| {
            let request = client
                .post(url.clone())
                .bearer_auth(token.expose_secret())
                .header(CONTENT_TYPE, "application/json")
                .header(CACHE_CONTROL, "no-store")
                .body(body.to_owned());
            async move { request.send().await.map_err(send_error) }
        };
        let response = self.http.exchange(|_| false, attempt).await.map_err(FeedError::Issuer)?;
        match response.status() {
            StatusCode::UNAUTHORIZED => return Err(FeedError::Unauthorized),
            StatusCode::FORBIDDEN => return Err(FeedError::Forbidden),
            StatusCode::NOT_FOUND => return Err(not_found(response).await),
            _ => {}
        }
        if response.headers().contains_key(AGE) {
            let problem = "it comes from a cache (`Age`)";
            return Err(FeedError::Issuer(IssuerError::Unusable { problem }));
        }
        self.http.read_json(response, JSON).await.map_err(FeedError::Issuer)
    }
}

/// ZITADEL answers 404 for a user without rights, and in text for every path while its database is away.
async fn not_found(response: Response) -> FeedError {
    let body = read_bounded(response, MAX_ERROR_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&body);
    if text.contains(NO_MEMBERSHIP) {
        FeedError::Forbidden
    } else if text.contains("unable to set instance") {
        let status = StatusCode::NOT_FOUND.as_u16();
        FeedError::Issuer(IssuerError::Status { status, retry_after: None })
    } else {
        FeedError::NoSearch
    }
}
