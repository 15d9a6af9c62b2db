//! Records for tests: a sealer that makes chains, and one maker a kind.

use callgate_model::{
    CallBegin, CallEnd, CallId, CgroupId, Chunk, ConnectionId, Decision, Direction, Executable, Function, Header,
    Latency, Lineage, Obligations, Outcome, Placement, Process, Protocol, Reason, Record, RecordKind, Service,
    SessionId, Verdict,
};
use callgate_proto::encode_record;
use callgate_proto::v1::SealedRecord;
use callgate_seal::{Hash, genesis, seal};
use uuid::Uuid;

/// 2026-11-22T12:00:00Z. Unit: microseconds since the Unix epoch.
pub(crate) const NOON: u64 = 1_795_348_800_000_000;
/// One day. Unit: microseconds.
pub(crate) const DAY: u64 = 86_400_000_000;

/// The session of every call made here.
pub(crate) const SESSION: SessionId = SessionId(Uuid::from_u128(7));

/// Seals records into a chain.
#[derive(Clone)]
pub(crate) struct Sealer {
    stream: String,
    seq: u64,
    head: Hash,
}

impl Sealer {
    pub(crate) fn new(stream: &str) -> Self {
        Self { stream: stream.into(), seq: 0, head: genesis(stream) }
    }

    pub(crate) fn seal(&mut self, record: Record) -> SealedRecord {
        let body = encode_record(&record);
        let prev = self.head;
        self.seq += 1;
        self.head = seal(&prev, self.seq, &body);
        let stream = self.stream.clone();
        SealedRecord { stream, seq: self.seq, prev: prev.to_vec(), hash: self.head.to_vec(), body }
    }

    pub(crate) fn all(&mut self, records: impl IntoIterator<Item = Record>) -> Vec<SealedRecord> {
        records.into_iter().map(|record| self.seal(record)).collect()
    }
}

/// A call of three records: allowed, one chunk of response, complete.
pub(crate) fn call(time_us: u64, call: CallId, path: &str, body: &str) -> [Record; 3] {
    [begin(time_us, call, path), chunk(time_us + 1, call, body.as_bytes()), end(time_us + 2, call, Outcome::Complete)]
}

pub(crate) fn begin(time_us: u64, call: CallId, path: &str) -> Record {
    let begin = CallBegin {
        call,
        connection: ConnectionId(Uuid::from_u128(9)),
        session: SESSION,
        workload: "run/build".into(),
        cgroup: CgroupId(42),
        cgroup_path: "callgate/run-1".into(),
        process: Process {
            pid: 100,
            start_time: 5,
            uid: 1000,
            gid: 1000,
            executable: Some(Executable { path: "/usr/bin/curl".into(), device: 1, inode: 2, sha256: "ab".repeat(32) }),
            lineage: Lineage::default(),
            placement: Placement { unit: "shop.service".into(), container_id: "cd".repeat(32), ..Placement::default() },
        },
        function: Function {
            protocol: Protocol::Http,
            service: Service::new("api.x", 443).unwrap(),
            tls: true,
            method: "GET".into(),
            path: path.into(),
        },
        destination: "10.0.0.7:443".into(),
        query: String::new(),
        headers: vec![Header { name: "user-agent".into(), value: "curl/8".into() }],
        decision: Decision {
            verdict: Verdict::Allow,
            reason: Reason::Permitted,
            policies: vec!["read-users".into()],
            policy_set: "0123456789abcdef".into(),
            obligations: Obligations::default(),
        },
        observed: false,
        caller: None,
    };
    Record { time_us, kind: RecordKind::Begin(Box::new(begin)) }
}

/// A begin that was denied.
pub(crate) fn denied(time_us: u64, call: CallId, path: &str) -> Record {
    let mut record = begin(time_us, call, path);
    if let RecordKind::Begin(begin) = &mut record.kind {
        begin.decision.verdict = Verdict::Deny;
        begin.decision.reason = Reason::NoPermit;
        begin.decision.policies.clear();
    }
    record
}

pub(crate) fn chunk(time_us: u64, call: CallId, data: &[u8]) -> Record {
    let chunk = Chunk { call, direction: Direction::Response, offset: 0, data: data.into() };
    Record { time_us, kind: RecordKind::Chunk(chunk) }
}

pub(crate) fn end(time_us: u64, call: CallId, outcome: Outcome) -> Record {
    let end = CallEnd {
        call,
        outcome,
        reason: if outcome == Outcome::Complete { Reason::Permitted } else { Reason::Unmaskable },
        status: 200,
        headers: vec![Header { name: "content-type".into(), value: "application/json".into() }],
        request_bytes: 0,
        response_bytes: 10,
        request_sha256: String::new(),
        response_sha256: "cd".repeat(32),
        cut: false,
        masked: 2,
        latency: Latency::default(),
    };
    Record { time_us, kind: RecordKind::End(Box::new(end)) }
}
