//! Two instances and a relay on one server: what happens to the server hurts no request, and no verdict outlives its bound.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use conformance::{
    proxy::{Proxy, Words},
    valkey::Server,
};
use tempfile::TempDir;
use zitadel_introspect::{
    ClientAuth, EventFeed, Issuer, Relay, Requirement, Shared, SharedSecrets, Verifier,
};
use zitadel_introspect_testkit::{self as testkit, Token, User};
use zitadel_introspect_valkey::Valkey;

const SECOND: Duration = Duration::from_secs(1);

struct Cluster {
    server: Server,
    proxy: Proxy,
    issuer: testkit::Issuer,
    user: User,
    first: Verifier,
    second: Verifier,
    _relay: Relay,
    _folder: TempDir,
}

fn shared(address: &str) -> Shared {
    let store = Valkey::builder(format!("redis://{address}")).build().unwrap();
    Shared::new(store, SharedSecrets::from_text(&"5".repeat(64)).unwrap())
}

impl Cluster {
    /// The second instance reaches the server by a proxy.
    async fn start(settings: &[&str]) -> Option<Self> {
        let server = Server::start(settings).await?;
        let proxy = Proxy::start(("127.0.0.1".to_owned(), server.port())).await;
        let issuer = testkit::Issuer::start().await;
        let project = issuer.project("tasks");
        let api = project.api("api");
        let reader = issuer.service_user("reader");
        reader.set_instance_role("IAM_OWNER_VIEWER");
        let folder = tempfile::tempdir().unwrap();
        let token_file = folder.path().join("token");
        reader.pat().write_file(&token_file).unwrap();
        let name = Issuer::parse(&issuer.url()).unwrap();
        let feed = |file: &Path| EventFeed::token_file(file).unwrap().interval(SECOND / 5);
        let relay =
            Relay::builder(name.clone(), feed(&token_file), shared(&server.address())).build().unwrap();
        let verifier = |address: &str| {
            let auth = ClientAuth::key_json(&api.key_json()).unwrap();
            let builder = Verifier::builder(name.clone(), auth).project(project.id());
            builder.shared(shared(address)).build().unwrap()
        };
        let (first, second) = (verifier(&server.address()), verifier(&proxy.address().to_string()));
        let user = issuer.service_user("user");
        let cluster = Self { server, proxy, issuer, user, first, second, _relay: relay, _folder: folder };
        cluster.is_current().await;
        Some(cluster)
    }

    fn both(&self) -> [&Verifier; 2] {
        [&self.first, &self.second]
    }

    /// Waits until both instances know all events up to now.
    async fn is_current(&self) {
        let since = Instant::now();
        for verifier in self.both() {
            within(async {
                while verifier.event_feed().and_then(|feed| feed.age).is_none_or(|age| age >= since.elapsed())
                {
                    a_moment().await;
                }
            })
            .await;
        }
    }

    /// Uses a token on both instances: no request fails.
    async fn all_are_let_in(&self, token: &Token) {
        for verifier in self.both() {
            assert_eq!(code(verifier, token).await, 200);
        }
    }

    /// A token that both have let in is revoked: both refuse it as soon as they are current.
    async fn revocation_counts(&self) {
        let began = Instant::now();
        self.is_current().await;
        conformance::report(&format!("current {:?} after the end of the trouble", began.elapsed()));
        let token = self.user.pat();
        self.is_current().await;
        self.all_are_let_in(&token).await;
        token.revoke();
        self.is_current().await;
        for verifier in self.both() {
            assert_eq!(code(verifier, &token).await, 401);
        }
    }
}

async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SECOND * 30, future).await.expect("within 30 s")
}

async fn code(verifier: &Verifier, token: &str) -> u16 {
    let field = format!("Bearer {token}");
    let outcome = verifier.authorize([field.as_bytes()], &Requirement::any_caller()).await;
    outcome.err().map_or(200, |error| error.status().as_u16())
}

/// Tokens are used without an end: no request fails, whatever becomes of the server.
async fn used_during(cluster: &Cluster, trouble: impl Future<Output = ()>) {
    let tokens: Vec<Token> = (0..4).map(|_| cluster.user.pat()).collect();
    cluster.is_current().await;
    let using = async {
        loop {
            // One more, which nobody holds.
            let new = cluster.user.pat();
            for token in tokens.iter().chain([&new]) {
                cluster.all_are_let_in(token).await;
            }
            a_moment().await;
        }
    };
    tokio::select! {
        () = using => {}
        () = trouble => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_counts_on_both_within_a_second() {
    let Some(cluster) = Cluster::start(&[]).await else { return };
    let mut worst = Duration::ZERO;
    for _ in 0..20 {
        let token = cluster.user.pat();
        cluster.is_current().await;
        cluster.all_are_let_in(&token).await;
        let asked = cluster.issuer.introspections();
        token.revoke();
        let revoked = Instant::now();
        for verifier in cluster.both() {
            within(async {
                while code(verifier, &token).await == 200 {
                    a_moment().await;
                }
            })
            .await;
        }
        worst = worst.max(revoked.elapsed());
        assert!(cluster.issuer.introspections() > asked);
    }
    conformance::report(&format!("refused by both after {worst:?} at most"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_of_one_serves_the_other() {
    let Some(cluster) = Cluster::start(&[]).await else { return };
    let token = cluster.user.pat();
    cluster.is_current().await;
    let asked = cluster.issuer.introspections();
    assert_eq!(code(&cluster.first, &token).await, 200);
    within(async {
        while !cluster.server.say(&["KEYS", "*:v:*"]).await.starts_with("*1") {
            a_moment().await;
        }
    })
    .await;
    assert_eq!(code(&cluster.second, &token).await, 200);
    assert_eq!(cluster.issuer.introspections(), asked + 1);
    assert_eq!(cluster.second.stats().shared, 1);
    cluster.revocation_counts().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_the_server_no_request_fails_and_all_is_well_afterwards() {
    let Some(mut cluster) = Cluster::start(&["--appendonly", "yes", "--appendfsync", "always"]).await else {
        return;
    };
    // Connections are cut.
    used_during(&cluster, async {
        for _ in 0..5 {
            cluster.server.say(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
            tokio::time::sleep(SECOND / 5).await;
        }
    })
    .await;
    cluster.revocation_counts().await;
    // The server stops for a while.
    used_during(&cluster, async {
        cluster.server.signal("STOP").await;
        tokio::time::sleep(SECOND * 3).await;
        cluster.server.signal("CONT").await;
    })
    .await;
    cluster.revocation_counts().await;
    // It loses everything.
    used_during(&cluster, async {
        cluster.server.say(&["FLUSHALL"]).await;
        tokio::time::sleep(SECOND).await;
    })
    .await;
    cluster.revocation_counts().await;
    // The way to it is slow, lossy, cut in the middle of an answer, and closed.
    for words in [Words::Late(SECOND / 2), Words::Lost, Words::Half] {
        used_during(&cluster, async {
            cluster.proxy.set_words(words);
            tokio::time::sleep(SECOND * 2).await;
            cluster.proxy.set_words(Words::Pass);
        })
        .await;
        cluster.revocation_counts().await;
    }
    used_during(&cluster, async {
        cluster.proxy.cut();
        tokio::time::sleep(SECOND * 2).await;
        cluster.proxy.mend();
    })
    .await;
    cluster.revocation_counts().await;
    // It is killed, and started again with its file and without.
    for keeps_file in [true, false] {
        cluster.server.kill().await;
        let token = cluster.user.pat();
        cluster.all_are_let_in(&token).await;
        if !keeps_file {
            let _ = std::fs::remove_dir_all(cluster.server.folder().join("appendonlydir"));
            let _ = std::fs::remove_file(cluster.server.folder().join("appendonly.aof"));
        }
        cluster.server.start_again().await;
        cluster.revocation_counts().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lacks_the_newest_writes_takes_over() {
    let Some(mut cluster) = Cluster::start(&[]).await else { return };
    let Some(replica) = Server::start(&[]).await else { return };
    let port = cluster.server.port().to_string();
    replica.say(&["REPLICAOF", "127.0.0.1", &port]).await;
    within(async {
        while !replica.say(&["INFO", "replication"]).await.contains("master_link_status:up") {
            a_moment().await;
        }
    })
    .await;
    replica.say(&["REPLICAOF", "NO", "ONE"]).await;
    // What comes now does not reach the replica.
    let token = cluster.user.pat();
    cluster.is_current().await;
    cluster.all_are_let_in(&token).await;
    token.revoke();
    cluster.is_current().await;
    // The replica takes the place of the first server, with its older log.
    cluster.server.kill().await;
    drop(std::mem::replace(&mut cluster.server, take_over(replica, &port).await));
    cluster.is_current().await;
    for verifier in cluster.both() {
        assert_eq!(code(verifier, &token).await, 401);
    }
    cluster.revocation_counts().await;
}

/// The replica serves at another port from now on.
async fn take_over(replica: Server, port: &str) -> Server {
    within(async {
        while !replica.say(&["CONFIG", "SET", "port", port]).await.starts_with("+OK") {
            a_moment().await;
        }
    })
    .await;
    replica.at_port(port.parse().unwrap())
}
