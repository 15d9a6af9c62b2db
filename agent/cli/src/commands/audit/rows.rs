//! Records as rows for people: one a call, one for anything else worth a look.

use std::fmt::Write as _;
use std::io::{self, Write};

use callgate_collector::StoredRecord;
use callgate_model::{
    AgentState, CallBegin, CallEnd, ConnectionRecord, Decision, EnrolmentChange, KernelEvent, Lineage, LineageEnd,
    Outcome, Placement, Pod, Reason, RecordKind, Verdict,
};
use comfy_table::{ContentArrangement, Table, presets};

/// What the path of a process's cgroup tells, by name, as far as it tells something.
pub(crate) fn placed(placement: &Placement) -> Vec<(&'static str, String)> {
    let Placement { cgroup_path, unit, pod_uid, container_id, pod } = placement.clone();
    let cgroup = cgroup_path.to_string_lossy().into_owned();
    let mut all = Vec::from([("cgroup", cgroup), ("unit", unit), ("pod", pod_uid), ("container", container_id)]);
    if let Some(Pod { namespace, name, service_account, container, image, group, labels }) = pod {
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        all.extend([
            ("namespace", namespace),
            ("pod name", name),
            ("service account", service_account),
            ("container name", container),
            ("image", image),
            ("group", group),
            ("labels", labels.join(" ")),
        ]);
    }
    all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// The programs that started a process, as a person reads them.
pub(crate) fn started_by(lineage: &Lineage) -> String {
    match (lineage.end, lineage.ancestors.is_empty()) {
        (LineageEnd::Unknown, _) => "could not be told for certain".to_owned(),
        (LineageEnd::Entry, true) => "nothing in this workload".to_owned(),
        _ => lineage.to_string(),
    }
}

/// What a person reads of a call, or of another record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    /// Unit: microseconds since the Unix epoch.
    pub time_us: u64,
    pub workload: String,
    /// Function, or what else happened.
    pub what: String,
    pub decision: String,
    pub result: String,
    /// Call, for `audit show`; empty for other records.
    pub call: String,
}

impl Row {
    /// The row of a call, from those of its records that are known; none without its begin.
    pub(crate) fn of_call(records: &[StoredRecord]) -> Option<Self> {
        let (time_us, begin) = records.iter().find_map(|record| match &record.record.kind {
            RecordKind::Begin(begin) => Some((record.record.time_us, begin)),
            _ => None,
        })?;
        let end = records.iter().find_map(|record| match &record.record.kind {
            RecordKind::End(end) => Some(end.as_ref()),
            _ => None,
        });
        Some(Self {
            time_us,
            workload: printable(&begin.workload),
            what: printable(&begin.function.to_string()),
            decision: decided(begin),
            result: end.map_or_else(|| "open".into(), result),
            call: begin.call.to_string(),
        })
    }

    /// The row of a record that is not of a call; none for what a call's row says already.
    pub(crate) fn of(record: &StoredRecord) -> Option<Self> {
        let row = |workload: &str, what: String, decision: String, result: String| {
            let (workload, what) = (printable(workload), printable(&what));
            Some(Self { time_us: record.record.time_us, workload, what, decision, result, call: String::new() })
        };
        match &record.record.kind {
            RecordKind::Begin(_) | RecordKind::End(_) => Self::of_call(std::slice::from_ref(record)),
            RecordKind::Chunk(_) => None,
            RecordKind::Connection(connection) if connection.calls > 0 => None,
            RecordKind::Connection(connection) => {
                let (decision, result) = of_connection(connection);
                let target = connection.service.as_ref().map_or(connection.destination.clone(), ToString::to_string);
                row(&connection.workload, format!("connect {target}"), decision, result)
            }
            RecordKind::Enrolment(enrolment) => {
                let change = match enrolment.change {
                    EnrolmentChange::Enrolled => "enrolled",
                    EnrolmentChange::Resumed => "enrolment resumed",
                    EnrolmentChange::Unenrolled => "unenrolled",
                };
                let weakened = if enrolment.weakened.is_empty() {
                    String::new()
                } else {
                    format!("weakened: {}", printable(&enrolment.weakened.join(", ")))
                };
                row(&enrolment.workload, format!("{change} {}", enrolment.cgroup_path), String::new(), weakened)
            }
            RecordKind::KernelDenial(denial) => {
                let event = match denial.event {
                    KernelEvent::Stale => "agent stale",
                    KernelEvent::NoListener => "no listener",
                    KernelEvent::Udp => "udp",
                    KernelEvent::Protocol => "protocol",
                    KernelEvent::Egress => "egress",
                    KernelEvent::OwnPort => "own port",
                    KernelEvent::Foreign => "foreign task",
                    KernelEvent::Family => "family",
                    KernelEvent::Severed => "severed",
                    KernelEvent::Unclassified => "unclassified cgroup",
                    KernelEvent::Dot => "dns over tls",
                };
                let decision = if denial.observed { "observed" } else { "deny" };
                let result = format!("by the kernel, pid {}", denial.pid);
                // What is no workload is known by its cgroup.
                let who = if denial.workload.is_empty() { &denial.cgroup_path } else { &denial.workload };
                row(who, format!("{event} {}", denial.destination), decision.into(), result)
            }
            RecordKind::Dns(dns) => {
                let decision = match dns.reason {
                    Reason::Permitted => "allow".into(),
                    reason if dns.observed => format!("deny {reason} (observed)"),
                    reason => format!("deny {reason}"),
                };
                let mut result = format!("{}, {} records", dns.rcode, dns.answers);
                if dns.left_out > 0 {
                    let _ = write!(result, ", {} before it not recorded", dns.left_out);
                }
                row(&dns.workload, format!("dns:{} {}", dns.query_type, dns.name), decision, result)
            }
            RecordKind::Policy(change) => {
                let many = if change.policies == 1 { "policy" } else { "policies" };
                let what = format!("policy set {} ({} {many})", change.policy_set, change.policies);
                let result = if change.refused.is_empty() {
                    "in force".into()
                } else {
                    printable(&format!("refused: {}", change.refused))
                };
                row("", what, String::new(), result)
            }
            RecordKind::Agent(agent) => {
                let state = match agent.state {
                    AgentState::Started => "started",
                    AgentState::Stopped => "stopped",
                    AgentState::Alarm => "ALARM",
                };
                row("", format!("agent {} {state}", agent.version), String::new(), printable(&agent.detail))
            }
        }
    }

    /// The row as one line, for rows that come one by one.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("{}  {:<16}  {}", time(self.time_us), self.workload, self.what);
        for part in [&self.decision, &self.result, &self.call] {
            if !part.is_empty() {
                let _ = write!(line, "  {part}");
            }
        }
        line
    }
}

/// Prints rows as a table; nothing if there are none.
pub(crate) fn print(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut table = plain_table(&["TIME", "WORKLOAD", "FUNCTION", "DECISION", "RESULT", "CALL"]);
    for row in rows {
        let time = time(row.time_us);
        table.add_row([&time, &row.workload, &row.what, &row.decision, &row.result, &row.call]);
    }
    print_table(&table, out)
}

/// A table without lines, as wide as it needs: a row stays a line, for `grep` and `less -S`.
pub(crate) fn plain_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    table
}

/// Prints a table without the blanks that end its lines.
pub(crate) fn print_table(table: &Table, out: &mut impl Write) -> io::Result<()> {
    table.to_string().lines().try_for_each(|line| writeln!(out, "{}", line.trim()))
}

/// A time for people: UTC, to the millisecond.
pub(crate) fn time(time_us: u64) -> String {
    let time = i64::try_from(time_us).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    time.map_or_else(|| format!("{time_us} us"), |time| format!("{time:.3}"))
}

/// Text from outside without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Verdict and reason in a word or two.
pub(crate) fn said(decision: &Decision) -> String {
    match decision.verdict {
        Verdict::Allow => "allow".into(),
        Verdict::Deny => format!("deny {}", decision.reason),
    }
}

fn decided(begin: &CallBegin) -> String {
    let said = said(&begin.decision);
    if begin.observed { format!("{said} (observed)") } else { said }
}

/// How a call ended, in a few words.
pub(crate) fn result(end: &CallEnd) -> String {
    let mut text = match end.outcome {
        Outcome::Complete => end.status.to_string(),
        Outcome::Refused => format!("refused {}", end.status),
        Outcome::Cut => format!("cut off: {}", end.reason),
        Outcome::Interrupted => "interrupted".into(),
    };
    if end.masked > 0 {
        let _ = write!(text, ", {} masked", end.masked);
    }
    text
}

fn of_connection(connection: &ConnectionRecord) -> (String, String) {
    let decision = connection.decision.as_ref().map_or_else(String::new, said);
    let result = match connection.outcome {
        Outcome::Complete if !connection.inspected => {
            format!(
                "passed through{}, {} B out, {} B in",
                unseen(connection),
                connection.bytes_in,
                connection.bytes_out
            )
        }
        Outcome::Complete => "closed without a call".into(),
        Outcome::Refused => format!("refused: {}", connection.reason),
        Outcome::Cut => format!("cut off: {}{}", connection.reason, unseen(connection)),
        Outcome::Interrupted => "interrupted".into(),
    };
    (decision, result)
}

/// Why the calls of a connection are not known, in brackets.
fn unseen(connection: &ConnectionRecord) -> String {
    connection.uninspected.map_or_else(String::new, |why| format!(" (uninspected: {})", why.as_str()))
}
