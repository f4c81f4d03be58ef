//! A client that sends just the bytes it is told to.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// An answer, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The value of a header that comes at most once.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} comes twice: {self:?}");
        value
    }
}

/// A connection that is kept.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Self {
        Self::try_open(address).await.unwrap()
    }

    /// Connects to a server that may be gone already.
    ///
    /// # Errors
    ///
    /// What the system says where it is.
    pub async fn try_open(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { stream: TcpStream::connect(address).await?, buffer: Vec::new() })
    }

    /// Sends bytes; a server that has closed already is no error.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Reads one answer; `None` where the connection ends before one.
    pub async fn answer(&mut self, without_body: bool) -> Option<Answer> {
        let head = self.read_until(b"\r\n\r\n").await?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<_> = lines.filter_map(|line| line.split_once(':')).map(field).collect();
        let header =
            |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let length = header("content-length").and_then(|value| value.parse().ok()).unwrap_or_default();
        let body = match header("transfer-encoding") {
            _ if without_body => String::new(),
            Some("chunked") => self.read_chunks().await?,
            _ => String::from_utf8(self.read_exactly(length).await?).ok()?,
        };
        Some(Answer { status, headers, body })
    }

    /// Whether the server closes the connection.
    pub async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        self.buffer.is_empty() && matches!(self.stream.read(&mut byte).await, Ok(0) | Err(_))
    }

    async fn read_until(&mut self, end: &[u8]) -> Option<String> {
        loop {
            if let Some(found) = self.buffer.windows(end.len()).position(|window| window == end) {
                let rest = self.buffer.split_off(found + end.len());
                let head = std::mem::replace(&mut self.buffer, rest);
                return String::from_utf8(head).ok();
            }
            self.read_more().await?;
        }
    }

    async fn read_chunks(&mut self) -> Option<String> {
        let mut body = Vec::new();
        loop {
            let line = self.read_until(b"\r\n").await?;
            let length = usize::from_str_radix(line.trim_end(), 16).ok()?;
            let chunk = self.read_exactly(length + 2).await?;
            if length == 0 {
                return String::from_utf8(body).ok();
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }

    async fn read_exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            self.read_more().await?;
        }
        let rest = self.buffer.split_off(length);
        Some(std::mem::replace(&mut self.buffer, rest))
    }

    async fn read_more(&mut self) -> Option<()> {
        let mut chunk = [0; 4096];
        let read = self.stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        self.buffer.extend_from_slice(&chunk[..read]);
        Some(())
    }
}

fn field((name, value): (&str, &str)) -> (String, String) {
    (name.to_lowercase(), value.trim().to_owned())
}

/// Sends a request line with header lines, on a connection of its own.
pub async fn request(address: SocketAddr, line: &str, headers: &[String]) -> Answer {
    request_with_body(address, line, headers, "").await
}

/// The same with a body; the length goes with it.
pub async fn request_with_body(address: SocketAddr, line: &str, headers: &[String], body: &str) -> Answer {
    let mut connection = Connection::open(address).await;
    let mut all = vec!["host: localhost".to_owned()];
    if !body.is_empty() {
        all.push(format!("content-length: {}", body.len()));
    }
    all.extend_from_slice(headers);
    let text = format!("{line} HTTP/1.1\r\n{}\r\n\r\n{body}", all.join("\r\n"));
    connection.send(text).await;
    connection.answer(line.starts_with("HEAD ")).await.expect("an answer")
}

/// The header line that carries a token.
#[must_use]
pub fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}
