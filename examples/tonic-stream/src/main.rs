//! A stream in both directions that ends when its caller's token does. Run it with an issuer and a key file:
//! `cargo run -p tonic-stream -- http://127.0.0.1:8080 examples/key.json`, and talk to it:
//! `grpcurl -plaintext -import-path examples/tonic-stream/proto -proto chat.proto -d @ \
//!     -H "authorization: Bearer $VIEWER" localhost:3000 chat.v1.Chat/Talk`

use std::{env, error::Error, pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};
use zitadel_introspect_tonic::{
    Authorized, ClientAuth, Issuer, Methods, RequireAuthorizationLayer, Requirement, Verifier,
    while_authorized,
};

use self::chat::{
    Said,
    chat_server::{Chat, ChatServer},
};

#[expect(unreachable_pub, clippy::pedantic, reason = "generated from proto/chat.proto")]
mod chat {
    tonic::include_proto!("chat.v1");
}

/// How often the stream checks the cached verdict, to notice a revoked token. The issuer is asked only once in 60 s, or
/// after an eviction.
const LOOK: Duration = Duration::from_secs(1);

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
    let methods = Methods::new().require("/chat.v1.Chat/Talk", Requirement::any_caller());
    let mut server = Server::builder().layer(RequireAuthorizationLayer::new(verifier, methods)?);
    let serving = server.add_service(ChatServer::new(Echo)).serve_with_incoming(TcpIncoming::from(listener));
    Ok(serving.await?)
}

struct Echo;

#[tonic::async_trait]
impl Chat for Echo {
    type TalkStream = Pin<Box<dyn Stream<Item = Result<Said, Status>> + Send>>;

    async fn talk(&self, request: Request<Streaming<Said>>) -> Result<Response<Self::TalkStream>, Status> {
        let Authorized(caller) = Authorized::of(&request)?;
        Ok(Response::new(
            while_authorized(request.into_inner(), &caller, Requirement::any_caller(), LOOK).boxed(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use futures_util::stream;
    use tokio::net::TcpListener;
    use tonic::{Code, Request};
    use zitadel_introspect_testkit::Issuer;
    use zitadel_introspect_tonic::{ClientAuth, Verifier};

    use super::chat::{Said, chat_client::ChatClient};

    #[tokio::test]
    async fn a_stream_ends_with_its_token() {
        let issuer = Issuer::start().await;
        let auth = ClientAuth::key_json(&issuer.project("chat").api("api").key_json()).unwrap();
        let name = zitadel_introspect_tonic::Issuer::parse(&issuer.url()).unwrap();
        let verifier = Verifier::builder(name, auth).build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { super::serve(listener, verifier).await.unwrap() });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let token = issuer.service_user("ada").pat_until(i64::try_from(now).unwrap() + 3);
        let said = stream::unfold((), |()| async { Some((Said { text: "still here".to_owned() }, ())) });
        let mut request = Request::new(said);
        request.metadata_mut().insert("authorization", format!("Bearer {}", &*token).parse().unwrap());
        let mut answers =
            ChatClient::connect(address).await.unwrap().talk(request).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().text, "still here");
        let end = async {
            loop {
                if let Err(status) = answers.message().await {
                    return status;
                }
            }
        };
        let end = tokio::time::timeout(Duration::from_secs(20), end).await.expect("it ends");
        assert_eq!((end.code(), end.message()), (Code::Unauthenticated, "invalid token"));
    }
}
