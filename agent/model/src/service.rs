//! Where calls go: a host and a port.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A host (lower-case name, or address) and a port.
///
/// Prints as `host:port`, an IPv6 address in brackets.
/// In policy, `Service::"host:port"` is in `Service::"host"`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Service {
    host: String,
    port: u16,
}

/// Why a text is not a [`Service`].
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "`{0}` is not a service: expected `host:port`, with a lower-case DNS name, an IPv4 address or an IPv6 address in brackets"
)]
pub struct ServiceError(pub String);

impl Service {
    /// Makes a service of `host` and `port`; the host is lower-cased, one trailing dot is dropped.
    ///
    /// # Errors
    /// [`ServiceError`] if `host` is neither an address nor a DNS name
    /// (labels of 1 to 63 of `a-z 0-9 - _`, 253 in all; the last label not all digits).
    pub fn new(host: &str, port: u16) -> Result<Self, ServiceError> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if let Some(inner) = bare {
            return match inner.parse::<IpAddr>() {
                Ok(ip @ IpAddr::V6(_)) => Ok(Self { host: ip.to_string(), port }),
                _ => Err(ServiceError(host.into())),
            };
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Self { host: ip.to_string(), port });
        }
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if is_dns_name(&name) { Ok(Self { host: name, port }) } else { Err(ServiceError(host.into())) }
    }

    /// A service that is known by its address alone.
    #[must_use]
    pub fn of_address(address: std::net::SocketAddr) -> Self {
        Self { host: address.ip().to_canonical().to_string(), port: address.port() }
    }

    /// Lower-case DNS name, or an address in its canonical text (IPv6 without brackets).
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host as an address, when it is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

fn is_dns_name(name: &str) -> bool {
    let label_ok = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    // A last label of digits alone would be read as an IPv4 address by some resolvers.
    let last_ok = name.rsplit('.').next().is_some_and(|l| !l.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && last_ok && name.split('.').all(label_ok)
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Service {
    type Err = ServiceError;
    fn from_str(text: &str) -> Result<Self, ServiceError> {
        let bad = || ServiceError(text.into());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        if host.contains(':') && !host.starts_with('[') {
            return Err(bad());
        }
        Self::new(host, port.parse().map_err(|_| bad())?).map_err(|_| bad())
    }
}

impl TryFrom<String> for Service {
    type Error = ServiceError;
    fn try_from(text: String) -> Result<Self, ServiceError> {
        text.parse()
    }
}

impl From<Service> for String {
    fn from(service: Service) -> Self {
        service.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parses() {
        for text in ["api.example:443", "10.0.0.7:80", "[::1]:8443", "a_b.x:1"] {
            assert_eq!(text.parse::<Service>().unwrap().to_string(), text);
        }
        assert_eq!(Service::new("API.Example.", 443).unwrap().to_string(), "api.example:443");
    }

    #[test]
    fn refuses_what_is_not_a_host() {
        for text in [
            "", "a", ":1", "a:", "a:b", "a b:1", "-a:1", "a..b:1", "1.2.3:1", "0x7f.1:1", "::1:80", "[a]:1", "a/b:1",
            "é:1",
        ] {
            assert!(text.parse::<Service>().is_err(), "{text}");
        }
    }
}
