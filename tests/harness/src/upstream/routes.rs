//! What the upstream answers, as a table of paths:
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/users/N` | JSON of user N: name, e-mail, card, token ([`samples::user_json`]) |
//! | `GET /v1/secrets/N` | JSON with a private key and an access key |
//! | `GET /v1/kib` | 1 KiB of JSON, always the same |
//! | `GET /v1/health` | `{"status":"ok"}` |
//! | any `/echo` | JSON of the request: method, path, headers, body |
//! | any `/mirror` | the request's body, streamed back as it comes |
//! | gRPC, any method | each message of the call as it comes, then the status OK |
//! | `GET /bytes/N` | N bytes with a length |
//! | `GET /chunked/N` | N chunks, without a length |
//! | `GET /slow/N?ms=M` | N chunks, M ms (20) before each |
//! | `GET /split/N` | user N's JSON, one byte a chunk |
//! | `GET /stream/N?ms=M` | N server-sent events, M ms (20) before each, with an e-mail in each |
//! | any `/status/N` | that status |
//! | `GET /cut/N` | a length of N and half as much, then the connection breaks |
//! | `GET /hang` | never an answer |
//! | `POST` of `application/grpc` elsewhere | the message back, with `grpc-status: 0` |
//! | any `/git/…` | git's own smart HTTP server on the repositories of the configuration |
//! | `POST`, `PUT`, `PATCH` elsewhere | 201 with the length and hash of what came |
//! | `DELETE` elsewhere | 204 |
//! | else | 404 |

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::mpsc;

use super::log::{Log, LoggedRequest, now_us};
use super::{bare, git};
use crate::samples;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Longest body that `/echo` gives back. Unit: bytes.
const ECHO_MAX: usize = 1 << 20;
/// Size of the pieces of `/bytes`. Unit: bytes.
const PIECE: usize = 16 * 1024;

/// What all requests share.
pub(super) struct Site {
    pub log: Arc<Log>,
    pub git: Option<PathBuf>,
    pub bare: bool,
}

/// Answers one request; it is in the log before this returns, except where its body streams on (`/mirror`).
pub(super) async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    site: Arc<Site>,
) -> Result<Response<Body>, Infallible> {
    if site.bare {
        return Ok(bare::answer(request).await);
    }
    let log = &site.log;
    let (head, body) = request.into_parts();
    let entry = entry(&head, peer);
    let path = head.uri.path();
    let words: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    if words.first() == Some(&"mirror") {
        return Ok(Response::new(mirror(body, entry, log.clone(), None)));
    }
    let kind = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    if kind.starts_with(b"application/grpc") && words.first() != Some(&"echo") {
        let ok = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
        return Ok(with_type("application/grpc", mirror(body, entry, log.clone(), Some(ok))));
    }
    let (kept, entry) = read(body, entry).await;
    log.request(entry.clone());
    if !entry.complete {
        return Ok(status(StatusCode::BAD_REQUEST));
    }

    if let (Some(root), Some(&"git")) = (&site.git, words.first()) {
        let answered = git::answer(root, &head, &kept).await;
        return Ok(answered.map_or_else(|_| status(StatusCode::INTERNAL_SERVER_ERROR), |answer| answer.map(whole)));
    }

    let number = |place: usize| words.get(place).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    let pause = Duration::from_millis(query(head.uri.query(), "ms").unwrap_or(20));
    Ok(match (&head.method, words.as_slice()) {
        (&Method::GET, ["v1", "users", _]) => json(samples::user_json(number(2))),
        (&Method::GET, ["v1", "secrets", _]) => json(secrets(number(2))),
        (&Method::GET, ["v1", "kib"]) => bare::kib(),
        (&Method::GET, ["v1", "health"]) => json(r#"{"status":"ok"}"#.to_owned()),
        (_, ["echo", ..]) => json(echo(&entry, &kept)),
        (&Method::GET, ["bytes", _]) => sized(number(1)),
        (&Method::GET, ["chunked", _]) => chunks("text/plain", number(1), None, |n| format!("chunk {n}\n")),
        (&Method::GET, ["slow", _]) => chunks("text/plain", number(1), Some(pause), |n| format!("chunk {n}\n")),
        (&Method::GET, ["split", _]) => split(samples::user_json(number(1))),
        (&Method::GET, ["stream", _]) => chunks("text/event-stream", number(1), Some(pause), event),
        (_, ["status", _]) => status(StatusCode::from_u16(number(1) as u16).unwrap_or(StatusCode::IM_A_TEAPOT)),
        (&Method::GET, ["cut", _]) => cut(number(1)),
        (&Method::GET, ["hang"]) => std::future::pending().await,
        (&Method::POST | &Method::PUT | &Method::PATCH, _) => stored(&entry),
        (&Method::DELETE, _) => status(StatusCode::NO_CONTENT),
        _ => status(StatusCode::NOT_FOUND),
    })
}

fn entry(head: &http::request::Parts, peer: SocketAddr) -> LoggedRequest {
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let named = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    LoggedRequest {
        at_us: now_us(),
        peer,
        method: head.method.to_string(),
        path: head.uri.to_string(),
        host: named("host"),
        call_id: named("x-call-id"),
        headers,
        body_len: 0,
        body_sha256: String::new(),
        complete: false,
    }
}

/// Reads the body to its end; keeps the first [`ECHO_MAX`] bytes, measures all.
async fn read(mut body: Incoming, mut entry: LoggedRequest) -> (Vec<u8>, LoggedRequest) {
    let mut kept = Vec::new();
    let mut hash = digest::Context::new(&digest::SHA256);
    entry.complete = loop {
        match body.frame().await {
            None => break true,
            Some(Err(_)) => break false,
            Some(Ok(frame)) => {
                let Some(data) = frame.data_ref() else { continue };
                hash.update(data);
                entry.body_len += data.len() as u64;
                kept.extend_from_slice(&data[..data.len().min(ECHO_MAX - kept.len())]);
            }
        }
    };
    entry.body_sha256 = hex(hash.finish().as_ref());
    (kept, entry)
}

/// Streams the body back, and `trailers` behind it; logged when it has ended, just before the answer's end.
fn mirror(mut body: Incoming, mut entry: LoggedRequest, log: Arc<Log>, trailers: Option<HeaderMap>) -> Body {
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, io::Error>>(4);
    tokio::spawn(async move {
        let mut hash = digest::Context::new(&digest::SHA256);
        entry.complete = loop {
            match body.frame().await {
                None => break true,
                Some(Err(_)) => break false,
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    hash.update(&data);
                    entry.body_len += data.len() as u64;
                    if sender.send(Ok(Frame::data(data))).await.is_err() {
                        break false;
                    }
                }
            }
        };
        entry.body_sha256 = hex(hash.finish().as_ref());
        let complete = entry.complete;
        log.request(entry);
        if let (true, Some(trailers)) = (complete, trailers) {
            // A client that has gone misses nothing.
            let _ = sender.send(Ok(Frame::trailers(trailers))).await;
        }
    });
    let frames = stream::unfold(receiver, |mut receiver| async move {
        let frame = receiver.recv().await?;
        Some((frame, receiver))
    });
    streamed(frames)
}

fn json(text: String) -> Response<Body> {
    with_type("application/json", full(text))
}

fn echo(entry: &LoggedRequest, body: &[u8]) -> String {
    serde_json::json!({
        "method": entry.method,
        "path": entry.path,
        "headers": entry.headers,
        "body": String::from_utf8_lossy(body),
    })
    .to_string()
}

fn secrets(n: u64) -> String {
    let (id, secret) = samples::aws_key(n);
    serde_json::json!({ "key": samples::private_key_pem(n), "access_key_id": id, "secret_access_key": secret })
        .to_string()
}

fn stored(entry: &LoggedRequest) -> Response<Body> {
    let text = serde_json::json!({ "stored": entry.body_len, "sha256": entry.body_sha256 }).to_string();
    let mut response = json(text);
    *response.status_mut() = StatusCode::CREATED;
    response
}

fn event(n: u64) -> String {
    format!("id: {n}\ndata: {{\"n\":{n},\"from\":\"{}\"}}\n\n", samples::email(n))
}

fn chunks(kind: &'static str, count: u64, pause: Option<Duration>, text: fn(u64) -> String) -> Response<Body> {
    let pieces = stream::iter(0..count).then(move |n| async move {
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
        Ok(Frame::data(Bytes::from(text(n))))
    });
    with_type(kind, streamed(pieces))
}

fn split(text: String) -> Response<Body> {
    let pieces = stream::iter(text.into_bytes()).then(|byte| async move {
        // Each byte must leave on its own: give hyper its turn to write.
        tokio::task::yield_now().await;
        Ok(Frame::data(Bytes::copy_from_slice(&[byte])))
    });
    with_type("application/json", streamed(pieces))
}

pub(super) fn sized(count: u64) -> Response<Body> {
    let mut response = with_type("application/octet-stream", streamed(stream::iter(pieces(count).map(Ok))));
    response.headers_mut().insert(header::CONTENT_LENGTH, count.into());
    response
}

fn cut(count: u64) -> Response<Body> {
    let broken = std::iter::once(Err(io::Error::other("cut on purpose")));
    let mut response =
        with_type("application/octet-stream", streamed(stream::iter(pieces(count / 2).map(Ok).chain(broken))));
    response.headers_mut().insert(header::CONTENT_LENGTH, count.into());
    response
}

/// `count` bytes, each the low byte of its position, in pieces.
fn pieces(count: u64) -> impl Iterator<Item = Frame<Bytes>> + Send {
    let cycle = Bytes::from((0..PIECE).map(|place| place as u8).collect::<Vec<u8>>());
    (0..count.div_ceil(PIECE as u64)).map(move |n| {
        let left = (count - n * PIECE as u64).min(PIECE as u64) as usize;
        Frame::data(cycle.slice(..left))
    })
}

pub(super) fn status(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = code;
    response
}

fn full(text: String) -> Body {
    whole(Bytes::from(text))
}

pub(super) fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn streamed(frames: impl Stream<Item = Result<Frame<Bytes>, io::Error>> + Send + 'static) -> Body {
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

pub(super) fn with_type(kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn query(query: Option<&str>, name: &str) -> Option<u64> {
    query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
