//! An API from nothing.

use std::time::Duration;

use zitadel_introspect::{ClientAuth, Requirement, Verifier};
use zitadel_introspect_setup::{ApiSetup, Mode, Sign};
use zitadel_introspect_testkit::Profile;

use crate::world::{World, signs};

const ALL: [&str; 9] = [
    "project",
    "role",
    "application",
    "key",
    "service user",
    "token",
    "service user",
    "authorization",
    "token",
];

async fn status(verifier: &Verifier, token: &str, requirement: &Requirement) -> u16 {
    let header = format!("Bearer {}", token.trim());
    match verifier.authorize([header.as_bytes()], requirement).await {
        Ok(_) => 200,
        Err(error) => error.status().as_u16(),
    }
}

fn verifier(world: &World) -> Verifier {
    let issuer = zitadel_introspect::Issuer::parse(&world.issuer.url()).unwrap();
    let auth = ClientAuth::key_file(world.file("key.json")).unwrap();
    Verifier::builder(issuer, auth).build().unwrap()
}

#[tokio::test]
async fn from_nothing_to_a_protected_api() {
    let world = World::of_owner().await;
    let outcome = world.run(&world.tasks(), Mode::apply()).await.unwrap();
    assert_eq!(signs(&outcome.steps), ALL.map(|what| format!("+{what}")));
    assert!(outcome.steps.iter().all(|step| step.is_done) && outcome.warnings.is_empty());
    assert_eq!(world.files(), ["boss.token", "key.json", "viewer.token"]);
    let verifier = verifier(&world);
    let (any, admin) = (Requirement::any_caller(), Requirement::role("admin"));
    for (token, expected) in [("viewer.token", [200, 403]), ("boss.token", [200, 200])] {
        let token = world.text(token);
        let found = [status(&verifier, &token, &any).await, status(&verifier, &token, &admin).await];
        assert_eq!(found, expected);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn only_this_user_can_read_the_secrets() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::of_owner().await;
    world.run(&world.tasks(), Mode::apply()).await.unwrap();
    for file in world.files() {
        let mode = std::fs::metadata(world.file(&file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_second_run_changes_nothing() {
    let world = World::of_owner().await;
    world.run(&world.tasks(), Mode::apply()).await.unwrap();
    let (events, key) = (world.issuer.events().len(), world.text("key.json"));
    for mode in [Mode::apply(), Mode::apply().updating(true), Mode::plan()] {
        let outcome = world.run(&world.tasks(), mode).await.unwrap();
        assert_eq!(signs(&outcome.steps), ALL.map(|what| format!("={what}")));
    }
    assert_eq!(world.issuer.events().len(), events);
    assert_eq!(world.text("key.json"), key);
}

#[tokio::test]
async fn a_plan_changes_nothing() {
    let world = World::of_owner().await;
    let events = world.issuer.events().len();
    let outcome = world.run(&world.tasks(), Mode::plan()).await.unwrap();
    assert_eq!(signs(&outcome.steps), ALL.map(|what| format!("+{what}")));
    assert!(outcome.steps.iter().all(|step| !step.is_done));
    assert_eq!((world.issuer.events().len(), world.files()), (events, vec![]));
}

#[tokio::test]
async fn what_is_missing_is_made_and_the_rest_stays() {
    let world = World::of_owner().await;
    world.run(&world.tasks(), Mode::apply()).await.unwrap();
    let more = world.tasks().role("editor").robot("writer", ["editor"]);
    let outcome = world.run(&more, Mode::apply()).await.unwrap();
    let made: Vec<_> = outcome.steps.iter().filter(|step| step.sign == Sign::Create).collect();
    let names: Vec<_> = made.iter().map(|step| (step.what, &*step.name)).collect();
    let writer = "writer";
    assert_eq!(
        names,
        [("role", "editor"), ("service user", writer), ("authorization", writer), ("token", writer)]
    );
}

#[tokio::test]
async fn an_authorization_is_widened_by_an_update_alone_and_never_narrowed() {
    let world = World::of_owner().await;
    let setup = ApiSetup::new("tasks", world.file("key.json")).role("admin").role("editor").role("owner");
    world.run(&setup.clone().robot("boss", ["owner"]), Mode::apply()).await.unwrap();
    let wider = setup.robot("boss", ["admin", "editor"]);
    let before = world.snapshot().await;
    let outcome = world.run(&wider, Mode::apply()).await.unwrap();
    let left = outcome.steps.iter().find(|step| step.sign == Sign::Change).unwrap();
    assert_eq!(left.to_string(), "~ authorization \"boss\"  lacks admin, editor");
    assert!(outcome.leaves_differences() && !left.is_done);
    assert_eq!(world.snapshot().await, before);

    let outcome = world.run(&wider, Mode::apply().updating(true)).await.unwrap();
    assert!(!outcome.leaves_differences());
    let users = world.snapshot().await["users"].to_string();
    assert!(users.contains(r#"["boss",1,["admin","editor","owner"],[]]"#), "{users}");
    let outcome = world.run(&wider, Mode::apply()).await.unwrap();
    assert!(outcome.steps.iter().all(|step| step.sign == Sign::Same));
}

#[tokio::test]
async fn a_file_is_never_overwritten() {
    let world = World::of_owner().await;
    let other = world.issuer.project("other").api("other");
    for text in ["{}", "", "secret of somebody else", &other.key_json()] {
        std::fs::write(world.file("key.json"), text).unwrap();
        let events = world.issuer.events().len();
        let error = world.run(&world.tasks(), Mode::apply()).await.unwrap_err().to_string();
        assert!(error.contains("holds no key of this application"), "{error}");
        assert!(!error.contains("somebody"), "{error}");
        assert_eq!(world.text("key.json"), text);
        assert_eq!(world.issuer.events().len(), events, "nothing was changed before the error");
    }
}

#[tokio::test]
async fn a_file_with_a_dead_secret_is_told_from_a_good_one() {
    let world = World::of_owner().await;
    world.run(&world.tasks(), Mode::apply()).await.unwrap();
    let token = world.text("viewer.token");
    std::fs::write(world.file("viewer.token"), world.text("boss.token")).unwrap();
    let error = world.run(&world.tasks(), Mode::apply()).await.unwrap_err().to_string();
    assert!(error.contains("holds the token of another user"), "{error}");
    std::fs::write(world.file("viewer.token"), &token).unwrap();
    world.issuer.advance(Duration::from_secs(91 * 86_400));
    let error = world.run(&world.tasks(), Mode::apply()).await.unwrap_err().to_string();
    assert!(error.contains("token"), "the administrator's own token lives on: {error}");
    assert!(!error.contains(token.trim()), "{error}");
}

#[tokio::test]
async fn a_thing_that_is_something_else_is_left_alone() {
    let world = World::of_owner().await;
    let project = world.issuer.project("tasks");
    let _ = project.secret_api("tasks");
    let error = world.run(&world.tasks(), Mode::apply()).await.unwrap_err().to_string();
    assert!(error.contains("is not an API that authenticates by a key"), "{error}");

    let setup = world.tasks().application("tasks by key");
    let _ = world.issuer.person("viewer", Profile::default());
    let error = world.run(&setup, Mode::apply()).await.unwrap_err().to_string();
    assert!(error.contains("\"viewer\" is a person"), "{error}");

    project.deactivate();
    let error = world.run(&setup, Mode::apply()).await.unwrap_err().to_string();
    assert!(error.contains("\"tasks\" is deactivated"), "{error}");
}

#[tokio::test]
async fn the_organization_is_looked_up() {
    let world = World::new().await;
    let other = world.issuer.organization("Acme");
    for named in ["Acme", &other.id()] {
        let setup = ApiSetup::new("shop", world.file("key.json")).organization(named);
        world.run(&setup, Mode::apply()).await.unwrap();
    }
    for named in ["nobody", "399999999999999999", ""] {
        let setup = ApiSetup::new("shop", world.file("none.json")).organization(named);
        let error = world.run(&setup, Mode::apply()).await.unwrap_err().to_string();
        assert!(error.contains("is no id and no name of an organization"), "{error}");
    }
}

#[tokio::test]
async fn settings_that_cannot_be_meant_are_refused_before_anything_is_asked() {
    let world = World::of_owner().await;
    let tasks = || world.tasks();
    for (setup, expected) in [
        (tasks().robot("x", ["amdin"]), "\"amdin\""),
        (tasks().robot("boss", ["admin"]), "named twice"),
        (tasks().robot("../x", [""; 0]), "robot: "),
        (tasks().robot(".x", [""; 0]), "robot: "),
        (tasks().role(""), "role: "),
        (tasks().role("r".repeat(201)), "role: "),
        (ApiSetup::new("a\nb", "key.json"), "project: "),
        (tasks().application("a".repeat(201)), "application: "),
        (ApiSetup::new("tasks", world.file("none/key.json")), "key_file: its folder does not exist"),
        (tasks().token_folder(world.file("none")), "token_folder: its folder does not exist"),
        (tasks().token_lifetime(Duration::from_secs(59)), "token_lifetime: is shorter than a minute"),
        (tasks().key_lifetime(Duration::ZERO), "key_lifetime: is shorter than a minute"),
    ] {
        let error = world.run(&setup, Mode::apply()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(world.issuer.requests().len(), 0);
    world.run(&tasks().token_lifetime(Duration::from_secs(60)), Mode::plan()).await.unwrap();
    let longest = tasks().role("r".repeat(200)).robot("u".repeat(200), [""; 0]);
    world.run(&longest, Mode::plan()).await.unwrap();
}

#[tokio::test]
async fn no_secret_stands_in_what_is_told() {
    let world = World::of_owner().await;
    let mut told = Vec::new();
    let outcome = world
        .tasks()
        .run(&world.zitadel, Mode::apply(), &mut |step| told.extend([step.to_string(), format!("{step:?}")]))
        .await
        .unwrap();
    let report =
        format!("{told:?}{outcome:?}{}{:?}", serde_json::to_string(&outcome.steps).unwrap(), world.zitadel);
    let key: serde_json::Value = serde_json::from_str(&world.text("key.json")).unwrap();
    for secret in [&world.text("boss.token"), &world.text("viewer.token"), key["key"].as_str().unwrap()] {
        assert!(!report.contains(secret.trim()));
    }
    assert!(!report.contains("PRIVATE KEY"));
}
