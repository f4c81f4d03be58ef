//! The API in `OpenAPI` 3.1, made from the handlers, and a page to read and try it.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Components,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_swagger_ui::Config;

use crate::{
    handlers,
    tasks::{self, Body},
};

/// The page's own scripts and styles, and requests to this server; nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "task-api",
        description = "The tasks server of ZITADEL's guide for APIs. Every answer carries an `x-request-id`. \
            Errors are one line of text."
    ),
    paths(handlers::healthz, handlers::list, handlers::add, handlers::readyz),
    modifiers(&Bearer)
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let description =
            "An access token of the ZITADEL instance. The names beside a lock are roles of the project.";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build();
        let components = document.components.get_or_insert_with(Components::new);
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// `GET /api/openapi.json`
pub(crate) fn document() -> Response<Body> {
    static DOCUMENT: LazyLock<String> =
        LazyLock::new(|| Document::openapi().to_json().expect("the document is JSON"));
    asset("application/json", Bytes::from_static(DOCUMENT.as_bytes()))
}

/// `GET /docs/…`: Swagger UI, out of this binary.
pub(crate) fn page(path: &str) -> Response<Body> {
    static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
        let config = Config::from("/api/openapi.json").use_base_layout().validator_url("none");
        Arc::new(config.display_request_duration(true).try_it_out_enabled(true))
    });
    match utoipa_swagger_ui::serve(path, Arc::clone(&CONFIG)) {
        Ok(Some(file)) => {
            let mut response = asset(&file.content_type, Bytes::from(file.bytes.into_owned()));
            let policy = HeaderValue::from_static(POLICY);
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
            response
        }
        Ok(None) => tasks::refusal(StatusCode::NOT_FOUND),
        Err(error) => {
            tracing::error!(%error, "the page cannot be made");
            tasks::refusal(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

fn asset(content_type: &str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::Whole(body));
    let headers = response.headers_mut();
    if let Ok(content_type) = HeaderValue::try_from(content_type) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
