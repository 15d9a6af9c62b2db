//! Proves that a name which a plain-text call asks for lives at the address that was dialled.
//!
//! Over TLS the upstream's certificate proves the name, and this module is not asked.
//! In plain text a Host header is only the caller's word: it holds when our own resolution gives that address,
//! or when the configuration declares the service at that address.
//! What a pod calls `cart` its resolver has completed to `cart.shop.svc.cluster.local`: so do we, and that is the name
//! that is judged, whoever calls. Only the shapes that Services have are completed: with all that a resolver tries, a
//! namespace could make a name of its own out of `github.com`.
//! A resolution tells the name to whoever answers for it: it is made only where policy would let the call go.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use callgate_model::Service;
use tokio::sync::Semaphore;

/// How long an answer proves a name after it was last given.
/// Source: the design: TTL plus 5 minutes; `getaddrinfo` tells no TTL.
const ANSWER_HOLDS: Duration = Duration::from_secs(300);

/// Shortest time between two resolutions of one name, so that a workload cannot make us flood a resolver.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Longest resolution.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Most resolutions at once, so that slow ones leave threads to others. Source: ours; half of one worker's.
const LOOKUPS_MAX: usize = 8;

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
#[derive(Debug)]
pub struct Names {
    declared: DeclaredServices,
    /// Where names of a cluster's services end, `cluster.local`; none where there is no cluster.
    cluster: Option<String>,
    answers: Mutex<HashMap<String, Answers>>,
    lookups: Arc<Semaphore>,
}

#[derive(Debug)]
struct Answers {
    asked: Instant,
    used: Instant,
    seen: Vec<(IpAddr, Instant)>,
}

/// What a caller means by a service.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Meant<'a> {
    /// This one, proven to live where the caller dialled.
    Proven(Cow<'a, Service>),
    /// Nothing proves it.
    Unproven,
    /// This one, which nobody was asked about: it may not be called wherever it lives.
    Refused(Cow<'a, Service>),
}

impl Default for Names {
    fn default() -> Self {
        Self::new(DeclaredServices::default(), None)
    }
}

impl Names {
    /// Knows `declared`, and asks the host's resolver for the rest. `cluster` is where names of a cluster's services end,
    /// `cluster.local`.
    #[must_use]
    pub fn new(declared: DeclaredServices, cluster: Option<String>) -> Self {
        Self { declared, cluster, answers: Mutex::default(), lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }

    /// The declared services.
    #[must_use]
    pub fn declared(&self) -> &DeclaredServices {
        &self.declared
    }

    /// The service that a caller means by `service`: the same, or for a pod of `namespace` its whole name. `may` tells
    /// whether it may be called at all.
    ///
    /// # Cancel safety
    /// Dropping the future forgets the question.
    pub(crate) async fn meant<'a>(
        &self,
        service: &'a Service,
        destination: SocketAddr,
        namespace: Option<&str>,
        may: impl Fn(&Service) -> bool,
    ) -> Meant<'a> {
        let ip = destination.ip().to_canonical();
        if service.port() != destination.port() {
            return Meant::Unproven;
        }
        let is_there = service.address().map(|address| address == ip);
        if is_there.unwrap_or_else(|| self.declared.holds(service, ip)) {
            return Meant::Proven(Cow::Borrowed(service));
        }
        if is_there.is_some() {
            return Meant::Unproven;
        }
        let mut refused = None;
        let mut open = Vec::new();
        for meaning in self.meanings(service, namespace).into_iter().flatten() {
            match self.known(&meaning, ip) {
                Known::Yes => return Meant::Proven(meaning),
                Known::AskedJustNow => {}
                Known::Ask => open.push(meaning),
            }
        }
        for meaning in open {
            if !may(&meaning) {
                refused = refused.or(Some(meaning));
            } else if self.ask(&meaning, ip).await {
                return Meant::Proven(meaning);
            }
        }
        refused.map_or(Meant::Unproven, Meant::Refused)
    }

    /// What a pod of `namespace` may mean: what its resolver makes of a name that has the shape of a Service's, before the
    /// name as it is.
    fn meanings<'a>(&self, service: &'a Service, namespace: Option<&str>) -> [Option<Cow<'a, Service>>; 2] {
        let (itself, host) = (Some(Cow::Borrowed(service)), service.host());
        let Some(domain) = &self.cluster else { return [itself, None] };
        // What is too long for a name is none.
        let whole = |end: &str| Service::new(&format!("{host}.{end}"), service.port()).ok().map(Cow::Owned);
        let is_whole = host == "localhost" || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
        match host.split('.').count() {
            _ if is_whole => [itself, None],
            // The resolver of our own pod would complete it by another namespace.
            1 => [namespace.and_then(|namespace| whole(&format!("{namespace}.svc.{domain}"))), None],
            2 => [whole(&format!("svc.{domain}")), itself],
            3 if host.ends_with(".svc") => [whole(domain), itself],
            _ => [itself, None],
        }
    }

    fn known(&self, service: &Service, ip: IpAddr) -> Known {
        if self.declared.holds(service, ip) {
            return Known::Yes;
        }
        let Ok(mut answers) = self.answers.lock() else { return Known::AskedJustNow };
        let Some(entry) = answers.get_mut(service.host()) else { return Known::Ask };
        if entry.seen.iter().any(|(known, at)| *known == ip && at.elapsed() < ANSWER_HOLDS) {
            entry.used = Instant::now();
            return Known::Yes;
        }
        if entry.asked.elapsed() < ASK_AGAIN { Known::AskedJustNow } else { Known::Ask }
    }

    async fn ask(&self, service: &Service, ip: IpAddr) -> bool {
        // The completions of our own pod's namespace are not those of the caller's.
        let is_absolute = self.cluster.is_some() && service.host().contains('.');
        let host = format!("{}{}", service.host(), if is_absolute { "." } else { "" });
        let (port, lookups) = (service.port(), Arc::clone(&self.lookups));
        let found = async {
            let turn = lookups.acquire_owned().await.ok()?;
            let lookup = move || {
                let found = (host.as_str(), port).to_socket_addrs();
                // Nothing breaks a lookup off: its turn ends when it does.
                drop(turn);
                found
            };
            tokio::task::spawn_blocking(lookup).await.ok()?.ok()
        };
        let found = tokio::time::timeout(ASK_TIMEOUT, found).await.ok().flatten();
        let found: Vec<IpAddr> = found.into_iter().flatten().map(|address| address.ip().to_canonical()).collect();
        let proven = found.contains(&ip);
        self.remember(service.host(), &found);
        proven
    }

    fn remember(&self, host: &str, found: &[IpAddr]) {
        let now = Instant::now();
        let Ok(mut answers) = self.answers.lock() else { return };
        if answers.len() >= NAMES_MAX && !answers.contains_key(host) {
            let oldest = answers.iter().min_by_key(|(_, a)| a.used).map(|(name, _)| name.clone());
            oldest.and_then(|name| answers.remove(&name));
        }
        let entry = answers.entry(host.to_owned()).or_insert(Answers { asked: now, used: now, seen: Vec::new() });
        (entry.asked, entry.used) = (now, now);
        entry.seen.retain(|(ip, at)| at.elapsed() < ANSWER_HOLDS && !found.contains(ip));
        entry.seen.extend(found.iter().take(ADDRESSES_MAX).map(|ip| (*ip, now)));
        let excess = entry.seen.len().saturating_sub(ADDRESSES_MAX);
        entry.seen.drain(..excess);
    }
}

enum Known {
    Yes,
    AskedJustNow,
    Ask,
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn service(text: &str) -> Service {
        text.parse().unwrap()
    }

    async fn is_proven(names: &Names, service: &Service, at: &str) -> bool {
        let meant = names.meant(service, at.parse().unwrap(), None, |_| true).await;
        meant == Meant::Proven(Cow::Borrowed(service))
    }

    #[tokio::test]
    async fn a_declared_service_is_proven_at_its_address_alone() {
        let declared = DeclaredServices::new([("users.internal".into(), vec!["10.0.0.7".parse().unwrap()])]);
        let names = Names::new(declared, None);
        let users = service("users.internal:80");
        assert!(is_proven(&names, &users, "10.0.0.7:80").await);
        assert!(!is_proven(&names, &users, "10.0.0.7:81").await);
        assert!(!is_proven(&names, &users, "10.0.0.8:80").await);
    }

    #[tokio::test]
    async fn the_hosts_own_resolution_proves_a_name() {
        let (names, localhost) = (Names::default(), service("localhost:80"));
        assert!(is_proven(&names, &localhost, "127.0.0.1:80").await);
        assert!(!is_proven(&names, &localhost, "192.0.2.1:80").await);
    }

    #[tokio::test]
    async fn an_address_is_its_own_proof() {
        let (names, address) = (Names::default(), service("192.0.2.1:80"));
        assert!(is_proven(&names, &address, "192.0.2.1:80").await);
        assert!(!is_proven(&names, &address, "192.0.2.2:80").await);
    }

    #[tokio::test]
    async fn nobody_is_asked_about_what_may_not_be_called() {
        let (names, localhost, asked) = (Names::default(), service("localhost:80"), Cell::new(0));
        let at = "127.0.0.1:80".parse().unwrap();
        let may = |allowed: bool| {
            let asked = &asked;
            move |_: &Service| {
                asked.set(asked.get() + 1);
                allowed
            }
        };
        assert_eq!(names.meant(&localhost, at, None, may(false)).await, Meant::Refused(Cow::Borrowed(&localhost)));
        assert!(names.answers.lock().unwrap().is_empty(), "it was looked up");
        assert_eq!(names.meant(&localhost, at, None, may(true)).await, Meant::Proven(Cow::Borrowed(&localhost)));
        // Known now: policy decides by the name, and is not asked here.
        assert_eq!(names.meant(&localhost, at, None, may(false)).await, Meant::Proven(Cow::Borrowed(&localhost)));
        assert_eq!(asked.get(), 2);
    }

    #[test]
    fn a_pods_short_names_are_completed_where_they_have_the_shape_of_a_services() {
        let names = Names::new(DeclaredServices::default(), Some("cluster.local".into()));
        let of = |host: &str, namespace: Option<&str>| -> Vec<String> {
            let service = Service::new(host, 80).unwrap();
            names.meanings(&service, namespace).into_iter().flatten().map(|meaning| meaning.host().to_owned()).collect()
        };
        let in_shop = |host: &str| of(host, Some("shop"));
        assert_eq!(in_shop("cart"), ["cart.shop.svc.cluster.local"]);
        assert_eq!(in_shop("cart.bank"), ["cart.bank.svc.cluster.local", "cart.bank"]);
        assert_eq!(in_shop("cart.bank.svc"), ["cart.bank.svc.cluster.local", "cart.bank.svc"]);
        for whole in ["cart.shop.svc.cluster.local", "localhost", "api.github.com", "a.b.c.svc"] {
            assert_eq!(in_shop(whole), [whole]);
        }
        // Without a namespace a single label is nobody's: our own pod's resolver would find one in ours.
        assert!(of("cart", None).is_empty());
        assert_eq!(of("localhost", None), ["localhost"]);
    }

    #[tokio::test]
    async fn what_is_meant_is_what_is_proven() {
        let at: SocketAddr = "10.0.0.7:80".parse().unwrap();
        let (cart, full) = (service("cart:80"), service("cart.shop.svc.cluster.local:80"));
        let declared = || DeclaredServices::new([(full.host().to_owned(), vec![at.ip()])]);
        let names = Names::new(declared(), Some("cluster.local".into()));
        let proven = |service: &Service| Meant::Proven(Cow::Owned(service.clone()));
        // Names that nobody knows are not looked up here.
        let meant =
            async |names: &Names, service, at, namespace| match names.meant(service, at, namespace, |_| false).await {
                Meant::Proven(meant) => Meant::Proven(Cow::Owned(meant.into_owned())),
                Meant::Unproven | Meant::Refused(_) => Meant::Unproven,
            };
        assert_eq!(meant(&names, &cart, at, Some("shop")).await, proven(&full));
        assert_eq!(meant(&names, &full, at, Some("bank")).await, proven(&full));
        assert_eq!(meant(&names, &cart, "10.0.0.8:80".parse().unwrap(), Some("shop")).await, Meant::Unproven);
        // Neither another namespace's pod nor anybody without one means it.
        assert_eq!(meant(&names, &cart, at, Some("bank")).await, Meant::Unproven);
        assert_eq!(meant(&names, &cart, at, None).await, Meant::Unproven);
        assert_eq!(meant(&Names::new(declared(), None), &cart, at, Some("shop")).await, Meant::Unproven);
    }
}
