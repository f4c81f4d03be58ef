//! A server of its own process and core, and what it costs.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "measuring tools end where they cannot measure"
)]

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

/// The `bench-server` of one adapter, pinned to the first core.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

/// What some requests have cost.
#[derive(Debug, Clone, Copy)]
pub struct Lap {
    /// Seconds.
    pub cpu_per_request: f64,
    /// Answers.
    pub requests_per_second: f64,
    /// The share of the time in which the server was at work.
    pub server_busy: f64,
}

impl Server {
    /// Starts it.
    #[must_use]
    pub fn start(adapter: &str, issuer: &str, key: &Path) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let binary = std::env::current_exe().unwrap().with_file_name("bench-server");
        let child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(binary)
            .args(["--adapter", adapter, "--domain", issuer, "--port", &address.port().to_string(), "--key"])
            .arg(key)
            .spawn()
            .unwrap();
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "the server did not start");
            thread::sleep(Duration::from_millis(20));
        }
        Self { child, address }
    }

    /// Measures what `count` requests have cost since `began`, when the CPU time was `cpu`.
    #[must_use]
    pub fn lap(&self, began: Instant, cpu: f64, count: usize) -> Lap {
        let (wall, cpu) = (began.elapsed().as_secs_f64(), self.cpu() - cpu);
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let count = count as f64;
        Lap { cpu_per_request: cpu / count, requests_per_second: count / wall, server_busy: cpu / wall }
    }

    /// Seconds of CPU that all threads of the server have used.
    #[must_use]
    pub fn cpu(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanoseconds = |task: fs::DirEntry| -> Option<f64> {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse().ok()
        };
        tasks.flatten().filter_map(nanoseconds).sum::<f64>() / 1e9
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps this process off the server's core.
pub fn stay_off() {
    let own = std::process::id().to_string();
    assert!(Command::new("taskset").args(["-a", "-p", "-c", "1", &own]).output().unwrap().status.success());
}

/// The median.
#[must_use]
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
