//! HTTPS for the API server: one path, bounded in every way, with a certificate that is renewed in memory.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use callgate_mtls::{Authority, Role};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info};

use super::review;
use crate::issuer::Trust;

/// Where the API server posts.
const PATH: &str = "/trust";
/// Longest question. Source: etcd takes objects of 1.5 MiB; a review holds one, or two.
const BODY_MAX: usize = 4 << 20;
/// One at a time is read and answered: JSON takes up to 16 times its length, and anybody may ask.
static TURN: Semaphore = Semaphore::const_new(1);
/// Most connections at once; further ones wait.
const CONNECTIONS_MAX: usize = 64;
/// Longest handshake, and longest wait for a request. Source: the API server gives up after 10 s by default.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for a question, once it has its turn.
const READ_WITHIN: Duration = Duration::from_secs(2);
/// Longest life of a connection: with a new certificate the next one begins.
const CONNECTION_MAX: Duration = Duration::from_secs(600);
/// Life of the certificate, and when a new one is made.
const LIFE: Duration = Duration::from_secs(24 * 3_600);
const RENEW: Duration = Duration::from_secs(8 * 3_600);
/// Wait after a failure, of a listener too.
pub(super) const AGAIN: Duration = Duration::from_secs(5);

/// Serves at `address` under `names`, with certificates of the CA in use.
///
/// # Errors
/// If nothing can be listened at, or no certificate be made.
pub(super) async fn serve(address: SocketAddr, names: &[String], trust: &Trust) -> Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen at {address}"))?;
    info!(%address, "admission is served");
    let mut identity: Option<Identity> = None;
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.context("slots for connections")?;
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let authority = trust.get().await;
        let current = match identity.take().filter(|identity| identity.is_fresh(&authority)) {
            Some(current) => current,
            None => Identity::of(&authority, names)?,
        };
        let acceptor = identity.insert(current).acceptor.clone();
        tokio::spawn(async move {
            if let Err(error) = connection(acceptor, stream).await {
                debug!(%peer, error = format!("{error:#}"), "a connection of admission ended");
            }
            drop(slot);
        });
    }
}

/// The certificate that is shown.
struct Identity {
    ca: String,
    made: SystemTime,
    acceptor: TlsAcceptor,
}

impl Identity {
    fn of(authority: &Authority, names: &[String]) -> Result<Self> {
        let made = SystemTime::now();
        let issued = authority.issue(&Role::Collector(names.to_vec()), made + LIFE).context("a certificate")?;
        let chain = CertificateDer::pem_slice_iter(issued.cert.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { ca: authority.pem().to_owned(), made, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    fn is_fresh(&self, authority: &Authority) -> bool {
        self.ca == authority.pem() && self.made.elapsed().is_ok_and(|age| age < RENEW)
    }
}

async fn connection(acceptor: TlsAcceptor, stream: TcpStream) -> Result<()> {
    let stream = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await.context("handshake")??;
    let http = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    tokio::time::timeout(CONNECTION_MAX, http).await.context("its time is over")??;
    Ok(())
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = answered(request).await;
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    Ok(response)
}

async fn answered(request: Request<Incoming>) -> (StatusCode, Vec<u8>) {
    if request.uri().path() != PATH {
        return (StatusCode::NOT_FOUND, Vec::new());
    }
    if request.method() != Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, Vec::new());
    }
    let turn = tokio::time::timeout(PATIENCE, TURN.acquire()).await;
    let Ok(Ok(_turn)) = turn else { return (StatusCode::SERVICE_UNAVAILABLE, Vec::new()) };
    let body = tokio::time::timeout(READ_WITHIN, Limited::new(request.into_body(), BODY_MAX).collect()).await;
    let Ok(Ok(body)) = body else { return (StatusCode::BAD_REQUEST, Vec::new()) };
    match review::answer(&body.to_bytes()).and_then(|answer| serde_json::to_vec(&answer).ok()) {
        Some(answer) => (StatusCode::OK, answer),
        None => (StatusCode::BAD_REQUEST, Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsConnector;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a client of this test")]
    async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
        TcpStream::connect(address).await
    }

    /// The answer to `request`, by a client that trusts `ca` for `name`.
    async fn asked(address: SocketAddr, ca: &str, name: &str, request: &str) -> Result<String> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = connect(address).await?;
        let name = rustls_pki_types::ServerName::try_from(name.to_owned())?;
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    fn post(path: &str, body: &str) -> String {
        format!("POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn answers_under_its_name_with_a_certificate_of_the_ca_in_use() {
        let names = ["callgate-controller.callgate-system.svc".to_owned()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let trust = Trust::default();
        let make = |name: &str| Arc::new(Authority::make(name, Duration::from_secs(3_600)).unwrap());
        let (first, second) = (make("first"), make("second"));
        trust.set(Arc::clone(&first));
        let serving = {
            let (trust, names) = (trust.clone(), names.clone());
            tokio::spawn(async move { serve(address, &names, &trust).await })
        };
        while connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
        let pod = r#"{"apiVersion":"admission.k8s.io/v1","request":{"uid":"u-7","kind":{"kind":"Pod"},"object":{"metadata":{},"spec":{"containers":[{"name":"a"}]}}}}"#;
        let told = asked(address, first.pem(), &names[0], &post(PATH, pod)).await.unwrap();
        assert!(
            told.starts_with("HTTP/1.1 200") && told.contains(r#""uid":"u-7""#) && told.contains("JSONPatch"),
            "{told}"
        );
        for (request, status) in [
            (post("/other", pod), "404"),
            (post(PATH, "no review"), "400"),
            (format!("GET {PATH} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"), "405"),
        ] {
            let told = asked(address, first.pem(), &names[0], &request).await.unwrap();
            assert!(told.starts_with(&format!("HTTP/1.1 {status}")), "{told}");
        }
        let long =
            format!("POST {PATH} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", BODY_MAX + 1);
        assert!(asked(address, first.pem(), &names[0], &long).await.unwrap().starts_with("HTTP/1.1 400"));
        assert!(asked(address, first.pem(), "other.svc", &post(PATH, pod)).await.is_err());
        assert!(asked(address, second.pem(), &names[0], &post(PATH, pod)).await.is_err());
        trust.set(Arc::clone(&second));
        assert!(asked(address, second.pem(), &names[0], &post(PATH, pod)).await.unwrap().starts_with("HTTP/1.1 200"));
        serving.abort();
    }
}
