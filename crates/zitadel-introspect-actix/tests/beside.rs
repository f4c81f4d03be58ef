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

#[actix_web::test]
async fn a_scope_is_guarded_by_a_parameter_of_its_path() {
    let verifier = TestTokens::new()
        .caller("one", TestCaller::new("ada").role_in("editor", "1"))
        .caller("two", TestCaller::new("bob").role_in("editor", "2"))
        .verifier();
    let scope = |path: &str| {
        let editors = RequireAuthorizationLayer::from_path(verifier.clone(), "organization", |id| {
            Requirement::role("editor").in_organization(id)
        });
        let reports = web::get().to(async |caller: Authorized| caller.user_id().to_owned());
        web::scope(path).wrap(editors).route("/reports", reports)
    };
    let app = App::new()
        .app_data(web::Data::new(verifier.clone()))
        .service(scope("/organizations/{organization}"))
        .service(scope("/wrong/{id}"));
    let app = test::init_service(app).await;
    for (path, token, status) in [
        ("/organizations/1/reports", Some("one"), 200),
        ("/organizations/2/reports", Some("two"), 200),
        ("/organizations/2/reports", Some("one"), 403),
        ("/organizations/1%20/reports", Some("one"), 403),
        ("/organizations/1/reports", Some("dead"), 401),
        ("/organizations/1/reports", None, 401),
        ("/wrong/1/reports", Some("one"), 500),
    ] {
        let mut request = test::TestRequest::get().uri(path);
        if let Some(token) = token {
            request = request.insert_header(("authorization", format!("Bearer {token}")));
        }
        let answer = test::call_service(&app, request.to_request()).await;
        assert_eq!(answer.status(), status, "{path} {token:?}");
    }
}
