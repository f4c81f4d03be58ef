//! TLS before an issuer, under a certificate of its own authority.

use std::{net::SocketAddr, sync::Arc};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, rustls};

pub(crate) struct Tls {
    /// `https://localhost:…`
    pub(crate) origin: String,
    /// The certificate, in PEM.
    pub(crate) root: String,
    listener: std::net::TcpListener,
    acceptor: TlsAcceptor,
}

impl Tls {
    pub(crate) fn start() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![cert.der().clone()], key).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let origin = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        Self { origin, root: cert.pem(), listener, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    pub(crate) fn pass_on_to(&self, issuer: SocketAddr) {
        let listener = TcpListener::from_std(self.listener.try_clone().unwrap()).unwrap();
        let acceptor = self.acceptor.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        let mut inner = TcpStream::connect(issuer).await.unwrap();
                        let _ = copy_bidirectional(&mut stream, &mut inner).await;
                    }
                });
            }
        });
    }
}
