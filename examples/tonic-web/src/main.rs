//! gRPC from a browser (grpc-web) on tonic: CORS outside, the translation next, the guard inside.
//! `cargo run -p tonic-web-example -- http://127.0.0.1:8080 examples/key.json`

use std::{env, error::Error};

use http::{HeaderName, HeaderValue, Method};
use tokio::net::TcpListener;
use tonic::transport::{Server, server::TcpIncoming};
use tonic_web::GrpcWebLayer;
use tower_http::cors::CorsLayer;
use zitadel_introspect_tonic::{
    ClientAuth, Issuer, Methods, RequireAuthorizationLayer, Requirement, Verifier,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(issuer), Some(key)) = (arguments.next(), arguments.next()) else {
        return Err("give an issuer and a key file".into());
    };
    let verifier = Verifier::builder(Issuer::parse(&issuer)?, ClientAuth::key_file(key)?).build()?;
    serve(TcpListener::bind("127.0.0.1:3000").await?, verifier).await
}

async fn serve(listener: TcpListener, verifier: Verifier) -> Result<(), Box<dyn Error>> {
    // The health service takes the place of your own service.
    let (_, service) = tonic_health::server::health_reporter();
    let methods = Methods::new().require("/grpc.health.v1.Health/Check", Requirement::any_caller());
    // The first layer is the outermost. A browser's preflight carries no token and is not a call. A grpc-web call is
    // translated before the guard sees it, and the guard's refusal is translated on its way back.
    let mut server = Server::builder()
        .accept_http1(true)
        .layer(cors())
        .layer(GrpcWebLayer::new())
        .layer(RequireAuthorizationLayer::new(verifier, methods)?);
    Ok(server.add_service(service).serve_with_incoming(TcpIncoming::from(listener)).await?)
}

fn cors() -> CorsLayer {
    let [web, user_agent] = ["x-grpc-web", "x-user-agent"].map(HeaderName::from_static);
    let [status, message, details] =
        ["grpc-status", "grpc-message", "grpc-status-details-bin"].map(HeaderName::from_static);
    CorsLayer::new()
        .allow_origin(HeaderValue::from_static("https://app.example.com"))
        .allow_methods([Method::POST])
        .allow_headers([http::header::AUTHORIZATION, http::header::CONTENT_TYPE, web, user_agent])
        .expose_headers([status, message, details])
}

#[cfg(test)]
mod tests {
    use zitadel_introspect_tonic::{TestCaller, TestTokens};

    use super::*;

    const METHOD: &str = "grpc.health.v1.Health/Check";
    const ORIGIN: &str = "https://app.example.com";

    #[tokio::test]
    async fn a_browser_is_answered_and_refused_in_words_that_it_can_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/{METHOD}", listener.local_addr().unwrap());
        let verifier = TestTokens::new().caller("adas-token", TestCaller::new("ada")).verifier();
        tokio::spawn(async move { serve(listener, verifier).await.unwrap() });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let preflight = client.request(Method::OPTIONS, &address).header("origin", ORIGIN);
        let preflight = preflight.header("access-control-request-method", "POST").send().await.unwrap();
        assert_eq!(
            (preflight.status(), &preflight.headers()["access-control-allow-origin"]),
            (200.try_into().unwrap(), &HeaderValue::from_static(ORIGIN))
        );
        for (token, status) in [("adas-token", "0"), ("dead", "16")] {
            let call = client.post(&address).header("origin", ORIGIN).header("x-grpc-web", "1");
            let call = call.header("content-type", "application/grpc-web+proto");
            // One empty message.
            let call = call.header("authorization", format!("Bearer {token}")).body(vec![0_u8; 5]);
            let answer = call.send().await.unwrap();
            assert_eq!(answer.headers()["access-control-allow-origin"], ORIGIN);
            let told = answer.headers().get("grpc-status").map(|value| value.to_str().unwrap().to_owned());
            let body = answer.bytes().await.unwrap();
            // In the headers of a refusal, or in the trailers at the end of the body.
            let is_told = told.as_deref() == Some(status)
                || String::from_utf8_lossy(&body).contains(&format!("grpc-status:{status}"));
            assert!(is_told, "{token}: {told:?} {body:?}");
        }
    }
}
