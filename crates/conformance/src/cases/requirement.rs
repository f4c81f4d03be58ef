use zitadel_introspect_testkit::Fault;

use crate::{Adapter, World, world::refusal};

const INSUFFICIENT: Option<&str> = Some("Bearer error=\"insufficient_scope\"");

/// Expects a 200 for each of `passing` and this body of a 403 for each of `refused`.
async fn expect(world: &World, path: &str, passing: &[&str], refused: &[&str], body: &str) {
    for token in passing {
        let answer = world.get_as(path, token).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "passed"), "{path}");
    }
    for token in refused {
        let answer = world.get_as(path, token).await;
        assert_eq!((answer.status, answer.body.as_str()), (403, body), "{path}");
    }
}

pub(super) async fn any_of_several_roles<A: Adapter>() {
    let world = World::new::<A>().await;
    let (editor, admin, owner) = (world.token(&["editor"]), world.token(&["admin"]), world.token(&["owner"]));
    let body = "permission denied: missing required role: `editor` or `admin`\n";
    expect(&world, "/layer/any-role", &[&editor, &admin], &[&owner], body).await;
}

pub(super) async fn all_of_several_roles<A: Adapter>() {
    let world = World::new::<A>().await;
    let (both, editor) = (world.token(&["editor", "admin"]), world.token(&["editor"]));
    let body = "permission denied: missing required role: `admin`\n";
    expect(&world, "/layer/all-roles", &[&both], &[&editor], body).await;
}

pub(super) async fn a_scope<A: Adapter>() {
    let world = World::new::<A>().await;
    let user = world.user(&[]);
    let token = |scopes: &str| user.access_token().for_project(&world.project).scopes(scopes).issue();
    assert_eq!(world.get_as("/layer/scope", &token("tasks:read")).await.status, 200);
    let answer = world.get_as("/layer/scope", &token("tasks:reader tasks")).await;
    let challenge = Some("Bearer error=\"insufficient_scope\", scope=\"tasks:read\"");
    assert_eq!(
        refusal(&answer),
        (403, challenge, "permission denied: missing required scope: `tasks:read`\n")
    );
}

pub(super) async fn a_combination<A: Adapter>() {
    let world = World::new::<A>().await;
    let admin = world.user(&["admin"]);
    let reading = admin.access_token().for_project(&world.project).scopes("tasks:read").issue();
    let (without_scope, owner) = (admin.pat(), world.token(&["owner"]));
    let body = "permission denied: missing required scope: `tasks:read` or missing required role: `owner`\n";
    expect(&world, "/layer/combined", &[&reading, &owner], &[&without_scope], body).await;
}

pub(super) async fn a_role_of_another_project<A: Adapter>() {
    let world = World::new::<A>().await;
    // ZITADEL asserts the roles of the asking API's own project only: one of another is never ours.
    let user = world.user(&["admin"]);
    user.grant(&world.other_project, ["auditor", "admin"]);
    let body = "permission denied: missing required role: `auditor`\n";
    // An issuer that says more, as one does where a token asks for it.
    let told = format!("urn:zitadel:iam:org:project:{}:roles", world.other_project.id());
    let answer = |role: &str| {
        let document = serde_json::json!({"active": true, "sub": "1", &told: {role: {"1": "one.example"}}});
        Fault::answer(200, "application/json", document.to_string())
    };
    world.issuer.inject(answer("auditor").for_token("auditor-there"));
    world.issuer.inject(answer("admin").for_token("admin-there"));
    expect(&world, "/layer/project", &["auditor-there"], &["admin-there", &user.pat()], body).await;
    assert_eq!(world.get_as("/admin", "admin-there").await.status, 403, "no admin here");
    let foreign_admin = world.user(&[]);
    foreign_admin.grant(&world.other_project, ["admin"]);
    assert_eq!(world.get_as("/admin", &foreign_admin.pat()).await.status, 403);
}

pub(super) async fn an_organization_from_the_path<A: Adapter>() {
    let world = World::new::<A>().await;
    let guests = world.issuer.organization("Guests");
    world.project.grant_to(&guests);
    let guest = guests.service_user("guest");
    guest.grant_in(&guests, &world.project, ["editor"]);
    let token = guest.pat();
    let answer = world.get_as(&format!("/organizations/{}", guests.id()), &token).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "editor"));
    let other = world.issuer.default_organization().id();
    let answer = world.get_as(&format!("/organizations/{other}"), &token).await;
    assert_eq!(refusal(&answer), (403, INSUFFICIENT, "permission denied: missing required role: `editor`\n"));
    assert!(!format!("{answer:?}").contains(&other), "the id is not repeated");
}

pub(super) async fn the_callers_own_organization<A: Adapter>() {
    let world = World::new::<A>().await;
    let (own, other) = (world.issuer.default_organization().id(), world.issuer.organization("Guests").id());
    let token = world.token(&[]);
    let answer = world.get_as(&format!("/organizations/{own}/own"), &token).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "own"));
    let answer = world.get_as(&format!("/organizations/{other}/own"), &token).await;
    assert_eq!(refusal(&answer), (403, INSUFFICIENT, "permission denied: missing required organization\n"));
    assert!(!format!("{answer:?}").contains(&other), "the id is not repeated");
}

pub(super) async fn role_names_are_exact<A: Adapter>() {
    let world = World::new::<A>().await;
    world.project.add_roles(["Admin", "administrator", "admin "]);
    for near in ["Admin", "administrator", "admin "] {
        assert_eq!(world.get_as("/admin", &world.token(&[near])).await.status, 403, "{near:?}");
    }
}
