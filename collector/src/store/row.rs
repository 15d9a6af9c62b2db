//! The columns that are derived from a record's body, so that it can be found.

use callgate_model::{CallId, Decision, Reason, Record, RecordKind, SessionId, Verdict};

use super::filter::Kind;

/// What stands beside a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    /// Kind of record.
    pub kind: Kind,
    /// Call that it belongs to.
    pub call: Option<CallId>,
    /// Why: of the decision, or of the end.
    pub reason: Option<Reason>,
    /// What a chunk or an end takes from its begin.
    pub about: About,
}

/// What a record is about; chunks and ends have it from their begin.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct About {
    /// Session.
    pub session: Option<SessionId>,
    /// Workload's entity id.
    pub workload: Option<String>,
    /// Function as it prints.
    pub function: Option<String>,
    /// Allow or deny.
    pub verdict: Option<Verdict>,
}

impl Row {
    /// Reads the columns of a record from its body alone.
    pub(crate) fn of(record: &Record) -> Self {
        let kind = Kind::of(record);
        let mut row = Self { kind, call: None, reason: None, about: About::default() };
        match &record.kind {
            RecordKind::Begin(begin) => {
                row.call = Some(begin.call);
                row.about.session = Some(begin.session);
                row.about.function = Some(begin.function.to_string());
                row.about.workload = named(&begin.workload);
                row.decided(&begin.decision);
            }
            RecordKind::Chunk(chunk) => row.call = Some(chunk.call),
            RecordKind::End(end) => {
                row.call = Some(end.call);
                row.reason = Some(end.reason);
            }
            RecordKind::Connection(connection) => {
                row.about.session = Some(connection.session);
                row.about.workload = named(&connection.workload);
                if let Some(decision) = &connection.decision {
                    row.decided(decision);
                }
                // The connection's own end says more than the decision that let it begin.
                row.reason = Some(connection.reason);
            }
            RecordKind::Enrolment(enrolment) => row.about.workload = named(&enrolment.workload),
            RecordKind::KernelDenial(denial) => {
                row.about.workload = named(&denial.workload);
                row.about.verdict = Some(Verdict::Deny);
            }
            RecordKind::Dns(dns) => {
                row.about.session = dns.session;
                row.about.workload = named(&dns.workload);
                row.about.verdict = Some(if dns.reason == Reason::Permitted { Verdict::Allow } else { Verdict::Deny });
                row.reason = Some(dns.reason);
            }
            RecordKind::Policy(_) | RecordKind::Agent(_) => {}
        }
        row
    }

    /// Whether the record takes what it is about from its call's begin.
    pub(crate) fn inherits(&self) -> bool {
        matches!(self.kind, Kind::Chunk | Kind::End)
    }

    fn decided(&mut self, decision: &Decision) {
        self.about.verdict = Some(decision.verdict);
        self.reason = Some(decision.reason);
    }
}

fn named(workload: &str) -> Option<String> {
    (!workload.is_empty()).then(|| workload.to_owned())
}

/// The word of a verdict in the tables.
pub(crate) fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}

/// Reads [`verdict_word`].
pub(crate) fn verdict_of(word: &str) -> Option<Verdict> {
    match word {
        "allow" => Some(Verdict::Allow),
        "deny" => Some(Verdict::Deny),
        _ => None,
    }
}
