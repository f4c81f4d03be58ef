use serde_json::{Value, json};

use crate::{Adapter, World, http::request};

const RESOURCE: &str = "https://api.example.com";

async fn world<A: Adapter>() -> World {
    World::with::<A>(|settings| settings.resource = Some(RESOURCE)).await
}

pub(super) async fn the_resource_describes_itself<A: Adapter>() {
    let world = world::<A>().await;
    // The address is the configured one, whatever the caller says of the host.
    let headers = ["x-forwarded-host: evil.example".to_owned()];
    let answer = world.get("/.well-known/oauth-protected-resource", &headers).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let expected = json!({
        "resource": RESOURCE,
        "authorization_servers": [world.issuer.url()],
        "scopes_supported": ["tasks:read"],
        "bearer_methods_supported": ["header"],
    });
    assert_eq!(serde_json::from_str::<Value>(&answer.body).unwrap(), expected);
    let head = request(world.server.address, "HEAD /.well-known/oauth-protected-resource", &[]).await;
    assert_eq!(head.status, 200);
}

pub(super) async fn challenges_point_to_the_description<A: Adapter>() {
    let world = world::<A>().await;
    let place = format!("resource_metadata=\"{RESOURCE}/.well-known/oauth-protected-resource\"");
    let answer = world.get("/caller", &[]).await;
    assert_eq!(answer.header("www-authenticate"), Some(&*format!("Bearer {place}")));
    let answer = world.get_as("/layer/caller", "never-was").await;
    assert_eq!(answer.header("www-authenticate"), Some(&*format!("Bearer error=\"invalid_token\", {place}")));
}
