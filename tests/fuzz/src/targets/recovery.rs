//! Opening a spool: it takes whole chains alone, gives back what they hold, and leaves alone what it refuses.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use callgate_audit::{AuditError, Recorder, Recovery, SpoolConfig};
use callgate_model::StreamId;
use callgate_seal::{Hash, Verifier};
use tempfile::TempDir;

use crate::spool::{Plain, STREAM, plain, repaired, segment};

/// The input is a segment file; it is also tried with its checksums and seals made right, and cut in two segments.
pub fn run(data: &[u8]) -> bool {
    let raw = recover(&[data]);
    let whole = repaired(data, true);
    let taken = recover(&[&whole]);
    if let Some((first, second)) = halves(&whole) {
        assert_eq!(recover(&[&first, &second]), taken, "segments are judged otherwise when they are two");
    }
    raw || taken
}

/// The records of a whole segment in two.
fn halves(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let Plain { first_seq, prev, stream, entries, length } = plain(bytes)?;
    if first_seq > u64::MAX / 2 {
        return None;
    }
    let in_order = entries.iter().zip(first_seq..).all(|((seq, ..), expected)| *seq == expected);
    if !in_order || stream != STREAM || length < bytes.len() {
        return None;
    }
    let (first, second) = entries.split_at(entries.len().div_ceil(2));
    let (_, between, _) = first.last()?;
    let bodies = |half: &[(u64, Hash, &[u8])]| half.iter().map(|(.., body)| body.to_vec()).collect::<Vec<_>>();
    let next = first_seq + first.len() as u64;
    Some((segment(first_seq, prev, &bodies(first)), segment(next, *between, &bodies(second))))
}

/// Whether a spool of these segments is taken.
fn recover(segments: &[&[u8]]) -> bool {
    let dir = directory();
    let paths: Vec<PathBuf> = segments
        .iter()
        .map(|bytes| {
            let path = dir.path().join(format!("{:020}.seg", plain(bytes).map_or(1, |read| read.first_seq)));
            fs::write(&path, bytes).expect("the directory can be written");
            path
        })
        .collect();
    match open(dir.path()) {
        Ok((recorder, recovery)) => {
            let held: Vec<Plain<'_>> = segments.iter().filter_map(|bytes| plain(bytes)).collect();
            check(&recorder, &recovery, &held);
            drop(recorder);
            reopens(dir.path(), &recovery, held.first().map_or(1, |first| first.first_seq));
            recovery.records > 0
        }
        Err(AuditError::Corrupt { .. } | AuditError::WrongStream { .. }) => {
            for (path, bytes) in paths.iter().zip(segments) {
                assert_eq!(fs::read(path).expect("it is still there"), *bytes, "what is refused is evidence");
            }
            false
        }
        Err(other) => panic!("a disk that works is blamed: {other}"),
    }
}

/// All that is given back is a chain, and begins with what the files hold.
fn check(recorder: &Recorder, recovery: &Recovery, held: &[Plain<'_>]) {
    let first = held.first();
    let first_seq = first.map_or(1, |first| first.first_seq);
    let mut verifier = match first {
        Some(first) if first_seq > 1 => Verifier::resume(first_seq - 1, first.prev),
        _ => Verifier::from_start(STREAM),
    };
    let mut expected = held.iter().flat_map(|segment| &segment.entries);
    let mut reader = recorder.reader(first_seq);
    let mut given = 0;
    loop {
        let batch = reader.next_batch(3).expect("what was taken can be read");
        if batch.is_empty() {
            break;
        }
        for record in batch {
            let fits = verifier.check(record.seq, &record.prev, &record.hash, &record.body);
            fits.unwrap_or_else(|fault| panic!("a broken chain is given out: {fault}"));
            if let Some((.., body)) = expected.next() {
                assert_eq!(record.body, *body);
            }
            given += 1;
        }
    }
    assert!(expected.next().is_none(), "a whole record was lost");
    let alarm = u64::from(recovery.cut_bytes > 0);
    assert_eq!(given, recovery.records + recovery.interrupted.len() as u64 + alarm);
    assert_eq!(verifier.last_seq(), recovery.last_seq);
}

/// What was recovered is whole: there is nothing left to recover.
fn reopens(dir: &Path, before: &Recovery, first_seq: u64) {
    let (_recorder, recovery) = open(dir).expect("what was recovered opens");
    assert_eq!((recovery.cut_bytes, recovery.interrupted.len()), (0, 0));
    assert_eq!(recovery.last_seq, before.last_seq);
    assert_eq!(recovery.records, before.last_seq + 1 - first_seq);
}

fn open(dir: &Path) -> Result<(Recorder, Recovery), AuditError> {
    let mut config = SpoolConfig::new(dir, StreamId(STREAM.to_owned()));
    config.commit_interval = Duration::ZERO;
    Recorder::open(config)
}

/// In memory where there is a place for that: a sync per input would be all that is measured.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a directory can be made")
}
