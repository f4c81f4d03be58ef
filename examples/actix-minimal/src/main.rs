//! The smallest protected API on actix-web. Run it with an issuer and a key file:
//! `cargo run -p actix-minimal -- http://127.0.0.1:8080 examples/key.json`

use std::{env, error::Error};

use actix_web::{App, HttpServer, web};
use zitadel_introspect_actix::{Authorized, ClientAuth, Issuer, Verifier};

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(issuer), Some(key)) = (arguments.next(), arguments.next()) else {
        return Err("give an issuer and a key file".into());
    };
    let verifier = Verifier::builder(Issuer::parse(&issuer)?, ClientAuth::key_file(key)?).build()?;
    let server = HttpServer::new(move || App::new().configure(|config| app(config, &verifier)));
    server.bind("127.0.0.1:3000")?.run().await?;
    Ok(())
}

fn app(config: &mut web::ServiceConfig, verifier: &Verifier) {
    config.app_data(web::Data::new(verifier.clone())).route("/hello", web::get().to(hello));
}

async fn hello(Authorized(caller): Authorized) -> String {
    format!("hello {}", caller.claims().username().unwrap_or("nobody"))
}

#[cfg(test)]
mod tests {
    use actix_web::{App, test};
    use zitadel_introspect_actix::{TestCaller, TestTokens};

    #[actix_web::test]
    async fn callers_are_greeted_and_others_are_refused() {
        let verifier = TestTokens::new().caller("adas-token", TestCaller::new("ada")).verifier();
        let app = test::init_service(App::new().configure(|config| super::app(config, &verifier))).await;
        for (token, status, body) in
            [("adas-token", 200, "hello ada"), ("other-token", 401, "unauthorized: invalid token\n")]
        {
            let request = test::TestRequest::get().uri("/hello");
            let request = request.insert_header(("authorization", format!("Bearer {token}"))).to_request();
            let answer = test::call_service(&app, request).await;
            assert_eq!(answer.status(), status);
            assert_eq!(test::read_body(answer).await, body);
        }
    }
}
