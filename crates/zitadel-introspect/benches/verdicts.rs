//! What a held verdict costs: header to caller, requirement included. `cargo bench -p zitadel-introspect`

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

use std::{hint::black_box, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use futures_util::{FutureExt, StreamExt, stream};
use http_body_util::Full;
use hyper::{Response, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use tokio::{net::TcpListener, runtime::Runtime};
use zitadel_introspect::{ClientAuth, EventFeed, Issuer, Requirement, Verifier};
use zitadel_introspect_testkit as testkit;

/// Tokens as long as ZITADEL's own.
fn header(number: usize) -> Vec<u8> {
    format!("Bearer {number:071}").into_bytes()
}

/// An issuer that says of each token that it is an admin's: fast enough to fill a cache.
fn yes_sayer(runtime: &Runtime) -> String {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let discovery = format!(r#"{{"issuer":"{url}","introspection_endpoint":"{url}/introspect"}}"#);
    let answer = r#"{"active":true,"sub":"400956905859583014","iat":1795484939,"aud":["1","2"],"scope":"openid profile","username":"robot","urn:zitadel:iam:org:project:roles":{"admin":{"1":"one.example"},"viewer":{"1":"one.example"},"editor":{"1":"one.example"}},"urn:zitadel:iam:org:project:2:roles":{"admin":{"1":"one.example"},"viewer":{"1":"one.example"},"editor":{"1":"one.example"}}}"#;
    runtime.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let discovery = discovery.clone();
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let is_discovery = request.uri().path().starts_with("/.well-known");
                let body = if is_discovery { discovery.clone() } else { answer.to_owned() };
                let response = Response::builder().header("content-type", "application/json");
                async { response.body(Full::new(Bytes::from(body))) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    url
}

fn filled(runtime: &Runtime, url: &str, entries: usize) -> Verifier {
    let auth = ClientAuth::secret("bench", "bench").unwrap();
    let builder = Verifier::builder(Issuer::parse(url).unwrap(), auth);
    // Long enough that nothing lapses within the bench, and no verdict is pushed out of its shard.
    let builder = builder.cache_capacity(entries * 2).cache_ttl(std::time::Duration::from_secs(3600));
    let verifier = builder.build().unwrap();
    runtime.block_on(stream::iter(0..entries).for_each_concurrent(16, async |number| {
        let _ = verifier.authorize([&*header(number)], &Requirement::any_caller()).await.unwrap();
    }));
    verifier
}

/// The cache crate alone, with values of about the size of ours.
fn bare_cache(entries: usize) -> quick_cache::sync::Cache<[u8; 32], Arc<[u64; 64]>> {
    let cache = quick_cache::sync::Cache::new(entries * 2);
    for number in 0..entries {
        let digest = digest(&SHA256, &header(number)[b"Bearer ".len()..]);
        cache.insert(digest.as_ref().try_into().unwrap(), Arc::new([7; 64]));
    }
    cache
}

fn check(verifier: &Verifier, header: &[u8], requirement: &Requirement) {
    let caller = verifier.authorize([header], requirement).now_or_never().expect("held");
    let _ = black_box(caller.unwrap());
}

fn held(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let url = yes_sayer(&runtime);
    let admin = Requirement::role("admin");
    let mut group = criterion.benchmark_group("held");
    group.bench_function("digest of 71 bytes", |bencher| {
        let token = header(7);
        bencher.iter(|| black_box(digest(&SHA256, black_box(&token))));
    });
    for entries in [1, 10_000, 1_000_000] {
        let verifier = filled(&runtime, &url, entries);
        let hot = header(0);
        group.bench_function(BenchmarkId::new("one hot token", entries), |bencher| {
            bencher.iter(|| check(&verifier, black_box(&hot), &admin));
        });
        let mut next = 0_usize;
        let mut draw = || {
            next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            header((next >> 20) % entries)
        };
        group.bench_function(BenchmarkId::new("random tokens", entries), |bencher| {
            bencher.iter_batched(
                &mut draw,
                |header| check(&verifier, &header, &admin),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(BenchmarkId::new("an eviction that matches none", entries), |bencher| {
            let somebody = "7".into();
            bencher.iter(|| verifier.evict_user(black_box(&somebody)));
        });
        drop(verifier);
        let bare = bare_cache(entries);
        group.bench_function(BenchmarkId::new("digest, bare lookup, one read", entries), |bencher| {
            let read = |header: Vec<u8>| {
                let value = bare.get(digest(&SHA256, &header[b"Bearer ".len()..]).as_ref()).expect("held");
                black_box(value[0]);
            };
            bencher.iter_batched(&mut draw, read, BatchSize::SmallInput);
        });
    }
    group.finish();
}

/// How a hit scales: two threads on one hot token, and on a token each, beside one thread.
fn threads(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let url = yes_sayer(&runtime);
    let admin = Requirement::role("admin");
    let verifier = filled(&runtime, &url, 2);
    let mut group = criterion.benchmark_group("threads");
    for (name, tokens) in [
        ("one thread", vec![0]),
        ("two threads, one token", vec![0, 0]),
        ("two threads, two tokens", vec![0, 1]),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let began = std::time::Instant::now();
                std::thread::scope(|scope| {
                    for token in &tokens {
                        let (verifier, admin, hot) = (&verifier, &admin, header(*token));
                        scope.spawn(move || (0..times).for_each(|_| check(verifier, black_box(&hot), admin)));
                    }
                });
                began.elapsed()
            });
        });
    }
    group.finish();
}

/// What a held verdict takes: the claims of a user in three roles, 100,000 times. Needs Linux (`/proc`).
fn memory(_: &mut Criterion) {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    };
    let runtime = Runtime::new().unwrap();
    let url = yes_sayer(&runtime);
    let few = filled(&runtime, &url, 1_000);
    let before = resident();
    let many = filled(&runtime, &url, 100_000);
    println!("memory of a held verdict: {} bytes", (resident() - before) / 100_000);
    drop((few, many));
}

/// A token of a KiB, held as well.
fn long(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let url = yes_sayer(&runtime);
    let verifier = filled(&runtime, &url, 1);
    let long = [b"Bearer ".as_slice(), &vec![b'a'; 1024]].concat();
    let any = Requirement::any_caller();
    let _ = runtime.block_on(verifier.authorize([&*long], &any)).unwrap();
    let mut group = criterion.benchmark_group("1 KiB");
    group.bench_function("digest", |bencher| bencher.iter(|| black_box(digest(&SHA256, black_box(&long)))));
    group.bench_function("check", |bencher| bencher.iter(|| check(&verifier, black_box(&long), &any)));
    group.finish();
}

/// Reading a JWT that is not held, beside the bare verification of its signature.
fn local(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let issuer = runtime.block_on(testkit::Issuer::start());
    let project = issuer.project("bench");
    let mut group = criterion.benchmark_group("local");
    for (kind, algorithm) in
        [(testkit::Algorithm::Rs256, Algorithm::RS256), (testkit::Algorithm::Es256, Algorithm::ES256)]
    {
        issuer.rotate_key(kind);
        let robot = issuer.service_user("robot");
        let token = robot.access_token().for_project(&project).jwt().issue().to_string();
        let parsed = Issuer::parse(&issuer.url()).unwrap();
        let verifier =
            Verifier::jwt_builder_without_revocation(parsed, project.id()).cache_off().build().unwrap();
        let header = format!("Bearer {token}").into_bytes();
        let any = Requirement::any_caller();
        let _ = runtime.block_on(verifier.authorize([&*header], &any)).unwrap();
        let key = runtime.block_on(public_key(&issuer, algorithm));
        let (message, signature) = token.rsplit_once('.').unwrap();
        group.bench_function(BenchmarkId::new("bare jsonwebtoken", kind_name(algorithm)), |bencher| {
            bencher.iter(|| assert!(crypto::verify(signature, message.as_bytes(), &key, algorithm).unwrap()));
        });
        group.bench_function(BenchmarkId::new("header to caller", kind_name(algorithm)), |bencher| {
            bencher.iter(|| check(&verifier, black_box(&header), &any));
        });
    }
    group.finish();
}

fn kind_name(algorithm: Algorithm) -> String {
    format!("{algorithm:?}")
}

async fn public_key(issuer: &testkit::Issuer, algorithm: Algorithm) -> DecodingKey {
    let answer = reqwest::get(format!("{}/oauth/v2/keys", issuer.url())).await.unwrap();
    let set: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let kid = issuer.signing_key_id();
    let key = set["keys"].as_array().unwrap().iter().find(|key| key["kid"] == *kid).unwrap();
    let text = |name: &str| key[name].as_str().unwrap();
    match algorithm {
        Algorithm::RS256 => DecodingKey::from_rsa_components(text("n"), text("e")).unwrap(),
        _ => DecodingKey::from_ec_components(text("x"), text("y")).unwrap(),
    }
}

/// The same hit where an event feed prolongs the verdict.
fn fed(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (issuer, verifier, header) = runtime.block_on(async {
        let issuer = testkit::Issuer::start().await;
        let project = issuer.project("tasks");
        let reader = issuer.service_user("reader");
        reader.set_instance_role("IAM_OWNER_VIEWER");
        reader.pat().write_file(folder.path().join("token")).unwrap();
        let auth = ClientAuth::key_json(&project.api("api").key_json()).unwrap();
        let builder = Verifier::builder(Issuer::parse(&issuer.url()).unwrap(), auth).project(project.id());
        let feed = EventFeed::token_file(folder.path().join("token")).unwrap();
        let verifier = builder.event_feed(feed).build().unwrap();
        while !verifier.event_feed().unwrap().is_current {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let header = format!("Bearer {}", issuer.service_user("robot").pat()).into_bytes();
        let _ = verifier.authorize([&*header], &Requirement::any_caller()).await.unwrap();
        (issuer, verifier, header)
    });
    let any = Requirement::any_caller();
    criterion.bench_function("held, with an event feed", |bencher| {
        bencher.iter(|| check(&verifier, black_box(&header), &any));
    });
    drop(issuer);
}

criterion_group!(benches, memory, held, fed, threads, long, local);
criterion_main!(benches);
