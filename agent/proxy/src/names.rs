//! Proves that a name which a plain-text call asks for lives at the address that was dialled.
//!
//! Over TLS the upstream's certificate proves the name, and this module is not asked.
//! In plain text a Host header is only the caller's word: it holds when our own resolution gives that address,
//! or when the configuration declares the service at that address.
//! What a pod calls `cart` its resolver has completed to `cart.shop.svc.cluster.local`: so do we, and that is the name
//! that is judged, whoever calls.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use callgate_model::Service;

/// How long an answer proves a name after it was last given.
/// Source: the design: TTL plus 5 minutes; `getaddrinfo` tells no TTL.
const ANSWER_HOLDS: Duration = Duration::from_secs(300);

/// Shortest time between two resolutions of one name, so that a workload cannot make us flood a resolver.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Longest resolution.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Most names remembered; beyond it the answers that were not used for longest are dropped.
const NAMES_MAX: usize = 4096;

/// Most addresses remembered of one name.
const ADDRESSES_MAX: usize = 64;

/// Services of the configuration, whose names need no other proof.
#[derive(Clone, Debug, Default)]
pub struct DeclaredServices(HashMap<String, Vec<IpAddr>>);

impl DeclaredServices {
    /// Services by host, with the addresses where they live.
    #[must_use]
    pub fn new(services: impl IntoIterator<Item = (String, Vec<IpAddr>)>) -> Self {
        let canonical = |(host, addresses): (String, Vec<IpAddr>)| {
            (host.to_ascii_lowercase(), addresses.into_iter().map(|ip| ip.to_canonical()).collect())
        };
        Self(services.into_iter().map(canonical).collect())
    }

    /// Whether `service` is declared to live at `address`.
    #[must_use]
    pub fn holds(&self, service: &Service, address: IpAddr) -> bool {
        self.0.get(service.host()).is_some_and(|known| known.contains(&address.to_canonical()))
    }
}

/// Our own knowledge of which names live where.
#[derive(Debug, Default)]
pub struct Names {
    declared: DeclaredServices,
    /// Where names of a cluster's services end, `cluster.local`; none where there is no cluster.
    cluster: Option<String>,
    answers: Mutex<HashMap<String, Answers>>,
}

#[derive(Debug)]
struct Answers {
    asked: Instant,
    seen: Vec<(IpAddr, Instant)>,
}

impl Names {
    /// Knows `declared`, and asks the host's resolver for the rest. `cluster` is where names of a cluster's services end,
    /// `cluster.local`.
    #[must_use]
    pub fn new(declared: DeclaredServices, cluster: Option<String>) -> Self {
        Self { declared, cluster, answers: Mutex::default() }
    }

    /// The declared services.
    #[must_use]
    pub fn declared(&self) -> &DeclaredServices {
        &self.declared
    }

    /// The service that a caller means by `service`, proven to live at `destination`: the same, or for a pod of
    /// `namespace` its full name. None: nothing proves it.
    ///
    /// # Cancel safety
    /// Dropping the future forgets the question.
    pub async fn meant<'a>(
        &self,
        service: &'a Service,
        destination: SocketAddr,
        namespace: Option<&str>,
    ) -> Option<Cow<'a, Service>> {
        let mut completions = None;
        let mut is_whole = true;
        if let (Some(domain), Some(namespace)) = (&self.cluster, namespace) {
            let host = service.host();
            is_whole = host.contains('.') || host == "localhost" || service.address().is_some();
            completions = Some(self::completions(service, namespace, domain));
        }
        if is_whole && self.proven(service, destination).await {
            return Some(Cow::Borrowed(service));
        }
        for host in completions.into_iter().flatten() {
            // What is too long for a name is none.
            let Ok(meaning) = Service::new(&host, service.port()) else { continue };
            if self.proven(&meaning, destination).await {
                return Some(Cow::Owned(meaning));
            }
        }
        None
    }

    /// Whether `service` is proven to live at `destination`.
    ///
    /// # Cancel safety
    /// Dropping the future forgets the question.
    pub async fn proven(&self, service: &Service, destination: SocketAddr) -> bool {
        let ip = destination.ip().to_canonical();
        if service.port() != destination.port() {
            return false;
        }
        if let Some(address) = service.address() {
            return address == ip;
        }
        if self.declared.holds(service, ip) {
            return true;
        }
        match self.known(service.host(), ip) {
            Known::Yes => true,
            Known::AskedJustNow => false,
            Known::Ask => self.ask(service, ip).await,
        }
    }

    fn known(&self, host: &str, ip: IpAddr) -> Known {
        let Ok(mut answers) = self.answers.lock() else { return Known::AskedJustNow };
        let Some(entry) = answers.get_mut(host) else { return Known::Ask };
        if entry.seen.iter().any(|(known, at)| *known == ip && at.elapsed() < ANSWER_HOLDS) {
            return Known::Yes;
        }
        if entry.asked.elapsed() < ASK_AGAIN { Known::AskedJustNow } else { Known::Ask }
    }

    async fn ask(&self, service: &Service, ip: IpAddr) -> bool {
        // The completions of our own pod's namespace are not those of the caller's.
        let is_whole = self.cluster.is_some() && service.host().contains('.');
        let host = format!("{}{}", service.host(), if is_whole { "." } else { "" });
        let lookup = tokio::net::lookup_host((host, service.port()));
        let found: Vec<IpAddr> = match tokio::time::timeout(ASK_TIMEOUT, lookup).await {
            Ok(Ok(found)) => found.map(|a| a.ip().to_canonical()).collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        let proven = found.contains(&ip);
        self.remember(service.host(), &found);
        proven
    }

    fn remember(&self, host: &str, found: &[IpAddr]) {
        let now = Instant::now();
        let Ok(mut answers) = self.answers.lock() else { return };
        if answers.len() >= NAMES_MAX && !answers.contains_key(host) {
            let oldest = answers.iter().min_by_key(|(_, a)| a.asked).map(|(name, _)| name.clone());
            oldest.and_then(|name| answers.remove(&name));
        }
        let entry = answers.entry(host.to_owned()).or_insert(Answers { asked: now, seen: Vec::new() });
        entry.asked = now;
        entry.seen.retain(|(ip, at)| at.elapsed() < ANSWER_HOLDS && !found.contains(ip));
        entry.seen.extend(found.iter().take(ADDRESSES_MAX).map(|ip| (*ip, now)));
        let excess = entry.seen.len().saturating_sub(ADDRESSES_MAX);
        entry.seen.drain(..excess);
    }
}

/// What a pod of `namespace` may mean by a host that is not whole, as kubelet's resolv.conf completes names.
fn completions(service: &Service, namespace: &str, domain: &str) -> impl Iterator<Item = String> {
    let host = service.host();
    let is_whole = service.address().is_some()
        || host == "localhost"
        || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    let ends = if is_whole { 0 } else { 3 };
    (0..ends).map(move |end| match end {
        0 => format!("{host}.{namespace}.svc.{domain}"),
        1 => format!("{host}.svc.{domain}"),
        _ => format!("{host}.{domain}"),
    })
}

enum Known {
    Yes,
    AskedJustNow,
    Ask,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_declared_service_is_proven_at_its_address_alone() {
        let declared = DeclaredServices::new([("users.internal".into(), vec!["10.0.0.7".parse().unwrap()])]);
        let names = Names::new(declared, None);
        let service = Service::new("users.internal", 80).unwrap();
        assert!(names.proven(&service, "10.0.0.7:80".parse().unwrap()).await);
        assert!(!names.proven(&service, "10.0.0.7:81".parse().unwrap()).await);
        assert!(!names.proven(&service, "10.0.0.8:80".parse().unwrap()).await);
    }

    #[tokio::test]
    async fn the_hosts_own_resolution_proves_a_name() {
        let names = Names::default();
        let service = Service::new("localhost", 80).unwrap();
        assert!(names.proven(&service, "127.0.0.1:80".parse().unwrap()).await);
        assert!(!names.proven(&service, "192.0.2.1:80".parse().unwrap()).await);
    }

    #[test]
    fn a_pods_short_names_are_completed_as_its_resolver_does() {
        let completions = |host: &str| -> Vec<String> {
            completions(&Service::new(host, 80).unwrap(), "shop", "cluster.local").collect()
        };
        let of_cart = ["cart.shop.svc.cluster.local", "cart.svc.cluster.local", "cart.cluster.local"];
        assert_eq!(completions("cart"), of_cart);
        assert_eq!(completions("cart.bank")[1], "cart.bank.svc.cluster.local");
        for whole in ["cart.shop.svc.cluster.local", "localhost", "10.0.0.7"] {
            assert!(completions(whole).is_empty(), "{whole}");
        }
    }

    #[tokio::test]
    async fn what_is_meant_is_what_is_proven() {
        let at: SocketAddr = "10.0.0.7:80".parse().unwrap();
        let declared = || DeclaredServices::new([("cart.shop.svc.cluster.local".into(), vec![at.ip()])]);
        let cart = Service::new("cart", 80).unwrap();
        let names = Names::new(declared(), Some("cluster.local".into()));
        let full = Service::new("cart.shop.svc.cluster.local", 80).unwrap();
        assert_eq!(names.meant(&cart, at, Some("shop")).await.as_deref(), Some(&full));
        assert_eq!(names.meant(&full, at, Some("bank")).await.as_deref(), Some(&full));
        assert_eq!(names.meant(&cart, "10.0.0.8:80".parse().unwrap(), Some("shop")).await, None);
        // Neither another namespace's pod nor anybody without one means it.
        assert_eq!(names.meant(&cart, at, Some("bank")).await, None);
        assert_eq!(names.meant(&cart, at, None).await, None);
        assert_eq!(Names::new(declared(), None).meant(&cart, at, Some("shop")).await, None);
    }

    #[tokio::test]
    async fn an_address_is_its_own_proof() {
        let names = Names::default();
        let service = Service::new("192.0.2.1", 80).unwrap();
        assert!(names.proven(&service, "192.0.2.1:80".parse().unwrap()).await);
        assert!(!names.proven(&service, "192.0.2.2:80".parse().unwrap()).await);
    }
}
