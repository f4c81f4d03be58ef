//! Settings that cannot be used stop the start, and no password is shown.

use std::{io::Write, os::unix::fs::OpenOptionsExt};

use conformance::valkey::Server;
use zitadel_introspect::store::{LogId, Place, SharedStore};
use zitadel_introspect_valkey::Valkey;

fn log() -> LogId {
    LogId::of(&zitadel_introspect::Issuer::parse("https://issuer.example").unwrap())
}

#[test]
fn addresses_are_checked_and_the_password_is_never_shown() {
    for (url, problem) in [
        ("cache.internal", "it is no address"),
        ("http://cache.internal", "does not begin with rediss://"),
        ("rediss://", "no host"),
        ("redis://cache.internal", "not encrypted"),
        ("redis://10.0.0.7:6379", "not encrypted"),
        ("rediss://user:hunter2@cache.internal", "holds a password"),
        ("redis://:hunter2@127.0.0.1", "holds a password"),
        ("rediss://cache.internal/x", "no address of a store"),
        ("rediss://cache.internal?hunter2=1", "more than a user"),
    ] {
        let error = Valkey::builder(url).build().unwrap_err().to_string();
        assert!(error.contains("shared: ") && error.contains(problem), "{url}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    for url in [
        "redis://127.0.0.1",
        "redis://[::1]:7000",
        "redis://localhost/2",
        "rediss://user@cache.internal:7000/1",
    ] {
        let store = Valkey::builder(url).build().unwrap();
        assert!(format!("{store:?}").contains(url.split_once("//").unwrap().0), "{store:?}");
        assert!(!format!("{store:?}").contains("user"), "{store:?}");
    }
    assert!(Valkey::builder("redis://cache.internal").dangerous_allow_plaintext().build().is_ok());
    let with = |pem: &str| Valkey::builder("rediss://cache.internal").root_certificates_pem(pem).build();
    assert!(with("-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----").is_err());
}

#[test]
fn the_file_of_the_password_has_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    let store = || Valkey::builder("redis://127.0.0.1").password_file(&path).build();
    assert!(store().unwrap_err().to_string().contains("cannot be read"));
    for (text, is_good) in
        [("hunter2\n", true), ("hunter2", true), ("", false), ("\n", false), ("hunter2\nx\n", false)]
    {
        std::fs::write(&path, text).unwrap();
        let built = store();
        assert_eq!(built.is_ok(), is_good, "{text:?}");
        let shown = built.map_or_else(|error| error.to_string(), |store| format!("{store:?}"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[tokio::test]
async fn a_user_with_a_password_is_let_in() {
    let settings = ["--requirepass", "other", "--user", "api", "on", ">hunter2", "~*", "+@all"];
    let Some(server) = Server::start(&settings).await else { return };
    let path = server.folder().join("password");
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    file.write_all(b"hunter2\n").unwrap();
    let url = format!("redis://api@{}", server.address());
    let store = Valkey::builder(&url).password_file(&path).build().unwrap();
    store.read(log(), [1; 16], Place::default()).await.unwrap();
    std::fs::write(&path, "hunter3").unwrap();
    let store = Valkey::builder(&url).password_file(&path).build().unwrap();
    let error = store.read(log(), [1; 16], Place::default()).await.unwrap_err().to_string();
    assert!(!error.contains("hunter"), "{error}");
}

#[tokio::test]
async fn tls_trusts_who_it_is_told_to() {
    let authority =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, authority.cert.pem()).unwrap();
    std::fs::write(&key, authority.signing_key.serialize_pem()).unwrap();
    // The port without TLS is for the test's own questions.
    let tls_port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let settings = [
        "--tls-port",
        &tls_port.to_string(),
        "--tls-cert-file",
        certificate.to_str().unwrap(),
        "--tls-key-file",
        key.to_str().unwrap(),
        "--tls-auth-clients",
        "no",
    ];
    let Some(_server) = Server::start(&settings).await else { return };
    let url = format!("rediss://127.0.0.1:{tls_port}");
    let store = Valkey::builder(&url).root_certificates_pem(authority.cert.pem()).build().unwrap();
    store.read(log(), [1; 16], Place::default()).await.unwrap();
    let store = Valkey::builder(&url).build().unwrap();
    assert!(store.read(log(), [1; 16], Place::default()).await.is_err(), "the system does not trust it");
}

#[tokio::test]
async fn what_an_operator_should_change_is_told() {
    let Some(server) = Server::start(&["--maxmemory-policy", "allkeys-lru"]).await else { return };
    let store = Valkey::builder(format!("redis://{}", server.address())).build().unwrap();
    let advice = store.advise().await.unwrap().join("\n");
    assert!(advice.contains("allkeys-lru") && advice.contains("appendonly"), "{advice}");
    server.say(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    server.say(&["CONFIG", "SET", "appendonly", "yes"]).await;
    assert_eq!(store.advise().await.unwrap(), Vec::<String>::new());
}
