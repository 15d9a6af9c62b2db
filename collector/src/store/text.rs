//! The words by which a record is found.
//!
//! Everything in a record is masked already, so what is indexed here never holds a secret.

use callgate_model::{Decision, Header, Placement, Process, Record, RecordKind};

/// Text of `record` for the full-text index; empty where there is nothing to find.
pub(crate) fn searchable(record: &Record) -> String {
    let mut text = String::new();
    match &record.kind {
        RecordKind::Begin(begin) => {
            add(&mut text, &[&begin.function.to_string(), &begin.workload, &begin.destination, &begin.query]);
            process(&mut text, &begin.process);
            headers(&mut text, &begin.headers);
            decision(&mut text, &begin.decision);
        }
        RecordKind::Chunk(chunk) => body(&mut text, &chunk.data),
        RecordKind::End(end) => {
            headers(&mut text, &end.headers);
            add(&mut text, &[end.reason.as_str()]);
        }
        RecordKind::Connection(connection) => {
            add(&mut text, &[&connection.workload, &connection.destination, connection.reason.as_str()]);
            if let Some(service) = &connection.service {
                add(&mut text, &[&service.to_string()]);
            }
            process(&mut text, &connection.process);
            if let Some(said) = &connection.decision {
                decision(&mut text, said);
            }
        }
        RecordKind::Enrolment(enrolment) => {
            add(&mut text, &[&enrolment.workload, &enrolment.cgroup_path]);
            enrolment.weakened.iter().for_each(|how| add(&mut text, &[how]));
        }
        RecordKind::KernelDenial(denial) => {
            add(&mut text, &[&denial.workload, &denial.destination, &denial.cgroup_path])
        }
        RecordKind::Dns(dns) => {
            add(
                &mut text,
                &[&dns.workload, &dns.name, &dns.query_type, &dns.rcode, &dns.destination, dns.reason.as_str()],
            );
            process(&mut text, &dns.process);
        }
        RecordKind::Policy(change) => add(&mut text, &[&change.policy_set, &change.refused]),
        RecordKind::Agent(agent) => add(&mut text, &[&agent.version, &agent.detail]),
    }
    text
}

fn add(text: &mut String, parts: &[&str]) {
    for part in parts.iter().filter(|part| !part.is_empty()) {
        text.push_str(part);
        text.push('\n');
    }
}

fn headers(text: &mut String, headers: &[Header]) {
    for header in headers {
        text.push_str(&header.name);
        text.push_str(": ");
        add(text, &[&header.value]);
    }
}

fn process(text: &mut String, process: &Process) {
    if let Some(executable) = &process.executable {
        add(text, &[&executable.path, &executable.sha256]);
    }
    for ancestor in &process.lineage.ancestors {
        add(text, &[&ancestor.path, ancestor.sha256.as_deref().unwrap_or_default()]);
    }
    let Placement { cgroup_path, unit, pod_uid, container_id, pod } = &process.placement;
    add(text, &[&cgroup_path.to_string_lossy(), unit, pod_uid, container_id]);
    if let Some(pod) = pod {
        add(text, &[&pod.namespace, &pod.name, &pod.service_account, &pod.container, &pod.image, &pod.group]);
        pod.labels.iter().for_each(|(key, value)| add(text, &[key, value]));
    }
}

fn decision(text: &mut String, decision: &Decision) {
    add(text, &[decision.reason.as_str()]);
    decision.policies.iter().for_each(|id| add(text, &[id]));
}

/// Adds a piece of a body unless it is binary: noise would swell the index and find nothing.
fn body(text: &mut String, data: &[u8]) {
    if data.contains(&0) {
        return;
    }
    // A chunk may cut a character in two, so a few replacements are no sign of binary.
    let lossy = String::from_utf8_lossy(data);
    let replaced = lossy.matches(char::REPLACEMENT_CHARACTER).count();
    if replaced <= 8 + data.len() / 64 {
        text.push_str(&lossy);
    }
}

/// Turns what a person typed into a query: all words must occur; `"two words"` in that order; `pre*` begins with.
///
/// None when there is no word in it. Nothing that is typed can be an operator of FTS5.
pub(crate) fn fts_query(typed: &str) -> Option<String> {
    let mut query = String::new();
    for (number, piece) in typed.split('"').enumerate() {
        let quoted = number % 2 == 1;
        let phrases: Vec<&str> = if quoted { vec![piece] } else { piece.split_whitespace().collect() };
        for phrase in phrases {
            let (phrase, prefix) = match phrase.strip_suffix('*') {
                Some(stem) if !quoted => (stem, "*"),
                _ => (phrase, ""),
            };
            // A phrase without a letter or digit has no token: FTS5 would find nothing at all.
            if phrase.chars().any(char::is_alphanumeric) {
                let space = if query.is_empty() { "" } else { " " };
                query.push_str(&format!("{space}\"{}\"{prefix}", phrase.replace('\0', " ")));
            }
        }
    }
    (!query.is_empty()).then_some(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_words_cannot_be_operators() {
        assert_eq!(fts_query("alice@example.com OR x").unwrap(), r#""alice@example.com" "OR" "x""#);
        assert_eq!(fts_query(r#"say "two words" pre* NEAR("#).unwrap(), r#""say" "two words" "pre"* "NEAR(""#);
        assert_eq!(fts_query(r#" - "" * "#), None);
    }

    #[test]
    fn binary_bodies_are_left_out() {
        let mut text = String::new();
        body(&mut text, b"\x89PNG\0\0");
        body(&mut text, &[0xff; 4096]);
        assert_eq!(text, "");
        body(&mut text, "caf\u{e9}".as_bytes().split_last().unwrap().1);
        assert_eq!(text, "caf\u{fffd}");
    }
}
