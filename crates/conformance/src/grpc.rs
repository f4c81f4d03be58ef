//! The same requests and answers over gRPC, put back into the words of HTTP.
//!
//! A route is a unary method of `conformance.Conformance`; an id in a path travels as the message.

use std::net::SocketAddr;

use http::{Extensions, HeaderName, HeaderValue, uri::PathAndQuery};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

use crate::http::Answer;

/// The service of a server under test.
pub const SERVICE: &str = "conformance.Conformance";

/// The name of a route's method: `layer-any-role` for `/layer/any-role`, `organizations-own` for
/// `/organizations/{id}/own`.
#[must_use]
pub fn method(path: &str) -> String {
    let parts = path.trim_start_matches('/').split('/');
    parts.filter(|part| !is_id(part)).collect::<Vec<_>>().join("-")
}

fn is_id(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_digit())
}

pub(crate) fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

pub(crate) async fn get(channel: Channel, path: &str, headers: &[String]) -> Answer {
    let (path, query) =
        path.split_once('?').map_or((path, String::new()), |(path, query)| (path, format!("?{query}")));
    let message = path.split('/').find(|part| !part.is_empty() && is_id(part)).unwrap_or_default().to_owned();
    let name: PathAndQuery = format!("/{SERVICE}/{}{query}", method(path)).parse().unwrap();
    let metadata = MetadataMap::from_headers(headers.iter().map(|line| field(line)).collect());
    let request = Request::from_parts(metadata, Extensions::new(), message);
    match unary(channel, name, request).await {
        Ok(body) => Answer { status: 200, headers: Vec::new(), body },
        Err(status) => to_http(&status),
    }
}

async fn unary(channel: Channel, name: PathAndQuery, request: Request<String>) -> Result<String, Status> {
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let codec = ProstCodec::<String, String>::default();
    Ok(client.unary(request, name, codec).await?.into_inner())
}

fn field(line: &str) -> (HeaderName, HeaderValue) {
    let (name, value) = line.split_once(':').unwrap();
    let value = HeaderValue::from_bytes(value.trim_matches([' ', '\t']).as_bytes()).unwrap();
    (name.to_lowercase().parse().unwrap(), value)
}

/// The one place where the statuses of gRPC stand beside those of HTTP: the answer that says the same over HTTP.
fn to_http(status: &Status) -> Answer {
    let (code, prefix) = match status.code() {
        Code::Unauthenticated => (401, "unauthorized: "),
        Code::PermissionDenied => (403, "permission denied: "),
        Code::InvalidArgument => (400, "bad request: "),
        Code::Unavailable => (503, "unavailable: "),
        Code::Internal => (500, ""),
        other => panic!("{other:?} stands in no row: {status:?}"),
    };
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    let challenge = match (code, info.reason.as_str()) {
        (401, "MISSING_TOKEN" | "UNSUPPORTED_SCHEME") => Some("Bearer".to_owned()),
        (401, "MALFORMED_TOKEN" | "INVALID_TOKEN") => Some("Bearer error=\"invalid_token\"".to_owned()),
        (400, "REPEATED_HEADER") => Some("Bearer error=\"invalid_request\"".to_owned()),
        (403, "MISSING_SCOPE") => {
            Some(format!("Bearer error=\"insufficient_scope\", scope=\"{}\"", info.metadata["scope"]))
        }
        (403, "MISSING_ROLE" | "MISSING_ORGANIZATION" | "MISSING_ANY") => {
            Some("Bearer error=\"insufficient_scope\"".to_owned())
        }
        (503, "UNAVAILABLE") | (500, "INTERNAL") => None,
        other => panic!("{other:?} stands in no row: {status:?}"),
    };
    let delay = details.retry_info().and_then(|retry| retry.retry_delay);
    let delay = delay.map(|delay| ("retry-after".to_owned(), delay.as_secs().to_string()));
    let challenge = challenge.map(|challenge| ("www-authenticate".to_owned(), challenge));
    let headers = challenge.into_iter().chain(delay).collect();
    Answer { status: code, headers, body: format!("{prefix}{}\n", status.message()) }
}
