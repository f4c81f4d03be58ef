//! The API describes itself to clients that look for its authorization server (RFC 9728).

use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use serde_json::json;
use url::Url;

use crate::{echo, error::config::ConfigError, issuer::name::is_loopback};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The protected resource metadata of an API ([RFC 9728 section 2]), for an adapter's ready-made route.
///
/// [RFC 9728 section 2]: https://www.rfc-editor.org/rfc/rfc9728#section-2
#[derive(Debug, Clone)]
pub struct ResourceMetadata {
    path: String,
    document: Option<String>,
}

/// The user's description of the API.
#[derive(Debug)]
pub(crate) struct ProtectedResource {
    resource: String,
    origin: String,
    path: String,
    scopes: Vec<String>,
}

impl ProtectedResource {
    pub(crate) fn parse(resource: String, scopes: Vec<String>) -> Result<Self, ConfigError> {
        let invalid = |problem: &str| {
            let problem = format!("{} {problem}", echo::value(&resource));
            ConfigError::invalid(
                "resource",
                problem,
                "give the API's public address, such as `https://api.example.com`",
            )
        };
        let url = Url::parse(&resource).map_err(|_| invalid("is not an absolute address"))?;
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
        if !is_safe || url.fragment().is_some() || url.query().is_some() {
            return Err(invalid("is not https, or has a query or a fragment"));
        }
        let printable = |byte: u8| matches!(byte, b'!'..=b'~') && byte != b'"' && byte != b'\\';
        let is_pattern = |c: char| matches!(c, ':' | '*');
        let has_user = !url.username().is_empty() || url.password().is_some();
        if !resource.bytes().all(printable) || has_user || url.path().contains(is_pattern) {
            return Err(invalid("has characters or user information that do not belong there"));
        }
        let origin = url.origin().ascii_serialization();
        Ok(Self { origin, path: url.path().trim_end_matches('/').to_owned(), resource, scopes })
    }

    /// The address of the description: the well-known path stands between host and path (RFC 9728 section 3.1).
    pub(crate) fn address(&self) -> String {
        format!("{}{WELL_KNOWN}{}", self.origin, self.path)
    }
}

impl ResourceMetadata {
    pub(crate) fn new(resource: Option<&ProtectedResource>, issuer: &str) -> Self {
        let Some(resource) = resource else {
            tracing::error!("no protected resource is configured: call `VerifierBuilder::resource`");
            return Self { path: WELL_KNOWN.to_owned(), document: None };
        };
        let document = json!({
            "resource": resource.resource,
            "authorization_servers": [issuer],
            "scopes_supported": resource.scopes,
            "bearer_methods_supported": ["header"],
        });
        Self { path: format!("{WELL_KNOWN}{}", resource.path), document: Some(document.to_string()) }
    }

    /// The path of the route, such as `/.well-known/oauth-protected-resource`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The whole answer; 404 where no resource is configured.
    #[must_use]
    pub fn to_response(&self) -> Response<String> {
        let (status, content_type, body) = match &self.document {
            Some(document) => (StatusCode::OK, "application/json", document.clone()),
            None => (StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "not found\n".to_owned()),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_well_known_path_stands_before_the_resources_own() {
        for (resource, address, path) in [
            ("https://api.example.com", "https://api.example.com/.well-known/oauth-protected-resource", ""),
            ("https://api.example.com/", "https://api.example.com/.well-known/oauth-protected-resource", ""),
            (
                "https://a.example/v1/mcp",
                "https://a.example/.well-known/oauth-protected-resource/v1/mcp",
                "/v1/mcp",
            ),
            ("http://localhost:8089", "http://localhost:8089/.well-known/oauth-protected-resource", ""),
        ] {
            let parsed = ProtectedResource::parse(resource.to_owned(), Vec::new()).unwrap();
            assert_eq!(parsed.address(), address);
            let metadata = ResourceMetadata::new(Some(&parsed), "https://issuer.example");
            assert_eq!(metadata.path(), format!("{WELL_KNOWN}{path}"));
            assert!(metadata.to_response().body().contains(&format!("\"resource\":\"{resource}\"")));
        }
    }

    #[test]
    fn an_address_that_cannot_stand_in_a_challenge_is_refused() {
        for resource in [
            "api.example.com",
            "http://api.example.com",
            "https://a.example/\"",
            "https://a.example#x",
            "https://a.example?x",
            "https://u@a.example",
            "https://:pw@a.example",
            "https://a.example/:x",
            "https://a.example/*x",
        ] {
            let error = ProtectedResource::parse(resource.to_owned(), Vec::new()).unwrap_err();
            assert!(error.to_string().starts_with("resource: "), "{error}");
        }
    }
}
