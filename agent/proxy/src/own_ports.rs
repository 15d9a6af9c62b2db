//! Our own ports: collector, metrics. A workload never reaches them through us.

use std::net::SocketAddr;

/// Addresses that the agent and its collector listen on.
#[derive(Clone, Debug, Default)]
pub struct OwnPorts(Vec<SocketAddr>);

impl OwnPorts {
    /// Guards `addresses`; an unspecified address stands for every address of this host.
    #[must_use]
    pub fn new(addresses: Vec<SocketAddr>) -> Self {
        Self(addresses)
    }

    /// Whether `destination` is one of ours, before dialling.
    #[must_use]
    pub fn holds(&self, destination: SocketAddr) -> bool {
        let ip = destination.ip().to_canonical();
        self.0
            .iter()
            .any(|own| own.port() == destination.port() && (own.ip() == ip || (local(own) && ip.is_loopback())))
    }

    /// Whether a connection that stands from `local` to `peer` reached one of ours:
    /// a connection of a host to itself has one address at both ends, whichever of its addresses was dialled.
    #[must_use]
    pub fn reached(&self, from: SocketAddr, peer: SocketAddr) -> bool {
        let own_host = from.ip().to_canonical() == peer.ip().to_canonical() || peer.ip().to_canonical().is_loopback();
        own_host && self.0.iter().any(|own| own.port() == peer.port())
    }
}

fn local(address: &SocketAddr) -> bool {
    address.ip().is_loopback() || address.ip().is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_our_ports_behind_every_local_address() {
        let ports = OwnPorts::new(vec!["127.0.0.1:7443".parse().unwrap(), "[::]:9000".parse().unwrap()]);
        for address in ["127.0.0.1:7443", "127.8.8.8:7443", "[::1]:7443", "[::ffff:127.0.0.1]:7443", "127.0.0.1:9000"] {
            assert!(ports.holds(address.parse().unwrap()), "{address}");
        }
        assert!(!ports.holds("127.0.0.1:7444".parse().unwrap()));
        assert!(!ports.holds("192.0.2.1:7443".parse().unwrap()));
        assert!(ports.reached("192.0.2.7:5000".parse().unwrap(), "192.0.2.7:9000".parse().unwrap()));
        assert!(!ports.reached("192.0.2.7:5000".parse().unwrap(), "192.0.2.8:9000".parse().unwrap()));
    }
}
