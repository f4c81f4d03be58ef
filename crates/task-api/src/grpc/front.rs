//! The checks before all methods: the shape of a call, its deadline, and the texts of refusals.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    middleware::Next,
    response::Response,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::time::{Sleep, sleep, timeout};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{INTERNAL, MAX_CALL_BYTES};
use crate::{
    answer::respond,
    methods::SERVICE,
    serve::{Calls, MAX_HEAD_FIELDS},
    tasks::{self, BODY_TIMEOUT},
};

/// The deadline of a whole call; a client may ask for a shorter deadline.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_mins(1);
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Lets only gRPC calls through, and turns refusals into gRPC statuses.
pub(super) async fn receive(request: Request, next: Next) -> Response {
    if let Some(refused) = no_call(&request) {
        return refused;
    }
    let call = request.extensions().get::<Calls>().map(Calls::begin);
    if is_announced_too_long(request.headers()) {
        return Status::resource_exhausted("message too large").into_http();
    }
    let is_ours = request.uri().path().trim_start_matches('/').starts_with(SERVICE);
    let time = deadline(request.headers()).map_or(CALL_TIMEOUT, |asked| asked.min(CALL_TIMEOUT));
    let is_stream = !is_ours || request.uri().path().ends_with("/AddTasks");
    let body_time = if is_stream { CALL_TIMEOUT } else { BODY_TIMEOUT };
    let request = request.map(|body| Body::new(Whole { inner: body, late: Box::pin(sleep(body_time)) }));
    let response = match timeout(time, next.run(request)).await {
        Ok(response) => in_words_of_grpc(response, is_ours),
        Err(_) => Status::deadline_exceeded("deadline exceeded").into_http(),
    };
    // The call is in flight until the end of its response body.
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &call;
            frame
        }))
    })
}

/// The refusal of a request that is not a gRPC call: a method other than POST, too many fields, or another media type.
fn no_call(request: &Request) -> Option<Response> {
    if request.method() != Method::POST {
        let mut refused = respond(tasks::refusal(StatusCode::METHOD_NOT_ALLOWED));
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Some(refused);
    }
    if request.headers().len() > MAX_HEAD_FIELDS {
        return Some(respond(tasks::refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)));
    }
    let media_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let rest = media_type.strip_prefix(b"application/grpc".as_slice());
    let is_grpc = rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')));
    (!is_grpc).then(|| respond(tasks::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE)))
}

/// Whether `Content-Length` exceeds the limit of a call, so that the body need not be read first. The limit is the size
/// of the largest stream; a single message is smaller.
fn is_announced_too_long(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.is_some_and(|length| length.parse().is_ok_and(|length: usize| length > MAX_CALL_BYTES))
}

/// `grpc-timeout`: at most eight digits and a unit.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| (1..=8).contains(&digits.len()))?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Converts HTTP refusals by the limits, and errors that tonic itself made, to gRPC statuses with fixed texts.
fn in_words_of_grpc(response: Response, is_ours: bool) -> Response {
    let headers = response.headers();
    if headers
        .get(CONTENT_TYPE)
        .is_none_or(|media_type| !media_type.as_bytes().starts_with(b"application/grpc"))
    {
        return match response.status() {
            StatusCode::TOO_MANY_REQUESTS => come_back(Code::ResourceExhausted, "too many requests"),
            StatusCode::SERVICE_UNAVAILABLE => come_back(Code::Unavailable, "too many requests at once"),
            _ => response,
        };
    }
    let code = headers.get(GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()));
    let message = headers.get(GRPC_MESSAGE).map(HeaderValue::as_bytes);
    let is_our_bug = message == Some(b"internal%20server%20error".as_slice());
    let status = match code {
        Some(Code::Internal) if is_ours && !is_our_bug => Status::invalid_argument("malformed message"),
        Some(Code::OutOfRange) => Status::resource_exhausted("message too large"),
        Some(Code::Unimplemented) => Status::unimplemented("unimplemented"),
        Some(Code::Unknown) => Status::internal(INTERNAL),
        _ => return response,
    };
    status.into_http()
}

fn come_back(code: Code, message: &str) -> Response {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
    Status::with_error_details(code, message, details).into_http()
}

/// The body of a call. hyper and tonic treat a body that was cut off as a complete body; this type returns an error.
struct Whole {
    inner: Body,
    late: Pin<Box<Sleep>>,
}

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.late.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Status::deadline_exceeded("the request took too long").into())));
        }
        let cut = || Err(Status::aborted("the request was cut").into());
        Poll::Ready(match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => Some(Ok(frame)),
            None if self.inner.is_end_stream() => None,
            // tonic would also treat the error of a cancelled stream as a normal end.
            None | Some(Err(_)) => Some(cut()),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt, stream};
    use http_body_util::{BodyStream, StreamBody};

    use super::*;

    /// The outcome of a body with these frames, which has ended or was cut.
    fn read(frames: Vec<Result<Bytes, Status>>, has_ended: bool) -> Vec<Result<Bytes, Code>> {
        struct Inner<B>(B, bool);
        impl<B: http_body::Body + Unpin> http_body::Body for Inner<B> {
            type Data = B::Data;
            type Error = B::Error;
            fn poll_frame(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
                Pin::new(&mut self.0).poll_frame(cx)
            }
            fn is_end_stream(&self) -> bool {
                self.1
            }
        }
        let frames = stream::iter(frames).map(|frame| frame.map(Frame::data));
        let inner = Body::new(Inner(StreamBody::new(frames), has_ended));
        let whole = Whole { inner, late: Box::pin(sleep(BODY_TIMEOUT)) };
        let code = |error: Box<dyn std::error::Error + Send + Sync>| {
            error.downcast::<Status>().expect("a status of ours").code()
        };
        let frames = BodyStream::new(whole)
            .map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default()).map_err(code));
        // A body that has failed may be polled again, and fails again.
        frames.take(2).collect().now_or_never().expect("nothing is awaited")
    }

    #[tokio::test]
    async fn a_body_that_was_cut_is_none_that_has_ended() {
        let data = Bytes::from_static(b"a");
        assert_eq!(read(vec![Ok(data.clone())], true), [Ok(data.clone())]);
        assert_eq!(read(vec![Ok(data.clone())], false), [Ok(data), Err(Code::Aborted)]);
        for error in [Status::cancelled(""), Status::internal("")] {
            let read = read(vec![Err(error)], true);
            assert_eq!(read[0], Err(Code::Aborted));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_takes_too_long_is_told() {
        let inner = Body::from_stream(stream::pending::<Result<Bytes, Status>>());
        let mut whole = BodyStream::new(Whole { inner, late: Box::pin(sleep(BODY_TIMEOUT)) });
        let error = whole.next().await.unwrap().unwrap_err();
        assert_eq!(error.downcast::<Status>().unwrap().code(), Code::DeadlineExceeded);
    }

    #[test]
    fn a_deadline_is_digits_and_a_unit() {
        let read = |value: &str| {
            deadline(&HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_str(value).unwrap())]))
        };
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("99999999H"), Some(Duration::from_hours(99_999_999)));
        assert_eq!(read("1n"), Some(Duration::from_nanos(1)));
        for broken in ["", "m", "1", "1s", "-1m", "123456789m", "1 m", "1.5S"] {
            assert_eq!(read(broken), None, "{broken:?}");
        }
    }
}
