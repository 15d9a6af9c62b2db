//! Real git repositories behind the upstream: `git http-backend`, the smart HTTP server that git itself ships.
//!
//! One CGI process for each request (RFC 3875); the body is handed over whole, since tests clone small repositories.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, request};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Answers a request below `/git/` from the bare repositories of `root`.
pub(super) async fn answer(root: &Path, head: &request::Parts, body: &[u8]) -> Result<Response<Bytes>> {
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "test")
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path().trim_start_matches("/git"))
        .env("QUERY_STRING", head.uri.query().unwrap_or(""))
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("HTTP_GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start git http-backend")?;
    let mut stdin = child.stdin.take().context("a pipe was asked for")?;
    let fed = async {
        // It may answer without reading all.
        let _ = stdin.write_all(body).await;
        drop(stdin);
    };
    let ((), output) = tokio::join!(fed, child.wait_with_output());
    let output = output?;
    ensure!(output.status.success(), "git http-backend ended with {}", output.status);
    response(&output.stdout)
}

/// Reads a CGI answer: fields, an empty line, the body.
fn response(answer: &[u8]) -> Result<Response<Bytes>> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no end of the head")?;
    let mut response = Response::new(Bytes::copy_from_slice(&answer[end + 4..]));
    for line in std::str::from_utf8(&answer[..end])?.lines() {
        let (name, value) = line.split_once(':').context("a field without a colon")?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("status") {
            *response.status_mut() = StatusCode::from_bytes(&value.as_bytes()[..3.min(value.len())])?;
        } else {
            response.headers_mut().append(name.parse::<HeaderName>()?, HeaderValue::from_str(value)?);
        }
    }
    Ok(response)
}
