//! Roles as an enum of your own, and errors as `application/problem+json`, on axum.
//! `cargo run -p axum-roles -- http://127.0.0.1:8080 examples/key.json`

use std::{env, error::Error};

use axum::{Router, routing::get};
use serde_json::json;
use tokio::net::TcpListener;
use zitadel_introspect_axum::{
    AuthError, Authorized, AuthorizedAs, ClientAuth, Issuer, Rejection, RequireAuthorizationLayer,
    RequiredRole, Requirement, Role, Verifier,
};

/// The roles of the project, spelled once.
enum AppRole {
    Admin,
    Editor,
}

impl AppRole {
    const fn key(&self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Editor => "editor",
        }
    }
}

impl From<AppRole> for Role {
    fn from(role: AppRole) -> Self {
        Self::from(role.key())
    }
}

/// A role as the type parameter of an extractor.
struct Admin;

impl RequiredRole for Admin {
    const ROLE: &'static str = AppRole::Admin.key();
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(issuer), Some(key)) = (arguments.next(), arguments.next()) else {
        return Err("give an issuer and a key file".into());
    };
    let verifier = Verifier::builder(Issuer::parse(&issuer)?, ClientAuth::key_file(key)?)
        .error_body("application/problem+json", problem)
        .build()?;
    axum::serve(TcpListener::bind("127.0.0.1:3000").await?, app(&verifier)).await?;
    Ok(())
}

/// Status, challenge and `Retry-After` stay as they are; only the body is ours.
fn problem(error: &AuthError) -> String {
    json!({"status": error.status().as_u16(), "title": "access refused", "detail": error.to_string()})
        .to_string()
}

fn app(verifier: &Verifier) -> Router {
    let writers = Requirement::any_role([AppRole::Admin, AppRole::Editor]);
    Router::new()
        .route("/settings", get(settings))
        .route("/drafts", get(drafts).layer(RequireAuthorizationLayer::new(verifier.clone(), writers)))
        .route("/publish", get(publish))
        .with_state(verifier.clone())
}

async fn settings(_: AuthorizedAs<Admin>) -> &'static str {
    "settings"
}

async fn drafts() -> &'static str {
    "drafts"
}

/// A requirement that only the handler knows.
async fn publish(Authorized(caller): Authorized) -> Result<String, Rejection> {
    let caller = caller.require(&Requirement::all_roles([AppRole::Admin, AppRole::Editor])).await?;
    Ok(format!("published by {}", caller.user_id()))
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt;
    use zitadel_introspect_axum::{TestCaller, TestTokens};

    use super::AppRole;

    #[tokio::test]
    async fn each_route_has_its_roles() {
        let verifier = TestTokens::new()
            .caller("admin", TestCaller::new("1").role(AppRole::Admin))
            .caller("editor", TestCaller::new("2").role(AppRole::Editor))
            .caller("both", TestCaller::new("3").role(AppRole::Admin).role(AppRole::Editor))
            .verifier();
        let app = super::app(&verifier);
        for (path, token, status) in [
            ("/settings", "admin", 200),
            ("/settings", "editor", 403),
            ("/drafts", "editor", 200),
            ("/drafts", "admin", 200),
            ("/drafts", "nobody", 401),
            ("/publish", "both", 200),
            ("/publish", "admin", 403),
        ] {
            let request = Request::get(path).header("authorization", format!("Bearer {token}"));
            let answer = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), status, "{path} as {token}");
        }
    }
}
