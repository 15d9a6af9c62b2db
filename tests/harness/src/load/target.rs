//! Where the calls go and what each one says: worked out once, the same for all.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Uri, Version, header};
use http_body_util::Full;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::{LoadConfig, Protocol};
use crate::ca::{self, HTTP1, HTTP2};

/// Where the calls go.
pub(super) struct Target {
    pub config: LoadConfig,
    pub address: SocketAddr,
    pub tls: Option<(TlsConnector, ServerName<'static>)>,
    host: HeaderValue,
    /// The target of every call, where it does not hold the call's number.
    uri: Option<Uri>,
    body: Bytes,
}

impl Target {
    pub async fn of(config: LoadConfig) -> Result<Target> {
        ensure!(config.streams > 0, "a connection needs a stream");
        ensure!(config.streams == 1 || config.protocol != Protocol::Http1, "HTTP/1.1 has one call a connection");
        let uri: Uri = config.url.replace("{n}", "0").parse().with_context(|| format!("`{}` is no URL", config.url))?;
        let host = uri.host().context("the URL has no host")?.trim_matches(['[', ']']).to_owned();
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => bail!("the URL starts with neither http:// nor https://"),
        };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let address = match config.connect_to {
            Some(address) => address,
            None => tokio::net::lookup_host((host.as_str(), port)).await?.next().context("the host has no address")?,
        };
        let alpn = if config.protocol == Protocol::Http1 { HTTP1 } else { HTTP2 };
        let tls = match (secure, &config.roots_pem) {
            (false, _) => None,
            (true, None) => bail!("https needs certificates to trust"),
            (true, Some(pem)) => {
                let client: Arc<ClientConfig> = ca::client_of(pem, alpn)?;
                Some((TlsConnector::from(client), ServerName::try_from(host)?))
            }
        };
        let host = uri.authority().context("the URL has no host")?.as_str().parse()?;
        let fixed = (!config.url.contains("{n}")).then(|| shown(uri, config.protocol)).transpose()?;
        let body = match config.protocol {
            Protocol::Grpc => message(&config.body)?,
            Protocol::Http1 | Protocol::Http2 => config.body.clone(),
        };
        Ok(Target { config, address, tls, host, uri: fixed, body })
    }

    /// The `n`th call.
    pub fn request(&self, n: u64) -> Result<Request<Full<Bytes>>> {
        let protocol = self.config.protocol;
        let uri = match &self.uri {
            Some(uri) => uri.clone(),
            None => shown(self.config.url.replace("{n}", &n.to_string()).parse()?, protocol)?,
        };
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.uri_mut() = uri;
        *request.method_mut() = if protocol == Protocol::Grpc { Method::POST } else { self.config.method.clone() };
        let headers = request.headers_mut();
        match protocol {
            Protocol::Http1 => {
                headers.insert(header::HOST, self.host.clone());
            }
            Protocol::Http2 => {}
            Protocol::Grpc => {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                headers.insert(header::TE, HeaderValue::from_static("trailers"));
            }
        }
        headers.insert("x-call-id", HeaderValue::from(n));
        if protocol != Protocol::Http1 {
            *request.version_mut() = Version::HTTP_2;
        }
        Ok(request)
    }
}

/// `uri` as a request of this protocol names it: HTTP/2 takes `:scheme` and `:authority` from it.
fn shown(uri: Uri, protocol: Protocol) -> Result<Uri> {
    if protocol == Protocol::Http1 {
        return Ok(uri.path_and_query().map_or("/", |path| path.as_str()).parse()?);
    }
    Ok(uri)
}

/// One message as gRPC frames it: not compressed, its length, itself.
fn message(body: &[u8]) -> Result<Bytes> {
    let mut framed = BytesMut::with_capacity(5 + body.len());
    framed.put_u8(0);
    framed.put_u32(body.len().try_into().context("a message of gRPC is at most 4 GiB")?);
    framed.put_slice(body);
    Ok(framed.freeze())
}
