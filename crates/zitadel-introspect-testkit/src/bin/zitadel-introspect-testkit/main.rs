//! A local ZITADEL-compatible issuer on a fixed port, described by a file. For tests and demos only.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is run for")]

mod description;
mod instance;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use description::Description;
use instance::Instance;
use zitadel_introspect_testkit::Issuer;

/// How often the file is checked for changes.
const INTERVAL: Duration = Duration::from_millis(250);

/// A ZITADEL-compatible issuer on a loopback port, for tests and demos only.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// A TOML file that describes projects, users, grants and tokens; it is read again when it changes.
    file: PathBuf,

    /// The port to listen on, at 127.0.0.1; 0 lets the system choose.
    #[arg(long, default_value_t = 8080)]
    port: u16,

    /// Overwrite key files that are there already: keys are made anew at each start.
    #[arg(long)]
    overwrite_keys: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let description = read(&arguments.file)?;
    let started = Issuer::builder().port(arguments.port).start().await;
    let issuer = started.map_err(|error| format!("--port: cannot listen on {} ({error})", arguments.port))?;
    eprintln!("WARNING: a test issuer: keys and tokens are made up, and nothing here is safe for production");
    println!("issuer {}", issuer.url());
    let folder = arguments.file.parent().unwrap_or(Path::new("")).to_owned();
    let mut instance = Instance::new(issuer, folder, arguments.overwrite_keys);
    instance.apply(&description)?;
    tokio::select! {
        () = follow(&arguments.file, description, &mut instance) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}

/// Applies the file again whenever its content changes. A file that cannot be read changes nothing.
async fn follow(path: &Path, mut current: Description, instance: &mut Instance) {
    let mut complaint = String::new();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let outcome = match read(path) {
            Ok(new) if new == current => Ok(()),
            Ok(new) => {
                let applied = instance.apply(&new);
                current = new;
                applied.map(|()| println!("reloaded"))
            }
            Err(error) => Err(error),
        };
        let error = outcome.err().unwrap_or_default();
        if !error.is_empty() && error != complaint {
            eprintln!("error: {error}; what was read before stays in force");
        }
        complaint = error;
    }
}

fn read(path: &Path) -> Result<Description, String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: cannot be read ({error})"))?;
    let description: Description =
        toml::from_str(&text).map_err(|error| format!("{name}: {}", error.to_string().replace('\n', " ")))?;
    description.check().map_err(|error| format!("{name}: {error}"))?;
    Ok(description)
}
