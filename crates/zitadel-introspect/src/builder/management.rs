//! Calls of ZITADEL's own APIs, with the token of an administrator.

use std::{fmt, time::Duration};

use http::{
    HeaderValue, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use reqwest::{Method, Response};
use serde_json::Value;
use url::Url;

use crate::{
    builder::{network_setters, settings::Settings},
    error::{
        config::ConfigError,
        issuer::IssuerError,
        management::{ManagementError, Refusal},
    },
    issuer::{
        answer::{JSON, MAX_ERROR_BYTES, read_bounded, read_json, refused, send_error},
        name::Issuer,
    },
    token::AccessToken,
};

/// The whole of a call, to the last byte of its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Names the organization that a call of an older API is about.
const ORGANIZATION: &str = "x-zitadel-orgid";

/// Calls ZITADEL's own APIs (Connect JSON, and the older ones) with the token of an administrator. For programs that set an
/// instance up; no verifier needs it.
///
/// A call is made once: it is never repeated, so that nothing is created twice. Redirects are not followed. An answer has
/// at most 1 MiB.
///
/// ```no_run
/// use serde_json::json;
/// use zitadel_introspect::{Issuer, Management};
///
/// # async fn example(token: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let issuer = Issuer::parse("my-domain.zitadel.cloud")?;
/// let zitadel = Management::builder(issuer, token.parse()?).build()?;
/// let projects = zitadel.call("project.v2.ProjectService/ListProjects", &json!({})).await?;
/// println!("{}", projects["projects"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Management {
    issuer: Issuer,
    origin: Url,
    is_elsewhere: bool,
    client: reqwest::Client,
    authorization: HeaderValue,
    max_answer_bytes: usize,
}

/// Makes a [`Management`].
pub struct ManagementBuilder(Settings, AccessToken);

impl ManagementBuilder {
    network_setters!();

    /// Checks the settings. Asks nothing.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first setting that cannot be used.
    pub fn build(self) -> Result<Management, ConfigError> {
        let Self(settings, token) = self;
        let base = settings.base()?;
        let client = settings.connector(base.as_ref())?.client().map_err(|_| {
            let remedy = "look at the certificates of the operating system";
            ConfigError::invalid("root_certificates_pem", "the HTTP client cannot be made".to_owned(), remedy)
        })?;
        Ok(Management {
            origin: base.clone().unwrap_or_else(|| settings.issuer.url().clone()),
            is_elsewhere: base.is_some(),
            issuer: settings.issuer,
            client,
            authorization: bearer(&token),
            max_answer_bytes: settings.max_answer_bytes,
        })
    }
}

/// The header with this token.
fn bearer(token: &AccessToken) -> HeaderValue {
    let bytes = [b"Bearer ", token.as_bytes()].concat();
    let mut value = HeaderValue::from_bytes(&bytes).expect("a b64token is a valid header value");
    value.set_sensitive(true);
    value
}

impl Management {
    /// Starts with the required settings: the instance, and a personal access token of the administrator.
    #[must_use]
    pub fn builder(issuer: Issuer, token: AccessToken) -> ManagementBuilder {
        ManagementBuilder(Settings::new(issuer, None), token)
    }

    /// The same instance, asked with another token.
    #[must_use]
    pub fn with_token(&self, token: &AccessToken) -> Self {
        Self { authorization: bearer(token), ..self.clone() }
    }

    /// The instance that is asked.
    #[must_use]
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Calls a method of ZITADEL's v2 API, such as `project.v2.ProjectService/CreateProject`.
    ///
    /// # Errors
    ///
    /// [`ManagementError::Refused`] if ZITADEL refuses the call, and [`ManagementError::Issuer`] if there is no usable
    /// answer. After the latter it is not known whether the call took effect.
    pub async fn call(&self, method: &str, request: &Value) -> Result<Value, ManagementError> {
        self.send(Method::POST, &format!("/zitadel.{method}"), None, Some(request)).await
    }

    /// Calls one of ZITADEL's older APIs by POST, such as `/auth/v1/memberships/me/_search`; about this organization where
    /// one is named, otherwise about the caller's own.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub async fn post(
        &self,
        path: &str,
        organization: Option<&str>,
        request: &Value,
    ) -> Result<Value, ManagementError> {
        self.send(Method::POST, path, organization, Some(request)).await
    }

    /// Calls one of ZITADEL's older APIs by GET, such as `/auth/v1/users/me`.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub async fn get(&self, path: &str) -> Result<Value, ManagementError> {
        self.send(Method::GET, path, None, None).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        organization: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Value, ManagementError> {
        let mut url = self.origin.clone();
        url.set_path(path);
        let mut request = self.client.request(method, url).timeout(TIMEOUT);
        request = request.header(AUTHORIZATION, self.authorization.clone());
        if let Some(organization) = organization {
            request = request.header(ORGANIZATION, organization);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let response = request.send().await.map_err(send_error)?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response).await);
        }
        let text = read_json(response, JSON, self.max_answer_bytes).await?;
        let unusable = |_| IssuerError::Unusable { problem: "it is not JSON" };
        serde_json::from_str(&text).map_err(unusable).map_err(Into::into)
    }

    /// The meaning of an answer without the status 200. ZITADEL picks the instance by the host, and answers in text, not in
    /// JSON, for a host that it does not know.
    async fn refused(&self, response: Response) -> ManagementError {
        let status = response.status();
        let otherwise = refused(&response, status);
        let body = read_bounded(response, MAX_ERROR_BYTES).await.unwrap_or_default();
        if let Some(refusal) = Refusal::read(status.as_u16(), &body) {
            return ManagementError::Refused(refusal);
        }
        let text = String::from_utf8_lossy(&body);
        if status == StatusCode::NOT_FOUND && text.contains("Instance not found") {
            let host = self.issuer.authority().to_owned();
            return IssuerError::NoInstance { host, is_elsewhere: self.is_elsewhere, is_said: true }.into();
        }
        if status == StatusCode::NOT_FOUND && text.contains("page not found") {
            return ManagementError::Refused(Refusal::unknown_method());
        }
        otherwise.into()
    }
}

impl fmt::Debug for Management {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Management").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl fmt::Debug for ManagementBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ManagementBuilder").field("issuer", &self.0.issuer).finish_non_exhaustive()
    }
}
