//! Public, optional and protected routes together, and a requirement built from the path, on axum.
//! `cargo run -p axum-mixed -- http://127.0.0.1:8080 examples/key.json`

use std::{env, error::Error};

use axum::{
    Router,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use zitadel_introspect_axum::{
    AuthError, Authorized, ClientAuth, Issuer, MaybeAuthorized, Rejection, RequireAuthorizationLayer,
    Requirement, Verifier, protected_resource_metadata,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(issuer), Some(key)) = (arguments.next(), arguments.next()) else {
        return Err("give an issuer and a key file".into());
    };
    let verifier = Verifier::builder(Issuer::parse(&issuer)?, ClientAuth::key_file(key)?)
        .resource("http://localhost:3000", ["openid"])
        .build()?;
    axum::serve(TcpListener::bind("127.0.0.1:3000").await?, app(&verifier)).await?;
    Ok(())
}

fn app(verifier: &Verifier) -> Router {
    // `route_layer` guards the routes above it, and no others.
    let protected = Router::new()
        .route("/reports", get(async || "reports"))
        .route("/organizations/{organization}/members", get(members))
        .route_layer(RequireAuthorizationLayer::new(verifier.clone(), Requirement::any_caller()));
    Router::new()
        .route("/", get(async || "welcome"))
        .route("/greeting", get(greeting))
        .merge(protected)
        .merge(protected_resource_metadata(verifier))
        .with_state(verifier.clone())
}

/// Open to everybody; but a token that is sent must be valid.
async fn greeting(MaybeAuthorized(caller): MaybeAuthorized) -> String {
    let name = caller.as_ref().and_then(|caller| caller.claims().username());
    format!("hello {}", name.unwrap_or("stranger"))
}

/// Being an editor somewhere is not enough: the caller must be an editor *in this organization*. Forgetting to check
/// the organization is the most common hole of APIs for several tenants.
async fn members(
    Path(organization): Path<String>,
    Authorized(caller): Authorized,
) -> Result<String, AppError> {
    let caller = caller.require(&Requirement::role("editor").in_organization(&organization)).await?;
    if organization == "3" {
        return Err(AppError::NoMembers);
    }
    Ok(format!("members, for {}", caller.user_id()))
}

/// An error type of your own.
enum AppError {
    Auth(AuthError),
    NoMembers,
}

impl From<AuthError> for AppError {
    fn from(error: AuthError) -> Self {
        Self::Auth(error)
    }
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        match self {
            // By `Rejection`, and not by `error.status()`: it carries the challenge, `Retry-After` and `no-store` as well.
            // For a body of your own, `.map(|_| …)` replaces the body of this response.
            Self::Auth(error) => Rejection(error).into_response(),
            Self::NoMembers => (StatusCode::NOT_FOUND, "no members\n").into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt;
    use zitadel_introspect_axum::{TestCaller, TestTokens};

    #[tokio::test]
    async fn each_route_is_for_whom_it_is() {
        let editor = TestCaller::new("ada").organization("1").role("editor").role_in("editor", "3");
        let app = super::app(&TestTokens::new().caller("editor", editor).verifier());
        for (path, token, status) in [
            ("/", None, 200),
            ("/greeting", None, 200),
            ("/greeting", Some("editor"), 200),
            ("/greeting", Some("dead"), 401),
            ("/reports", None, 401),
            ("/reports", Some("editor"), 200),
            ("/organizations/1/members", Some("editor"), 200),
            ("/organizations/2/members", Some("editor"), 403),
            ("/organizations/3/members", Some("editor"), 404),
        ] {
            let mut request = Request::get(path);
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let answer = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), status, "{path} as {token:?}");
            let is_challenged = answer.headers().contains_key("www-authenticate");
            assert_eq!(is_challenged, matches!(status, 401 | 403), "{path} as {token:?}");
        }
    }
}
