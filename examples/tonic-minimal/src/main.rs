//! The smallest protected service on tonic. Run it with an issuer and a key file:
//! `cargo run -p tonic-minimal -- http://127.0.0.1:8080 examples/key.json`, and call it:
//! `grpcurl -plaintext -import-path examples/tonic-minimal/proto -proto hello.proto \
//!     -H "authorization: Bearer $VIEWER" localhost:3000 hello.v1.Greeter/Hello`

use std::{env, error::Error};

use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};
use zitadel_introspect_tonic::{
    Authorized, ClientAuth, Issuer, Methods, RequireAuthorizationLayer, Requirement, Verifier,
};

use self::hello::{
    HelloRequest, HelloResponse,
    greeter_server::{Greeter, GreeterServer},
};

#[expect(unreachable_pub, clippy::pedantic, reason = "generated from proto/hello.proto")]
mod hello {
    tonic::include_proto!("hello.v1");
}

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
    // A method that is not named here is denied.
    let methods = Methods::new().require("/hello.v1.Greeter/Hello", Requirement::any_caller());
    let mut server = Server::builder().layer(RequireAuthorizationLayer::new(verifier, methods)?);
    let serving =
        server.add_service(GreeterServer::new(Hello)).serve_with_incoming(TcpIncoming::from(listener));
    Ok(serving.await?)
}

struct Hello;

#[tonic::async_trait]
impl Greeter for Hello {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        let Authorized(caller) = Authorized::of(&request)?;
        let text = format!("hello {}", caller.claims().username().unwrap_or("nobody"));
        Ok(Response::new(HelloResponse { text }))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tonic::{Code, Request};
    use zitadel_introspect_tonic::{TestCaller, TestTokens};

    use super::hello::{HelloRequest, greeter_client::GreeterClient};

    #[tokio::test]
    async fn callers_are_greeted_and_others_are_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let verifier = TestTokens::new().caller("adas-token", TestCaller::new("ada")).verifier();
        tokio::spawn(async move { super::serve(listener, verifier).await.unwrap() });
        let mut client = GreeterClient::connect(address).await.unwrap();
        let with = |token: &str| {
            let mut request = Request::new(HelloRequest {});
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
            request
        };
        let answer = client.hello(with("adas-token")).await.unwrap();
        assert_eq!(answer.into_inner().text, "hello ada");
        let refused = client.hello(with("other-token")).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::Unauthenticated, "invalid token"));
    }
}
