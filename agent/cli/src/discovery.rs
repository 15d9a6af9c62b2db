//! What workloads call, gathered from records: the functions in their shapes, and the connections that were not decoded.

mod draft;
mod shape;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use callgate_collector::{Filter, Kind, Search};
use callgate_model::{
    CallBegin, ConnectionRecord, Outcome, Protocol, Reason, RecordKind, Service, Uninspected, Verdict,
};

use crate::commands::audit::source::Source;

pub(crate) use draft::draft;
pub(crate) use shape::Shape;

/// Most rows that are kept; calls beyond are counted. Source: ours; more is no list that anybody reads.
const ROWS_MAX: usize = 10_000;

/// Most executables that are named in one row.
const EXECUTABLES_MAX: usize = 8;

/// What a row stands for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    pub workload: String,
    pub service: Service,
    pub tls: bool,
    pub what: What,
}

/// Calls of one shape, or connections that were not decoded.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum What {
    Calls { protocol: Protocol, method: String, shape: Shape },
    Undecoded,
}

/// What was seen of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Calls, or connections.
    pub count: u64,
    /// Of them, recorded as would-be denials: observed, not enforced.
    pub would_deny: u64,
    /// Of them, refused.
    pub denied: u64,
    /// Reasons of both; `client_tls` where clients did not complete their handshake with us.
    pub reasons: BTreeSet<&'static str>,
    /// Why connections passed without being decoded.
    pub uninspected: BTreeSet<Uninspected>,
    /// Paths of executables.
    pub executables: BTreeSet<String>,
    /// The latest. Unit: microseconds since the Unix epoch.
    pub last_us: u64,
    /// The path of one of them.
    pub example: String,
}

/// Everything that was found.
#[derive(Debug, Default)]
pub(crate) struct Discovery {
    pub rows: BTreeMap<Key, Seen>,
    /// Calls and connections that had no row left.
    pub left_out: u64,
}

impl Discovery {
    /// Reads every record that `filter` means.
    pub(crate) fn gather(source: &mut Source, filter: Filter) -> Result<Self> {
        let mut discovery = Self::default();
        let filter = Filter { kinds: vec![Kind::Begin, Kind::Connection], ..filter };
        source.each(Search { filter, limit: 1_000, oldest_first: true, ..Search::default() }, |stored| {
            match &stored.record.kind {
                RecordKind::Begin(begin) => discovery.call(begin, stored.record.time_us),
                RecordKind::Connection(connection) => discovery.connection(connection, stored.record.time_us),
                _ => {}
            }
            Ok(())
        })?;
        Ok(discovery)
    }

    fn call(&mut self, begin: &CallBegin, time_us: u64) {
        let function = &begin.function;
        // What was no call that could be read is not a function.
        if matches!(begin.decision.reason, Reason::BadHead | Reason::NameMismatch) {
            return;
        }
        let shape =
            if function.protocol == Protocol::Http { Shape::of(&function.path) } else { Shape::exact(&function.path) };
        let what = What::Calls { protocol: function.protocol, method: function.method.clone(), shape };
        let key = Key { workload: begin.workload.clone(), service: function.service.clone(), tls: function.tls, what };
        let denied = begin.decision.verdict == Verdict::Deny;
        if let Some(seen) = self.row(key) {
            seen.note(time_us, denied.then_some((begin.decision.reason, begin.observed)));
            seen.ran(begin.process.executable.as_ref().map(|executable| &executable.path));
            if seen.example.is_empty() {
                seen.example.clone_from(&function.path);
            }
        }
    }

    /// One whose calls are unknown: it passed as it was, or nothing came of it.
    fn connection(&mut self, connection: &ConnectionRecord, time_us: u64) {
        let Some(service) = connection.service.as_ref().filter(|_| !connection.inspected) else { return };
        let key =
            Key { workload: connection.workload.clone(), service: service.clone(), tls: true, what: What::Undecoded };
        let decision = connection.decision.as_ref();
        let denied = decision.filter(|decision| decision.verdict == Verdict::Deny);
        let passed = connection.uninspected.is_some();
        // Neither permitted nor denied: the client broke it off.
        let unfinished = !passed && connection.outcome == Outcome::Refused && connection.reason == Reason::ClientTls;
        if let Some(seen) = self.row(key) {
            seen.note(time_us, denied.filter(|_| !unfinished).map(|decision| (decision.reason, passed)));
            seen.uninspected.extend(connection.uninspected);
            if unfinished {
                seen.reasons.insert(Reason::ClientTls.as_str());
            }
            seen.ran(connection.process.executable.as_ref().map(|executable| &executable.path));
        }
    }

    fn row(&mut self, key: Key) -> Option<&mut Seen> {
        if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&key) {
            self.left_out += 1;
            return None;
        }
        Some(self.rows.entry(key).or_default())
    }
}

impl Seen {
    fn note(&mut self, time_us: u64, denial: Option<(Reason, bool)>) {
        self.count += 1;
        self.last_us = self.last_us.max(time_us);
        if let Some((reason, observed)) = denial {
            *(if observed { &mut self.would_deny } else { &mut self.denied }) += 1;
            self.reasons.insert(reason.as_str());
        }
    }

    fn ran(&mut self, executable: Option<&String>) {
        if let Some(path) = executable
            && self.executables.len() < EXECUTABLES_MAX
        {
            self.executables.insert(path.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use callgate_model::{ConnectionId, Decision, Lineage, Obligations, Placement, Process, SessionId};

    use super::*;

    /// A connection that policy would deny, and how it ended.
    fn ended(outcome: Outcome, reason: Reason, uninspected: Option<Uninspected>) -> ConnectionRecord {
        let placement = Placement::of_cgroup("a".as_ref());
        ConnectionRecord {
            connection: ConnectionId::new(),
            session: SessionId::new(),
            workload: "run/x".into(),
            process: Process {
                pid: 1,
                start_time: 1,
                uid: 0,
                gid: 0,
                executable: None,
                lineage: Lineage::default(),
                placement,
            },
            destination: "10.0.0.7:443".into(),
            service: Some("api.x:443".parse().unwrap()),
            decision: Some(Decision {
                verdict: Verdict::Deny,
                reason: Reason::NoPermit,
                policies: Vec::new(),
                policy_set: String::new(),
                obligations: Obligations::default(),
            }),
            inspected: false,
            uninspected,
            outcome,
            reason,
            calls: 0,
            bytes_in: 300,
            bytes_out: 1500,
            duration_us: 1,
        }
    }

    #[test]
    fn a_handshake_that_the_client_broke_off_is_no_denial() {
        let mut discovery = Discovery::default();
        discovery.connection(&ended(Outcome::Refused, Reason::ClientTls, None), 1);
        let refused = Some(Uninspected::CertificateRefused);
        discovery.connection(&ended(Outcome::Complete, Reason::ClientTls, refused), 2);
        discovery.connection(&ended(Outcome::Cut, Reason::ClientGone, refused), 3);
        discovery.connection(&ended(Outcome::Refused, Reason::ProtocolUnknown, None), 4);
        let seen: Vec<&Seen> = discovery.rows.values().collect();
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].count, seen[0].would_deny, seen[0].denied), (4, 2, 1));
        assert_eq!(seen[0].uninspected, [Uninspected::CertificateRefused].into());
        assert_eq!(seen[0].reasons, ["client_tls", "no_permit"].into());
    }
}
