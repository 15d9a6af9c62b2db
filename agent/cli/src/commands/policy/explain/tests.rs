//! What people read of a recorded call, under the set that answered and under another.

use std::fs;
use std::path::Path;

use callgate_mask::Detectors;
use callgate_model::{
    Caller, CgroupId, Chunk, ConnectionId, Decision, Function, Header, Latency, Lineage, Obligations, Outcome,
    Placement, Process, Protocol, Record, Service, SessionId, Verdict,
};
use uuid::Uuid;

use super::*;

const POLICIES: &str = r#"// Refunds.
@id("refund")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"pay.x");

@id("limit")
forbid (principal, action == Callgate::Action::"call", resource in Callgate::Service::"pay.x")
unless {
  context.arguments.number.hasTag("/amount") && context.arguments.number.getTag("/amount") <= 1000
};

@id("admins")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"pay.x")
when { context has caller && context.caller.groups.contains("admins") };
"#;

fn policies(text: &str) -> (tempfile::TempDir, PolicySet, Files) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("p.cedar"), text).unwrap();
    let files = policy_source::read(directory.path()).unwrap();
    let (set, _) = policy_source::parse(&files, &Detectors::default()).unwrap();
    (directory, set, files)
}

/// A refund that was denied by `policies` of the set `hash`.
fn records(hash: &str, reason: Reason, policies: &[&str], body: &str) -> Vec<StoredRecord> {
    let call = CallId(Uuid::from_u128(1));
    let begin = CallBegin {
        call,
        connection: ConnectionId(Uuid::from_u128(2)),
        session: SessionId(Uuid::from_u128(3)),
        workload: "run/support".into(),
        cgroup: CgroupId(1),
        cgroup_path: "callgate/run-1".into(),
        process: Process {
            pid: 7,
            start_time: 5,
            uid: 1000,
            gid: 1000,
            executable: None,
            lineage: Lineage::default(),
            placement: Placement::default(),
        },
        function: Function {
            protocol: Protocol::Http,
            service: Service::new("pay.x", 443).unwrap(),
            tls: true,
            method: "POST".into(),
            path: "/v1/refunds".into(),
        },
        destination: "10.0.0.7:443".into(),
        query: "page=2".into(),
        headers: [("content-type", "application/json"), ("content-length", "17")]
            .map(|(name, value)| Header { name: name.into(), value: value.into() })
            .into(),
        decision: Decision {
            verdict: Verdict::Deny,
            reason,
            policies: policies.iter().map(|id| (*id).to_owned()).collect(),
            policy_set: hash.into(),
            obligations: Obligations::default(),
        },
        observed: false,
        caller: Some(Caller { sub: "ann".into(), iss: "https://id.x".into(), groups: vec!["staff".into()] }),
    };
    let end = CallEnd {
        call,
        outcome: Outcome::Refused,
        reason,
        status: 403,
        headers: Vec::new(),
        request_bytes: 0,
        response_bytes: 0,
        request_sha256: String::new(),
        response_sha256: String::new(),
        cut: false,
        masked: 0,
        latency: Latency::default(),
    };
    let chunk = Chunk { call, direction: Direction::Request, offset: 0, data: body.into() };
    let mut kinds = vec![RecordKind::Begin(Box::new(begin))];
    if !body.is_empty() {
        kinds.push(RecordKind::Chunk(chunk));
    }
    kinds.push(RecordKind::End(Box::new(end)));
    sealed(kinds)
}

fn sealed(kinds: Vec<RecordKind>) -> Vec<StoredRecord> {
    let mut prev = callgate_seal::genesis("n/agent");
    let mut records = Vec::new();
    for (seq, kind) in (1..).zip(kinds) {
        let body = callgate_proto::encode_record(&Record { time_us: 1, kind });
        let hash = callgate_seal::seal(&prev, seq, &body);
        let record = callgate_proto::v1::SealedRecord {
            stream: "n/agent".into(),
            seq,
            prev: prev.to_vec(),
            hash: hash.to_vec(),
            body,
        };
        records.push(StoredRecord::open(&record).unwrap());
        prev = hash;
    }
    records
}

fn explained(records: &[StoredRecord], set: &PolicySet, files: &Files) -> String {
    let RecordKind::Begin(begin) = &records[0].record.kind else { panic!("a call begins") };
    let mut out = Vec::new();
    explain(begin, records, set, files, "DIR").unwrap().print(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn tells_what_was_asked_what_was_said_and_by_which_lines() {
    let (_directory, set, files) = policies(POLICIES);
    let text = explained(&records(set.hash(), Reason::Forbidden, &["limit"], r#"{"amount": 5000}"#), &set, &files);
    holds(
        &text,
        &[
            "function     http:POST pay.x/v1/refunds\n",
            "workload     run/support, pid 7, uid 1000\n",
            "caller       ann of https://id.x (groups: staff)\n",
            "arguments    (the body) (nested), /amount (number), ?page (text)\n",
            "decision     deny forbidden by set ",
            "holds the set that answered\n",
            "\ndetermined by\n  limit (DIR/p.cedar:5)\n    @id(\"limit\")\n    forbid (",
            "getTag(\"/amount\") <= 1000\n    };\n",
            "\nalso matched by scope\n",
            "  admins: would permit, but its condition is false (DIR/p.cedar:11)\n",
            "  refund: permits, but something denies (DIR/p.cedar:2)\n",
        ],
    );
    assert!(!text.contains("5000") && !text.contains("note "), "{text}");
}

#[test]
fn says_why_arguments_are_unfit() {
    let (_directory, set, files) = policies(POLICIES);
    let body = r#"{"amount": 1, "amount": 5000}"#;
    let text = explained(&records(set.hash(), Reason::ArgumentsUnfit, &["limit"], body), &set, &files);
    holds(&text, &["arguments    unfit: a name is there twice\n", "determined by\n  limit (DIR/p.cedar:5)\n"]);
    let text = explained(&records(set.hash(), Reason::ArgumentsUnfit, &["limit"], ""), &set, &files);
    holds(&text, &["arguments    the body was not recorded whole\n"]);
}

#[test]
fn says_that_the_set_has_changed_and_what_it_says_now() {
    let (_directory, set, files) = policies(&POLICIES.replace("1000", "9000"));
    let text =
        explained(&records("0123456789abcdef", Reason::Forbidden, &["limit"], r#"{"amount": 5000}"#), &set, &files);
    holds(
        &text,
        &["decision     deny forbidden by set 0123456789abcdef\n", "holds another set, ", "which says: allow\n"],
    );
    holds(
        &text,
        &["\ndetermined now by\n  refund (DIR/p.cedar:2)\n", "  limit: would forbid, but its condition is false"],
    );
}

#[test]
fn a_denied_connect_is_explained_by_its_own_policies() {
    let (_directory, set, files) = policies(&format!(
        r#"{POLICIES} @id("shut") forbid (principal, action == Callgate::Action::"connect", resource) when {{ context.uid == 1000 }};"#
    ));
    let text = explained(&records(set.hash(), Reason::Forbidden, &["shut"], "{}"), &set, &files);
    holds(&text, &["determined by\n  shut (DIR/p.cedar:"]);
    assert!(!text.contains("also matched"), "{text}");
}

#[test]
fn a_masked_value_that_changes_the_answer_is_said() {
    let (_directory, set, files) = policies(POLICIES);
    let text = explained(&records(set.hash(), Reason::Forbidden, &["limit"], r#"{"amount": 0}"#), &set, &files);
    holds(&text, &["note         asked again from the record, it says allow: "]);
}

#[test]
fn as_json_it_is_one_object() {
    let (_directory, set, files) = policies(POLICIES);
    let records = records(set.hash(), Reason::Forbidden, &["limit"], r#"{"amount": 5000}"#);
    let RecordKind::Begin(begin) = &records[0].record.kind else { panic!("a call begins") };
    let told = serde_json::to_value(explain(begin, &records, &set, &files, "DIR").unwrap()).unwrap();
    assert_eq!((&told["function"], &told["same_set"]), (&"http:POST pay.x/v1/refunds".into(), &true.into()));
    let limit = &told["determined"][0];
    assert_eq!((&limit["policy"], &limit["file"], &limit["line"]), (&"limit".into(), &"DIR/p.cedar".into(), &5.into()));
    assert!(limit["text"].as_str().unwrap().starts_with("@id(\"limit\")"), "{limit}");
    assert_eq!(told["matched"][0]["came"], "would permit, but its condition is false");
}

#[test]
fn an_event_that_is_not_there_fails() {
    let directory = tempfile::tempdir().unwrap();
    drop(callgate_collector::Store::open(directory.path()).unwrap());
    let (policies, _, _) = policies(POLICIES);
    let args = ExplainArgs {
        event: CallId::new(),
        policy: policies.path().to_owned(),
        json: false,
        kinds: KindsArgs::default(),
        source: SourceArgs { store: Path::new(directory.path()).to_owned(), collector: None, tls: Default::default() },
    };
    let code = run(&args, &mut Vec::new()).unwrap();
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
}
