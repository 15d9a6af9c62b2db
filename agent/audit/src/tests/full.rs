//! A full spool and a full or failing disk refuse; what was begun still ends, and nothing sealed is lost.

use std::path::Path;
use std::time::{Duration, Instant};

use callgate_model::*;
use rustix::mount::{MountFlags, UnmountFlags};

use super::support::*;
use crate::spool::disk::Faults;
use crate::spool::writer::END_RESERVE;
use crate::{AuditError, EndFacts, OpenCall, Recorder, SpoolConfig};

fn complete(call: OpenCall) {
    let headers = vec![Header { name: "x".into(), value: "y".repeat(2000) }];
    call.end(EndFacts { headers, ..EndFacts::new(Outcome::Complete, Reason::Permitted) });
}

/// Begins calls until that is refused; gives those that were begun and the refusal.
fn begin_until_refused(recorder: &Recorder) -> (Vec<OpenCall>, AuditError) {
    let mut calls = Vec::new();
    loop {
        match recorder.begin(begin(RecordDepth::Full)) {
            Ok(call) => calls.push(call),
            Err(error) => return (calls, error),
        }
        assert!(calls.len() < 100_000, "nothing is ever refused");
    }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn at_the_bound_calls_are_refused_and_those_open_still_end() {
    let dir = scratch();
    let config = SpoolConfig { max_bytes: 100_000, ..small(dir.path()) };
    let (recorder, _) = open(config.clone());
    let (mut calls, error) = begin_until_refused(&recorder);
    assert!(matches!(error, AuditError::Full { max_bytes: 100_000 }), "{error}");
    assert_eq!(error.reason(), Reason::AuditUnavailable);
    assert!(matches!(recorder.write(note(&"x".repeat(1000))), Err(AuditError::Full { .. })));
    assert!(calls.len() > 50);
    let count = calls.len();
    calls[0].body(Direction::Response, &[1; 5000]);
    calls.into_iter().for_each(complete);
    recorder.sync().unwrap();
    assert!(recorder.status().bytes <= 100_000, "{:?}", recorder.status());
    assert!(recorder.metrics().refused.get() >= 2);

    let records = read_all(&recorder);
    let ended = ends(&verified(&records));
    assert_eq!(ended.len(), count);
    // The first ones to end found no room for their headers, nor for a body.
    assert!(ended[0].cut && ended[0].headers.is_empty() && !ended[0].response_sha256.is_empty());

    recorder.acknowledge(records.len() as u64).unwrap();
    until("acknowledged segments are freed", || recorder.status().bytes < 50_000);
    complete(call(&recorder));
    drop(recorder);
    assert_eq!(open(config).1.last_seq, records.len() as u64 + 2);
}

#[test]
fn the_smallest_end_fits_what_is_reserved_for_it() {
    let dir = scratch();
    let (recorder, _) = open(config(dir.path()));
    let largest = Reason::ALL.iter().copied().max_by_key(|reason| reason.as_str().len()).unwrap();
    let mut call = call(&recorder);
    call.body(Direction::Request, b"a");
    call.body(Direction::Response, b"b");
    call.end(EndFacts {
        outcome: Outcome::Interrupted,
        reason: largest,
        status: u16::MAX,
        headers: Vec::new(),
        request_bytes: u64::MAX,
        response_bytes: u64::MAX,
        masked: u64::MAX,
        latency: Latency { decide_us: u64::MAX, upstream_us: u64::MAX, body_us: u64::MAX },
    });
    let record = read_all(&recorder).pop().unwrap();
    assert!(record.body.len() as u64 + 48 + 2 <= END_RESERVE, "{} bytes", record.body.len());
}

/// The same on a disk that is full, with and without `fallocate`.
fn full_disk(allocates: bool) {
    let dir = scratch();
    let faults = Faults::default();
    if !allocates {
        faults.no_allocate();
    }
    let recorder = open_with(config(dir.path()), &faults);
    let early = call(&recorder);
    recorder.sync().unwrap();
    // Not a multiple of anything: the last write is a partial one.
    faults.set_room(Some(20_123));
    let (mut calls, error) = begin_until_refused(&recorder);
    assert!(matches!(error, AuditError::DiskFull), "{error}");
    if !allocates {
        assert!(recorder.status().disk_full);
    }
    let count = calls.len();
    calls[0].body(Direction::Response, &vec![1; Chunk::MAX]);
    // All ends are taken, though the disk takes none of them where room could not be set aside.
    calls.into_iter().for_each(complete);
    drop(early);
    if allocates {
        recorder.sync().unwrap();
    } else {
        assert!(matches!(recorder.sync(), Err(AuditError::DiskFull)));
        assert!(matches!(recorder.write(note("x")), Err(AuditError::DiskFull)));
    }

    faults.set_room(None);
    until("the commit thread finds the room", || !recorder.status().disk_full && recorder.sync().is_ok());
    complete(call(&recorder));
    let records = verified(&read_all(&recorder));
    assert_eq!(begins(&records).len(), count + 2);
    let ended = ends(&records);
    assert_eq!(ended.len(), count + 2);
    assert!(ended[0].cut);
    drop(recorder);
    let (_, recovery) = open(config(dir.path()));
    assert_eq!((recovery.records, recovery.cut_bytes), (records.len() as u64, 0));
    assert!(recovery.interrupted.is_empty());
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    full_disk(true);
}

#[test]
fn a_full_disk_without_fallocate_refuses_and_recovers() {
    full_disk(false);
}

#[test]
fn a_failed_write_or_sync_fails_the_spool_for_good() {
    type Break = fn(&Faults);
    let ways: [Break; 2] = [Faults::fail_write, Faults::fail_sync];
    for way in ways {
        let dir = scratch();
        let faults = Faults::default();
        let recorder = open_with(config(dir.path()), &faults);
        let before = call(&recorder);
        recorder.sync().unwrap();
        let mut reader = recorder.reader(1);
        assert_eq!(reader.next_batch(10).unwrap().len(), 1);

        way(&faults);
        let _ = recorder.write(note("x"));
        assert!(matches!(recorder.sync(), Err(AuditError::Failed { .. })));
        assert!(matches!(recorder.begin(begin(RecordDepth::Full)), Err(AuditError::Failed { .. })));
        assert!(matches!(recorder.write(note("x")), Err(AuditError::Failed { .. })));
        drop(before);
        assert!(recorder.status().failed.is_some());
        assert_eq!(recorder.metrics().failed.get(), 1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        until("readers learn that it is over", || !runtime.block_on(recorder.reader(2).wait()));
        assert!(runtime.block_on(recorder.durable(2)).is_err());
        // What was on disk can still be shipped.
        assert_eq!(recorder.reader(1).next_batch(10).unwrap().len(), 1);
        drop(recorder);
        let (_, recovery) = open(config(dir.path()));
        assert_eq!(recovery.interrupted.len(), 1);
    }
}

/// A file system of one megabyte, unmounted when it goes.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount() -> Self {
        let dir = scratch();
        rustix::mount::mount("callgate-test", dir.path(), "tmpfs", MountFlags::empty(), c"size=1m")
            .expect("mounting a tmpfs needs root");
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0.path(), UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_disk_that_is_really_full_refuses_and_recovers() {
    let disk = Tmpfs::mount();
    let spool = disk.path().join("spool");
    let config = SpoolConfig { segment_bytes: 128 << 10, ..config(&spool) };
    let (recorder, _) = open(config.clone());
    let (calls, error) = begin_until_refused(&recorder);
    assert!(matches!(error, AuditError::DiskFull), "{error}");
    let count = calls.len();
    assert!(count > 500, "{count} calls");
    calls.into_iter().for_each(complete);

    let records = read_all(&recorder);
    assert_eq!(ends(&verified(&records)).len(), count);
    recorder.acknowledge(records.len() as u64).unwrap();
    until("acknowledged segments make room", || recorder.begin(begin(RecordDepth::Full)).is_ok());
    drop(recorder);
    let (recorder, recovery) = open(config);
    assert!(recovery.interrupted.is_empty());
    assert_eq!(recovery.cut_bytes, 0);
    drop(recorder);
}
