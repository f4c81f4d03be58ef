//! A tasks server, as a process, against the transcripts of ZITADEL's guide for APIs.

mod contract;
mod postgres;
mod process;
mod stop;
mod transcripts;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

pub use self::postgres::Postgres;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
};
use zitadel_introspect_testkit::{Api, Issuer, Project, Token};

use crate::{
    http::{Answer, bearer, request},
    report,
};

/// The server under test, and where it keeps its tasks.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The program.
    pub binary: PathBuf,
    /// A PostgreSQL server; none for a file of SQLite.
    pub postgres: Option<Postgres>,
}

/// Runs all cases against the binary, with SQLite.
///
/// # Panics
///
/// With the names of the cases that failed.
pub async fn run(binary: &str) {
    run_all(&Subject { binary: PathBuf::from(binary), postgres: None }).await;
}

/// Runs all cases against the binary, with PostgreSQL where there is a server.
///
/// # Panics
///
/// With the names of the cases that failed.
pub async fn run_on_postgres(binary: &str) {
    if let Some(postgres) = Postgres::find() {
        run_all(&Subject { binary: PathBuf::from(binary), postgres: Some(postgres) }).await;
    }
}

async fn run_all(subject: &Subject) {
    let mut failed = Vec::new();
    let cases = cases(subject);
    let count = cases.len();
    for (name, case) in cases {
        if let Err(error) = tokio::spawn(case).await {
            let cause = error.try_into_panic().ok();
            failed.push(format!("{name}: {}", cause.as_deref().map(crate::message).unwrap_or_default()));
        }
    }
    let name = subject.binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let database = if subject.postgres.is_some() { "PostgreSQL" } else { "SQLite" };
    report(&format!("tasks: {name} on {database}: {count} cases, {} failed", failed.len()));
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

type Case = (&'static str, std::pin::Pin<Box<dyn Future<Output = ()> + Send>>);

macro_rules! cases {
    ($subject:expr, $($module:ident: $($case:ident),+ $(,)?);+ $(;)?) => {
        vec![$($((
            concat!(stringify!($module), "::", stringify!($case)),
            Box::pin($module::$case(Subject::clone($subject))) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
        )),+),+]
    };
}

fn cases(subject: &Subject) -> Vec<Case> {
    cases! { subject,
        transcripts:
            the_guide_byte_for_byte,
            the_demo_replays_the_guide;
        contract:
            a_task_is_read_from_the_body_else_from_the_query,
            a_missing_task_is_a_json_string,
            broken_forms_and_other_types_are_refused,
            a_body_over_the_limit_is_refused,
            any_text_survives_the_round_trip,
            the_hint_is_for_admins_alone,
            authorization_comes_before_the_method,
            unknown_paths_and_methods_are_told,
            private_answers_are_not_kept,
            two_adds_at_once_lose_nothing,
            healthz_needs_no_issuer,
            no_token_reaches_the_log,
            a_list_is_read_in_pages,
            a_long_list_comes_whole_and_in_order,
            readiness_says_what_is_missing;
        process:
            bad_arguments_end_with_one_line_and_status_2,
            a_key_that_the_issuer_refuses_ends_the_start,
            another_issuer_ends_the_start,
            a_port_in_use_ends_the_start,
            an_issuer_that_is_away_is_a_warning_and_heals;
        stop:
            a_signal_ends_the_server_with_status_0,
            requests_under_way_are_finished,
            a_client_that_never_ends_does_not_keep_the_server,
    }
}

impl Subject {
    /// The flags of a server with a database of its own.
    pub async fn arguments(&self, issuer: &Issuer, folder: &TempDir) -> Vec<String> {
        let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let database = match &self.postgres {
            Some(postgres) => postgres.database().await,
            None => format!("sqlite://{}", file("tasks.db")),
        };
        let operations = ["--database", &database, "--metrics-address", "127.0.0.1:0"];
        let api = ["--domain", &issuer.url(), "--key", &file("key.json"), "--port", "0"];
        operations.into_iter().chain(api).map(str::to_owned).collect()
    }
}

/// The embedded issuer, an API key in a file, and a server process.
#[derive(Debug)]
pub struct Tasks {
    /// The issuer.
    pub issuer: Issuer,
    /// With the roles `admin` and `viewer`.
    pub project: Project,
    /// The API of the server.
    pub api: Api,
    /// Holds the key file for as long as the server may read it.
    pub folder: TempDir,
    /// The address of the server's database.
    pub database: String,
    /// The server.
    pub server: Server,
}

impl Tasks {
    /// Starts all of it.
    pub async fn start(subject: &Subject) -> Self {
        Self::start_logging(subject, "info").await
    }

    /// Starts all of it, with a log level for the server.
    pub async fn start_logging(subject: &Subject, level: &str) -> Self {
        let (issuer, project, api, folder) = Self::issuer().await;
        let arguments = subject.arguments(&issuer, &folder).await;
        let server = Server::start_logging(&subject.binary, &arguments, level).await;
        let database = arguments[1].clone();
        Self { issuer, project, api, folder, database, server }
    }

    /// An issuer, a project, and an API with its key file in a folder.
    pub async fn issuer() -> (Issuer, Project, Api, TempDir) {
        let issuer = Issuer::start().await;
        let project = issuer.project("tasks");
        project.add_roles(["admin", "viewer"]);
        let api = project.api("task-api");
        let folder = tempfile::tempdir().unwrap();
        api.write_key_file(folder.path().join("key.json")).unwrap();
        (issuer, project, api, folder)
    }

    /// A token of a new user with these roles.
    pub fn token(&self, roles: &[&str]) -> Token {
        let user = self.issuer.service_user("user");
        if !roles.is_empty() {
            user.grant(&self.project, roles);
        }
        user.pat()
    }

    /// Gets a path.
    pub async fn get(&self, path: &str, token: &str) -> Answer {
        request(self.server.address, &format!("GET {path}"), &[bearer(token)]).await
    }

    /// Adds by POST, with a content type where one is given.
    pub async fn add(&self, token: &str, query: &str, media_type: Option<&str>, body: &str) -> Answer {
        let mut headers = vec![bearer(token)];
        headers.extend(media_type.map(|media_type| format!("content-type: {media_type}")));
        let line = format!("POST /api/add-task{query}");
        crate::http::request_with_body(self.server.address, &line, &headers, body).await
    }
}

/// The type of an urlencoded form.
pub const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

/// A server process that ends when dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// The process.
    pub child: Child,
    /// Lines of standard output and error, as they come.
    pub lines: mpsc::UnboundedReceiver<String>,
    /// The lines up to the one that says where the server listens.
    pub start: Vec<String>,
}

impl Server {
    /// Starts it and waits until it listens.
    pub async fn start(binary: &Path, arguments: &[String]) -> Self {
        Self::start_logging(binary, arguments, "info").await
    }

    /// Starts with a log level of its own.
    pub async fn start_logging(binary: &Path, arguments: &[String], level: &str) -> Self {
        let (child, mut lines) = spawn(binary, arguments, level);
        let mut start = Vec::new();
        while let Some(line) = within(lines.recv()).await {
            start.push(line.clone());
            let Some((_, addr)) = line.split_once("server listening, press ctrl+c to stop addr=http://")
            else {
                continue;
            };
            let port = addr.rsplit_once(':').unwrap().1.parse().unwrap();
            return Self { address: SocketAddr::from(([127, 0, 0, 1], port)), child, lines, start };
        }
        panic!("the server did not start: {start:?}");
    }

    /// Ends the process and gives the lines that were not read yet.
    pub async fn rest(mut self) -> Vec<String> {
        self.child.kill().await.unwrap();
        let mut rest = Vec::new();
        while let Some(line) = self.lines.recv().await {
            rest.push(line);
        }
        rest
    }
}

/// A server on the embedded issuer, and the tokens that it prints.
#[derive(Debug)]
pub struct Demo {
    /// The server.
    pub server: Server,
    /// A token without the role that adds tasks.
    pub viewer: String,
    /// A token with it.
    pub admin: String,
}

impl Demo {
    /// Starts it and reads what it prints.
    pub async fn start(binary: &Path) -> Self {
        let arguments = ["--demo", "--port", "0", "--metrics-address", "127.0.0.1:0"].map(str::to_owned);
        let mut server = Server::start(binary, &arguments).await;
        // The guide comes on standard output, the last line of the start on standard error.
        while !server.start.iter().any(|line| line.starts_with("# in a browser")) {
            server.start.push(within(server.lines.recv()).await.expect("the rest of the guide"));
        }
        let exported = |name: &str| {
            let prefix = format!("export {name}=");
            let found = server.start.iter().find_map(|line| line.strip_prefix(&prefix));
            found.expect("the demo prints its tokens").to_owned()
        };
        let (viewer, admin) = (exported("VIEWER"), exported("ADMIN"));
        Self { server, viewer, admin }
    }
}

/// Starts a program: the process, and the lines that it says.
#[must_use]
pub fn spawn(binary: &Path, arguments: &[String], level: &str) -> (Child, mpsc::UnboundedReceiver<String>) {
    let mut command = Command::new(binary);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.env("RUST_LOG", level);
    let mut child = command.spawn().unwrap();
    let (sender, lines) = mpsc::unbounded_channel();
    forward(BufReader::new(child.stdout.take().unwrap()), sender.clone());
    forward(BufReader::new(child.stderr.take().unwrap()), sender);
    (child, lines)
}

fn forward(reader: impl AsyncBufReadExt + Unpin + Send + 'static, to: mpsc::UnboundedSender<String>) {
    tokio::spawn(async move {
        let mut lines = reader.lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let _ = to.send(line);
        }
    });
}

/// A bound for what must not hang.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("within 30 s")
}
