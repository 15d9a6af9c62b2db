//! Torn tails are cut, open calls are closed, damage is refused.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use callgate_model::*;
use callgate_seal::{Hash, seal};

use super::support::*;
use crate::spool::format::{ENTRY_HEAD, EntryHead, Header, push_entry};
use crate::{AuditError, EndFacts, Recorder};

/// Writes three calls, two of them ended, and copies the segments while the recorder is at work.
fn crashed(to: &Path) -> Vec<CallId> {
    let dir = scratch();
    let (recorder, _) = open(config(dir.path()));
    let calls: Vec<_> = (0..3).map(|_| call(&recorder)).collect();
    let ids = calls.iter().map(|call| call.id()).collect();
    let mut left = calls.into_iter();
    left.by_ref().take(2).for_each(|call| call.end(EndFacts::new(Outcome::Complete, Reason::Permitted)));
    recorder.sync().unwrap();
    copy(dir.path(), to, false);
    ids
}

fn only_segment(dir: &Path) -> std::path::PathBuf {
    dir.join(Header::file_name(1))
}

/// Where the entries of a segment start, and where the last one ends.
fn entry_offsets(bytes: &[u8]) -> Vec<usize> {
    let mut at = Header::decode(bytes).unwrap().1;
    let mut offsets = vec![at];
    while let Some(head) = bytes[at..].first_chunk::<ENTRY_HEAD>() {
        at += ENTRY_HEAD + EntryHead::decode(head).unwrap().body_len;
        offsets.push(at);
    }
    offsets
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_chain_is_whole() {
    let original = scratch();
    let ids = crashed(original.path());
    let bytes = fs::read(only_segment(original.path())).unwrap();
    let offsets = entry_offsets(&bytes);
    assert_eq!(offsets.len(), 6);
    let dir = scratch();
    // From within the header on: a segment is made before anything is written to it, but its header may be torn.
    for len in 0..=bytes.len() {
        let spool = dir.path().join(len.to_string());
        fs::create_dir(&spool).unwrap();
        fs::write(only_segment(&spool), &bytes[..len]).unwrap();
        let (recorder, recovery) = open(config(&spool));
        let whole = offsets.iter().skip(1).filter(|&&end| end <= len).count();
        let torn = len - offsets.iter().rev().find(|&&start| start <= len).unwrap_or(&0);
        assert_eq!((recovery.records, recovery.cut_bytes), (whole as u64, torn as u64), "length {len}");

        let records = verified(&read_all(&recorder));
        let still_open = ids.iter().take(whole.min(3)).skip(whole.saturating_sub(3));
        assert!(recovery.interrupted.iter().eq(still_open), "length {len}");
        let closed = recovery.interrupted.len();
        assert_eq!(records.len(), whole + usize::from(torn > 0) + closed);
        for (end, id) in ends(&records).iter().rev().zip(recovery.interrupted.iter().rev()) {
            assert_eq!((end.call, end.outcome, end.reason), (*id, Outcome::Interrupted, Reason::Interrupted));
        }
        if torn > 0 {
            let alarm = RecordKind::Agent(AgentRecord {
                state: AgentState::Alarm,
                version: env!("CARGO_PKG_VERSION").into(),
                detail: format!("the audit spool ended in a torn record: {torn} bytes after record {whole} cut off"),
            });
            assert_eq!(records[whole].kind, alarm);
        }
        drop(recorder);
        let (_, again) = open(config(&spool));
        assert_eq!((again.records, again.cut_bytes), (records.len() as u64, 0));
        assert!(again.interrupted.is_empty());
        fs::remove_dir_all(&spool).unwrap();
    }
}

#[test]
fn a_tail_of_other_bytes_is_cut() {
    let original = scratch();
    crashed(original.path());
    let bytes = fs::read(only_segment(original.path())).unwrap();
    for garbage in [vec![0; 4096], vec![0xff; 10], bytes.clone(), vec![1; 100_000]] {
        let spool = scratch();
        fs::write(only_segment(spool.path()), [&bytes[..], &garbage].concat()).unwrap();
        let (recorder, recovery) = open(config(spool.path()));
        assert_eq!((recovery.records, recovery.cut_bytes), (5, garbage.len() as u64));
        verified(&read_all(&recorder));
    }
}

#[test]
fn a_torn_header_of_a_new_segment_is_no_damage() {
    let dir = scratch();
    let (recorder, _) = open(small(dir.path()));
    while segments(dir.path()).len() < 2 {
        (0..10).for_each(|_| recorder.write(note("some words to fill the segment")).unwrap());
        recorder.sync().unwrap();
    }
    let records = read_all(&recorder).len();
    let spool = scratch();
    copy(dir.path(), spool.path(), false);
    let next = spool.path().join(Header::file_name(records as u64 + 1));
    fs::write(next, b"CGSP").unwrap();
    let (recorder, recovery) = open(small(spool.path()));
    assert_eq!((recovery.records, recovery.cut_bytes), (records as u64, 4));
    assert_eq!(verified(&read_all(&recorder)).len(), records + 1);
}

#[test]
fn damage_is_refused() {
    let dir = scratch();
    let (recorder, _) = open(small(dir.path()));
    while segments(dir.path()).len() < 4 {
        (0..10).for_each(|_| recorder.write(note("some words to fill the segment")).unwrap());
        recorder.sync().unwrap();
    }
    (0..5).for_each(|_| recorder.write(note("in the last segment")).unwrap());
    drop(recorder);
    let names = segments(dir.path());
    let refused = |what: &str, damage: &dyn Fn(&Path)| {
        let spool = scratch();
        copy(dir.path(), spool.path(), true);
        damage(spool.path());
        match Recorder::open(small(spool.path())) {
            Err(AuditError::Corrupt { .. }) => {}
            other => panic!("{what}: {other:?}"),
        }
    };
    let change = |path: &Path, offset: u64| {
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
    };
    refused("a bit of a closed segment", &|spool| change(&spool.join(&names[1]), 1000));
    refused("a bit of a header", &|spool| change(&spool.join(&names[1]), 20));
    refused("a bit of what was known to be on disk", &|spool| change(&spool.join(&names[3]), 200));
    refused("a missing segment in the middle", &|spool| fs::remove_file(spool.join(&names[1])).unwrap());
    refused("a missing segment at the end", &|spool| fs::remove_file(spool.join(&names[3])).unwrap());
    refused("all segments missing", &|spool| {
        names.iter().for_each(|name| fs::remove_file(spool.join(name)).unwrap());
    });
    refused("a cut closed segment", &|spool| {
        OpenOptions::new().write(true).open(spool.join(&names[0])).unwrap().set_len(2000).unwrap();
    });
    refused("another segment in its place", &|spool| {
        fs::rename(spool.join(&names[2]), spool.join(&names[1])).unwrap();
    });
    refused("a changed state", &|spool| change(&spool.join("state"), 10));
    let whole = scratch();
    copy(dir.path(), whole.path(), true);
    open(small(whole.path()));
}

#[test]
fn a_changed_record_with_a_right_checksum_is_refused() {
    let spool = scratch();
    crashed(spool.path());
    let path = only_segment(spool.path());
    let bytes = fs::read(&path).unwrap();
    let offsets = entry_offsets(&bytes);
    // The last record, changed and sealed again to the hash before it: not this spool's key to make, but possible for
    // whoever can write the file. What follows no longer fits; as the last record only the collector can tell.
    let at = offsets[2];
    let mut body = bytes[at + ENTRY_HEAD..offsets[3]].to_vec();
    *body.last_mut().unwrap() ^= 1;
    let prev = Hash::try_from(&bytes[offsets[1] + 16..offsets[1] + ENTRY_HEAD]).unwrap();
    let mut forged = bytes[..at].to_vec();
    push_entry(&mut forged, 3, &seal(&prev, 3, &body), &body);
    forged.extend_from_slice(&bytes[offsets[3]..]);
    fs::write(&path, forged).unwrap();
    assert!(matches!(Recorder::open(config(spool.path())), Err(AuditError::Corrupt { .. })));
}

#[test]
fn a_call_whose_begin_was_freed_is_closed_too() {
    let dir = scratch();
    let (recorder, _) = open(small(dir.path()));
    let long = call(&recorder);
    let ended = call(&recorder);
    let mut shipped = Vec::new();
    let mut ship = || {
        (0..100).for_each(|_| recorder.write(note("x")).unwrap());
        let had = shipped.len() as u64;
        shipped.extend(read_all(&recorder).into_iter().filter(|record| record.seq > had));
        recorder.acknowledge(shipped.len() as u64).unwrap();
        recorder.sync().unwrap();
        // Freeing follows the commit: one more round of the thread.
        recorder.write(note("y")).unwrap();
        recorder.sync().unwrap();
    };
    ship();
    assert_ne!(segments(dir.path())[0], Header::file_name(1));
    let crash_one = scratch();
    copy(dir.path(), crash_one.path(), true);
    let (_, recovery) = open(small(crash_one.path()));
    assert_eq!(recovery.interrupted, [long.id(), ended.id()]);
    // Opened once more, nothing is closed twice.
    assert!(open(small(crash_one.path())).1.interrupted.is_empty());

    ended.end(EndFacts::new(Outcome::Complete, Reason::Permitted));
    recorder.sync().unwrap();
    let crash_two = scratch();
    copy(dir.path(), crash_two.path(), true);
    assert_eq!(open(small(crash_two.path())).1.interrupted, [long.id()]);

    ship();
    ship();
    let crash_three = scratch();
    copy(dir.path(), crash_three.path(), true);
    assert_eq!(open(small(crash_three.path())).1.interrupted, [long.id()]);
}

#[test]
fn a_segment_from_beyond_every_chain_is_refused_and_left_alone() {
    for first_seq in [u64::MAX, u64::MAX - 1, 1 << 63] {
        let dir = scratch();
        let path = dir.path().join(Header::file_name(first_seq));
        let bytes = Header { first_seq, prev: Hash([1; Hash::LEN]), stream: STREAM.into() }.encode();
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(Recorder::open(config(dir.path())), Err(AuditError::Corrupt { .. })), "{first_seq}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}
