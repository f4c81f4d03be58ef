//! Routes of one's own on `actix-web-httpauth` keep working beside ours.

use actix_web::{App, test, web};
use actix_web_httpauth::extractors::bearer::BearerAuth;
use zitadel_introspect_actix::{Authorized, RequireAuthorizationLayer, Requirement, TestCaller, TestTokens};

#[actix_web::test]
async fn bearer_auth_routes_and_ours_share_an_app() {
    let verifier = TestTokens::new().caller("ours", TestCaller::new("ada")).verifier();
    let guarded = RequireAuthorizationLayer::new(verifier.clone(), Requirement::any_caller());
    let app = App::new()
        .app_data(web::Data::new(verifier))
        .route("/theirs", web::get().to(async |bearer: BearerAuth| bearer.token().to_owned()))
        .service(web::scope("/ours").wrap(guarded).route("", web::get().to(async |_: Authorized| "ours")));
    let app = test::init_service(app).await;
    for (path, token, status) in [
        ("/theirs", "anything", 200),
        ("/ours", "ours", 200),
        ("/ours", "anything", 401),
        ("/theirs", "ours", 200),
    ] {
        let request =
            test::TestRequest::get().uri(path).insert_header(("authorization", format!("Bearer {token}")));
        assert_eq!(
            test::call_service(&app, request.to_request()).await.status(),
            status,
            "{path} with {token}"
        );
    }
}
