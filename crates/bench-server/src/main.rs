//! `GET /public` and `GET /private` with the same short body, on either adapter, with the libraries' defaults
//! and nothing tuned for the race.

use std::{error::Error, path::PathBuf};

use actix_web::{App, HttpServer, web};
use axum::{Router, routing::get};
use clap::{Parser, ValueEnum};
use zitadel_introspect::{ClientAuth, Issuer, Verifier};

const BODY: &str = "hello";

#[derive(Debug, Parser)]
struct Arguments {
    /// Which adapter serves.
    #[arg(long)]
    adapter: Adapter,
    /// The issuer.
    #[arg(long)]
    domain: String,
    /// The key.json of the API.
    #[arg(long)]
    key: PathBuf,
    /// The port, at 127.0.0.1.
    #[arg(long)]
    port: u16,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Adapter {
    Axum,
    Actix,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let auth = ClientAuth::key_file(&arguments.key)?;
    let verifier = Verifier::builder(Issuer::parse(&arguments.domain)?, auth).build()?;
    match arguments.adapter {
        Adapter::Axum => serve_axum(verifier, arguments.port),
        Adapter::Actix => serve_actix(verifier, arguments.port),
    }
}

#[tokio::main]
async fn serve_axum(verifier: Verifier, port: u16) -> Result<(), Box<dyn Error>> {
    let private = async |_: zitadel_introspect_axum::Authorized| BODY;
    let router = Router::new()
        .route("/public", get(async || BODY))
        .route("/private", get(private))
        .with_state(verifier);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, router).await?;
    Ok(())
}

#[actix_web::main]
async fn serve_actix(verifier: Verifier, port: u16) -> Result<(), Box<dyn Error>> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(verifier.clone()))
            .route("/public", web::get().to(async || BODY))
            .route("/private", web::get().to(async |_: zitadel_introspect_actix::Authorized| BODY))
    });
    server.bind(("127.0.0.1", port))?.run().await?;
    Ok(())
}
