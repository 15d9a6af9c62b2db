//! Calls become records; records become a chain; the chain goes on.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use callgate_model::*;
use callgate_seal::Digest;
use prometheus_client::registry::Registry;

use super::support::*;
use crate::{AuditError, EndFacts, Recorder, SpoolConfig};

fn chunks(records: &[Record], direction: Direction) -> Vec<Chunk> {
    let chunk = |record: &Record| match &record.kind {
        RecordKind::Chunk(chunk) if chunk.direction == direction => Some(chunk.clone()),
        _ => None,
    };
    records.iter().filter_map(chunk).collect()
}

fn sha256(bytes: &[u8]) -> String {
    let mut digest = Digest::new();
    digest.update(bytes);
    digest.finish().to_string()
}

#[test]
fn a_call_comes_back_as_it_was_recorded() {
    let dir = scratch();
    let (recorder, recovery) = open(config(dir.path()));
    assert_eq!((recovery.records, recovery.last_seq, recovery.cut_bytes), (0, 0, 0));
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;

    let begun = begin(RecordDepth::Full);
    let mut call = recorder.begin(begun.clone()).unwrap();
    assert_eq!((call.id(), call.seq()), (begun.call, 1));
    let answer: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    call.body(Direction::Request, b"question");
    for piece in answer.chunks(1000) {
        call.body(Direction::Response, piece);
    }
    let headers = vec![Header { name: "content-type".into(), value: "text/plain".into() }];
    let latency = Latency { decide_us: 1, upstream_us: 2, body_us: 3 };
    let facts = EndFacts {
        status: 200,
        headers: headers.clone(),
        request_bytes: 8,
        response_bytes: 200_000,
        masked: 4,
        latency,
        ..EndFacts::new(Outcome::Complete, Reason::Permitted)
    };
    call.end(facts);

    let records = verified(&read_all(&recorder));
    assert_eq!(records[0].kind, RecordKind::Begin(Box::new(begun.clone())));
    assert!(records.iter().all(|record| (before..before + 60_000_000).contains(&record.time_us)));
    assert!(records.is_sorted_by_key(|record| record.time_us));

    let request = chunks(&records, Direction::Request);
    assert_eq!(request.len(), 1);
    assert_eq!(request[0].data, b"question");
    let response = chunks(&records, Direction::Response);
    assert_eq!(response.iter().map(|chunk| chunk.data.len()).collect::<Vec<_>>(), [65_536, 65_536, 65_536, 3392]);
    assert_eq!(response.iter().flat_map(|chunk| chunk.data.clone()).collect::<Vec<_>>(), answer);
    assert!(response.iter().enumerate().all(|(n, chunk)| chunk.offset == n as u64 * 65_536));

    let end = CallEnd {
        call: begun.call,
        outcome: Outcome::Complete,
        reason: Reason::Permitted,
        status: 200,
        headers,
        request_bytes: 8,
        response_bytes: 200_000,
        request_sha256: sha256(b"question"),
        response_sha256: sha256(&answer),
        cut: false,
        masked: 4,
        latency,
    };
    assert_eq!(records.last().unwrap().kind, RecordKind::End(Box::new(end)));
}

#[test]
fn a_body_is_kept_as_deep_as_asked_and_hashed_whole() {
    let dir = scratch();
    let (recorder, _) = open(config(dir.path()));
    let body = vec![7; RecordDepth::HEAD_MAX as usize + 70_000];
    let depths = [(RecordDepth::Meta, 0), (RecordDepth::Head, 1 << 20), (RecordDepth::Full, body.len())];
    for (depth, _) in depths {
        let mut call = recorder.begin(begin(depth)).unwrap();
        body.chunks(30_000).for_each(|piece| call.body(Direction::Response, piece));
        call.end(EndFacts::new(Outcome::Complete, Reason::Permitted));
    }
    let records = verified(&read_all(&recorder));
    for ((_, kept), end) in depths.into_iter().zip(ends(&records)) {
        let chunks = chunks(&records, Direction::Response).into_iter().filter(|chunk| chunk.call == end.call);
        assert_eq!(chunks.map(|chunk| chunk.data.len()).sum::<usize>(), kept);
        assert_eq!(end.response_sha256, sha256(&body));
        assert_eq!(end.request_sha256, "");
        assert_eq!(end.cut, kept < body.len());
    }
}

#[test]
fn a_dropped_call_ends_as_cut() {
    let dir = scratch();
    let (recorder, _) = open(config(dir.path()));
    let mut gone = call(&recorder);
    gone.body(Direction::Request, b"12345");
    drop(gone);
    let panicked = call(&recorder);
    std::thread::spawn(move || {
        let _held = panicked;
        std::panic::resume_unwind(Box::new("a panic of the test"));
    })
    .join()
    .unwrap_err();
    let ends = ends(&verified(&read_all(&recorder)));
    assert_eq!((ends[0].outcome, ends[0].reason, ends[0].request_bytes), (Outcome::Cut, Reason::ClientGone, 5));
    assert_eq!((ends[1].outcome, ends[1].reason), (Outcome::Cut, Reason::Internal));
}

#[test]
fn the_chain_goes_on_after_a_restart() {
    let dir = scratch();
    for round in 0..5 {
        let (recorder, recovery) = open(small(dir.path()));
        assert_eq!((recovery.last_seq, recovery.cut_bytes), (round * 20, 0));
        assert!(recovery.interrupted.is_empty());
        (0..20).for_each(|n| recorder.write(note(&format!("{round}/{n}"))).unwrap());
    }
    let (recorder, recovery) = open(small(dir.path()));
    assert_eq!(recovery.records, 100);
    assert_eq!(verified(&read_all(&recorder)).len(), 100);
}

#[test]
fn the_chain_goes_on_where_all_was_acknowledged_and_freed() {
    let dir = scratch();
    let (recorder, _) = open(small(dir.path()));
    let mut shipped = Vec::new();
    for _ in 0..8 {
        (0..40).for_each(|_| recorder.write(note("x")).unwrap());
        let had = shipped.len() as u64;
        shipped.extend(read_all(&recorder).into_iter().filter(|record| record.seq > had));
        recorder.acknowledge(shipped.len() as u64).unwrap();
        recorder.sync().unwrap();
    }
    drop(recorder);
    assert_eq!(segments(dir.path()).len(), 1);
    let (recorder, recovery) = open(small(dir.path()));
    assert_eq!((recovery.last_seq, recovery.acked_seq), (320, 320));
    recorder.write(note("after")).unwrap();
    shipped.extend(read_all(&recorder).into_iter().filter(|record| record.seq > 320));
    assert_eq!(verified(&shipped).len(), 321);
}

#[test]
fn many_threads_make_one_chain() {
    let dir = scratch();
    let (recorder, _) = open(SpoolConfig { segment_bytes: 64 << 10, ..config(dir.path()) });
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..200 {
                    let mut call = call(&recorder);
                    call.body(Direction::Response, b"body");
                    if n % 10 == 0 {
                        recorder.write(note("between")).unwrap();
                    }
                    call.end(EndFacts::new(Outcome::Complete, Reason::Permitted));
                }
            });
        }
    });
    let records = verified(&read_all(&recorder));
    assert_eq!(records.len(), 8 * (200 * 3 + 20));
    let begun: BTreeSet<_> = begins(&records).into_iter().collect();
    let ended: BTreeSet<_> = ends(&records).into_iter().map(|end| end.call).collect();
    assert_eq!(begun.len(), 1600);
    assert_eq!(begun, ended);
    assert!(segments(dir.path()).len() > 1);
}

#[test]
fn one_process_one_stream() {
    let dir = scratch();
    let (recorder, _) = open(config(dir.path()));
    assert!(matches!(Recorder::open(config(dir.path())), Err(AuditError::Locked { .. })));
    drop(recorder);
    let other = SpoolConfig { stream: StreamId("node/run-1".into()), ..config(dir.path()) };
    assert!(matches!(Recorder::open(other), Err(AuditError::WrongStream { .. })));
    for bad in ["", "a b", "é", &"x".repeat(257)] {
        let bad = SpoolConfig { stream: StreamId(bad.into()), ..config(dir.path()) };
        assert!(matches!(Recorder::open(bad), Err(AuditError::BadStream(_))));
    }
    open(config(dir.path()));
}

#[test]
fn what_is_larger_than_a_record_may_be_is_refused() {
    let dir = scratch();
    let (recorder, _) = open(config(dir.path()));
    let mut large = begin(RecordDepth::Head);
    large.query = "x".repeat(1 << 20);
    assert!(matches!(recorder.begin(large), Err(AuditError::TooLarge { .. })));
    // A response with as large a head ends all the same, without it.
    let open = call(&recorder);
    let headers = vec![Header { name: "x".into(), value: "y".repeat(1 << 20) }];
    open.end(EndFacts { headers, ..EndFacts::new(Outcome::Complete, Reason::Permitted) });
    let ends = ends(&verified(&read_all(&recorder)));
    assert_eq!((ends.len(), ends[0].headers.len(), ends[0].cut), (1, 0, true));
}

#[tokio::test]
async fn durable_waits_for_the_disk() {
    let dir = scratch();
    let (recorder, _) = open(config(dir.path()));
    let call = call(&recorder);
    recorder.durable(call.seq()).await.unwrap();
    assert!(recorder.status().durable_seq >= call.seq());
    let never = tokio::time::timeout(Duration::from_millis(50), recorder.durable(99)).await;
    assert!(never.is_err());
}

#[test]
fn counts_what_it_does() {
    let dir = scratch();
    let (recorder, _) = open(config(dir.path()));
    let mut registry = Registry::default();
    recorder.register(&mut registry);
    let open = call(&recorder);
    recorder.sync().unwrap();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("callgate_audit_records_total 1\n"), "{text}");
    assert!(text.contains("callgate_audit_open_calls 1\n"), "{text}");
    assert!(text.contains("callgate_audit_spool_size_bytes "), "{text}");
    assert!(recorder.metrics().commits.get() >= 1);
    drop(open);
    assert_eq!(recorder.metrics().open_calls.get(), 0);
}
