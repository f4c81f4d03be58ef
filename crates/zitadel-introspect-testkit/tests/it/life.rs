//! What changes at run time shows at the very next introspection.

use serde_json::{Value, json};
use zitadel_introspect_testkit::{Algorithm, Endpoint, Issuer};

use crate::world::{World, client, decode, inactive, json_of};

const ROLES: &str = "urn:zitadel:iam:org:project:roles";

fn roles(answer: &Value) -> Vec<&str> {
    answer[ROLES].as_object().map(|roles| roles.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[tokio::test]
async fn grants_show_at_once() {
    let world = World::new().await;
    let pat = world.robot.pat();
    assert_eq!(world.introspect(&pat).await.get(ROLES), None, "no role, no claim");
    let grant = world.robot.grant(&world.project, ["viewer"]);
    assert_eq!(roles(&world.introspect(&pat).await), ["viewer"]);
    grant.change(["admin", "viewer"]);
    assert_eq!(roles(&world.introspect(&pat).await), ["admin", "viewer"]);
    world.project.remove_role("viewer");
    assert_eq!(roles(&world.introspect(&pat).await), ["admin"]);
    grant.deactivate();
    assert_eq!(world.introspect(&pat).await.get(ROLES), None);
    grant.reactivate();
    assert_eq!(roles(&world.introspect(&pat).await), ["admin"]);
    grant.remove();
    assert_eq!(world.introspect(&pat).await.get(ROLES), None);
}

#[tokio::test]
async fn a_deactivated_or_locked_users_tokens_are_dead_for_good() {
    let world = World::new().await;
    let old = world.robot.pat();
    world.robot.deactivate();
    assert_eq!(world.introspect(&old).await, inactive());
    world.robot.reactivate();
    assert_eq!(world.introspect(&old).await, inactive());
    let new = world.robot.pat();
    assert_eq!(world.introspect(&new).await["active"], true);
    world.robot.lock();
    world.robot.unlock();
    assert_eq!(world.introspect(&new).await, inactive());
    let newest = world.robot.pat();
    world.robot.clone().remove();
    assert_eq!(world.introspect(&newest).await, inactive());
}

#[tokio::test]
async fn revocation_and_the_end_of_a_session_kill_the_tokens_that_they_concern() {
    let world = World::new().await;
    let log_in = || world.ada.log_in(&world.web, "openid offline_access");
    let (one, two, three) = (log_in(), log_in(), log_in());
    one.access_token.revoke();
    two.refresh_token.as_ref().unwrap().revoke();
    three.end_session();
    let four = log_in();
    for dead in [&one, &two, &three] {
        assert_eq!(world.introspect(&dead.access_token).await, inactive());
    }
    assert_eq!(world.introspect(&four.access_token).await["active"], true);
}

#[tokio::test]
async fn a_token_expires_by_the_instances_own_clock() {
    let world = World::new().await;
    let token = world.robot.access_token().for_project(&world.project).issue();
    world.issuer.advance(std::time::Duration::from_secs(12 * 3600 - 60));
    assert_eq!(world.introspect(&token).await["active"], true);
    world.issuer.advance(std::time::Duration::from_secs(61));
    assert_eq!(world.introspect(&token).await, inactive());
    world.issuer.set_clock_ahead(0);
    assert_eq!(world.introspect(&token).await["active"], true);
    token.expire();
    assert_eq!(world.introspect(&token).await, inactive());
}

#[tokio::test]
async fn scopes_narrow_roles_and_widen_the_audience() {
    let world = World::new().await;
    let both = world
        .admin_robot
        .access_token()
        .for_project(&world.project)
        .for_project(&world.other_project)
        .issue();
    let answer = world.introspect(&both).await;
    assert_eq!(answer["aud"], json!([world.project.id(), world.other_project.id()]));
    assert_eq!(roles(&answer), ["admin", "viewer"], "the asking API's own project only");
    let narrow = world.admin_robot.access_token().for_project(&world.project);
    let narrow = narrow.scopes("urn:zitadel:iam:org:project:role:admin").issue();
    assert_eq!(roles(&world.introspect(&narrow).await), ["admin"]);
}

#[tokio::test]
async fn a_shared_projects_roles_name_the_other_organization() {
    let world = World::new().await;
    let guests = world.issuer.organization("Guests");
    world.project.grant_to(&guests);
    let guest = guests.service_user("guest");
    guest.grant_in(&guests, &world.project, ["viewer"]);
    let answer = world.introspect(&guest.pat()).await;
    assert_eq!(answer[ROLES], json!({"viewer": {guests.id(): guests.domain()}}));
    assert_eq!(answer["urn:zitadel:iam:user:resourceowner:id"], guests.id());
}

#[tokio::test]
async fn an_actor_is_shown() {
    let world = World::new().await;
    let request = || world.robot.access_token().for_project(&world.project).actor("7");
    let answer = world.introspect(&request().issue()).await;
    let act = json!({"iss": world.issuer.url(), "sub": "7"});
    assert_eq!(answer["act"], act);
    assert_eq!([&answer["amr"], &answer["auth_time"]], [&json!(null), &json!(null)]);
    assert_eq!(decode(&request().jwt().issue()).1["act"], act);
}

#[tokio::test]
async fn role_assertion_needs_project_and_application() {
    let world = World::new().await;
    let claim = format!("urn:zitadel:iam:org:project:{}:roles", world.project.id());
    let token = |asserts: bool| {
        let app = world.project.web_app("app").jwt_access_tokens(true).role_assertion(asserts);
        decode(&world.ada.log_in(&app, "openid").access_token).1
    };
    assert_eq!(token(true).get(&claim), None, "the project does not assert");
    world.project.set_role_assertion(true);
    assert_eq!(token(false).get(&claim), None, "the application does not assert");
    assert!(token(true)[&claim]["viewer"].is_object());
}

#[tokio::test]
async fn keys_rotate_from_published_over_signing_to_withdrawn() {
    let world = World::new().await;
    let published = async || -> Vec<(String, String)> {
        let keys = client().get(format!("{}/oauth/v2/keys", world.issuer.url())).send().await.unwrap();
        let keys = json_of(keys).await;
        let text = |key: &Value, name: &str| key[name].as_str().unwrap().to_owned();
        keys["keys"].as_array().unwrap().iter().map(|key| (text(key, "kid"), text(key, "alg"))).collect()
    };
    let signed_by = || decode(&world.robot.access_token().jwt().issue()).0;
    let first = world.issuer.signing_key_id();
    for (algorithm, name) in [
        (Algorithm::Rs256, "RS256"),
        (Algorithm::Es256, "ES256"),
        (Algorithm::Es384, "ES384"),
        (Algorithm::Es512, "ES512"),
        (Algorithm::EdDsa, "EdDSA"),
    ] {
        let old = world.issuer.signing_key_id();
        let new = world.issuer.publish_key(algorithm);
        assert!(published().await.contains(&(new.clone(), name.to_owned())));
        assert_eq!(signed_by()["kid"], *old, "published, and not yet used");
        world.issuer.activate_key(&new);
        assert_eq!(signed_by(), json!({"alg": name, "kid": new, "typ": "JWT"}));
        world.issuer.withdraw_key(&old);
        assert!(!published().await.iter().any(|(kid, _)| *kid == old));
    }
    assert_ne!(world.issuer.signing_key_id(), first);
}

#[tokio::test]
async fn the_keys_cache_control_can_be_set() {
    let world = World::new().await;
    world.issuer.set_keys_cache_control("no-store");
    let answer = client().get(format!("{}/oauth/v2/keys", world.issuer.url())).send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn questions_are_counted_by_endpoint() {
    let world = World::new().await;
    let pat = world.robot.pat();
    for _ in 0..3 {
        world.introspect(&pat).await;
    }
    assert_eq!(world.issuer.introspections(), 3);
    assert_eq!(world.issuer.request_count(Endpoint::Discovery), 0);
}

#[tokio::test]
async fn it_listens_on_loopback_only() {
    let elsewhere = Issuer::builder().public_origin("https://auth.example.com").start().await.unwrap();
    for issuer in [Issuer::start().await, elsewhere] {
        assert!(issuer.address().ip().is_loopback());
    }
}
