//! `[dns]`: how questions of DNS are answered, and what names and rates are refused.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use callgate_dns::{PORT, Settings, Upstreams};
use serde::Deserialize;

/// The section; every key has a default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsConfig {
    /// Resolvers to ask, `ADDRESS` or `ADDRESS:PORT`, at most three; none: those of `/etc/resolv.conf`. An empty list
    /// answers nothing but failures.
    pub upstreams: Option<Vec<Upstream>>,
    /// Longest wait for one resolver's answer. Unit: milliseconds.
    pub timeout_ms: u64,
    /// Most answers kept; 0: none.
    pub cache_entries: usize,
    /// Most questions of one workload in a second; twice as many in a burst.
    pub queries_per_s: u32,
    /// Most questions of one workload that are recorded in a second; the rest is counted.
    pub records_per_s: u32,
    /// Longest label. Unit: bytes.
    pub label_max_bytes: usize,
    /// Longest name. Unit: bytes.
    pub name_max_bytes: usize,
    /// Highest entropy of a run of letters and digits. Unit: bits per byte.
    pub entropy_max: f64,
    /// Shortest run whose entropy is looked at. Unit: bytes.
    pub entropy_from_bytes: usize,
    /// Domains whose names are neither too long nor too random.
    pub exempt: Vec<String>,
}

/// An address with a port, or with that of DNS.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged, expecting = "an address of a resolver: `ADDRESS` or `ADDRESS:PORT`")]
pub enum Upstream {
    /// At port 53.
    Address(IpAddr),
    /// At another port.
    Socket(SocketAddr),
}

impl Default for DnsConfig {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            upstreams: None,
            timeout_ms: u64::try_from(settings.timeout.as_millis()).unwrap_or(u64::MAX),
            cache_entries: settings.cache_entries,
            queries_per_s: settings.queries_per_s,
            records_per_s: 50,
            label_max_bytes: settings.label_max,
            name_max_bytes: settings.name_max,
            entropy_max: settings.entropy_max,
            entropy_from_bytes: settings.entropy_from,
            exempt: Vec::new(),
        }
    }
}

impl DnsConfig {
    /// What the resolver is told.
    ///
    /// # Errors
    /// If an exempt domain is none.
    pub fn settings(&self) -> Result<Settings> {
        let upstreams = match &self.upstreams {
            Some(upstreams) => Upstreams::Fixed(upstreams.iter().map(|upstream| upstream.address()).collect()),
            None => Upstreams::host(),
        };
        let mut settings = Settings {
            upstreams,
            timeout: Duration::from_millis(self.timeout_ms),
            cache_entries: self.cache_entries,
            queries_per_s: self.queries_per_s,
            label_max: self.label_max_bytes,
            name_max: self.name_max_bytes,
            entropy_max: self.entropy_max,
            entropy_from: self.entropy_from_bytes,
            exempt: Vec::new(),
        };
        for domain in &self.exempt {
            settings.exempt(domain)?;
        }
        Ok(settings)
    }
}

impl Upstream {
    fn address(self) -> SocketAddr {
        match self {
            Self::Address(ip) => (ip, PORT).into(),
            Self::Socket(address) => address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn upstreams_have_a_port_or_that_of_dns() {
        let text = "[dns]\nupstreams = [\"192.0.2.53\", \"[2001:db8::53]:5353\"]\nexempt = [\"cdn.example\"]\n";
        let settings = Config::parse(text).unwrap().dns.settings().unwrap();
        let addresses = ["192.0.2.53:53", "[2001:db8::53]:5353"].map(|address| address.parse().unwrap());
        assert_eq!(settings.upstreams, Upstreams::Fixed(addresses.to_vec()));
        assert_eq!(settings.exempt.len(), 1);
        assert_eq!(Config::parse("").unwrap().dns.settings().unwrap().upstreams, Upstreams::host());
    }

    #[test]
    fn what_is_unknown_or_unfit_is_named() {
        for (text, named) in [
            ("[dns]\nupstream = []\n", "upstream"),
            ("[dns]\nupstreams = [\"localhost\"]\n", "ADDRESS:PORT"),
            ("resolvers = []\n", "resolvers"),
        ] {
            let error = format!("{:#}", Config::parse(text).unwrap_err());
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
