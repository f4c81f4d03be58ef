//! The conditions that an answer of the issuer must meet.

use std::{io, sync::Arc, time::Duration};

use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION, RETRY_AFTER},
};
use reqwest::Response;

use crate::error::issuer::IssuerError;

pub(crate) const JSON: &[&str] = &["application/json"];

/// The limit of the body of an error.
pub(crate) const MAX_ERROR_BYTES: usize = 16 * 1024;

/// The body of an accepted answer: status 200, JSON by its media type, whole, bounded, UTF-8.
pub(crate) async fn read_json(
    response: Response,
    media_types: &[&str],
    limit: usize,
) -> Result<String, IssuerError> {
    let status = response.status();
    if status != StatusCode::OK {
        return Err(refused(&response, status));
    }
    check_media_type(&response, media_types)?;
    let body = read_bounded(response, limit).await?;
    let text = String::from_utf8(body).map_err(|_| IssuerError::Unusable { problem: "it is not UTF-8" })?;
    // serde structs also deserialize from arrays.
    if text.trim_ascii_start().starts_with('{') {
        Ok(text)
    } else {
        Err(IssuerError::Unusable { problem: "it is not a JSON object" })
    }
}

pub(crate) async fn read_bounded(mut response: Response, limit: usize) -> Result<Vec<u8>, IssuerError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| broken())? {
        if body.len() + chunk.len() > limit {
            return Err(IssuerError::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn broken() -> IssuerError {
    IssuerError::Unusable { problem: "it is cut off: the connection closed early" }
}

/// The error if there is no answer: distinguishes a failed or broken connection from other problems.
pub(crate) fn send_error(error: reqwest::Error) -> IssuerError {
    if is_connection_error(&error) {
        // Without the address: other log lines contain it already.
        return IssuerError::Unreachable(Arc::new(error.without_url()));
    }
    if error.is_timeout() {
        return IssuerError::TimedOut;
    }
    IssuerError::Unusable { problem: "it is not HTTP" }
}

fn is_connection_error(error: &reqwest::Error) -> bool {
    use std::error::Error;
    let mut causes = std::iter::successors(error.source(), |cause| (*cause).source());
    let is_broken = |cause: &(dyn Error + 'static)| {
        cause.is::<io::Error>()
            || cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
    };
    error.is_connect() || causes.any(is_broken)
}

/// The meaning of an answer without the status 200.
pub(crate) fn refused(response: &Response, status: StatusCode) -> IssuerError {
    let retry_after = retry_after(response);
    match status {
        StatusCode::TOO_MANY_REQUESTS => IssuerError::Throttled { retry_after },
        _ if status.is_redirection() => redirected(response, status),
        _ if status.is_client_error() && is_html(response) => IssuerError::Unusable { problem: HTML },
        _ => IssuerError::Status { status: status.as_u16(), retry_after },
    }
}

/// Where a redirect leads, as far as a log may say it: without a query, which may hold secrets.
fn redirected(response: &Response, status: StatusCode) -> IssuerError {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let location = location.split(['?', '#']).next().unwrap_or_default();
    let to = location.chars().take(200).collect();
    IssuerError::Redirected { status: status.as_u16(), to }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

const HTML: &str = "it is HTML: a web page, or the login page of a proxy, answers under this address";

/// Whether the answer is a web page, and so not the issuer's own answer.
pub(crate) fn is_html(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE);
    content_type.is_some_and(|value| essence(value).eq_ignore_ascii_case("text/html"))
}

fn essence(content_type: &HeaderValue) -> &str {
    content_type.to_str().ok().and_then(|value| value.split(';').next()).unwrap_or_default().trim()
}

fn check_media_type(response: &Response, media_types: &[&str]) -> Result<(), IssuerError> {
    let unusable = |problem| Err(IssuerError::Unusable { problem });
    let headers = response.headers();
    if headers.contains_key(CONTENT_ENCODING) {
        return unusable("it has a Content-Encoding, which was not asked for");
    }
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return unusable("it has no Content-Type, or more than one");
    };
    let essence = essence(value);
    if media_types.iter().any(|media_type| essence.eq_ignore_ascii_case(media_type)) {
        return Ok(());
    }
    if is_html(response) {
        return unusable(HTML);
    }
    unusable("its Content-Type is not JSON")
}
