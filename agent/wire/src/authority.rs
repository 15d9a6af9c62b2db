//! The authority of a request (`Host`, or the host part of a URL) read to a [`Service`].
//!
//! Stricter than RFC 3986: what some resolver could take for a different host is refused.
//! Never resolves anything; whether the name lives at the dialled address is proven elsewhere.

use std::net::{Ipv4Addr, Ipv6Addr};

use callgate_model::Service;

use crate::HeadError;
use crate::limits::HOST_MAX;

/// A host with its port, and whether the port was written out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authority {
    /// Host and port. A v4-mapped IPv6 address is the IPv4 address.
    pub service: Service,
    /// Whether the port was written; else it is the default that the caller gave.
    pub explicit_port: bool,
}

impl Authority {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
    ///
    /// # Errors
    /// [`HeadError::Userinfo`] if there is an `@`; [`HeadError::HostInvalid`] for everything else that is not a
    /// DNS name or an address, such as an empty or signed port, or a number that only some resolvers read as an address.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, HeadError> {
        if text.contains('@') {
            return Err(HeadError::Userinfo);
        }
        if text.len() > HOST_MAX {
            return Err(HeadError::HostInvalid);
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inner, after) = rest.split_once(']').ok_or(HeadError::HostInvalid)?;
                let address: Ipv6Addr = inner.parse().map_err(|_| HeadError::HostInvalid)?;
                let port = match after.strip_prefix(':') {
                    Some(port) => Some(port),
                    None if after.is_empty() => None,
                    None => return Err(HeadError::HostInvalid),
                };
                (address.to_canonical().to_string(), port)
            }
            None => {
                let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
                if looks_like_a_number(host) && host.parse::<Ipv4Addr>().is_err() {
                    return Err(HeadError::HostInvalid);
                }
                (host.to_owned(), port)
            }
        };
        let explicit_port = port.is_some();
        let port = port.map_or(Ok(default_port), read_port)?;
        let service = Service::new(&host, port).map_err(|_| HeadError::HostInvalid)?;
        Ok(Self { service, explicit_port })
    }
}

/// Digits alone, without sign or leading zero: `u16::from_str` would take a plus sign.
fn read_port(text: &str) -> Result<u16, HeadError> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| plain).ok_or(HeadError::HostInvalid)
}

/// Whether the last label is a number to `inet_aton` and its kin, which read `0x7f.1` and `017700000001` as 127.0.0.1.
fn looks_like_a_number(host: &str) -> bool {
    let bare = host.strip_suffix('.').unwrap_or(host);
    let last = bare.rsplit('.').next().unwrap_or(bare);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|b| b.is_ascii_digit()) || hex.is_some_and(|h| h.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_addresses() {
        for (text, service, explicit_port) in [
            ("api.example", "api.example:80", false),
            ("API.Example:8080", "api.example:8080", true),
            ("api.example.", "api.example:80", false),
            ("10.0.0.7:443", "10.0.0.7:443", true),
            ("[::1]", "[::1]:80", false),
            ("[0:0:0:0:0:0:0:1]:8080", "[::1]:8080", true),
            ("[::ffff:10.0.0.7]", "10.0.0.7:80", false),
            ("a_b.svc", "a_b.svc:80", false),
        ] {
            let authority = Authority::parse(text, 80).unwrap();
            assert_eq!((authority.service.to_string().as_str(), authority.explicit_port), (service, explicit_port));
        }
    }

    #[test]
    fn refuses_what_readers_tell_apart() {
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:080",
            "a:+80",
            "a:-1",
            "a:65536",
            "a:80:80",
            "a b",
            "a/b",
            "a,b",
            "::1",
            "[::1",
            "[::1]80",
            "[::1]:",
            "[::1%25eth0]",
            "[fe80::1%eth0]",
            "[10.0.0.7]",
            "[v1.x]",
            "127.1",
            "0x7f.1",
            "0x7f000001",
            "2130706433",
            "010.0.0.7",
            "10.0.0.7.",
            "é",
            "a%2eb",
            "-a",
            "a..b",
        ] {
            assert_eq!(Authority::parse(text, 80), Err(HeadError::HostInvalid), "{text}");
        }
        assert_eq!(Authority::parse("u@a", 80), Err(HeadError::Userinfo));
    }
}
