//! The commands over a small store, from files and from a collector: what people and programs read.

use callgate_collector::{Listen, Store, serve};
use callgate_model::{
    AgentRecord, AgentState, CallBegin, CallEnd, CgroupId, Chunk, ConnectionId, Decision, Direction, Function, Header,
    Latency, Lineage, Obligations, Outcome, Placement, Process, Protocol, Reason, Record, RecordKind, Service,
    SessionId, Verdict,
};
use callgate_proto::encode_record;
use callgate_proto::v1::SealedRecord;
use clap::Parser;
use uuid::Uuid;

use super::*;
use crate::commands::session;

const NOON: u64 = 1_795_348_800_000_000;
const ALLOWED: CallId = CallId(Uuid::from_u128(1));
const DENIED: CallId = CallId(Uuid::from_u128(2));
const SESSION: SessionId = SessionId(Uuid::from_u128(3));

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Top,
}

#[derive(Subcommand)]
enum Top {
    Audit(AuditArgs),
    Session(session::SessionArgs),
}

fn seal(kinds: Vec<RecordKind>) -> Vec<SealedRecord> {
    let mut prev = callgate_seal::genesis("n/agent");
    let mut sealed = Vec::new();
    for (seq, kind) in (1..).zip(kinds) {
        let body = encode_record(&Record { time_us: NOON + seq * 1_000, kind });
        let hash = callgate_seal::seal(&prev, seq, &body);
        sealed.push(SealedRecord { stream: "n/agent".into(), seq, prev: prev.to_vec(), hash: hash.to_vec(), body });
        prev = hash;
    }
    sealed
}

fn begin(call: CallId, verdict: Verdict, path: &str) -> RecordKind {
    let reason = if verdict == Verdict::Allow { Reason::Permitted } else { Reason::NoPermit };
    RecordKind::Begin(Box::new(CallBegin {
        call,
        connection: ConnectionId(Uuid::from_u128(4)),
        session: SESSION,
        workload: "run/build".into(),
        cgroup: CgroupId(42),
        cgroup_path: "callgate/run-1".into(),
        process: Process {
            pid: 100,
            start_time: 5,
            uid: 1000,
            gid: 1000,
            executable: None,
            lineage: Lineage::default(),
            placement: Placement {
                cgroup_path: "system.slice/shop.service/x".into(),
                unit: "shop.service".into(),
                ..Placement::default()
            },
        },
        function: Function {
            protocol: Protocol::Http,
            service: Service::new("api.x", 443).unwrap(),
            tls: true,
            method: "GET".into(),
            path: path.into(),
        },
        destination: "10.0.0.7:443".into(),
        query: "page=2".into(),
        headers: vec![Header { name: "user-agent".into(), value: "evil\x1b[2J".into() }],
        decision: Decision {
            verdict,
            reason,
            policies: vec!["read-users".into()],
            policy_set: "0123456789abcdef".into(),
            obligations: Obligations::default(),
        },
        observed: false,
        caller: None,
    }))
}

fn end(call: CallId, outcome: Outcome, reason: Reason, status: u16) -> RecordKind {
    RecordKind::End(Box::new(CallEnd {
        call,
        outcome,
        reason,
        status,
        headers: vec![Header { name: "content-type".into(), value: "application/json".into() }],
        request_bytes: 0,
        response_bytes: 17,
        request_sha256: String::new(),
        response_sha256: String::new(),
        cut: false,
        masked: 1,
        latency: Latency::default(),
    }))
}

fn store(dir: &std::path::Path) -> Store {
    let alarm = AgentRecord { state: AgentState::Alarm, version: "0.1.0".into(), detail: "something is odd".into() };
    let body = b"{\"mail\":\"[email]\"}".to_vec();
    let store = Store::open(dir).unwrap();
    let records = seal(vec![
        begin(ALLOWED, Verdict::Allow, "/v1/users/7"),
        RecordKind::Chunk(Chunk { call: ALLOWED, direction: Direction::Response, offset: 0, data: body }),
        begin(DENIED, Verdict::Deny, "/v1/admin"),
        end(DENIED, Outcome::Refused, Reason::NoPermit, 403),
        end(ALLOWED, Outcome::Complete, Reason::Permitted, 200),
        RecordKind::Agent(alarm),
    ]);
    store.ingest(&records).unwrap();
    store
}

/// Runs a command line; gives its success and what it printed.
fn run(line: &str, place: &str) -> (bool, String) {
    let words = std::iter::once("callgate").chain(line.split(' ')).chain(place.split(' '));
    let mut out = Vec::new();
    let code = match Cli::try_parse_from(words).unwrap().command {
        Top::Audit(args) => run_to(args, &mut out),
        Top::Session(args) => session::run_to(args, &mut out),
    };
    let success = format!("{:?}", code.unwrap()) == format!("{:?}", ExitCode::SUCCESS);
    (success, String::from_utf8(out).unwrap())
}

fn lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn people_get_a_row_a_call() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path());
    let place = format!("--store {}", dir.path().display());
    let (ok, text) = run("audit search", &place);
    assert!(ok);
    let rows: Vec<_> = text.lines().collect();
    assert_eq!(rows.len(), 4, "{text}");
    assert!(rows[1].contains("ALARM") && rows[1].contains("something is odd"));
    assert!(
        rows[2].contains("http:GET api.x/v1/admin") && rows[2].contains("deny no_permit") && rows[2].contains("403")
    );
    assert!(
        rows[3].contains("run/build") && rows[3].contains("200, 1 masked") && rows[3].contains(&ALLOWED.to_string())
    );
    // Bodies are found, and their call is shown once.
    assert_eq!(run("audit search --text email", &place).1.lines().count(), 2);
    assert_eq!(run("audit search --reason no_permit", &place).1.lines().count(), 2);
    assert_eq!(run("audit search --decision deny --workload build --function ADMIN", &place).1.lines().count(), 2);
    assert_eq!(run("audit search --until 2026-11-22T12:00:00Z", &place), (true, String::new()));
    let (_, latest) = run("audit tail -n 2", &place);
    assert!(latest.lines().last().unwrap().contains("ALARM") && latest.lines().count() == 3, "{latest}");
}

#[test]
fn the_limit_counts_calls_for_programs_too() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path());
    let place = format!("--store {}", dir.path().display());
    let kinds = |limit: u32| -> Vec<String> {
        let (ok, text) = run(&format!("audit search --json --limit {limit}"), &place);
        assert!(ok);
        lines(&text).iter().map(|record| record["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(1), ["agent"]);
    // The call of the newest end is whole although its begin is older than another call.
    assert_eq!(kinds(2), ["agent", "end", "begin"]);
    assert_eq!(kinds(3), ["agent", "end", "end", "begin", "begin"]);
    assert_eq!(kinds(4), kinds(3));
    for command in ["audit search", "session list"] {
        let words = ["callgate"].into_iter().chain(command.split(' ')).chain(["--limit", "0"]);
        assert!(Cli::try_parse_from(words).is_err(), "{command}");
    }
}

#[test]
fn show_gives_the_whole_call_and_nothing_for_the_terminal_to_obey() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path());
    let place = format!("--store {}", dir.path().display());
    let (ok, text) = run(&format!("audit show {ALLOWED}"), &place);
    assert!(ok && !text.contains('\x1b'), "{text}");
    for part in [
        "allow by read-users",
        "> GET /v1/users/7?page=2",
        "> user-agent: evil\u{fffd}[2J",
        "< 200",
        "{\"mail\":\"[email]\"}",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (ok, json) = run(&format!("audit show {ALLOWED} --json"), &place);
    let kinds: Vec<_> = lines(&json).iter().map(|line| line["kind"].as_str().unwrap().to_owned()).collect();
    assert!(ok && kinds == ["begin", "chunk", "end"], "{json}");
    assert_eq!(lines(&json)[1]["text"], "{\"mail\":\"[email]\"}");
    assert!(!run(&format!("audit show {}", CallId::new()), &place).0);
}

#[test]
fn verify_says_whole_or_what_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    drop(store(dir.path()));
    let place = format!("--store {}", dir.path().display());
    let (ok, text) = run("audit verify", &place);
    assert!(ok && text.starts_with("whole   n/agent: 6 records, head 6:"), "{text}");
    let head = text.trim().rsplit(' ').next().unwrap();
    assert!(run(&format!("audit verify --stream n/agent --head {head}"), &place).0);
    let later = format!("7{}", &head[1..]);
    let (ok, text) = run(&format!("audit verify --stream n/agent --head {later}"), &place);
    assert!(!ok && text.starts_with("BROKEN  n/agent: truncated at record 7"), "{text}");
    let (ok, json) = run(&format!("audit verify --stream n/agent --head {later} --json"), &place);
    assert!(!ok);
    assert_eq!((&lines(&json)[0]["whole"], &lines(&json)[0]["fault"]["kind"]), (&false.into(), &"truncated".into()));
    assert!(!run("audit verify --stream n/none", &place).0);
    assert!(Cli::try_parse_from(["callgate", "audit", "verify", "--head", head]).is_err());
}

#[test]
fn sessions_are_listed_and_shown_in_order() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path());
    let place = format!("--store {}", dir.path().display());
    let (_, text) = run("session list", &place);
    assert!(text.lines().nth(1).unwrap().contains(&SESSION.to_string()), "{text}");
    let json = lines(&run("session list --json", &place).1);
    assert_eq!((&json[0]["calls"], &json[0]["denied"], &json[0]["masked"]), (&2.into(), &1.into(), &2.into()));
    let (ok, text) = run(&format!("session show {SESSION}"), &place);
    let rows: Vec<_> = text.lines().collect();
    assert!(ok && rows.len() == 5, "{text}");
    assert!(rows[1].ends_with("system.slice/shop.service/x") && rows[2].ends_with(" shop.service"), "{text}");
    assert!(rows[3].contains("+0.000 s") && rows[3].contains("/v1/users/7") && rows[3].contains("200"), "{text}");
    assert!(rows[4].contains("+0.002 s") && rows[4].contains("refused 403"), "{text}");
    assert_eq!(lines(&run(&format!("session show {SESSION} --json"), &place).1).len(), 5);
    assert!(!run(&format!("session show {}", SessionId::new()), &place).0);
}

#[test]
fn a_collector_gives_the_same_as_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("store"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(serve(store, Listen::Unix(dir.path().join("socket")))).unwrap();
    let files = format!("--store {}", dir.path().join("store").display());
    let remote = format!("--collector {}", server.endpoint());
    for line in [
        "audit search".to_owned(),
        "audit search --text email --json".into(),
        "audit tail".into(),
        format!("audit show {ALLOWED}"),
        "audit verify".into(),
        "session list".into(),
        format!("session show {SESSION} --json"),
    ] {
        assert_eq!(run(&line, &files), run(&line, &remote), "{line}");
    }
    runtime.block_on(server.stop());
}

#[test]
fn an_absent_store_says_what_to_do() {
    let words = ["callgate", "audit", "search", "--store", "/nonexistent"];
    let Top::Audit(args) = Cli::try_parse_from(words).unwrap().command else { panic!("audit") };
    let error = format!("{:#}", run_to(args, &mut Vec::new()).unwrap_err());
    assert!(error.contains("no store in `/nonexistent`"), "{error}");
    assert!(Cli::try_parse_from(["callgate", "audit", "search", "--decision", "maybe"]).is_err());
    assert!(Cli::try_parse_from(["callgate", "audit", "search", "--since", "yesterday"]).is_err());
}
