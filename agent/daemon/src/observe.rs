//! `/metrics` and `/readyz` on the agent's own port.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use callgate_redirect::NetnsRef;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Media type of the text format that Prometheus scrapes.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Most scrapers at once.
const SCRAPERS: usize = 16;

/// Tells whether the agent serves, and if not, why: one sentence each.
pub type Readiness = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Listens at `address`, or goes on with the listener of the agent before where it has that address in our network
/// namespace: an agent in another pod has its own.
///
/// # Errors
/// If the address cannot be bound.
pub async fn listen(address: Option<SocketAddr>, before: Option<std::net::TcpListener>) -> Result<Option<TcpListener>> {
    let Some(address) = address else { return Ok(None) };
    if let Some(before) = before
        && before
            .local_addr()
            .is_ok_and(|bound| bound == address || (address.port() == 0 && bound.ip() == address.ip()))
        && NetnsRef::current()?.holds(&before)?
    {
        return Ok(Some(TcpListener::from_std(before)?));
    }
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on `{address}` for metrics: is the port taken? set `metrics_listen`")
    })?;
    Ok(Some(listener))
}

/// Serves until `stopping`.
pub async fn serve(listener: TcpListener, registry: Arc<Registry>, ready: Readiness, stopping: CancellationToken) {
    let slots = Arc::new(Semaphore::new(SCRAPERS));
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "accept failed on the metrics port");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let (registry, ready) = (Arc::clone(&registry), Arc::clone(&ready));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &registry, &ready);
                async move { Ok::<_, Infallible>(answer) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(std::time::Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                debug!(%error, "metrics connection ended");
            }
            drop(slot);
        });
    }
}

fn answer(request: &Request<Incoming>, registry: &Registry, ready: &Readiness) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n".into());
    }
    match request.uri().path() {
        "/metrics" => {
            let mut body = String::new();
            if prometheus_client::encoding::text::encode(&mut body, registry).is_err() {
                return text(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written\n".into());
            }
            let mut response = text(StatusCode::OK, body);
            response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(OPENMETRICS));
            response
        }
        "/readyz" => {
            let faults = ready();
            if faults.is_empty() {
                text(StatusCode::OK, "ready\n".into())
            } else {
                text(StatusCode::SERVICE_UNAVAILABLE, faults.join("\n") + "\n")
            }
        }
        _ => text(StatusCode::NOT_FOUND, "there are /metrics and /readyz\n".into()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
}
