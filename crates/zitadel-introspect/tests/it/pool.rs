//! Pooled connections that fall silent: one attempt is lost, and no request.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use zitadel_introspect::Verifier;
use zitadel_introspect_testkit as testkit;

use crate::setup::{World, authorize, status};

/// Passes connections on until they are frozen: then those that there are stay open and carry nothing.
struct Middlebox {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    freeze: watch::Sender<usize>,
}

impl Middlebox {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (freeze, frozen) = watch::channel(0);
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let mut frozen = frozen.clone();
                tokio::spawn(async move {
                    let mut inner = TcpStream::connect(to).await.unwrap();
                    let frozen = async { drop(frozen.wait_for(|frozen| *frozen >= number).await) };
                    let is_frozen = tokio::select! {
                        biased;
                        () = frozen => true,
                        _ = copy_bidirectional(&mut stream, &mut inner) => false,
                    };
                    if is_frozen {
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Self { address, connections, freeze }
    }

    /// All connections that there are.
    fn freeze(&self) {
        self.freeze.send_replace(self.connections.load(Ordering::SeqCst));
    }
}

async fn pooled(connections: usize) -> (World, Middlebox, Verifier) {
    let world = World::at(testkit::Issuer::builder().public_origin("http://issuer.example")).await;
    let middlebox = Middlebox::start(world.issuer.address()).await;
    let verifier = world.builder().connect_to(format!("http://{}", middlebox.address));
    let verifier = verifier.dangerous_allow_http().build().unwrap();
    verifier.check().await.unwrap();
    let held = world.issuer.hold(testkit::Endpoint::Introspection);
    let asking: Vec<_> = (0..connections)
        .map(|_| {
            let (verifier, token) = (verifier.clone(), world.admin.pat());
            tokio::spawn(async move { status(&authorize(&verifier, &token).await) })
        })
        .collect();
    world.issuer.asked(testkit::Endpoint::Introspection, connections + 1).await;
    drop(held);
    for asked in asking {
        assert_eq!(asked.await.unwrap(), 200);
    }
    (world, middlebox, verifier)
}

#[tokio::test]
async fn a_pool_that_fell_silent_costs_the_next_caller_an_attempt_and_nobody_else_anything() {
    let (world, middlebox, verifier) = pooled(20).await;
    middlebox.freeze();
    let began = Instant::now();
    assert_eq!(status(&authorize(&verifier, &world.admin.pat()).await), 200);
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    let connections = middlebox.connections.load(Ordering::SeqCst);
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(status(&authorize(&verifier, &world.admin.pat()).await), 200);
        assert!(began.elapsed() < Duration::from_secs(2), "the dead ones are not tried one by one");
    }
    assert_eq!(middlebox.connections.load(Ordering::SeqCst), connections, "the new connection is kept");
}

#[tokio::test]
async fn several_callers_at_once_on_a_silent_pool_are_all_answered() {
    let (world, middlebox, verifier) = pooled(6).await;
    middlebox.freeze();
    let asking: Vec<_> = (0..6)
        .map(|_| {
            let (verifier, token) = (verifier.clone(), world.admin.pat());
            tokio::spawn(async move { status(&authorize(&verifier, &token).await) })
        })
        .collect();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), 200);
    }
    assert!(!verifier.stats().breaker_open);
}

#[tokio::test]
async fn an_issuer_that_is_only_slow_is_asked_one_question_more() {
    let world = World::new().await;
    let timeout = Duration::from_secs(2);
    let verifier = world.builder().timeout(timeout).build().unwrap();
    verifier.check().await.unwrap();
    let asked = world.issuer.introspections();
    world.issuer.inject(testkit::Fault::latency(timeout * 3 / 4));
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let (verifier, token) = (verifier.clone(), world.admin.pat());
            tokio::spawn(async move { status(&authorize(&verifier, &token).await) })
        })
        .collect();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), 200);
    }
    assert_eq!(world.issuer.introspections() - asked, 21);
}

#[tokio::test]
async fn keys_and_discovery_survive_a_silent_pool_as_well() {
    let (world, middlebox, _) = pooled(1).await;
    let issuer = zitadel_introspect::Issuer::parse("http://issuer.example").unwrap();
    let clock = zitadel_introspect::TestClock::new();
    let verifier = Verifier::jwt_builder_without_revocation(issuer, world.project.id()).clock(&clock);
    let verifier = verifier.connect_to(format!("http://{}", middlebox.address)).dangerous_allow_http();
    let verifier = verifier.build().unwrap();
    verifier.check().await.unwrap();
    middlebox.freeze();
    clock.advance(Duration::from_secs(20));
    world.issuer.rotate_key(testkit::Algorithm::Es256);
    let request = world.admin.access_token().for_project(&world.project).jwt();
    let token = request.scopes("urn:zitadel:iam:org:projects:roles").issue();
    assert_eq!(status(&authorize(&verifier, &token).await), 200);
}
