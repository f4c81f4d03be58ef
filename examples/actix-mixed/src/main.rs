//! Public, optional and protected routes together, a requirement built from the path, and one path with a
//! handler for each role, on actix-web.
//! `cargo run -p actix-mixed -- http://127.0.0.1:8080 examples/key.json`

use std::{env, error::Error};

use actix_web::{App, HttpServer, web};
use zitadel_introspect_actix::{
    Authorized, ClientAuth, Issuer, MaybeAuthorized, Rejection, RequireAuthorizationLayer, Requirement,
    RoleGuard, Verifier, protected_resource_metadata,
};

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(issuer), Some(key)) = (arguments.next(), arguments.next()) else {
        return Err("give an issuer and a key file".into());
    };
    let verifier = Verifier::builder(Issuer::parse(&issuer)?, ClientAuth::key_file(key)?)
        .resource("http://localhost:3000", ["openid"])
        .build()?;
    let server = HttpServer::new(move || App::new().configure(|config| app(config, &verifier)));
    server.bind("127.0.0.1:3000")?.run().await?;
    Ok(())
}

fn app(config: &mut web::ServiceConfig, verifier: &Verifier) {
    let any_caller = || RequireAuthorizationLayer::new(verifier.clone(), Requirement::any_caller());
    config
        .app_data(web::Data::new(verifier.clone()))
        .route("/", web::get().to(async || "welcome"))
        .route("/greeting", web::get().to(greeting))
        .service(protected_resource_metadata(verifier))
        .service(
            // One path, two handlers: the guard selects, the last route refuses.
            web::resource("/reports")
                .wrap(any_caller())
                .route(web::get().guard(RoleGuard::new("admin")).to(async || "all reports"))
                .route(web::get().to(some_reports)),
        )
        .service(
            web::scope("/organizations")
                .wrap(any_caller())
                .route("/{organization}/members", web::get().to(members)),
        );
}

/// Open to everybody; but a token that is sent must be valid.
async fn greeting(MaybeAuthorized(caller): MaybeAuthorized) -> String {
    let name = caller.as_ref().and_then(|caller| caller.claims().username());
    format!("hello {}", name.unwrap_or("stranger"))
}

async fn some_reports(Authorized(caller): Authorized) -> Result<String, Rejection> {
    let caller = caller.require(&Requirement::role("viewer")).await?;
    Ok(format!("some reports, for {}", caller.user_id()))
}

/// Being an editor somewhere is not enough: the caller must be an editor *in this organization*. Forgetting to check
/// the organization is the most common hole of APIs for several tenants.
async fn members(
    organization: web::Path<String>,
    Authorized(caller): Authorized,
) -> Result<String, Rejection> {
    let caller =
        caller.require(&Requirement::role("editor").in_organization(organization.into_inner())).await?;
    Ok(format!("members, for {}", caller.user_id()))
}

#[cfg(test)]
mod tests {
    use actix_web::{App, test};
    use zitadel_introspect_actix::{TestCaller, TestTokens};

    #[actix_web::test]
    async fn each_route_is_for_whom_it_is() {
        let verifier = TestTokens::new()
            .caller("editor", TestCaller::new("ada").organization("1").role("editor"))
            .caller("admin", TestCaller::new("bob").role("admin"))
            .caller("viewer", TestCaller::new("eve").role("viewer"))
            .verifier();
        let app = test::init_service(App::new().configure(|config| super::app(config, &verifier))).await;
        for (path, token, status, body) in [
            ("/", None, 200, "welcome"),
            ("/greeting", None, 200, "hello stranger"),
            ("/greeting", Some("editor"), 200, "hello ada"),
            ("/greeting", Some("dead"), 401, "unauthorized: invalid token\n"),
            ("/reports", None, 401, "unauthorized: authorization header is empty\n"),
            ("/reports", Some("admin"), 200, "all reports"),
            ("/reports", Some("viewer"), 200, "some reports, for eve"),
            ("/reports", Some("editor"), 403, "permission denied: missing required role: `viewer`\n"),
            ("/organizations/1/members", Some("editor"), 200, "members, for ada"),
            (
                "/organizations/2/members",
                Some("editor"),
                403,
                "permission denied: missing required role: `editor`\n",
            ),
        ] {
            let mut request = test::TestRequest::get().uri(path);
            if let Some(token) = token {
                request = request.insert_header(("authorization", format!("Bearer {token}")));
            }
            let answer = test::call_service(&app, request.to_request()).await;
            assert_eq!(answer.status(), status, "{path} as {token:?}");
            assert_eq!(test::read_body(answer).await, body, "{path} as {token:?}");
        }
    }
}
