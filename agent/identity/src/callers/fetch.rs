//! Fetches an issuer's documents: one GET each over HTTP/1.1, within bounds of time and size.
//!
//! A redirect is never followed, no proxy and no credential is used, and nothing but a plain `200` is read.
//! This is the agent's own traffic, from its own cgroup and network namespace: never a workload's, and none of a
//! workload's bytes are in it. That is why it does not go by `proxy/dial`, which asks for a workload's permit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, HOST, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::cluster::ClusterApi;
use super::config::{KeysAt, address, address_below};
use super::json;
use super::keys::KeySet;

/// Longest wait for an issuer's keys, discovery included: calls wait for them.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest document. Unit: bytes. Source: 64 RSA-4096 keys with certificate chains stay below it.
const BODY_MAX: usize = 256 * 1024;

/// How long keys count as fresh when the issuer does not say, and the bounds of what it may say.
const FRESH: Duration = Duration::from_secs(3600);
const FRESH_MIN: Duration = Duration::from_secs(5 * 60);
const FRESH_MAX: Duration = Duration::from_secs(24 * 3600);

/// Why an issuer's keys could not be had. For the operator's log; a caller only learns that they were not there.
#[derive(Debug, Error)]
pub enum FetchError {
    /// Nobody answered at the address, or its name is unknown.
    #[error("no connection: {0}")]
    Connect(#[source] io::Error),
    /// The TLS handshake failed.
    #[error("no TLS: {0}")]
    Tls(#[source] io::Error),
    /// The exchange broke off or was malformed.
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    /// An answer other than 200; redirects are not followed.
    #[error("the answer was {0}")]
    Status(StatusCode),
    /// The body is larger than 256 KiB, broke off, or is in a content coding.
    #[error("the document is too large or broke off")]
    Body,
    /// The address cannot be asked.
    #[error("the address {0}")]
    Address(&'static str),
    /// The discovery document is none, or is that of another issuer.
    #[error("the discovery document {0}")]
    Discovery(&'static str),
    /// The document with the keys is none.
    #[error("the document is no JWK set of at most 64 keys")]
    KeySet,
    /// The cluster's API does not tell them.
    #[error("the cluster's API: {0}")]
    Cluster(String),
    /// It took longer than 5 seconds.
    #[error("no answer within 5 seconds")]
    Timeout,
}

/// Keys, and for how long they are fresh.
pub(super) struct Fetched {
    pub keys: KeySet,
    pub fresh: Duration,
}

/// Fetches the keys of `issuer`.
///
/// # Errors
/// Why they could not be had.
pub(super) async fn keys(issuer: &str, at: &KeysAt, tls: &Arc<ClientConfig>) -> Result<Fetched, FetchError> {
    let all = async {
        let uri = match at {
            KeysAt::Jwks(uri) => uri.clone(),
            KeysAt::Discovery(uri) => discovered(issuer, &get(uri, tls).await?.body)?,
        };
        let document = get(&uri, tls).await?;
        let keys = KeySet::read(&document.body).ok_or(FetchError::KeySet)?;
        Ok(Fetched { keys, fresh: document.fresh })
    };
    tokio::time::timeout(TIMEOUT, all).await.unwrap_or(Err(FetchError::Timeout))
}

/// Fetches the keys of the cluster, which called itself `issuer` before.
///
/// # Errors
/// Why they could not be had.
pub(super) async fn keys_of_cluster(issuer: &str, api: &dyn ClusterApi) -> Result<Fetched, FetchError> {
    let told = tokio::time::timeout(TIMEOUT, api.keys()).await.map_err(|_| FetchError::Timeout)?;
    let told = told.map_err(FetchError::Cluster)?;
    if told.issuer != issuer {
        return Err(FetchError::Discovery("is that of another issuer"));
    }
    let keys = KeySet::read(&told.jwks).ok_or(FetchError::KeySet)?;
    Ok(Fetched { keys, fresh: FRESH_MIN })
}

/// Where the keys are, by the discovery document. Source: OpenID Connect Discovery 1.0 §4.3: `issuer` must be the same.
fn discovered(issuer: &str, document: &[u8]) -> Result<Uri, FetchError> {
    let document = json::object(document).map_err(|_| FetchError::Discovery("is not plain JSON"))?;
    if document.get("issuer").and_then(|stated| stated.as_str()) != Some(issuer) {
        return Err(FetchError::Discovery("is that of another issuer"));
    }
    let uri = document.get("jwks_uri").and_then(|uri| uri.as_str());
    let uri = uri.ok_or(FetchError::Discovery("names no `jwks_uri`"))?;
    let issuer = address(issuer).map_err(FetchError::Address)?;
    address_below(uri, &issuer).map_err(FetchError::Address)
}

struct Document {
    body: Bytes,
    fresh: Duration,
}

async fn get(uri: &Uri, tls: &Arc<ClientConfig>) -> Result<Document, FetchError> {
    let host = uri.host().ok_or(FetchError::Address("names no host"))?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    #[allow(clippy::disallowed_methods, reason = "the agent's own call to a configured issuer, not one of a workload")]
    let tcp = TcpStream::connect((bare, port)).await.map_err(FetchError::Connect)?;
    if !is_tls {
        return exchange(tcp, uri).await;
    }
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| FetchError::Address("names no host"))?;
    exchange(TlsConnector::from(tls.clone()).connect(name, tcp).await.map_err(FetchError::Tls)?, uri).await
}

async fn exchange(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, uri: &Uri) -> Result<Document, FetchError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, uri.authority().map_or("", |authority| authority.as_str()))
        .header(ACCEPT, "application/json, application/jwk-set+json")
        .header(USER_AGENT, "callgate")
        .body(Empty::<Bytes>::new())
        .map_err(|_| FetchError::Address("cannot be asked for"))?;
    let answer = async { read(sender.send_request(request).await?).await };
    // Both are polled here, so that nothing of the exchange outlives it.
    tokio::pin!(answer);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        document = &mut answer => document,
        // The connection may end before the rest of the body has been taken out of it.
        _ended = &mut connection => answer.await,
    }
}

async fn read(response: Response<Incoming>) -> Result<Document, FetchError> {
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let coded = response.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    if coded {
        return Err(FetchError::Body);
    }
    let said = response.headers().get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let fresh = freshness(said);
    let body = Limited::new(response.into_body(), BODY_MAX).collect().await.map_err(|_| FetchError::Body)?.to_bytes();
    Ok(Document { body, fresh })
}

/// How long an answer with these `Cache-Control` values is fresh, within our bounds. Source: RFC 9111 §5.2.2.
fn freshness<'a>(values: impl Iterator<Item = &'a str>) -> Duration {
    let mut fresh = FRESH;
    for directive in values.flat_map(|value| value.split(',')) {
        let directive = directive.trim().to_ascii_lowercase();
        if directive == "no-store" || directive == "no-cache" {
            return FRESH_MIN;
        }
        if let Some(seconds) = directive.strip_prefix("max-age=").and_then(|text| text.trim_matches('"').parse().ok()) {
            fresh = Duration::from_secs(seconds);
        }
    }
    fresh.clamp(FRESH_MIN, FRESH_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_the_issuers_within_bounds() {
        let of = |values: &[&str]| freshness(values.iter().copied()).as_secs();
        assert_eq!(of(&[]), 3600);
        assert_eq!(of(&["public, Max-Age=7200, must-revalidate"]), 7200);
        assert_eq!(of(&["max-age=1"]), 300);
        assert_eq!(of(&["max-age=99999999999"]), 86_400);
        assert_eq!(of(&["max-age=99999999999999999999999"]), 3600);
        assert_eq!(of(&["max-age=-1"]), 3600);
        assert_eq!(of(&["public", "no-store, max-age=7200"]), 300);
    }

    #[test]
    fn a_discovery_document_is_that_of_the_issuer_to_the_letter() {
        let of = |text: &str| discovered("https://idp.example", text.as_bytes());
        let good = r#"{"issuer":"https://idp.example","jwks_uri":"https://keys.example/jwks"}"#;
        assert_eq!(of(good).unwrap(), "https://keys.example/jwks");
        for bad in [
            good.replace("idp.example", "idp.example/"),
            good.replace("https://idp", "http://idp"),
            good.replace("idp.example", "evil.example"),
            good.replace("\"issuer\"", "\"issuer\":\"https://idp.example\",\"issuer\""),
            good.replace("https://keys", "http://keys"),
            good.replace("https://keys.example", "http://127.0.0.1"),
            good.replace("https://keys.example", "file://"),
            good.replace("jwks_uri", "jwks"),
            "{}".into(),
            "<html>".into(),
        ] {
            assert!(of(&bad).is_err(), "{bad}");
        }
    }
}
