//! What is called.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Service;

/// A protocol whose calls we decode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2, in plain text or within TLS.
    Http,
    /// gRPC over HTTP/2: the path names the service and its method.
    Grpc,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: &'static [Self] = &[Self::Http, Self::Grpc];

    /// The word used in policies, records and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }
}

/// The thing called: protocol, service and name.
///
/// Prints as `http:GET api.x/v1/users/7` or `grpc:pkg.Svc/Method api.x`, with the port where it is not the scheme's own.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Function {
    /// How it is called.
    pub protocol: Protocol,
    /// Where it lives.
    pub service: Service,
    /// Whether the call goes within TLS.
    pub tls: bool,
    /// HTTP: the method, as sent (methods are case-sensitive). gRPC: `POST`, which its requests are.
    pub method: String,
    /// HTTP: the canonical path, without query. gRPC: `/pkg.Svc/Method`.
    pub path: String,
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Http => {
                write!(f, "http:{} ", self.method)?;
                self.authority(f)?;
                f.write_str(&self.path)
            }
            Protocol::Grpc => {
                write!(f, "grpc:{} ", self.path.trim_start_matches('/'))?;
                self.authority(f)
            }
        }
    }
}

impl Function {
    /// The host as a URL shows it.
    fn authority(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own_port = if self.tls { 443 } else { 80 };
        let host = self.service.host();
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{open}{host}{close}")?;
        if self.service.port() != own_port {
            write!(f, ":{}", self.service.port())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_port_only_where_it_is_unusual() {
        let mut function = Function {
            protocol: Protocol::Http,
            service: Service::new("api.x", 443).unwrap(),
            tls: true,
            method: "GET".into(),
            path: "/v1/users/7".into(),
        };
        assert_eq!(function.to_string(), "http:GET api.x/v1/users/7");
        function.tls = false;
        assert_eq!(function.to_string(), "http:GET api.x:443/v1/users/7");
    }

    #[test]
    fn a_grpc_function_begins_with_its_name() {
        let function = Function {
            protocol: Protocol::Grpc,
            service: Service::new("api.x", 50051).unwrap(),
            tls: true,
            method: "POST".into(),
            path: "/pkg.Svc/Get".into(),
        };
        assert_eq!(function.to_string(), "grpc:pkg.Svc/Get api.x:50051");
    }
}
