//! Other ways to the issuer: another address, a proxy, a private certificate authority, extra headers.

use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedKey, IsCa, KeyPair, SanType, date_time_ymd,
    generate_simple_self_signed,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, pki_types::CertificateDer},
};
use zitadel_introspect::{ClientAuth, Issuer, IssuerError, Verifier, VerifierBuilder};
use zitadel_introspect_testkit as testkit;

use crate::setup::{World, authorize, status};

#[tokio::test]
async fn the_issuer_is_reached_by_another_address_and_keeps_its_name() {
    let world = World::at(testkit::Issuer::builder().public_origin("https://auth.example.com")).await;
    let address = format!("http://{}", world.issuer.address());
    let verifier = world.builder().connect_to(address).build().unwrap();
    verifier.check().await.unwrap();
    let caller = authorize(&verifier, &world.token).await.unwrap();
    assert_eq!(caller.claims().issuer(), Some("https://auth.example.com"));
}

/// An issuer behind TLS, under a certificate of its own authority.
pub(crate) struct TlsIssuer {
    pub(crate) world: World,
    pub(crate) origin: String,
    pub(crate) root: String,
}

impl TlsIssuer {
    pub(crate) async fn start() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self::with(cert.der().clone(), signing_key.serialize_der(), cert.pem()).await
    }

    async fn with(certificate: CertificateDer<'static>, key: Vec<u8>, root: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let world = World::at(testkit::Issuer::builder().public_origin(&origin)).await;
        let key = rustls::pki_types::PrivateKeyDer::try_from(key).unwrap();
        tokio::spawn(end_tls(listener, tls(certificate, key), world.issuer.address()));
        Self { world, origin, root }
    }

    pub(crate) fn builder(&self) -> VerifierBuilder {
        self.world.builder().root_certificates_pem(self.root.clone())
    }
}

#[tokio::test]
async fn a_private_certificate_authority_is_trusted_only_where_configured() {
    let tls = TlsIssuer::start().await;
    assert!(matches!(tls.world.verifier().check().await, Err(IssuerError::Unreachable(_))));
    let trusting = tls.builder().build().unwrap();
    trusting.check().await.unwrap();
    assert_eq!(status(&authorize(&trusting, &tls.world.token).await), 200);
}

#[tokio::test]
async fn each_reason_why_there_is_no_connection_is_told_with_what_to_do() {
    // Untrusted.
    let tls = TlsIssuer::start().await;
    expect(tls.world.builder(), "not signed by an authority that is trusted here").await;
    // For another name, over, of an authority.
    let make = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.der().clone(), key.serialize_der(), certificate.pem())
    };
    let other_name = make(&|params| {
        params.subject_alt_names = vec![SanType::DnsName("other.example".try_into().unwrap())];
    });
    let over = make(&|params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let authority = make(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    for ((certificate, key, root), told) in
        [(other_name, "for another name"), (over, "has expired"), (authority, "CA:TRUE")]
    {
        let tls = TlsIssuer::with(certificate, key, root).await;
        expect(tls.builder(), told).await;
    }
    // TLS where there is none, no listener, no such name.
    let plain = World::new().await;
    let address = plain.issuer.address();
    expect(to(&format!("https://{address}")), "does not speak TLS").await;
    plain.issuer.stop().await;
    expect(to(&format!("https://{address}")), "nothing listens there").await;
    expect(to("https://no-such-host.invalid"), "the name is not known here").await;
}

fn to(origin: &str) -> VerifierBuilder {
    let auth = ClientAuth::secret("id", "secret").unwrap();
    Verifier::builder(Issuer::parse(origin).unwrap(), auth)
}

async fn expect(builder: VerifierBuilder, told: &str) {
    let error = builder.build().unwrap().check().await.unwrap_err();
    let text = error.explain();
    assert!(text.contains(told) && !text.contains('\n'), "{text}");
}

#[tokio::test]
async fn a_proxy_and_extra_headers_are_used() {
    let world = World::at(testkit::Issuer::builder().public_origin("http://issuer.example")).await;
    let proxy = Proxy::start(world.issuer.address()).await;
    let verifier = world
        .builder()
        .dangerous_allow_http()
        .proxy(format!("http://{}", proxy.address))
        .header("x-gateway-key", "open")
        .build()
        .unwrap();
    verifier.check().await.unwrap();
    let seen = proxy.seen.lock().unwrap().clone();
    assert!(seen.iter().all(|head| head.contains("http://issuer.example/")), "{seen:?}");
    assert!(seen.iter().all(|head| head.to_lowercase().contains("x-gateway-key: open")), "{seen:?}");
}

#[tokio::test]
async fn a_loopback_issuer_is_never_asked_through_a_proxy() {
    let world = World::new().await;
    let refused = world.builder().proxy("http://proxy.example:3128").build().err().unwrap();
    assert!(refused.to_string().starts_with("proxy: has no effect: a loopback issuer"), "{refused}");
}

fn tls(
    certificate: rustls::pki_types::CertificateDer<'static>,
    key: rustls::pki_types::PrivateKeyDer<'static>,
) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Takes TLS off and passes the rest on.
async fn end_tls(listener: TcpListener, acceptor: TlsAcceptor, to: std::net::SocketAddr) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut inner = TcpStream::connect(to).await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut inner).await;
            }
        });
    }
}

/// An HTTP proxy that passes everything to one address and keeps the heads that it saw.
struct Proxy {
    address: std::net::SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(to: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let heads = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let heads = Arc::clone(&heads);
                tokio::spawn(async move {
                    let mut buffer = vec![0; 16 * 1024];
                    let read = stream.read(&mut buffer).await.unwrap();
                    heads.lock().unwrap().push(String::from_utf8_lossy(&buffer[..read]).into_owned());
                    let mut inner = TcpStream::connect(to).await.unwrap();
                    inner.write_all(&buffer[..read]).await.unwrap();
                    let _ = copy_bidirectional(&mut stream, &mut inner).await;
                });
            }
        });
        Self { address, seen }
    }
}
