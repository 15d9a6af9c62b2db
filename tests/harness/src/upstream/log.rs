//! What an upstream got: in memory for the test, and as JSON lines for other processes.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedRequest {
    /// When it was logged. Unit: microseconds since 1970.
    pub at_us: u64,
    /// Who sent it.
    pub peer: SocketAddr,
    /// Its method.
    pub method: String,
    /// Its target exactly as on the request line.
    pub path: String,
    /// Its Host header.
    pub host: Option<String>,
    /// Its `x-call-id` header: the load generator numbers its calls.
    pub call_id: Option<String>,
    /// Every header, in order.
    pub headers: Vec<(String, String)>,
    /// Length of the body. Unit: bytes.
    pub body_len: u64,
    /// SHA-256 of the body, in hex.
    pub body_sha256: String,
    /// Whether the body came to its end.
    pub complete: bool,
}

impl LoggedRequest {
    /// The value of the first header called `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug)]
pub(super) struct Log {
    requests: Mutex<Vec<LoggedRequest>>,
    file: Option<File>,
    connections: AtomicU64,
    bytes: AtomicU64,
}

impl Log {
    pub fn new(file: Option<&Path>) -> Result<Log> {
        let file = file
            .map(|path| {
                let opened = File::options().create(true).append(true).open(path);
                opened.with_context(|| format!("open {}", path.display()))
            })
            .transpose()?;
        Ok(Log { requests: Mutex::default(), file, connections: AtomicU64::new(0), bytes: AtomicU64::new(0) })
    }

    /// Appends one line by one write(2): whole in the file when this returns, whatever happens to the process.
    pub fn request(&self, request: LoggedRequest) {
        if let Some(mut file) = self.file.as_ref() {
            let mut line = serde_json::to_vec(&request).unwrap_or_default();
            line.push(b'\n');
            if let Err(error) = file.write_all(&line) {
                eprintln!("upstream: its log cannot be written: {error}");
            }
        }
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }

    pub fn connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub fn bytes(&self, count: usize) {
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn count(&self) -> usize {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn bytes_received(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Microseconds since 1970.
pub(super) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros().try_into().unwrap_or(u64::MAX)
}
