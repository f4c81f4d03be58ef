//! A tasks server, as a process, against the transcripts of ZITADEL's guide for APIs.

mod contract;
mod process;
mod stop;
mod transcripts;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

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

/// Runs all cases against the binary.
///
/// # Panics
///
/// With the names of the cases that failed.
pub async fn run(binary: &str) {
    let binary = PathBuf::from(binary);
    let mut failed = Vec::new();
    let cases = cases(&binary);
    let count = cases.len();
    for (name, case) in cases {
        if let Err(error) = tokio::spawn(case).await {
            let cause = error.try_into_panic().ok();
            failed.push(format!("{name}: {}", cause.as_deref().map(crate::message).unwrap_or_default()));
        }
    }
    let name = binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
    report(&format!("tasks: {name}: {count} cases, {} failed", failed.len()));
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

type Case = (&'static str, std::pin::Pin<Box<dyn Future<Output = ()> + Send>>);

macro_rules! cases {
    ($binary:expr, $($module:ident: $($case:ident),+ $(,)?);+ $(;)?) => {
        vec![$($((
            concat!(stringify!($module), "::", stringify!($case)),
            Box::pin($module::$case($binary.to_path_buf())) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
        )),+),+]
    };
}

fn cases(binary: &Path) -> Vec<Case> {
    cases! { binary,
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
            no_token_reaches_the_log;
        process:
            bad_arguments_end_with_one_line_and_status_2,
            a_key_that_the_issuer_refuses_ends_the_start,
            another_issuer_ends_the_start,
            a_port_in_use_ends_the_start,
            an_issuer_that_is_away_is_a_warning_and_heals;
        stop:
            a_signal_ends_the_server_with_status_0,
            requests_under_way_are_finished,
    }
}

/// The embedded issuer, an API key in a file, and a server process.
pub(crate) struct Tasks {
    pub(crate) issuer: Issuer,
    pub(crate) project: Project,
    pub(crate) api: Api,
    /// Holds the key file for as long as the server may read it.
    pub(crate) _folder: TempDir,
    pub(crate) server: Server,
}

impl Tasks {
    pub(crate) async fn start(binary: &Path) -> Self {
        Self::start_logging(binary, "info").await
    }

    pub(crate) async fn start_logging(binary: &Path, level: &str) -> Self {
        let (issuer, project, api, folder) = Self::issuer().await;
        let server = Server::start_logging(binary, &Self::arguments(&issuer, &folder), level).await;
        Self { issuer, project, api, _folder: folder, server }
    }

    pub(crate) async fn issuer() -> (Issuer, Project, Api, TempDir) {
        let issuer = Issuer::start().await;
        let project = issuer.project("tasks");
        project.add_roles(["admin", "viewer"]);
        let api = project.api("task-api");
        let folder = tempfile::tempdir().unwrap();
        api.write_key_file(folder.path().join("key.json")).unwrap();
        (issuer, project, api, folder)
    }

    pub(crate) fn arguments(issuer: &Issuer, folder: &TempDir) -> Vec<String> {
        let key = folder.path().join("key.json").to_string_lossy().into_owned();
        ["--domain", &issuer.url(), "--key", &key, "--port", "0"].map(str::to_owned).to_vec()
    }

    pub(crate) fn token(&self, roles: &[&str]) -> Token {
        let user = self.issuer.service_user("user");
        if !roles.is_empty() {
            user.grant(&self.project, roles);
        }
        user.pat()
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        request(self.server.address, &format!("GET {path}"), &[bearer(token)]).await
    }

    /// Adds by POST, with a content type where one is given.
    pub(crate) async fn add(&self, token: &str, query: &str, media_type: Option<&str>, body: &str) -> Answer {
        let mut headers = vec![bearer(token)];
        headers.extend(media_type.map(|media_type| format!("content-type: {media_type}")));
        let line = format!("POST /api/add-task{query}");
        crate::http::request_with_body(self.server.address, &line, &headers, body).await
    }
}

pub(crate) const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

/// A server process that ends when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) child: Child,
    /// Lines of standard output and error, as they come.
    pub(crate) lines: mpsc::UnboundedReceiver<String>,
    /// The lines up to the one that says where the server listens.
    pub(crate) start: Vec<String>,
}

impl Server {
    pub(crate) async fn start(binary: &Path, arguments: &[String]) -> Self {
        Self::start_logging(binary, arguments, "info").await
    }

    /// Starts with a log level of its own.
    pub(crate) async fn start_logging(binary: &Path, arguments: &[String], level: &str) -> Self {
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
    pub(crate) async fn rest(mut self) -> Vec<String> {
        self.child.kill().await.unwrap();
        let mut rest = Vec::new();
        while let Some(line) = self.lines.recv().await {
            rest.push(line);
        }
        rest
    }
}

pub(crate) fn spawn(
    binary: &Path,
    arguments: &[String],
    level: &str,
) -> (Child, mpsc::UnboundedReceiver<String>) {
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
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("within 30 s")
}
