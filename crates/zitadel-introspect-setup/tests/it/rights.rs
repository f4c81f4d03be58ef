//! The least rights, and an error that names the missing ones, before anything is changed.

use zitadel_introspect_setup::{FeedSetup, Mode, SetupError, WebhookSetup};

use crate::world::World;

const OF_API: [&str; 9] = [
    "project.read",
    "project.create",
    "project.role.read",
    "project.role.write",
    "project.app.read",
    "project.app.write",
    "user.read",
    "user.write",
    "user.grant.read",
];

fn missing(error: &SetupError) -> Vec<&'static str> {
    match error {
        SetupError::MissingRights { rights, .. } => rights.clone(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn each_right_of_an_api_is_needed_and_named() {
    let world = World::of_owner().await;
    for right in OF_API.into_iter().chain(["user.grant.write"]) {
        world.issuer.withdraw_permission(right);
        let events = world.issuer.events().len();
        for mode in [Mode::plan(), Mode::apply()] {
            let error = world.run(&world.tasks(), mode).await.unwrap_err();
            assert_eq!(missing(&error), [right]);
            assert!(error.to_string().contains("ORG_OWNER"), "{error}");
        }
        assert_eq!((world.issuer.events().len(), world.files()), (events, vec![]));
        world.issuer.restore_permissions();
    }
    world.run(&world.tasks(), Mode::apply()).await.unwrap();
    // With everything there, the rights to write are not needed.
    for right in
        ["project.create", "project.role.write", "project.app.write", "user.write", "user.grant.write"]
    {
        world.issuer.withdraw_permission(right);
    }
    world.run(&world.tasks(), Mode::apply()).await.unwrap();
}

#[tokio::test]
async fn each_right_of_events_is_needed_and_named() {
    let world = World::new().await;
    let feed = FeedSetup::new("reader", world.file("events-key.json"));
    let url = "https://tasks.example.com/zitadel/events";
    let webhook = WebhookSetup::new("tasks", url, world.file("signing-keys")).unwrap();
    for right in ["user.read", "user.write", "iam.member.read", "iam.member.write", "events.read"] {
        world.issuer.withdraw_permission(right);
        let error = feed.run(&world.zitadel, Mode::apply(), &mut |_| {}).await.unwrap_err();
        assert_eq!(missing(&error), [right]);
        assert!(error.to_string().contains("IAM_OWNER"), "{error}");
        world.issuer.restore_permissions();
    }
    for right in
        ["action.target.read", "action.target.write", "action.execution.read", "action.execution.write"]
    {
        world.issuer.withdraw_permission(right);
        let error = webhook.run(&world.zitadel, Mode::apply(), &mut |_| {}).await.unwrap_err();
        assert_eq!(missing(&error), [right]);
        world.issuer.restore_permissions();
    }
    assert_eq!(world.files(), [""; 0]);
}

#[tokio::test]
async fn an_owner_of_an_organization_cannot_set_up_events() {
    let world = World::of_owner().await;
    let feed = FeedSetup::new("reader", world.file("events-key.json"));
    let error = feed.run(&world.zitadel, Mode::apply(), &mut |_| {}).await.unwrap_err();
    assert_eq!(missing(&error), ["events.read", "iam.member.read"]);
}

#[tokio::test]
async fn a_creator_of_projects_and_a_user_without_a_role_change_nothing() {
    let organization = |issuer: &zitadel_introspect_testkit::Issuer| issuer.default_organization();
    let creator = World::with(|issuer, admin| {
        admin.set_organization_role(&organization(issuer), "ORG_PROJECT_CREATOR");
    });
    for world in [creator.await, World::with(|_, _| {}).await] {
        let events = world.issuer.events().len();
        let error = world.run(&world.tasks(), Mode::apply()).await.unwrap_err();
        assert!(missing(&error).contains(&"project.role.read"), "{error}");
        assert_eq!(world.issuer.events().len(), events);
    }
}

#[tokio::test]
async fn a_token_that_may_do_more_is_told() {
    let world = World::new().await;
    let outcome = world.run(&world.tasks(), Mode::plan()).await.unwrap();
    let warning = &outcome.warnings[0];
    assert!(warning.contains("IAM_OWNER") && warning.contains("an ORG_OWNER"), "{warning}");
}

#[tokio::test]
async fn a_token_that_zitadel_does_not_accept_is_told() {
    let world = World::new().await;
    let wrong = world.zitadel.with_token(&"nonsense".parse().unwrap());
    let error = world.tasks().run(&wrong, Mode::plan(), &mut |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("wrong, expired or revoked"), "{error}");
}
