//! `/metrics` (OpenMetrics), `/readyz` and `/healthz` of a daemon, on a port of their own.
//!
//! What is counted, and what makes a daemon ready, is for the daemon to say: see [`Probes`].
//! Plain text without a name or a password, so a place for numbers and closed lists of words, never for what was called.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Media type of the text format that Prometheus scrapes.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Most connections at once, and of one address: who holds some open must not keep the supervisor's probe out.
const CONNECTIONS: usize = 64;
const CONNECTIONS_OF_ONE: usize = 4;

/// Longest life of a connection, which is for one request.
const LIFE: Duration = Duration::from_secs(15);

/// Longest wait for the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// Says what is wrong, one sentence each; nothing where all is well. Asked at each request, so it must be quick.
pub type Check = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// What a daemon says of itself.
#[derive(Clone)]
pub struct Probes {
    /// Whether it does its work: `/readyz`.
    pub ready: Check,
    /// Whether it should be left alone rather than be started anew: `/healthz`. That it answers at all says that the
    /// runtime turns.
    pub alive: Check,
}

/// Listens at `address`.
///
/// # Errors
/// If the address cannot be bound.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on `{address}` for metrics: is the port taken? set `metrics_listen`"))
}

/// Serves until `stopping`.
pub async fn serve(listener: TcpListener, registry: Arc<Registry>, probes: Probes, stopping: CancellationToken) {
    let places = Places::default();
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, peer.ip()),
            Err(error) => {
                warn!(%error, "accept failed on the metrics port");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(place) = places.take(peer) else { continue };
        let (registry, probes) = (Arc::clone(&registry), probes.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &registry, &probes);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .header_read_timeout(HEAD_WITHIN)
                .serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = tokio::time::timeout(LIFE, connection).await {
                debug!(%error, "metrics connection ended");
            }
            drop(place);
        });
    }
}

/// How many connections each address has. Cheap to clone.
#[derive(Clone, Default)]
struct Places(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them, until it is dropped.
struct Place(Places, IpAddr);

impl Places {
    /// None: there is no room for one more of this address.
    fn take(&self, peer: IpAddr) -> Option<Place> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.values().sum::<usize>() >= CONNECTIONS || all.get(&peer).is_some_and(|of| *of >= CONNECTIONS_OF_ONE) {
            return None;
        }
        *all.entry(peer).or_default() += 1;
        Some(Place(self.clone(), peer))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of) = all.get_mut(&self.1) {
            *of -= 1;
        }
        all.retain(|_, of| *of > 0);
    }
}

fn answer(request: &Request<Incoming>, registry: &Registry, probes: &Probes) -> Response<Full<Bytes>> {
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
        "/readyz" => verdict("ready", &(probes.ready)()),
        "/healthz" => verdict("alive", &(probes.alive)()),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /readyz and /healthz\n".into()),
    }
}

fn verdict(good: &str, faults: &[String]) -> Response<Full<Bytes>> {
    if faults.is_empty() {
        text(StatusCode::OK, format!("{good}\n"))
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, faults.join("\n") + "\n")
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
}

/// Whole seconds from now until `time`, for gauges of what expires; negative when it has passed.
#[must_use]
pub fn seconds_until(time: SystemTime) -> i64 {
    let whole = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::now()) {
        Ok(left) => whole(left),
        Err(past) => -whole(past.duration()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::sync::atomic::{AtomicBool, Ordering};

    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn one_address_has_a_few_places_and_gives_them_back() {
        let (places, one, other) = (Places::default(), IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let held: Vec<_> = (0..CONNECTIONS_OF_ONE).map(|_| places.take(one).unwrap()).collect();
        assert!(places.take(one).is_none() && places.take(other).is_some());
        drop(held);
        assert!(places.take(one).is_some());
        assert!(places.0.lock().unwrap().is_empty());
    }

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn probes_say_what_is_wrong_and_metrics_are_openmetrics() {
        let mut registry = Registry::default();
        let counter: Counter = Counter::default();
        counter.inc();
        registry.register("things", "Things", counter);
        let ready = Arc::new(AtomicBool::new(false));
        let is_ready = Arc::clone(&ready);
        let probes = Probes {
            ready: Arc::new(move || {
                if is_ready.load(Ordering::Relaxed) { Vec::new() } else { vec!["no store".into(), "no way".into()] }
            }),
            alive: Arc::new(Vec::new),
        };
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stopping = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, Arc::new(registry), probes, stopping.clone()));
        tokio::task::spawn_blocking(move || {
            let unready = ask(address, "GET /readyz");
            assert!(unready.starts_with("HTTP/1.1 503") && unready.ends_with("no store\nno way\n"), "{unready}");
            assert!(ask(address, "GET /healthz").starts_with("HTTP/1.1 200"), "alive although not ready");
            ready.store(true, Ordering::Relaxed);
            assert!(ask(address, "GET /readyz").ends_with("ready\n"));
            let metrics = ask(address, "GET /metrics");
            assert!(metrics.contains(OPENMETRICS) && metrics.contains("things_total 1\n"), "{metrics}");
            assert!(metrics.ends_with("# EOF\n"), "{metrics}");
            assert!(ask(address, "POST /metrics").starts_with("HTTP/1.1 405"));
            assert!(ask(address, "GET /").starts_with("HTTP/1.1 404"));
        })
        .await
        .unwrap();
        stopping.cancel();
        serving.await.unwrap();
    }

    #[test]
    fn what_has_passed_is_negative() {
        assert!(seconds_until(SystemTime::now() + Duration::from_secs(100)) >= 98);
        assert!(seconds_until(SystemTime::now() - Duration::from_secs(100)) <= -99);
    }
}
