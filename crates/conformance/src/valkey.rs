//! A Valkey or Redis server of one's own, for tests.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};

use crate::report;

const PROGRAMS: [&str; 2] = ["valkey-server", "redis-server"];

/// A server, which ends with this value.
#[derive(Debug)]
pub struct Server {
    program: &'static str,
    folder: TempDir,
    port: u16,
    settings: Vec<String>,
    child: Child,
}

impl Server {
    /// A server with these further settings, or a line that says that a test was skipped.
    pub async fn start(settings: &[&str]) -> Option<Self> {
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        let found = PROGRAMS.into_iter().find(|program| {
            std::process::Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok()
        });
        let Some(program) = found else {
            report(
                "SKIPPED: a test that needs a shared store: neither valkey-server nor redis-server is installed",
            );
            return None;
        };
        // Another process may take the port before the server does.
        for _ in 0..20 {
            let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let folder = tempfile::tempdir().unwrap();
            let child = spawn(program, &folder, port, &settings);
            let mut server = Self { program, folder, port, settings: settings.clone(), child };
            if server.answers().await {
                return Some(server);
            }
        }
        panic!("{program} does not start");
    }

    /// Such as `127.0.0.1:7000`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The id of the server's process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same server, which serves at another port now.
    #[must_use]
    pub fn at_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// The folder where the server keeps its file, and tests keep theirs.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Sends a command, each word by itself, and gives the beginning of the answer.
    pub async fn say(&self, words: &[&str]) -> String {
        self.try_say(words).await.unwrap()
    }

    /// Sends a signal: `STOP`, `CONT`.
    pub async fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().await.unwrap().success());
    }

    /// Kills the server.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts the server again, at the same port and with its file, if it has kept one.
    pub async fn start_again(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            self.child = spawn(self.program, &self.folder, self.port, &self.settings);
            if self.answers().await {
                return;
            }
            assert!(Instant::now() < deadline, "{} does not start again", self.program);
        }
    }

    /// Whether the server answers before it ends.
    async fn answers(&mut self) -> bool {
        loop {
            if self.try_say(&["PING"]).await.is_ok() {
                // Another server may have had the port: then ours has ended or ends now.
                tokio::time::sleep(Duration::from_millis(20)).await;
                return self.child.try_wait().unwrap().is_none();
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn try_say(&self, words: &[&str]) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address()).await?;
        let words: Vec<String> = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        stream.write_all(format!("*{}\r\n{}", words.len(), words.concat()).as_bytes()).await?;
        let mut answer = vec![0; 64 * 1024];
        let read = stream.read(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
    }
}

fn spawn(program: &str, folder: &TempDir, port: u16, settings: &[String]) -> Child {
    Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--loglevel", "warning"])
        .args(settings)
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}
