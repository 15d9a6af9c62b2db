//! Every kind of record survives the way there and back; what is unknown is refused.

use callgate_model::*;
use prost::Message as _;

use crate::{Peek, ProtoError, decode_record, encode_record, encode_unstamped, peek, stamp, v1};

fn process() -> Process {
    Process {
        pid: 7,
        start_time: 9,
        uid: 1000,
        gid: 1001,
        executable: Some(Executable { path: "/usr/bin/curl".into(), device: 3, inode: 4, sha256: "ab".repeat(32) }),
        lineage: Lineage {
            ancestors: vec![
                Ancestor {
                    pid: 6,
                    start_time: 8,
                    path: "/usr/bin/bash".into(),
                    device: 3,
                    inode: 5,
                    sha256: Some("cd".repeat(32)),
                },
                Ancestor { pid: 6, start_time: 8, path: "env".into(), device: 3, inode: 6, sha256: None },
            ],
            end: LineageEnd::Cut,
        },
        placement: Placement {
            cgroup_path: "system.slice/a.service/b".into(),
            unit: "a.service".into(),
            pod_uid: "p".into(),
            container_id: "c".into(),
            pod: Some(Pod {
                namespace: "shop".into(),
                name: "web-0".into(),
                service_account: "web".into(),
                container: "app".into(),
                image: "shop/web:7".into(),
                group: "payments".into(),
                labels: [("app".to_owned(), "web".to_owned())].into(),
            }),
        },
    }
}

fn decision() -> Decision {
    Decision {
        verdict: Verdict::Allow,
        reason: Reason::Permitted,
        policies: vec!["a".into(), "b".into()],
        policy_set: "0123456789abcdef".into(),
        obligations: Obligations { mask: MaskKinds(5).into(), record: RecordDepth::Full, tls: TlsMode::Passthrough },
    }
}

fn headers() -> Vec<Header> {
    vec![Header { name: "host".into(), value: "api.x".into() }, Header { name: "x".into(), value: String::new() }]
}

fn every_kind() -> Vec<RecordKind> {
    let call = CallId::new();
    let connection = ConnectionId::new();
    let session = SessionId::new();
    vec![
        RecordKind::Begin(Box::new(CallBegin {
            call,
            connection,
            session,
            workload: "run/x".into(),
            cgroup: CgroupId(11),
            cgroup_path: "callgate/run-1".into(),
            process: process(),
            function: Function {
                protocol: Protocol::Http,
                service: Service::new("::1", 8443).unwrap(),
                tls: true,
                method: "GET".into(),
                path: "/v1".into(),
            },
            destination: "[::1]:8443".into(),
            query: "a=b".into(),
            headers: headers(),
            decision: decision(),
            observed: true,
            caller: Some(Caller { sub: "ann".into(), iss: "https://id.x".into(), groups: vec!["admins".into()] }),
        })),
        RecordKind::Chunk(Chunk { call, direction: Direction::Response, offset: 65_536, data: vec![0, 255, 1] }),
        RecordKind::End(Box::new(CallEnd {
            call,
            outcome: Outcome::Cut,
            reason: Reason::Unmaskable,
            status: 502,
            headers: headers(),
            request_bytes: 1,
            response_bytes: u64::MAX,
            request_sha256: String::new(),
            response_sha256: "cd".repeat(32),
            cut: true,
            masked: 3,
            latency: Latency { decide_us: 1, upstream_us: 2, body_us: 3 },
        })),
        RecordKind::Connection(Box::new(ConnectionRecord {
            connection,
            session,
            workload: "cgroup/y".into(),
            process: Process { executable: None, lineage: Lineage::default(), ..process() },
            destination: "10.0.0.7:443".into(),
            service: Some(Service::new("api.x", 443).unwrap()),
            decision: Some(decision()),
            inspected: false,
            uninspected: Some(Uninspected::CertificateRefused),
            outcome: Outcome::Complete,
            reason: Reason::Permitted,
            calls: 2,
            bytes_in: 3,
            bytes_out: 4,
            duration_us: 5,
        })),
        RecordKind::Enrolment(EnrolmentRecord {
            change: EnrolmentChange::Resumed,
            workload: "run/x".into(),
            cgroup: CgroupId(1),
            cgroup_path: "callgate/run-1".into(),
            weakened: vec!["allow-setuid".into()],
        }),
        RecordKind::KernelDenial(KernelDenial {
            event: KernelEvent::Unclassified,
            workload: String::new(),
            cgroup: CgroupId(0),
            cgroup_path: "a/b".into(),
            netns: NetnsCookie(1),
            pid: 2,
            uid: 3,
            destination: "192.0.2.1:53".into(),
            family: 2,
            socket_type: 1,
            protocol: 6,
            observed: false,
        }),
        RecordKind::Dns(Box::new(DnsRecord {
            workload: "run/build".into(),
            session: Some(SessionId::new()),
            process: process(),
            destination: "192.0.2.53:53".into(),
            transport: DnsTransport::Tcp,
            name: "x.example".into(),
            query_type: "HTTPS".into(),
            rcode: "REFUSED".into(),
            answers: 1,
            stripped: 2,
            reason: Reason::DnsName,
            observed: true,
            left_out: 3,
            duration_us: 4,
        })),
        RecordKind::Policy(PolicyChange { policy_set: "ff".into(), policies: 10_000, refused: "no".into() }),
        RecordKind::Agent(AgentRecord { state: AgentState::Alarm, version: "0.1.0".into(), detail: "x".into() }),
    ]
}

#[test]
fn every_kind_comes_back_as_it_was() {
    for (time_us, kind) in (1..).zip(every_kind()) {
        let record = Record { time_us, kind };
        let bytes = encode_record(&record);
        assert_eq!(decode_record(&bytes).unwrap(), record);
        let expected = match &record.kind {
            RecordKind::Begin(begin) => Peek::Begin(begin.call),
            RecordKind::End(end) => Peek::End(end.call),
            _ => Peek::Other,
        };
        assert_eq!(peek(&bytes).unwrap(), expected);
        let mut stamped = Vec::new();
        encode_unstamped(record.kind, &mut stamped);
        stamp(&mut stamped, time_us);
        assert_eq!(stamped, bytes);
    }
}

#[test]
fn every_word_has_a_number_of_its_own() {
    for &reason in Reason::ALL {
        let mut kinds = every_kind();
        let RecordKind::End(end) = &mut kinds[2] else { unreachable!() };
        end.reason = reason;
        let record = Record { time_us: 0, kind: kinds.swap_remove(2) };
        assert_eq!(decode_record(&encode_record(&record)).unwrap(), record);
    }
}

#[test]
fn unknown_and_missing_values_are_errors() {
    let begin = || {
        let record = Record { time_us: 1, kind: every_kind().remove(0) };
        let Some(v1::record::Kind::Begin(begin)) = v1::Record::from(record).kind else { unreachable!() };
        begin
    };
    let error = |begin: v1::CallBegin| {
        let record = v1::Record { time_us: 1, kind: Some(v1::record::Kind::Begin(begin)) };
        decode_record(&record.encode_to_vec()).unwrap_err()
    };

    let mut unknown = begin();
    unknown.decision.as_mut().unwrap().verdict = 77;
    assert_eq!(error(unknown), ProtoError::Unknown { field: "verdict", value: "77".into() });

    let mut unsaid = begin();
    unsaid.decision.as_mut().unwrap().verdict = 0;
    assert_eq!(error(unsaid), ProtoError::Missing("verdict"));

    let mut reason = begin();
    reason.decision.as_mut().unwrap().reason = "because".repeat(100);
    assert!(matches!(error(reason), ProtoError::Unknown { field: "reason", value } if value.len() == 64));

    let mut service = begin();
    service.function.as_mut().unwrap().service = "no port".into();
    assert!(matches!(error(service), ProtoError::Unknown { field: "service", .. }));

    let mut lineage = begin();
    lineage.process.as_mut().unwrap().lineage.as_mut().unwrap().end = 77;
    assert_eq!(error(lineage), ProtoError::Unknown { field: "end of the lineage", value: "77".into() });

    let mut id = begin();
    id.call.pop();
    assert_eq!(error(id), ProtoError::BadId("call"));

    let mut without = begin();
    without.process = None;
    assert_eq!(error(without), ProtoError::Missing("process"));

    assert_eq!(decode_record(&[]).unwrap_err(), ProtoError::Missing("kind"));
    assert!(matches!(decode_record(&[0xff; 9]).unwrap_err(), ProtoError::Malformed(_)));
}

#[test]
fn a_record_of_an_older_agent_has_no_lineage() {
    let record = Record { time_us: 1, kind: every_kind().remove(0) };
    let mut older = v1::Record::from(record);
    let Some(v1::record::Kind::Begin(begin)) = &mut older.kind else { unreachable!() };
    begin.process.as_mut().unwrap().lineage = None;
    let RecordKind::Begin(begin) = decode_record(&older.encode_to_vec()).unwrap().kind else { unreachable!() };
    assert_eq!(begin.process.lineage, Lineage { ancestors: Vec::new(), end: LineageEnd::Unknown });
}

#[test]
fn a_chunk_above_its_bound_is_refused() {
    let chunk = |len| {
        let data = vec![0; len];
        let chunk = Chunk { call: CallId::new(), direction: Direction::Request, offset: 0, data };
        decode_record(&encode_record(&Record { time_us: 0, kind: RecordKind::Chunk(chunk) }))
    };
    assert!(chunk(Chunk::MAX).is_ok());
    assert_eq!(chunk(Chunk::MAX + 1), Err(ProtoError::TooLarge("data")));
}

#[test]
fn of_several_kinds_in_one_message_the_peek_sees_the_one_that_is_decoded() {
    let bodies: Vec<_> = every_kind().into_iter().map(|kind| encode_record(&Record { time_us: 1, kind })).collect();
    for first in &bodies {
        for second in &bodies {
            let both = [&first[..], second].concat();
            let expected = match decode_record(&both).unwrap().kind {
                RecordKind::Begin(begin) => Peek::Begin(begin.call),
                RecordKind::End(end) => Peek::End(end.call),
                _ => Peek::Other,
            };
            assert_eq!(peek(&both), Ok(expected));
        }
    }
}
