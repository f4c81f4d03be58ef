//! A key file that is replaced while the verifier runs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use zitadel_introspect::{ClientAuth, Issuer, ReloadError, Verifier};
use zitadel_introspect_testkit::Endpoint;

use crate::setup::{World, authorize, chain, status};

fn with_file(world: &World, path: &Path) -> Verifier {
    world.api.write_key_file(path).unwrap();
    let auth = ClientAuth::key_file(path).unwrap();
    Verifier::builder(Issuer::parse(&world.issuer.url()).unwrap(), auth).build().unwrap()
}

/// As a careful operator does it: written beside, then renamed.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

/// The `kid` of the newest assertion.
fn newest_key(world: &World) -> String {
    let requests = world.issuer.requests();
    let newest = requests.iter().rev().find(|request| request.endpoint() == Endpoint::Introspection).unwrap();
    let assertion = newest.form("client_assertion").unwrap();
    let header = assertion.split('.').next().unwrap();
    let header = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, header).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

struct Keyed {
    world: World,
    verifier: Verifier,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

async fn keyed() -> Keyed {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.json");
    let verifier = with_file(&world, &path);
    assert_eq!(status(&authorize(&verifier, &world.admin.pat()).await), 200);
    Keyed { world, verifier, path, _folder: folder }
}

#[tokio::test]
async fn a_new_key_is_taken_up_by_itself_and_the_old_one_may_go() {
    let Keyed { world, verifier, path, _folder } = keyed().await;
    let old = world.api.key();
    let new = world.api.add_key();
    replace(&path, &new.json());
    let taken_up = async {
        while newest_key(&world) != new.id() {
            let asked = world.issuer.introspections();
            world.issuer.asked(Endpoint::Introspection, asked + 1).await;
        }
        // The probe with the new key is under way; it serves once the issuer has accepted it.
        while {
            let _ = authorize(&verifier, &world.admin.pat()).await.unwrap();
            newest_key(&world) != new.id()
        } {}
    };
    tokio::time::timeout(Duration::from_secs(20), taken_up).await.unwrap();
    world.api.remove_key(&old);
    assert_eq!(status(&authorize(&verifier, &world.admin.pat()).await), 200);
}

#[tokio::test]
async fn a_new_key_is_taken_up_when_it_is_asked_for() {
    let Keyed { world, verifier, path, _folder } = keyed().await;
    let new = world.api.add_key();
    replace(&path, &new.json());
    verifier.reload_key().await.unwrap();
    assert_eq!(status(&authorize(&verifier, &world.admin.pat()).await), 200);
    assert_eq!(newest_key(&world), new.id());
}

#[tokio::test]
async fn a_bad_new_file_changes_nothing() {
    let Keyed { world, verifier, path, _folder } = keyed().await;
    let old = world.api.key();
    let foreign = world.project.api("another application");
    let dead = world.api.add_key();
    let dead_json = dead.json();
    world.api.remove_key(&dead);
    for (text, fits) in [
        (String::new(), (|error| matches!(error, ReloadError::File(_))) as fn(&ReloadError) -> bool),
        ("{\"type\":\"serviceaccount\"}".to_owned(), |error| matches!(error, ReloadError::File(_))),
        (foreign.key_json(), |error| matches!(error, ReloadError::OtherClient)),
        (dead_json, |error| matches!(error, ReloadError::Issuer(_))),
    ] {
        replace(&path, &text);
        let error = verifier.reload_key().await.unwrap_err();
        assert!(fits(&error), "{}", chain(&error));
        assert_eq!(status(&authorize(&verifier, &world.admin.pat()).await), 200);
        assert_eq!(newest_key(&world), old.id());
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(verifier.reload_key().await, Err(ReloadError::File(_))));
    assert_eq!(status(&authorize(&verifier, &world.admin.pat()).await), 200);
}

#[tokio::test]
async fn a_key_that_came_from_no_file_cannot_be_read_again() {
    let world = World::new().await;
    assert!(matches!(world.verifier().reload_key().await, Err(ReloadError::NoFile)));
}
