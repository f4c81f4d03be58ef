//! The smallest protected API on axum. Run it with an issuer and a key file:
//! `cargo run -p axum-minimal -- http://127.0.0.1:8080 examples/key.json`

use std::{env, error::Error};

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use zitadel_introspect_axum::{Authorized, ClientAuth, Issuer, Verifier};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(issuer), Some(key)) = (arguments.next(), arguments.next()) else {
        return Err("give an issuer and a key file".into());
    };
    let verifier = Verifier::builder(Issuer::parse(&issuer)?, ClientAuth::key_file(key)?).build()?;
    axum::serve(TcpListener::bind("127.0.0.1:3000").await?, app(verifier)).await?;
    Ok(())
}

fn app(verifier: Verifier) -> Router {
    Router::new().route("/hello", get(hello)).with_state(verifier)
}

async fn hello(Authorized(caller): Authorized) -> String {
    format!("hello {}", caller.claims().username().unwrap_or("nobody"))
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    use zitadel_introspect_axum::{TestCaller, TestTokens};

    #[tokio::test]
    async fn callers_are_greeted_and_others_are_refused() {
        let app = super::app(TestTokens::new().caller("adas-token", TestCaller::new("ada")).verifier());
        for (token, status, body) in
            [("adas-token", 200, "hello ada"), ("other-token", 401, "unauthorized: invalid token\n")]
        {
            let request = Request::get("/hello").header("authorization", format!("Bearer {token}"));
            let answer = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), status);
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), body);
        }
    }
}
