//! Roles as an enum of your own, and errors as `application/problem+json`, on actix-web.
//! `cargo run -p actix-roles -- http://127.0.0.1:8080 examples/key.json`

use std::{env, error::Error};

use actix_web::{App, HttpServer, web};
use serde_json::json;
use zitadel_introspect_actix::{
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

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(issuer), Some(key)) = (arguments.next(), arguments.next()) else {
        return Err("give an issuer and a key file".into());
    };
    let verifier = Verifier::builder(Issuer::parse(&issuer)?, ClientAuth::key_file(key)?)
        .error_body("application/problem+json", problem)
        .build()?;
    let server = HttpServer::new(move || App::new().configure(|config| app(config, &verifier)));
    server.bind("127.0.0.1:3000")?.run().await?;
    Ok(())
}

/// Status, challenge and `Retry-After` stay as they are; only the body is ours.
fn problem(error: &AuthError) -> String {
    json!({"status": error.status().as_u16(), "title": "access refused", "detail": error.to_string()})
        .to_string()
}

fn app(config: &mut web::ServiceConfig, verifier: &Verifier) {
    let writers = Requirement::any_role([AppRole::Admin, AppRole::Editor]);
    let writers = RequireAuthorizationLayer::new(verifier.clone(), writers);
    config
        .app_data(web::Data::new(verifier.clone()))
        .route("/settings", web::get().to(settings))
        .service(web::resource("/drafts").wrap(writers).route(web::get().to(drafts)))
        .route("/publish", web::get().to(publish));
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
    use actix_web::{App, test};
    use zitadel_introspect_actix::{TestCaller, TestTokens};

    use super::AppRole;

    #[actix_web::test]
    async fn each_route_has_its_roles() {
        let verifier = TestTokens::new()
            .caller("admin", TestCaller::new("1").role(AppRole::Admin))
            .caller("editor", TestCaller::new("2").role(AppRole::Editor))
            .caller("both", TestCaller::new("3").role(AppRole::Admin).role(AppRole::Editor))
            .verifier();
        let app = test::init_service(App::new().configure(|config| super::app(config, &verifier))).await;
        for (path, token, status) in [
            ("/settings", "admin", 200),
            ("/settings", "editor", 403),
            ("/drafts", "editor", 200),
            ("/drafts", "admin", 200),
            ("/drafts", "nobody", 401),
            ("/publish", "both", 200),
            ("/publish", "admin", 403),
        ] {
            let request = test::TestRequest::get().uri(path);
            let request = request.insert_header(("authorization", format!("Bearer {token}"))).to_request();
            let answer = test::call_service(&app, request).await;
            assert_eq!(answer.status(), status, "{path} as {token}");
        }
    }
}
