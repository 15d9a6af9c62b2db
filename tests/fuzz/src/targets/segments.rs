//! Segments of a spool: what is read back is what a plain walk finds, and nothing whose checksum is wrong.

use std::fs::File;
use std::io::Write as _;

use callgate_audit::read_segment;
use rustix::fs::MemfdFlags;

use crate::spool::{plain, repaired};

/// The input is a segment file; it is also read with its checksums made right.
pub fn run(data: &[u8]) -> bool {
    let raw = compare(data);
    compare(&repaired(data, false)) || raw
}

fn compare(bytes: &[u8]) -> bool {
    let read = read_segment(in_memory(bytes)).expect("memory can be read");
    let Ok(segment) = read else {
        assert!(plain(bytes).is_none(), "a good header is refused: {read:?}");
        return false;
    };
    let plain = plain(bytes).expect("a bad header is taken");
    assert_eq!((segment.first_seq, segment.prev, segment.stream.as_str()), (plain.first_seq, plain.prev, plain.stream));
    let entries: Vec<_> = segment.entries.iter().map(|entry| (entry.seq, entry.hash, &entry.body[..])).collect();
    assert_eq!(entries, plain.entries);
    assert_eq!((segment.length, segment.torn), (plain.length as u64, plain.length < bytes.len()));
    !entries.is_empty()
}

fn in_memory(bytes: &[u8]) -> File {
    let file = rustix::fs::memfd_create("segment", MemfdFlags::CLOEXEC).expect("memory is there");
    let mut file = File::from(file);
    file.write_all(bytes).expect("memory can be written");
    file
}
