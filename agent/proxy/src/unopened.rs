//! Observe mode: which TLS is opened no more, because clients of the workload do not take our certificate.
//!
//! Never asked about a workload that is enforced, and never told of one: there, TLS that cannot be opened stays refused.
//! Filled by [`connection`](crate::connection); [`Refused`] tells how a client shows that it does not trust us.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};

use callgate_model::Service;
use rustls::{AlertDescription, Error};

/// Most services of all workloads together. Source: ours; with the longest names (RFC 1035: 253 bytes) some 2 MiB.
const SERVICES_MAX: usize = 4_096;

/// Most services of one workload. Source: ours; a crawler has more, and pays with a failed connection now and then.
const PER_WORKLOAD_MAX: usize = 256;

/// Longest time between two connections that were closed without an alert and together count as a refusal.
/// Source: ours; clients that try again do so within seconds, and pools that are warmed up in vain less often.
const TWICE_WITHIN: Duration = Duration::from_secs(60);

/// How a client showed that it does not take our certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// For certain: an alert that speaks of the certificate, or TLS of a kind that we cannot speak.
    Surely,
    /// Perhaps: it went away before its first byte, as clients do that look at certificates after the handshake.
    Perhaps,
}

impl Refused {
    /// What the end of a handshake, or of a connection before its first byte, says; none where it says nothing.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::AlertReceived(alert)) if speaks_of_certificate(*alert) => Some(Self::Surely),
            Some(Error::PeerIncompatible(_)) => Some(Self::Surely),
            Some(Error::AlertReceived(_)) => Some(Self::Perhaps),
            Some(_) => None,
            None if HUNG_UP.contains(&error.kind()) => Some(Self::Perhaps),
            None => None,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Surely => "by an alert",
            Self::Perhaps => "twice, by closing",
        })
    }
}

/// How it shows that a peer hung up: it depends on what was on its way then.
pub(crate) const HUNG_UP: [io::ErrorKind; 4] = [
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::ConnectionAborted,
    io::ErrorKind::BrokenPipe,
    io::ErrorKind::UnexpectedEof,
];

/// Alerts about a certificate. Source: RFC 8446 §6.2, RFC 5246 §7.2.2, RFC 6066 §9.
fn speaks_of_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::UnknownCA
            | A::BadCertificate
            | A::CertificateUnknown
            | A::UnsupportedCertificate
            | A::CertificateExpired
            | A::CertificateRevoked
            | A::CertificateUnobtainable
            | A::BadCertificateStatusResponse
            | A::BadCertificateHashValue
            | A::AccessDenied
            | A::NoCertificate
    )
}

/// Services that are not opened, by workload. Bounded: a workload beyond its share loses the oldest of its own.
#[derive(Debug)]
pub struct Unopened {
    holds_for: Duration,
    table: Mutex<Table>,
}

/// By the workload's entity id, which is what policy and records know it by: it survives the cgroup of one run of a job.
#[derive(Debug, Default)]
struct Table {
    workloads: HashMap<String, HashMap<Service, Entry>>,
    services: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The last refusal.
    since: Instant,
    /// Whether connections pass; else one refusal is in doubt.
    passes: bool,
}

impl Unopened {
    /// For how long connections pass after a client's last refusal, unless told otherwise.
    ///
    /// Source: ours. Each end costs the workload one failed connection, and trust mostly comes with a restart or a new
    /// image; [`forget`](Self::forget) is for who will not wait.
    pub const HOLDS_FOR: Duration = Duration::from_secs(24 * 3600);

    /// An empty one, whose entries hold for this long after the last refusal.
    #[must_use]
    pub fn new(holds_for: Duration) -> Self {
        Self { holds_for, table: Mutex::default() }
    }

    /// Whether TLS of `workload` to `service` passes unopened at `now`.
    pub(crate) fn holds(&self, workload: &str, service: &Service, now: Instant) -> bool {
        let table = self.table();
        let entry = table.workloads.get(workload).and_then(|services| services.get(service));
        entry.is_some_and(|entry| entry.passes && self.lives(*entry, now))
    }

    /// Notes a refusal at `now`; true if from here on TLS passes that did not before.
    pub(crate) fn note(&self, workload: &str, service: &Service, refused: Refused, now: Instant) -> bool {
        let mut table = self.table();
        let known = table.workloads.get(workload).and_then(|services| services.get(service)).copied();
        let known = known.filter(|entry| self.lives(*entry, now));
        if known.is_none() {
            self.make_room(&mut table, workload, service, now);
        }
        let passed = known.is_some_and(|entry| entry.passes);
        let passes = refused == Refused::Surely || known.is_some();
        let entry = Entry { since: now, passes };
        if table.workloads.entry(workload.to_owned()).or_default().insert(service.clone(), entry).is_none() {
            table.services += 1;
        }
        passes && !passed
    }

    /// Notes that a client went on within TLS that we opened: a refusal in doubt was none.
    pub(crate) fn trusted(&self, workload: &str, service: &Service) {
        let mut table = self.table();
        let entry = table.workloads.get(workload).and_then(|services| services.get(service));
        if entry.is_some_and(|entry| !entry.passes) {
            table.remove(workload, service);
        }
    }

    /// Forgets `workload`: its TLS is opened again.
    pub fn forget(&self, workload: &str) {
        let mut table = self.table();
        let gone = table.workloads.remove(workload).map_or(0, |services| services.len());
        table.services -= gone;
    }

    fn lives(&self, entry: Entry, now: Instant) -> bool {
        let limit = if entry.passes { self.holds_for } else { TWICE_WITHIN };
        now.saturating_duration_since(entry.since) < limit
    }

    /// Takes room for one more entry of `workload` from itself where it has its share, else from what has expired, else
    /// from whoever holds most: so a workload takes nothing from one that holds less than itself.
    fn make_room(&self, table: &mut Table, workload: &str, service: &Service, now: Instant) {
        table.remove(workload, service);
        if table.workloads.get(workload).is_some_and(|services| services.len() >= PER_WORKLOAD_MAX) {
            table.remove_oldest(workload);
        }
        if table.services >= SERVICES_MAX {
            for services in table.workloads.values_mut() {
                services.retain(|_, entry| self.lives(*entry, now));
            }
            table.workloads.retain(|_, services| !services.is_empty());
            table.services = table.workloads.values().map(HashMap::len).sum();
        }
        if table.services >= SERVICES_MAX {
            let most = table.workloads.iter().max_by_key(|(_, services)| services.len());
            if let Some(most) = most.map(|(workload, _)| workload.clone()) {
                table.remove_oldest(&most);
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Unopened {
    fn default() -> Self {
        Self::new(Self::HOLDS_FOR)
    }
}

impl Table {
    fn remove(&mut self, workload: &str, service: &Service) {
        let Some(services) = self.workloads.get_mut(workload) else { return };
        if services.remove(service).is_some() {
            self.services -= 1;
        }
        if services.is_empty() {
            self.workloads.remove(workload);
        }
    }

    fn remove_oldest(&mut self, workload: &str) {
        let services = self.workloads.get(workload);
        let oldest = services.and_then(|services| services.iter().min_by_key(|(_, entry)| entry.since));
        if let Some(oldest) = oldest.map(|(service, _)| service.clone()) {
            self.remove(workload, &oldest);
        }
    }
}

#[cfg(test)]
mod tests;
