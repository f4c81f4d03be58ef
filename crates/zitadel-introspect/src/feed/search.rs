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
    events::event::{Event, Micros, read_answer},
    feed::{credentials::Tokens, reader::Query},
    issuer::{
        answer::{JSON, MAX_ERROR_BYTES, read_bounded, send_error},
        http::HttpClient,
    },
    random,
};

const PATH: &str = "/admin/v1/events/_search";
/// The time for one search.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);
/// The largest answer.
pub(crate) const MOST_BYTES: usize = 8 * 1024 * 1024;
/// ZITADEL's error for a user without any role in an instance, which it sends as 404.
const NO_MEMBERSHIP: &str = "AUTHZ-cdgFk";

/// Which events are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filter {
    pub(crate) types: &'static [&'static str],
    pub(crate) aggregates: &'static [&'static str],
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

    /// One page of a stretch of events.
    pub(crate) async fn page(
        &mut self,
        filter: Filter,
        query: &Query,
    ) -> Result<Vec<(Micros, Event)>, FeedError> {
        let mut body = json!({
            "asc": query.since.is_some(),
            "limit": query.limit,
            "eventTypes": filter.types,
            "aggregateTypes": filter.aggregates,
        });
        if let Some(since) = query.since {
            // Another text each time: no cache on the way may answer.
            let varied = since.before(i64::try_from(random::u64() % 1000).unwrap_or_default());
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
        let body = body.to_string();
        let asking = async {
            let token = self.tokens.get().await?;
            self.exchange(&body, &token).await
        };
        let answer = tokio::time::timeout(TIMEOUT, asking).await;
        let answer = answer.unwrap_or(Err(FeedError::Issuer(IssuerError::TimedOut)));
        if matches!(answer, Err(FeedError::Unauthorized | FeedError::Forbidden)) {
            self.tokens.forget();
        }
        let unusable = IssuerError::Unusable { problem: "it is no list of events with their times" };
        read_answer(&answer?).ok_or(FeedError::Issuer(unusable))
    }

    async fn exchange(&self, body: &str, token: &SecretString) -> Result<String, FeedError> {
        let attempt = |client: reqwest::Client| {
            let request = client
                .post(self.url.clone())
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
