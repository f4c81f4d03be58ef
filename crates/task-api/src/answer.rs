//! Converts an answer of the API to an axum response.

use axum::{body::Body, response::Response};

use crate::tasks;

pub(crate) fn respond(response: http::Response<tasks::Body>) -> Response {
    response.map(|body| match body {
        tasks::Body::Whole(body) => Body::from(body),
        tasks::Body::Stream(stream) => Body::from_stream(stream),
    })
}
