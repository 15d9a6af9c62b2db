//! Readers give the chain, from any place, beside the writer.

use std::time::Duration;

use callgate_model::*;
use proptest::prelude::*;

use super::support::*;
use crate::{AuditError, EndFacts, SpoolConfig};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(count(24, 1000)))]

    /// Whatever the sizes of records, batches and segments, and wherever it starts: each record once, in order.
    #[test]
    fn any_reader_gives_each_record_once(
        sizes in proptest::collection::vec(prop_oneof![0_usize..300, 0_usize..70_000], 1..40),
        syncs in proptest::collection::vec(any::<bool>(), 40),
        max in 1_usize..20,
        segment_bytes in 200_u64..50_000,
        from in any::<prop::sample::Index>(),
    ) {
        let dir = scratch();
        let config = SpoolConfig { segment_bytes, commit_interval: Duration::ZERO, ..config(dir.path()) };
        let (recorder, _) = open(config);
        let mut beside = recorder.reader(1);
        let mut read = Vec::new();
        for (size, sync) in sizes.iter().zip(&syncs) {
            recorder.write(note(&"x".repeat(*size))).unwrap();
            if *sync {
                recorder.sync().unwrap();
            }
            read.extend(beside.next_batch(max).unwrap());
        }
        recorder.sync().unwrap();
        loop {
            let batch = beside.next_batch(max).unwrap();
            prop_assert!(batch.len() <= max);
            if batch.is_empty() {
                break;
            }
            read.extend(batch);
        }
        let records = verified(&read);
        prop_assert_eq!(records.len(), sizes.len());
        for (record, size) in records.iter().zip(&sizes) {
            prop_assert_eq!(&record.kind, &note(&"x".repeat(*size)));
        }

        let start = from.index(sizes.len() + 1);
        let mut later = recorder.reader(start as u64 + 1);
        let mut rest = Vec::new();
        loop {
            let batch = later.next_batch(max).unwrap();
            if batch.is_empty() {
                break;
            }
            rest.extend(batch);
        }
        prop_assert_eq!(&rest[..], &read[start..]);
    }
}

#[test]
fn a_batch_is_bounded_in_bytes() {
    let dir = scratch();
    let (recorder, _) = open(config(dir.path()));
    let mut call = recorder.begin(begin(RecordDepth::Full)).unwrap();
    call.body(Direction::Response, &vec![1; 3 << 20]);
    call.end(EndFacts::new(Outcome::Complete, Reason::Permitted));
    recorder.sync().unwrap();
    let mut reader = recorder.reader(1);
    let mut records = Vec::new();
    loop {
        let batch = reader.next_batch(1024).unwrap();
        if batch.is_empty() {
            break;
        }
        assert!(batch.iter().map(|record| record.body.len()).sum::<usize>() <= 1 << 20);
        records.extend(batch);
    }
    assert_eq!(verified(&records).len(), 50);
}

#[test]
fn a_place_that_is_not_held_is_an_error() {
    let dir = scratch();
    let (recorder, _) = open(small(dir.path()));
    for _ in 0..10 {
        (0..10).for_each(|_| recorder.write(note("x")).unwrap());
        recorder.sync().unwrap();
    }
    assert!(recorder.reader(101).next_batch(10).unwrap().is_empty());
    let ahead = recorder.reader(102).next_batch(10);
    assert!(matches!(ahead, Err(AuditError::NotHeld { seq: 102, last: 100, .. })), "{ahead:?}");
    let beyond = recorder.acknowledge(101);
    assert!(matches!(beyond, Err(AuditError::NotHeld { seq: 101, .. })), "{beyond:?}");

    recorder.acknowledge(90).unwrap();
    recorder.write(note("y")).unwrap();
    recorder.sync().unwrap();
    recorder.write(note("y")).unwrap();
    recorder.sync().unwrap();
    assert!(recorder.metrics().segments_freed.get() > 0);
    assert!(matches!(recorder.reader(1).next_batch(10), Err(AuditError::NotHeld { seq: 1, .. })));
    assert_eq!(recorder.reader(91).next_batch(1).unwrap()[0].seq, 91);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_reader_is_told() {
    let dir = scratch();
    let (recorder, _) = open(small(dir.path()));
    let mut reader = recorder.reader(1);
    let shipping = tokio::spawn(async move {
        let mut read = Vec::new();
        while reader.wait().await {
            read.extend(reader.next_batch(7).unwrap());
        }
        read
    });
    for n in 0..50 {
        complete(&recorder, n);
        tokio::task::yield_now().await;
    }
    tokio::task::spawn_blocking(move || drop(recorder)).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(10), shipping).await.unwrap().unwrap();
    assert_eq!(verified(&read).len(), 150);
}

fn complete(recorder: &crate::Recorder, n: usize) {
    let mut call = call(recorder);
    call.body(Direction::Request, n.to_string().as_bytes());
    call.end(EndFacts::new(Outcome::Complete, Reason::Permitted));
}
