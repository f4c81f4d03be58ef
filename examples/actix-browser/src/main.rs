//! An API for pages in a browser on actix-web: CORS goes outside of the guard, and the last `wrap` is the outermost.
//! `cargo run -p actix-browser -- http://127.0.0.1:8080 examples/key.json`

use std::{env, error::Error};

use actix_cors::Cors;
use actix_web::{
    App, HttpServer,
    http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    middleware::Logger,
    web,
};
use zitadel_introspect_actix::{ClientAuth, Issuer, RequireAuthorizationLayer, Requirement, Verifier};

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(issuer), Some(key)) = (arguments.next(), arguments.next()) else {
        return Err("give an issuer and a key file".into());
    };
    let verifier = Verifier::builder(Issuer::parse(&issuer)?, ClientAuth::key_file(key)?).build()?;
    let server = HttpServer::new(move || {
        let guard = RequireAuthorizationLayer::new(verifier.clone(), Requirement::any_caller());
        App::new()
            .service(web::scope("/api").wrap(guard).route("/reports", web::get().to(reports)))
            // `wrap` runs backwards: the last one comes first. A browser's preflight has no token, and must be answered
            // before the guard.
            .wrap(cors())
            .wrap(Logger::default())
    });
    server.bind("127.0.0.1:3000")?.run().await?;
    Ok(())
}

fn cors() -> Cors {
    Cors::default()
        .allowed_origin("https://app.example.com")
        .allowed_methods(["GET", "POST"])
        .allowed_headers([AUTHORIZATION, CONTENT_TYPE])
        // Without this line, a page can read neither the reason of a refusal nor when to retry.
        .expose_headers([WWW_AUTHENTICATE, RETRY_AFTER])
}

async fn reports() -> &'static str {
    "reports"
}

#[cfg(test)]
mod tests {
    use actix_web::{http::Method, test};
    use zitadel_introspect_actix::{TestCaller, TestTokens};

    use super::*;

    /// The status of a preflight and of a request without a token, each with the origin that may read the answer.
    async fn ask(is_outside: bool) -> Vec<(u16, Option<String>)> {
        let verifier = TestTokens::new().caller("adas-token", TestCaller::new("ada")).verifier();
        let guard = RequireAuthorizationLayer::new(verifier, Requirement::any_caller());
        let scope = web::scope("/api").route("/reports", web::get().to(reports));
        let mut found = Vec::new();
        let origin = ("origin", "https://app.example.com");
        let preflight = || {
            let request =
                test::TestRequest::with_uri("/api/reports").method(Method::OPTIONS).insert_header(origin);
            request.insert_header(("access-control-request-method", "GET")).to_request()
        };
        let bare = || test::TestRequest::with_uri("/api/reports").insert_header(origin).to_request();
        macro_rules! collect {
            ($app:expr) => {{
                let app = test::init_service($app).await;
                for request in [preflight(), bare()] {
                    let answer = test::call_service(&app, request).await;
                    let allowed = answer.headers().get("access-control-allow-origin");
                    found.push((
                        answer.status().as_u16(),
                        allowed.map(|value| value.to_str().unwrap().to_owned()),
                    ));
                }
            }};
        }
        if is_outside {
            collect!(App::new().service(scope.wrap(guard)).wrap(cors()));
        } else {
            collect!(App::new().service(scope.wrap(cors()).wrap(guard)));
        }
        found
    }

    #[actix_web::test]
    async fn cors_outside_of_the_guard_answers_the_browser_and_inside_of_it_does_not() {
        let origin = || Some("https://app.example.com".to_owned());
        assert_eq!(ask(true).await, [(200, origin()), (401, origin())]);
        assert_eq!(ask(false).await, [(401, None), (401, None)], "what happens in the wrong order");
    }
}
