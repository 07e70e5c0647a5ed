//! A client of a few lines: one request a connection.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// The example, as one tenant asks it.
#[derive(Clone)]
pub struct Shop {
    pub port: u16,
    pub tenant: String,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

impl Shop {
    pub async fn post(&self, path: &str, key: &str, body: &Value) -> Result<Answer> {
        self.send(path, key, &body.to_string()).await
    }

    /// An error when the connection breaks before the whole answer is there. An empty key or tenant is not sent.
    pub async fn send(&self, path: &str, key: &str, body: &str) -> Result<Answer> {
        let header = |name: &str, value: &str| match value {
            "" => String::new(),
            value => format!("{name}: {value}\r\n"),
        };
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n{}{}Content-Length: {}\r\n\r\n{body}",
            header("Idempotency-Key", key),
            header("X-Tenant", &self.tenant),
            body.len(),
        );
        let port = self.port;
        tokio::task::spawn_blocking(move || exchange(port, &request)).await.map_err(Error::other)?
    }
}

fn exchange(port: u16, request: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let cut = || Error::from(ErrorKind::UnexpectedEof);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(cut)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
    // An error that the example does not know of is plain text.
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    Ok(Answer { status, head: head.to_ascii_lowercase(), body })
}
