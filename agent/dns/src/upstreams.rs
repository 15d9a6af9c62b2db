//! Whom to ask: resolvers that the configuration names, or the host's own.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::PORT;

/// Most resolvers asked. Source: the C library's MAXNS, resolv.conf(5).
const MOST: usize = 3;

/// How long what was read of a file holds.
const FRESH: Duration = Duration::from_secs(5);

/// Where upstream resolvers are named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Upstreams {
    /// Here.
    Fixed(Vec<SocketAddr>),
    /// In a file as resolv.conf(5) describes it, which is read again as it changes.
    File(PathBuf),
}

impl Upstreams {
    /// Those of this host: `/etc/resolv.conf`.
    #[must_use]
    pub fn host() -> Self {
        Self::File("/etc/resolv.conf".into())
    }
}

/// The upstreams as they are now.
#[derive(Debug)]
pub(crate) struct Known {
    from: Upstreams,
    read: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Known {
    pub(crate) fn new(from: Upstreams) -> Self {
        Self { from, read: Mutex::default() }
    }

    /// Whom to ask, the first one first; empty: nobody is known.
    pub(crate) async fn now(&self) -> Vec<SocketAddr> {
        let path = match &self.from {
            Upstreams::Fixed(fixed) => return fixed.iter().take(MOST).copied().collect(),
            Upstreams::File(path) => path,
        };
        let fresh = |read: &Option<(Instant, Vec<SocketAddr>)>| {
            read.as_ref().filter(|(at, _)| at.elapsed() < FRESH).map(|(_, known)| known.clone())
        };
        if let Some(known) = fresh(&self.lock()) {
            return known;
        }
        let known = match tokio::fs::read_to_string(path).await {
            Ok(text) => nameservers(&text),
            Err(error) => {
                warn!(path = %path.display(), %error, "no resolvers of this host: name `upstreams` in `[dns]`");
                Vec::new()
            }
        };
        *self.lock() = Some((Instant::now(), known.clone()));
        known
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Vec<SocketAddr>)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The `nameserver` lines of resolv.conf(5), at most three; the local resolver where there is none, as the C library
/// has it.
#[must_use]
pub fn nameservers(text: &str) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter(|rest| rest.starts_with(char::is_whitespace))
        .filter_map(|rest| rest.split_whitespace().next())
        .filter_map(address)
        .take(MOST)
        .collect();
    if found.is_empty() {
        found.push((IpAddr::from([127, 0, 0, 1]), PORT).into());
    }
    found
}

/// `192.0.2.53`, `2001:db8::53` or `fe80::1%eth0`.
fn address(text: &str) -> Option<SocketAddr> {
    let Some((address, zone)) = text.split_once('%') else {
        return Some((text.parse::<IpAddr>().ok()?, PORT).into());
    };
    let index = zone.parse().ok().or_else(|| {
        let known = !zone.contains('/') && zone != "." && zone != "..";
        let file = known.then(|| std::fs::read_to_string(format!("/sys/class/net/{zone}/ifindex")))?;
        file.ok()?.trim().parse().ok()
    });
    Some(SocketAddrV6::new(address.parse::<Ipv6Addr>().ok()?, PORT, 0, index.unwrap_or(0)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_read_as_the_c_library_does() {
        let text = "# x\nnameserver 10.0.0.2\n nameserver\tfe80::1%7\nnameservers 9.9.9.9\nsearch a\nnameserver ::1\nnameserver 8.8.8.8\n";
        let found: Vec<String> = nameservers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.2:53", "[fe80::1%7]:53", "[::1]:53"]);
        assert_eq!(nameservers("search a\n"), ["127.0.0.1:53".parse().unwrap()]);
        let SocketAddr::V6(local) = nameservers("nameserver fe80::1%lo")[0] else { panic!("v6") };
        assert_eq!(local.scope_id(), 1);
    }

    #[tokio::test]
    async fn a_missing_file_is_nobody() {
        assert!(Known::new(Upstreams::File("/no/such/file".into())).now().await.is_empty());
    }
}
