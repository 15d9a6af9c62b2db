//! The answers that a bench calls for, at the least cost: made once, nothing read that need not be, nothing logged.

use std::sync::LazyLock;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};

use super::routes::{Body, sized, status, streamed, whole, with_type};
use crate::samples;

/// What `/v1/kib` answers.
static KIB: LazyLock<Bytes> = LazyLock::new(|| samples::kib_json().into());

/// Answers one request of a bench; 404 for any other.
pub(super) async fn answer(request: Request<Incoming>) -> Response<Body> {
    if request.method() == Method::POST && is_grpc(request.headers()) {
        return match request.into_body().collect().await {
            Ok(body) => grpc(body.to_bytes()),
            Err(_) => status(StatusCode::BAD_REQUEST),
        };
    }
    let path = request.uri().path();
    if path == "/v1/kib" {
        return kib();
    }
    match path.strip_prefix("/bytes/").and_then(|count| count.parse().ok()) {
        Some(count) => sized(count),
        None => status(StatusCode::NOT_FOUND),
    }
}

/// 1 KiB of JSON.
pub(super) fn kib() -> Response<Body> {
    with_type("application/json", whole(KIB.clone()))
}

pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// The message of a unary call as it came, and status 0.
pub(super) fn grpc(message: Bytes) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(message), Frame::trailers(trailers)].map(Ok);
    with_type("application/grpc", streamed(stream::iter(frames)))
}
