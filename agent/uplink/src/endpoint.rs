//! Where the collector is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use callgate_mtls::{ClientTls, TlsEndpoint};
use thiserror::Error;

/// Where the collector is: `https://collector.example:4700`, `http://127.0.0.1:4700` or `unix:/run/callgate/collector.sock`.
///
/// Without TLS a loopback address or a unix socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// A loopback address.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
    /// Any host, with TLS.
    Tls(TlsEndpoint),
}

/// The way to a collector: where it is, and with TLS our certificates.
#[derive(Clone, Debug)]
pub struct Route {
    pub(crate) endpoint: Endpoint,
    pub(crate) tls: Option<ClientTls>,
}

/// Why a text is no [`Endpoint`].
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum EndpointError {
    /// Not of either form.
    #[error(
        "`{0}` is no address of a collector: expected `https://HOST:PORT`, `http://127.0.0.1:PORT` or `unix:/absolute/path`"
    )]
    Malformed(String),
    /// Plain text over a network.
    #[error("`{0}` is on another host, which takes TLS: use `https://…`, a loopback address or a unix socket")]
    NotLoopback(String),
    /// TLS without certificates.
    #[error("`{0}` takes certificates: configure `[collector_tls]`")]
    NoCertificates(String),
}

impl Endpoint {
    /// The address, where it is one: no workload may reach it.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
            Self::Tls(endpoint) => endpoint.address(),
        }
    }
}

impl Route {
    /// To `endpoint`, with `tls` if that takes it.
    ///
    /// # Errors
    /// [`EndpointError::NoCertificates`] for TLS without certificates.
    pub fn new(endpoint: Endpoint, tls: Option<ClientTls>) -> Result<Self, EndpointError> {
        match (&endpoint, tls) {
            (Endpoint::Tls(_), None) => Err(EndpointError::NoCertificates(endpoint.to_string())),
            (Endpoint::Tls(_), tls) => Ok(Self { endpoint, tls }),
            (Endpoint::Tcp(_) | Endpoint::Unix(_), _) => Ok(Self { endpoint, tls: None }),
        }
    }

    /// Where it leads.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Our certificates, with TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&ClientTls> {
        self.tls.as_ref()
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let malformed = || EndpointError::Malformed(text.into());
        if let Some(path) = text.strip_prefix("unix:") {
            // `unix:///path` is how other gRPC programs write it.
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            return if path.is_absolute() { Ok(Self::Unix(path)) } else { Err(malformed()) };
        }
        if text.starts_with("https://") {
            return text.parse().map(Self::Tls).map_err(|_| malformed());
        }
        let authority = text.strip_prefix("http://").ok_or_else(malformed)?.trim_end_matches('/');
        if let Ok(address) = authority.parse::<SocketAddr>() {
            let loopback = address.ip().to_canonical().is_loopback();
            return if loopback { Ok(Self::Tcp(address)) } else { Err(EndpointError::NotLoopback(text.into())) };
        }
        let (host, port) = authority.rsplit_once(':').ok_or_else(malformed)?;
        let port: u16 = port.parse().map_err(|_| malformed())?;
        match host {
            // The name is not looked up: what /etc/hosts or a resolver says of it is not ours to trust.
            "localhost" => Ok(Self::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))),
            name if name.is_empty() || name.contains(['/', '@', ':']) => Err(malformed()),
            _ => Err(EndpointError::NotLoopback(text.into())),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tls(endpoint) => endpoint.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_on_this_host() {
        for text in ["http://127.0.0.1:4700", "http://[::1]:4700", "unix:/run/x.sock", "https://collector:4700"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for (text, shown) in
            [("http://localhost:4700/", "http://127.0.0.1:4700"), ("unix:///run/x.sock", "unix:/run/x.sock")]
        {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
        }
        for text in ["http://10.0.0.7:4700", "http://collector:4700", "http://[fe80::1]:1"] {
            assert!(matches!(text.parse::<Endpoint>(), Err(EndpointError::NotLoopback(_))), "{text}");
        }
        for text in
            ["", "127.0.0.1:4700", "https://127.0.0.1", "http://127.0.0.1", "unix:x", "http://a@b:1", "http://:1"]
        {
            assert!(matches!(text.parse::<Endpoint>(), Err(EndpointError::Malformed(_))), "{text}");
        }
        assert_eq!("unix:/x".parse::<Endpoint>().unwrap().address(), None);
        let secure: Endpoint = "https://collector:4700".parse().unwrap();
        assert!(matches!(Route::new(secure, None), Err(EndpointError::NoCertificates(_))));
    }
}
