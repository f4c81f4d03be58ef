//! What the command line and the environment say.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, error::ErrorKind};

use crate::start::{BAD_CONFIGURATION, say};

/// The tasks server of ZITADEL's guide for APIs.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// The ZITADEL instance: its domain (my-domain.zitadel.cloud) or origin (`http://localhost:8080`).
    #[arg(long, env = "TASK_API_DOMAIN", required_unless_present = "demo")]
    domain: Option<String>,

    /// The key.json of the API application, downloaded from ZITADEL's Console.
    #[arg(long, env = "TASK_API_KEY", required_unless_present = "demo")]
    key: Option<PathBuf>,

    /// The port to listen on; 0 lets the system choose.
    #[arg(long, env = "TASK_API_PORT", default_value_t = 8089)]
    pub(crate) port: u16,

    /// The address to listen on.
    #[arg(long, env = "TASK_API_BIND", default_value = "127.0.0.1")]
    pub(crate) bind: IpAddr,

    /// Needs no ZITADEL: starts an embedded issuer, for trying out only, and prints what to try.
    #[arg(long)]
    pub(crate) demo: bool,
}

impl Arguments {
    /// Reads them; the exit code where there is nothing to run.
    pub(crate) fn read() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let _ = error.print();
                ExitCode::SUCCESS
            }
            _ => {
                say(&format!("{}; try --help", one_line(&error)));
                ExitCode::from(BAD_CONFIGURATION)
            }
        })
    }

    /// Domain and key, which are there unless this is a demo.
    pub(crate) fn issuer_and_key(&self) -> (&str, &Path) {
        (self.domain.as_deref().unwrap_or_default(), self.key.as_deref().unwrap_or(Path::new("")))
    }

    /// Where a person on this machine reaches the server.
    pub(crate) fn public_address(&self, bound: SocketAddr) -> String {
        if self.bind == IpAddr::from([127, 0, 0, 1]) {
            format!("http://localhost:{}", bound.port())
        } else {
            format!("http://{bound}")
        }
    }
}

/// The first paragraph of clap's message.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first: Vec<_> = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    first.join(" ")
}
