//! Seeds that are made of records: bodies, chains, segments of spools.

use callgate_model::{
    AgentRecord, AgentState, CallBegin, CallEnd, CallId, Caller, CgroupId, Chunk, ConnectionId, Decision, Direction,
    Executable, Function, Header, Latency, Lineage, MaskKinds, Obligations, Outcome, Placement, PolicyChange, Process,
    Protocol, Reason, Record, RecordDepth, RecordKind, Service, SessionId, TlsMode, Verdict,
};
use callgate_proto::encode_record;
use callgate_seal::Hash;
use uuid::Uuid;

use super::{Seed, numbered};
use crate::spool::{segment, start};

/// A time of the records. Unit: microseconds since 1970.
const TIME_US: u64 = 1_795_000_000_000_000;

/// Bodies of records, of several kinds.
pub fn records() -> Vec<Seed> {
    let mut seeds = numbered(&bodies());
    // Two kinds in one message: readers of protobuf take the last.
    seeds.push(Seed::new("begin-then-end", [bodies()[0].clone(), bodies()[2].clone()].concat()));
    seeds.push(Seed::new("end-then-begin", [bodies()[2].clone(), bodies()[0].clone()].concat()));
    seeds.push(Seed::new("chunk-then-begin", [bodies()[1].clone(), bodies()[0].clone()].concat()));
    seeds.push(Seed::new("begin-then-chunk", [bodies()[0].clone(), bodies()[1].clone()].concat()));
    seeds.push(Seed::new("torn", &bodies()[0][..100]));
    seeds.push(Seed::new("no-kind", *b"\x09\x01\0\0\0\0\0\0\0"));
    seeds
}

/// Chains of a few bodies, and what is done to them.
pub fn chains() -> Vec<Seed> {
    let of = |what: u8| [&[what, 1, 3][..], b"first\nsecond\n\nfourth"].concat();
    let mut all: Vec<Vec<u8>> = (0..8).map(of).collect();
    all.extend([b"\x03\x00\x00".to_vec(), b"\x04\x00\x00one".to_vec(), b"\x04\x03\x00a\nb\nc\nd".to_vec()]);
    numbered(&all)
}

/// Segments: of a whole call, of one that is open, torn ones, and one whose start was freed.
pub fn spools() -> Vec<Seed> {
    let all = bodies();
    let whole = segment(1, start(), &all);
    let open = segment(1, start(), &all[..2]);
    let later = segment(1000, Hash([9; Hash::LEN]), &all[2..]);
    let header = segment(1, start(), &[]);
    let mut unlike = whole.clone();
    unlike[300] ^= 1;
    vec![
        Seed::new("whole", whole.clone()),
        Seed::new("open-call", open),
        Seed::new("later", later),
        Seed::new("empty", header.clone()),
        Seed::new("torn-header", &header[..40]),
        Seed::new("torn-entry", &whole[..whole.len() - 5]),
        Seed::new("torn-length", &whole[..header.len() + 2]),
        Seed::new("zeros-behind", [&whole[..], &[0; 100]].concat()),
        Seed::new("changed", unlike),
        Seed::new("not-a-record", segment(1, start(), &[b"\xff\xff".to_vec(), Vec::new()])),
        Seed::new("last-seq", segment(u64::MAX, start(), &[])),
        Seed::new("last-seq-but-one", segment(u64::MAX - 1, start(), &all[..1])),
    ]
}

/// A call from begin to end, and what else is recorded.
fn bodies() -> Vec<Vec<u8>> {
    let call = CallId(Uuid::from_u128(1));
    let decision = Decision {
        verdict: Verdict::Allow,
        reason: Reason::Permitted,
        policies: vec!["read-users".into()],
        policy_set: "0123456789abcdef".into(),
        obligations: Obligations { mask: MaskKinds(5).into(), record: RecordDepth::Full, tls: TlsMode::Inspect },
    };
    let executable = Executable { path: "/usr/bin/curl".into(), device: 3, inode: 4, sha256: "ab".repeat(32) };
    let begin = CallBegin {
        call,
        connection: ConnectionId(Uuid::from_u128(2)),
        session: SessionId(Uuid::from_u128(3)),
        workload: "run/x".into(),
        cgroup: CgroupId(11),
        cgroup_path: "callgate/run-1".into(),
        process: Process {
            pid: 7,
            start_time: 9,
            uid: 1000,
            gid: 1001,
            executable: Some(executable),
            lineage: Lineage::default(),
            placement: Placement::default(),
        },
        function: Function {
            protocol: Protocol::Http,
            service: Service::new("api.example", 443).expect("a name"),
            tls: true,
            method: "GET".into(),
            path: "/v1/users/7".into(),
        },
        destination: "10.0.0.7:443".into(),
        query: "a=b".into(),
        headers: vec![Header { name: "host".into(), value: "api.example".into() }],
        decision,
        observed: false,
        caller: Some(Caller { sub: "ann".into(), iss: "https://id.example".into(), groups: vec!["g".into()] }),
    };
    let end = CallEnd {
        call,
        outcome: Outcome::Complete,
        reason: Reason::Permitted,
        status: 200,
        headers: Vec::new(),
        request_bytes: 1,
        response_bytes: u64::MAX,
        request_sha256: String::new(),
        response_sha256: "cd".repeat(32),
        cut: false,
        masked: 3,
        latency: Latency { decide_us: 1, upstream_us: 2, body_us: 3 },
    };
    let kinds = [
        RecordKind::Begin(Box::new(begin)),
        RecordKind::Chunk(Chunk { call, direction: Direction::Response, offset: 65_536, data: vec![0, 255, 1] }),
        RecordKind::End(Box::new(end)),
        RecordKind::Policy(PolicyChange { policy_set: "0123".into(), policies: 3, refused: String::new() }),
        RecordKind::Agent(AgentRecord { state: AgentState::Alarm, version: "0.1.0".into(), detail: "x".into() }),
    ];
    kinds.into_iter().map(|kind| encode_record(&Record { time_us: TIME_US, kind })).collect()
}
