//! Calls through the gate: allowed, denied, masked, over plain text and TLS; and what the record says of each.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Result;
use callgate_harness::{LoadConfig, TestCa, Upstream, load, samples};
use callgate_model::{Mode, Outcome, Reason, Record, RecordKind, Verdict};

use crate::gate::{FlowGate, GateConfig, ends};

const POLICIES: &str = r#"
@id("read-users")
@mask("pii")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"users.internal")
when { resource.method == "GET" && resource.path like "/v1/users/*" };

@id("echo")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"users.internal")
when { resource.path like "/echo*" || resource.path like "/bytes/*" || resource.path == "/mirror" };

@id("no-deletes")
forbid (principal, action == Callgate::Action::"call", resource)
when { resource.method == "DELETE" };
"#;

/// Sends `request` as it is and reads the answer until the gate closes.
fn raw(gate: &FlowGate, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect(gate.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: users.internal\r\nconnection: close\r\n\r\n")
}

fn plain(upstream: &Upstream) -> Result<FlowGate> {
    FlowGate::start(&GateConfig { names: &["users.internal"], ..GateConfig::new(POLICIES, upstream.address()) })
}

fn begins(records: &[Record]) -> Vec<&callgate_model::CallBegin> {
    let begin = |record| match record {
        &Record { kind: RecordKind::Begin(ref begin), .. } => Some(&**begin),
        _ => None,
    };
    records.iter().filter_map(begin).collect()
}

#[test]
fn a_permitted_call_is_masked_for_the_caller_and_in_the_record() -> Result<()> {
    let upstream = Upstream::plain()?;
    let gate = plain(&upstream)?;
    let answer = raw(&gate, &get("/v1/users/7"))?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for secret in [samples::email(7), samples::card(7)] {
        assert!(!answer.contains(&secret), "{answer}");
    }
    assert!(answer.contains(&samples::name(7)), "{answer}");
    let records = gate.records("the call's end", |records| ends(records) == 1)?;
    let begin = begins(&records)[0];
    assert_eq!(begin.decision.verdict, Verdict::Allow);
    assert_eq!(begin.decision.policies, ["read-users"]);
    assert_eq!(begin.workload, "run/flow");
    assert_eq!(begin.process.executable.as_ref().map(|e| e.sha256.len()), Some(64));
    let kept = format!("{records:?}");
    let chunks: Vec<u8> = records
        .iter()
        .filter_map(|r| match &r.kind {
            RecordKind::Chunk(chunk) => Some(chunk.data.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    let body = String::from_utf8(chunks)?;
    assert!(body.contains(&samples::name(7)), "{body}");
    for secret in [samples::email(7), samples::card(7), samples::jwt(7)] {
        assert!(!kept.contains(&secret) && !body.contains(&secret), "{secret}");
    }
    Ok(())
}

#[test]
fn a_denied_call_gets_403_and_never_reaches_the_service() -> Result<()> {
    let upstream = Upstream::plain()?;
    let gate = plain(&upstream)?;
    let forbidden = raw(&gate, &get("/v1/users/7").replace("GET", "DELETE"))?;
    assert!(forbidden.starts_with("HTTP/1.1 403"), "{forbidden}");
    assert!(forbidden.contains(r#""reason":"forbidden""#) && forbidden.contains("no-deletes"), "{forbidden}");
    let unknown = raw(&gate, &get("/v2/other"))?;
    assert!(unknown.contains(r#""reason":"no_permit""#), "{unknown}");
    assert_eq!(upstream.bytes_received(), 0);
    let records = gate.records("both ends", |records| ends(records) == 2)?;
    assert!(begins(&records).iter().all(|begin| begin.decision.verdict == Verdict::Deny));
    Ok(())
}

#[test]
fn a_name_that_does_not_live_there_is_refused() -> Result<()> {
    const PERMITTED: &str = r#"permit (principal, action, resource in Callgate::Service::"other.internal");"#;
    let upstream = Upstream::plain()?;
    // The name that no rule permits is refused as such, before anybody is asked where it lives.
    for (policies, reason) in [(PERMITTED, "name_mismatch"), (POLICIES, "no_permit")] {
        let gate = FlowGate::start(&GateConfig {
            names: &["users.internal"],
            ..GateConfig::new(policies, upstream.address())
        })?;
        let answer = raw(&gate, &get("/v1/users/7").replace("users.internal", "other.internal"))?;
        assert!(answer.contains(&format!(r#""reason":"{reason}""#)), "{answer}");
    }
    assert_eq!(upstream.bytes_received(), 0);
    Ok(())
}

#[test]
fn observe_mode_refuses_nothing_and_records_the_would_be_verdict() -> Result<()> {
    let upstream = Upstream::plain()?;
    let gate = FlowGate::start(&GateConfig {
        names: &["users.internal"],
        mode: Mode::Observe,
        ..GateConfig::new(POLICIES, upstream.address())
    })?;
    let answer = raw(&gate, &get("/v1/users/7").replace("GET", "DELETE"))?;
    assert!(!answer.contains("refused_by_callgate"), "{answer}");
    assert_eq!(upstream.request_count(), 1);
    let records = gate.records("the call's end", |records| ends(records) == 1)?;
    let begin = begins(&records)[0];
    assert!(begin.observed);
    assert_eq!((begin.decision.verdict, begin.decision.reason), (Verdict::Deny, Reason::Forbidden));
    Ok(())
}

#[test]
fn over_tls_the_same_policy_holds() -> Result<()> {
    let ca = TestCa::new()?;
    let upstream = Upstream::tls(&ca, &["users.internal"])?;
    let gate =
        FlowGate::start(&GateConfig { upstream_ca: Some(&ca), ..GateConfig::new(POLICIES, upstream.address()) })?;
    let call = |url: &str| {
        load::run(LoadConfig {
            connect_to: Some(gate.address),
            roots_pem: Some(gate.ca_pem.clone()),
            ..LoadConfig::get(format!("https://users.internal:{}{url}", upstream.address().port()), 4, 100)
        })
    };
    let allowed = call("/v1/users/{n}")?;
    assert_eq!((allowed.calls, allowed.status(200), allowed.connected), (100, 100, 4), "{allowed:?}");
    let denied = call("/v2/{n}")?;
    assert_eq!(denied.status(403), 100, "{denied:?}");
    assert_eq!(upstream.request_count(), 100);
    gate.records("every call's end", |records| ends(records) == 200)?;
    Ok(())
}

#[test]
fn an_upstream_whose_certificate_is_not_valid_is_never_spoken_to() -> Result<()> {
    let upstream = Upstream::tls(&TestCa::new()?, &["users.internal"])?;
    let other = TestCa::new()?;
    let gate =
        FlowGate::start(&GateConfig { upstream_ca: Some(&other), ..GateConfig::new(POLICIES, upstream.address()) })?;
    let report = load::run(LoadConfig {
        connect_to: Some(gate.address),
        roots_pem: Some(gate.ca_pem.clone()),
        ..LoadConfig::get(format!("https://users.internal:{}/v1/users/1", upstream.address().port()), 1, 1)
    })?;
    assert_eq!(report.status(502), 1, "{report:?}");
    assert_eq!(upstream.request_count(), 0);
    let records = gate.records("the call's end", |records| ends(records) == 1)?;
    let reason = records.iter().find_map(|record| match &record.kind {
        RecordKind::End(end) => Some((end.outcome, end.reason)),
        _ => None,
    });
    assert_eq!(reason, Some((Outcome::Cut, Reason::UpstreamCertificate)));
    Ok(())
}

#[test]
fn a_pipelined_second_request_that_is_malformed_gets_400_after_the_first_answer() -> Result<()> {
    let upstream = Upstream::plain()?;
    let gate = plain(&upstream)?;
    let first = "GET /echo HTTP/1.1\r\nhost: users.internal\r\n\r\n";
    let second = "GET /echo HTTP/1.1\nhost: users.internal\n\n";
    let answer = raw(&gate, &format!("{first}{second}"))?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 400").count(), 1, "{answer}");
    assert_eq!(upstream.request_count(), 1);
    Ok(())
}

#[test]
fn bytes_of_no_known_protocol_are_closed_and_recorded() -> Result<()> {
    let upstream = Upstream::plain()?;
    let gate = plain(&upstream)?;
    let answer = raw(&gate, "\u{1}\u{2}\u{3}\u{4} not http at all\r\n\r\n")?;
    assert_eq!(answer, "");
    assert_eq!(upstream.connections(), 0);
    let records = gate.records("the connection's record", |records| !records.is_empty())?;
    let reason = records.iter().find_map(|record| match &record.kind {
        RecordKind::Connection(connection) => Some(connection.reason),
        _ => None,
    });
    assert_eq!(reason, Some(Reason::ProtocolUnknown));
    Ok(())
}
