//! ZITADEL's webhooks, as the embedded issuer sends them over a socket.

use std::time::Duration;

use actix_web::{App, HttpServer, web};
use zitadel_introspect_actix::{Authorized, ClientAuth, EventTarget, Issuer, Verifier, event_target};
use zitadel_introspect_testkit as testkit;

#[actix_web::test]
async fn a_webhook_ends_a_revoked_token_and_nobody_else_can_send_one() {
    let issuer = testkit::Issuer::start().await;
    let api = issuer.project("tasks").api("api");
    let auth = ClientAuth::key_json(&api.key_json()).unwrap();
    let verifier = Verifier::builder(Issuer::parse(&issuer.url()).unwrap(), auth).build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // The key comes with the target: ZITADEL makes it.
    let key = issuer.set_target(&format!("http://{address}/zitadel/events"));
    let target = EventTarget::new(&verifier, [key]).unwrap();
    let data = web::Data::new(verifier.clone());
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .route("/hello", web::get().to(async |caller: Authorized| caller.user_id().to_owned()))
            .route("/zitadel/events", event_target(target.clone()))
    });
    let server = server.workers(1).listen(listener).unwrap().run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    let client = reqwest::Client::new();
    let hello = async |token: &str| {
        let request = client.get(format!("http://{address}/hello")).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    let (ends, stays) = (issuer.service_user("ada").pat(), issuer.service_user("bob").pat());
    assert_eq!([hello(&ends).await, hello(&stays).await], [200, 200]);
    let asked = issuer.introspections();
    ends.revoke();
    let ended = async { while hello(&ends).await == 200 {} };
    tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the webhook ends it");
    let after = issuer.introspections();
    assert!(after > asked);
    assert_eq!((hello(&stays).await, issuer.introspections()), (200, after), "nobody else is concerned");
    let tag = "ab".repeat(32);
    for (signature, body, status) in [
        (None, "{}".to_owned(), 401),
        (Some("t=1,v1=00".to_owned()), "{}".to_owned(), 401),
        (Some(format!("t=1,v1={tag}")), "{}".to_owned(), 401),
        (None, "x".repeat(EventTarget::MOST_BYTES), 401),
        (None, "x".repeat(EventTarget::MOST_BYTES + 1), 413),
    ] {
        let mut request = client.post(format!("http://{address}/zitadel/events")).body(body);
        if let Some(signature) = signature {
            request = request.header("zitadel-signature", signature);
        }
        assert_eq!(request.send().await.unwrap().status().as_u16(), status);
    }
    assert_eq!((hello(&stays).await, issuer.introspections()), (200, after));
    let got = client.get(format!("http://{address}/zitadel/events")).send().await.unwrap();
    assert_eq!(got.status().as_u16(), 404, "actix-web has no route for another method");
    handle.stop(false).await;
}
