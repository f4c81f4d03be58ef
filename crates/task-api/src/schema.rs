//! Shapes of bodies and answers, for the document.

use utoipa::{IntoResponses, ToSchema};

/// The list of tasks.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of an answer, for the document")]
pub(crate) struct Tasks {
    /// Left out where there are none. For admins the whole list ends with a hint.
    #[schema(required = false, example = json!(["My new task"]))]
    tasks: Vec<String>,
}

/// A task to be added. Where it is absent, the one of the query counts.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of a body, for the document")]
pub(crate) struct NewTask {
    /// Any text but white space alone, without U+0000.
    #[schema(example = json!("My new task"))]
    task: String,
}

/// What any guarded route may answer.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "answers, for the document")]
pub(crate) enum Refusals {
    /// No credentials, or a token that is dead, malformed or not for this API.
    #[response(
        status = 401,
        content_type = "text/plain; charset=utf-8",
        headers(("WWW-Authenticate" = String, description = "The challenge (RFC 6750)")),
        example = json!("unauthorized: authorization header is empty\n")
    )]
    Unauthorized(String),
    /// More requests of this client in a second than may be.
    #[response(
        status = 429,
        content_type = "text/plain; charset=utf-8",
        headers(("Retry-After" = u32, description = "Seconds")),
        example = json!("too many requests\n")
    )]
    TooManyRequests(String),
    /// The head of the request is too large.
    #[response(status = 431)]
    HeadTooLarge,
    /// A bug of ours.
    #[response(status = 500, content_type = "text/plain; charset=utf-8", example = json!("internal server error\n"))]
    Bug(String),
    /// No verdict from the issuer, no task store, or too many requests at once. Nothing is said about the token.
    #[response(
        status = 503,
        content_type = "text/plain; charset=utf-8",
        headers(("Retry-After" = u32, description = "Seconds; absent for the task store")),
        example = json!("unavailable: no verdict from the issuer\n")
    )]
    Unavailable(String),
}
