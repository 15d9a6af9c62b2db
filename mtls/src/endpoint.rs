//! Where a collector with TLS is, and the name that its certificate must bear.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use rustls::pki_types::ServerName;

use crate::TlsError;

/// `https://HOST:PORT`: HOST is a name or an address, and the collector's certificate must bear it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsEndpoint {
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl TlsEndpoint {
    /// The host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, where the host is one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }

    pub(crate) fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }
}

impl FromStr for TlsEndpoint {
    type Err = TlsError;
    fn from_str(text: &str) -> Result<Self, TlsError> {
        let malformed = || TlsError::Address(text.into());
        let authority = text.strip_prefix("https://").ok_or_else(malformed)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = authority.rsplit_once(':').ok_or_else(malformed)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        // Brackets and colons go together: `[::1]`, `::1` and `[a.b]` must not all be taken.
        if bare.contains(':') != (bare.len() != host.len()) || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(malformed)?;
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| malformed())?;
        Ok(Self { host: bare.into(), port, name })
    }
}

impl fmt::Display for TlsEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') { write!(f, "https://[{host}]:{port}") } else { write!(f, "https://{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_a_port() {
        for text in ["https://collector.example:4700", "https://10.0.0.7:1", "https://[2001:db8::7]:4700"] {
            assert_eq!(text.parse::<TlsEndpoint>().unwrap().to_string(), text);
        }
        let at: TlsEndpoint = "https://[::1]:4700/".parse().unwrap();
        assert_eq!((at.host(), at.address()), ("::1", Some("[::1]:4700".parse().unwrap())));
        assert_eq!("https://localhost:1".parse::<TlsEndpoint>().unwrap().address(), None);
        for text in [
            "",
            "https://",
            "https://host",
            "https://:1",
            "https://host:0",
            "https://host:+1",
            "https://host:65536",
            "https://a@host:1",
            "https://host:1/path",
            "https://::1:4700",
            "https://[host]:1",
            "http://host:1",
            "https://ho st:1",
        ] {
            assert!(matches!(text.parse::<TlsEndpoint>(), Err(TlsError::Address(_))), "{text}");
        }
    }
}
