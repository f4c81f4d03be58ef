//! An API for pages in a browser, on axum: CORS, web sockets, the program's own `Arc` as state, optional callers, and a
//! proxy that sends the token in a header of its own.
//! `cargo run -p axum-browser -- http://127.0.0.1:8080 examples/key.json`

use std::{
    env,
    error::Error,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{
        ConnectInfo, FromRef, Request, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::{
        HeaderMap, HeaderName, HeaderValue, Method,
        header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL, WWW_AUTHENTICATE},
    },
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use tokio::net::TcpListener;
use tower_http::{cors::CorsLayer, trace::TraceLayer};
use zitadel_introspect_axum::{
    Authorized, Caller, ClientAuth, Issuer, Rejection, RequireAuthorizationLayer, Requirement, Verifier,
};

/// The proxy at this address takes the token from a cookie. Only this proxy may send the token in this header.
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const FROM_PROXY: HeaderName = HeaderName::from_static("x-access-token");

/// The program's state from the time before it had callers.
struct Settings {
    greeting: &'static str,
}

/// A state that holds both. `impl FromRef<Arc<Settings>> for Verifier` is not possible (the orphan rule: neither type
/// is of this crate); with this state `State<Arc<Settings>>` still works in all handlers.
#[derive(Clone, FromRef)]
struct ApiState {
    settings: Arc<Settings>,
    verifier: Verifier,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(issuer), Some(key)) = (arguments.next(), arguments.next()) else {
        return Err("give an issuer and a key file".into());
    };
    let verifier = Verifier::builder(Issuer::parse(&issuer)?, ClientAuth::key_file(key)?).build()?;
    let app = app(verifier).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(TcpListener::bind("127.0.0.1:3000").await?, app).await?;
    Ok(())
}

fn app(verifier: Verifier) -> Router {
    let state = ApiState { settings: Arc::new(Settings { greeting: "hello" }), verifier: verifier.clone() };
    let reports = Router::new()
        .route("/reports", get(async || "reports"))
        .route_layer(RequireAuthorizationLayer::new(verifier, Requirement::any_caller()));
    Router::new()
        .route("/greeting", get(greeting))
        .route("/changes", get(changes))
        .merge(reports)
        // The last layer is the outermost: a browser's preflight, which has no token, is answered outside of the
        // guards, and refusals have CORS headers as well.
        .layer(middleware::from_fn(token_of_proxy))
        .layer(cors())
        .layer(TraceLayer::new_for_http())
        .with_state(state)
}

fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(HeaderValue::from_static("https://app.example.com"))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE])
        // Without this line, a page can read neither the reason of a refusal nor when to retry.
        .expose_headers([WWW_AUTHENTICATE, RETRY_AFTER])
}

/// Open to everybody; but a token that is sent must be valid.
async fn greeting(State(settings): State<Arc<Settings>>, caller: Option<Authorized>) -> String {
    let name = caller.as_ref().and_then(|Authorized(caller)| caller.claims().username());
    format!("{} {}", settings.greeting, name.unwrap_or("stranger"))
}

/// A browser cannot send an `Authorization` header with a web socket: the token comes as a subprotocol, after the name
/// `bearer` (`new WebSocket(url, ["bearer", token])`). Server-sent events do not need this: read them by `fetch`.
async fn changes(
    State(verifier): State<Verifier>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Rejection> {
    let token = token_of_subprotocol(&headers).map(|token| format!("Bearer {token}"));
    let fields = token.as_ref().map(String::as_bytes);
    let caller = verifier.authorize(fields, &Requirement::any_caller()).await?;
    // The token is not repeated in the answer.
    Ok(upgrade.protocols(["bearer"]).on_upgrade(|socket| tell(socket, caller)))
}

fn token_of_subprotocol(headers: &HeaderMap) -> Option<&str> {
    let mut names = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?.split(',').map(str::trim);
    names.find(|name| *name == "bearer")?;
    names.next()
}

/// A socket outlives its request: it ends when its caller is no longer authorized.
async fn tell(mut socket: WebSocket, caller: Caller) {
    let requirement = Requirement::any_caller();
    let mut over = std::pin::pin!(caller.until_unauthorized(&requirement, Duration::from_secs(30)));
    let hello = format!("hello {}", caller.claims().username().unwrap_or("nobody"));
    if socket.send(Message::text(hello)).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            _ = &mut over => return,
            message = socket.recv() => match message {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}

/// Moves the token from the proxy's own header to `Authorization`, the only header that the guard reads. From any other
/// peer, the proxy's header is ignored.
async fn token_of_proxy(mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let token = request.headers_mut().remove(FROM_PROXY).filter(|_| peer == Some(PROXY));
    if let Some(field) =
        token.and_then(|token| HeaderValue::try_from(format!("Bearer {}", token.to_str().ok()?)).ok())
    {
        request.headers_mut().insert(AUTHORIZATION, field);
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Response};
    use futures_util::StreamExt;
    use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest};
    use tower::ServiceExt;
    use zitadel_introspect_axum::{TestCaller, TestTokens};

    use super::*;

    fn api() -> Router {
        app(TestTokens::new().caller("adas-token", TestCaller::new("ada")).verifier())
    }

    async fn ask(method: Method, path: &str, headers: &[(&str, &str)], peer: [u8; 4]) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request =
            request.extension(ConnectInfo(SocketAddr::from((peer, 1)))).body(Body::empty()).unwrap();
        api().oneshot(request).await.unwrap()
    }

    const ELSEWHERE: [u8; 4] = [192, 0, 2, 1];
    const BEARER: (&str, &str) = ("authorization", "Bearer adas-token");

    #[tokio::test]
    async fn a_preflight_is_answered_without_credentials_and_refusals_can_be_read() {
        let origin = ("origin", "https://app.example.com");
        let wish = ("access-control-request-method", "GET");
        let answer = ask(Method::OPTIONS, "/reports", &[origin, wish], ELSEWHERE).await;
        assert_eq!(
            (answer.status(), &answer.headers()["access-control-allow-origin"]),
            (200.try_into().unwrap(), &HeaderValue::from_static(origin.1))
        );
        let answer = ask(Method::GET, "/reports", &[origin], ELSEWHERE).await;
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.headers()["access-control-allow-origin"], origin.1);
        assert!(
            answer.headers()["access-control-expose-headers"].to_str().unwrap().contains("www-authenticate")
        );
        let answer = ask(Method::GET, "/reports", &[("origin", "https://evil.example")], ELSEWHERE).await;
        assert!(!answer.headers().values().any(|value| value == "https://evil.example"));
    }

    #[tokio::test]
    async fn an_optional_caller_and_the_programs_own_state() {
        for (headers, status, text) in [
            (&[][..], 200, "hello stranger"),
            (&[BEARER], 200, "hello ada"),
            (&[("authorization", "Bearer dead")], 401, "unauthorized: invalid token\n"),
        ] {
            let answer = ask(Method::GET, "/greeting", headers, ELSEWHERE).await;
            assert_eq!(answer.status(), status);
            assert_eq!(axum::body::to_bytes(answer.into_body(), 1024).await.unwrap(), text);
        }
    }

    #[tokio::test]
    async fn the_proxys_header_counts_from_the_proxy_alone() {
        let header = ("x-access-token", "adas-token");
        for (peer, status) in [([10, 0, 0, 1], 200), (ELSEWHERE, 401), ([10, 0, 0, 2], 401)] {
            assert_eq!(ask(Method::GET, "/reports", &[header], peer).await.status(), status, "{peer:?}");
        }
        let dead = ("x-access-token", "dead");
        assert_eq!(ask(Method::GET, "/reports", &[dead, BEARER], [10, 0, 0, 1]).await.status(), 401);
        assert_eq!(ask(Method::GET, "/reports", &[dead, BEARER], ELSEWHERE).await.status(), 200);
    }

    #[tokio::test]
    async fn a_web_socket_brings_its_token_as_a_subprotocol() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("ws://{}/changes", listener.local_addr().unwrap());
        let service = api().into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        let connect = async |protocols: Option<&str>| {
            let mut request = address.clone().into_client_request().unwrap();
            if let Some(protocols) = protocols {
                request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
            }
            tokio_tungstenite::connect_async(request).await
        };
        let (mut socket, answer) = connect(Some("bearer, adas-token")).await.unwrap();
        assert_eq!(answer.headers()["sec-websocket-protocol"], "bearer");
        assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap().as_str(), "hello ada");
        for refused in [None, Some("bearer, dead"), Some("adas-token"), Some("bearer")] {
            let error = connect(refused).await.unwrap_err();
            let tungstenite::Error::Http(answer) = error else { panic!("{error}") };
            assert_eq!(answer.status(), 401, "{refused:?}");
        }
    }
}
