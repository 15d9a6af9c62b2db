//! Calls to record, and what is read back.

use std::fs;
use std::path::Path;

use callgate_model::*;
use callgate_proto::decode_record;
use callgate_proto::v1::SealedRecord;
use callgate_seal::Verifier;
use tempfile::TempDir;

use crate::spool::disk::Faults;
use crate::{OpenCall, Recorder, Recovery, SpoolConfig};

pub const STREAM: &str = "node/agent";

/// A directory in memory where there is one: a real disk's syncs would only make the tests slow.
pub fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub fn config(dir: &Path) -> SpoolConfig {
    SpoolConfig::new(dir, StreamId(STREAM.into()))
}

/// A spool whose segments hold some ten records.
pub fn small(dir: &Path) -> SpoolConfig {
    SpoolConfig { segment_bytes: 4096, max_bytes: 1 << 20, ..config(dir) }
}

pub fn open(config: SpoolConfig) -> (Recorder, Recovery) {
    Recorder::open(config).unwrap()
}

pub fn open_with(config: SpoolConfig, faults: &Faults) -> Recorder {
    Recorder::open_with(config, faults.clone()).unwrap().0
}

pub fn begin(depth: RecordDepth) -> CallBegin {
    CallBegin {
        call: CallId::new(),
        connection: ConnectionId::new(),
        session: SessionId::new(),
        workload: "run/test".into(),
        cgroup: CgroupId(1),
        cgroup_path: "callgate/run-1".into(),
        process: Process {
            pid: 1,
            start_time: 2,
            uid: 3,
            gid: 4,
            executable: None,
            lineage: Lineage::default(),
            placement: Placement::default(),
        },
        function: Function {
            protocol: Protocol::Http,
            service: Service::new("api.example", 443).unwrap(),
            tls: true,
            method: "GET".into(),
            path: "/v1/users/7".into(),
        },
        destination: "192.0.2.1:443".into(),
        query: String::new(),
        headers: vec![Header { name: "accept".into(), value: "*/*".into() }],
        decision: Decision {
            verdict: Verdict::Allow,
            reason: Reason::Permitted,
            policies: vec!["read-users".into()],
            policy_set: "0123456789abcdef".into(),
            obligations: Obligations { record: depth, ..Obligations::default() },
        },
        observed: false,
        caller: None,
    }
}

pub fn call(recorder: &Recorder) -> OpenCall {
    recorder.begin(begin(RecordDepth::Head)).unwrap()
}

pub fn note(detail: &str) -> RecordKind {
    let detail = detail.into();
    RecordKind::Agent(AgentRecord { state: AgentState::Started, version: "0".into(), detail })
}

/// Everything that is on disk and still held.
pub fn read_all(recorder: &Recorder) -> Vec<SealedRecord> {
    recorder.sync().unwrap();
    let first = recorder.inner.shared.lock().writer.segments[0].first_seq;
    let mut reader = recorder.reader(first);
    let mut records = Vec::new();
    loop {
        let batch = reader.next_batch(100).unwrap();
        if batch.is_empty() {
            return records;
        }
        records.extend(batch);
    }
}

/// Checks a whole chain and decodes it.
pub fn verified(records: &[SealedRecord]) -> Vec<Record> {
    let mut verifier = Verifier::from_start(STREAM);
    records
        .iter()
        .map(|record| {
            assert_eq!(record.stream, STREAM);
            verifier.check(record.seq, &record.prev, &record.hash, &record.body).unwrap();
            decode_record(&record.body).unwrap()
        })
        .collect()
}

pub fn ends(records: &[Record]) -> Vec<CallEnd> {
    let end = |record: &Record| match &record.kind {
        RecordKind::End(end) => Some((**end).clone()),
        _ => None,
    };
    records.iter().filter_map(end).collect()
}

pub fn begins(records: &[Record]) -> Vec<CallId> {
    let begin = |record: &Record| match &record.kind {
        RecordKind::Begin(begin) => Some(begin.call),
        _ => None,
    };
    records.iter().filter_map(begin).collect()
}

/// Copies a spool as a crash would leave it: its segments and, if asked for, its state.
pub fn copy(from: &Path, to: &Path, with_state: bool) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name();
        if name.to_str().unwrap().ends_with(".seg") || with_state && name == "state" {
            fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    }
}

/// Names of the segments, sorted.
pub fn segments(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".seg")).collect();
    names.sort();
    names
}

/// How often something random is tried: more with `CALLGATE_FULL=1`.
pub fn count(short: u32, full: u32) -> u32 {
    if std::env::var_os("CALLGATE_FULL").is_some_and(|value| value == "1") { full } else { short }
}
