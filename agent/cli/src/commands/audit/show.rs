//! One call as a person reads it: who, what, the decision, the request, the response.

use std::io::{self, Write};

use callgate_collector::StoredRecord;
use callgate_model::{CallBegin, CallEnd, Direction, Header, Outcome, RecordKind};

use super::rows::{placed, printable, said, started_by, time};

/// Prints the records of one call.
pub(crate) fn show(records: &[StoredRecord], out: &mut impl Write) -> io::Result<()> {
    let mut end = None;
    for record in records {
        match &record.record.kind {
            RecordKind::Begin(begin) => head(record, begin, out)?,
            RecordKind::End(found) => end = Some(found.as_ref()),
            _ => {}
        }
    }
    match end {
        Some(end) => {
            ended(end, out)?;
            bodies(records, Direction::Request, out)?;
            writeln!(out, "\n< {}", end.status)?;
            headers("<", &end.headers, out)?;
            bodies(records, Direction::Response, out)?;
            if end.cut {
                writeln!(out, "\n(parts of the bodies were left out, as the policy's @record says)")?;
            }
        }
        None => {
            writeln!(out, "outcome      open: it has not ended, or its end was not shipped yet")?;
            bodies(records, Direction::Request, out)?;
            bodies(records, Direction::Response, out)?;
        }
    }
    Ok(())
}

fn head(record: &StoredRecord, begin: &CallBegin, out: &mut impl Write) -> io::Result<()> {
    let mut field = |name: &str, value: String| writeln!(out, "{name:<12} {}", printable(&value));
    field("call", begin.call.to_string())?;
    field("time", time(record.record.time_us))?;
    field("function", begin.function.to_string())?;
    let policies =
        if begin.decision.policies.is_empty() { "no policy".into() } else { begin.decision.policies.join(", ") };
    let observed = if begin.observed { "; observed, not enforced" } else { "" };
    field(
        "decision",
        format!("{} by {policies} of set {}{observed}", said(&begin.decision), begin.decision.policy_set),
    )?;
    field("workload", format!("{} (cgroup {})", begin.workload, begin.cgroup_path))?;
    let process = &begin.process;
    field("process", format!("pid {}, uid {}, gid {}", process.pid, process.uid, process.gid))?;
    match &process.executable {
        Some(executable) => field("executable", format!("{} sha256:{}", executable.path, executable.sha256))?,
        None => field("executable", "could not be told for certain".into())?,
    }
    field("started by", started_by(&process.lineage))?;
    for (name, value) in placed(&process.placement) {
        field(name, value)?;
    }
    if let Some(caller) = &begin.caller {
        field("caller", format!("{} of {} (groups: {})", caller.sub, caller.iss, caller.groups.join(", ")))?;
    }
    field("destination", begin.destination.clone())?;
    field("session", begin.session.to_string())?;
    field("connection", begin.connection.to_string())?;
    field("record", format!("{} {}, seal {}", record.stream, record.seq, record.hash))?;
    Ok(())
}

fn ended(end: &CallEnd, out: &mut impl Write) -> io::Result<()> {
    let outcome = match end.outcome {
        Outcome::Complete => "complete".into(),
        Outcome::Refused => format!("refused: {}", end.reason),
        Outcome::Cut => format!("cut off: {}", end.reason),
        Outcome::Interrupted => "interrupted: the agent was stopped during the call".into(),
    };
    writeln!(out, "outcome      {outcome}; status {}, {} masked", end.status, end.masked)?;
    writeln!(out, "bytes        {} sent, {} received", end.request_bytes, end.response_bytes)?;
    let ms = |us: u64| us as f64 / 1_000.0;
    let latency = end.latency;
    writeln!(
        out,
        "latency      {:.1} ms to decide, {:.1} ms upstream, {:.1} ms body",
        ms(latency.decide_us),
        ms(latency.upstream_us),
        ms(latency.body_us)
    )
}

fn headers(mark: &str, headers: &[Header], out: &mut impl Write) -> io::Result<()> {
    headers.iter().try_for_each(|h| writeln!(out, "{mark} {}: {}", printable(&h.name), printable(&h.value)))
}

/// Prints the head of the request before its body; then the body, as far as it was kept.
fn bodies(records: &[StoredRecord], direction: Direction, out: &mut impl Write) -> io::Result<()> {
    if direction == Direction::Request {
        for record in records {
            if let RecordKind::Begin(begin) = &record.record.kind {
                let query = if begin.query.is_empty() { String::new() } else { format!("?{}", begin.query) };
                let (method, path) = (&begin.function.method, &begin.function.path);
                writeln!(out, "\n> {}", printable(&format!("{method} {path}{query}")))?;
                headers(">", &begin.headers, out)?;
            }
        }
    }
    let mut body = Vec::new();
    for record in records {
        if let RecordKind::Chunk(chunk) = &record.record.kind
            && chunk.direction == direction
        {
            body.extend_from_slice(&chunk.data);
        }
    }
    if body.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    match std::str::from_utf8(&body) {
        Ok(text) => {
            // Line breaks and tabs may act; nothing else may.
            let shown: String = text
                .chars()
                .map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { char::REPLACEMENT_CHARACTER } else { c })
                .collect();
            writeln!(out, "{}", shown.strip_suffix('\n').unwrap_or(&shown))
        }
        Err(_) => writeln!(out, "({} bytes that are not text: `--json` gives them as base64)", body.len()),
    }
}
