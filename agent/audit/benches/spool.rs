//! How fast the spool takes records, on the disk that holds the temporary directory (set TMPDIR to choose another).
//!
//! `calls/N`: begins and ends N/2 calls on one thread, then waits until all N records are on disk.
//! `records/N`: the same with N records that are written in groups only. `begin`: until the record is in the page
//! cache, the commit thread at work beside it.

use std::hint::black_box;
use std::time::Duration;

use callgate_audit::{EndFacts, Recorder, SpoolConfig};
use callgate_model::*;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

fn begin() -> CallBegin {
    let header = |name: &str, value: &str| Header { name: name.into(), value: value.into() };
    CallBegin {
        call: CallId::new(),
        connection: ConnectionId::new(),
        session: SessionId::new(),
        workload: "run/bench".into(),
        cgroup: CgroupId(1),
        cgroup_path: "callgate/run-1".into(),
        process: Process {
            pid: 1,
            start_time: 2,
            uid: 3,
            gid: 4,
            executable: Some(Executable { path: "/usr/bin/curl".into(), device: 1, inode: 2, sha256: "ab".repeat(32) }),
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
        headers: vec![header("accept", "*/*"), header("user-agent", "curl/8"), header("host", "api.example")],
        decision: Decision {
            verdict: Verdict::Allow,
            reason: Reason::Permitted,
            policies: vec!["read-users".into()],
            policy_set: "0123456789abcdef".into(),
            obligations: Obligations::default(),
        },
        observed: false,
        caller: None,
    }
}

fn connection() -> RecordKind {
    let begin = begin();
    RecordKind::Connection(Box::new(ConnectionRecord {
        connection: begin.connection,
        session: begin.session,
        workload: begin.workload,
        process: begin.process,
        destination: begin.destination,
        service: Some(begin.function.service),
        decision: Some(begin.decision),
        inspected: true,
        uninspected: None,
        outcome: Outcome::Complete,
        reason: Reason::Permitted,
        calls: 1,
        bytes_in: 100,
        bytes_out: 1000,
        duration_us: 5000,
    }))
}

/// Everything is acknowledged at once, so that the spool never fills up.
fn acknowledge(recorder: &Recorder) {
    recorder.acknowledge(recorder.status().durable_seq).unwrap();
}

fn end(call: callgate_audit::OpenCall) {
    call.end(EndFacts { status: 200, ..EndFacts::new(Outcome::Complete, Reason::Permitted) });
}

fn spool(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = SpoolConfig::new(dir.path(), StreamId("bench/agent".into()));
    // The waits below are for the disk, not for a group to gather.
    config.commit_interval = Duration::from_millis(2);
    config.max_bytes = 4 << 30;
    let (recorder, _) = Recorder::open(config).unwrap();

    let mut group = criterion.benchmark_group("spool");
    group.measurement_time(Duration::from_secs(5));
    for batch in [128_u64, 1024] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("calls/{batch}"), |bencher| {
            bencher.iter(|| {
                (0..batch / 2).for_each(|_| end(recorder.begin(begin()).unwrap()));
                recorder.sync().unwrap();
                acknowledge(&recorder);
            });
        });
        group.bench_function(format!("records/{batch}"), |bencher| {
            bencher.iter(|| {
                (0..batch).for_each(|_| recorder.write(connection()).unwrap());
                recorder.sync().unwrap();
                acknowledge(&recorder);
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("begin", |bencher| {
        let make = || {
            acknowledge(&recorder);
            begin()
        };
        bencher.iter_batched(make, |begin| recorder.begin(begin).unwrap(), BatchSize::PerIteration);
    });
    group.bench_function("begin and end", |bencher| {
        let make = || {
            acknowledge(&recorder);
            begin()
        };
        bencher.iter_batched(make, |begin| end(recorder.begin(begin).unwrap()), BatchSize::PerIteration);
    });
    group.finish();
}

fn sealing(criterion: &mut Criterion) {
    let body = callgate_proto::encode_record(&Record { time_us: 1, kind: RecordKind::Begin(Box::new(begin())) });
    let prev = callgate_seal::genesis("bench/agent");
    println!("a begin has {} bytes", body.len());
    criterion.bench_function("seal", |bencher| bencher.iter(|| callgate_seal::seal(&prev, 1, black_box(&body))));
}

criterion_group!(benches, sealing, spool);
criterion_main!(benches);
