//! Reads one segment file on its own: what it says, whether or not a spool would take it.
//!
//! Checks checksums and nothing else: that the records continue a chain is for recovery, or for who asks.

use std::fs::File;
use std::io;

use callgate_seal::Hash;

use super::scan::{Scan, Step};

/// What a segment file holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// The stream that its header names.
    pub stream: String,
    /// Seq of its first record.
    pub first_seq: u64,
    /// Hash of the record before that.
    pub prev: Hash,
    /// Its whole entries, in their order.
    pub entries: Vec<SegmentEntry>,
    /// Length of the header and these entries. Unit: bytes.
    pub length: u64,
    /// Whether bytes follow that are no whole entry.
    pub torn: bool,
}

/// One entry, whose checksum is right.
#[derive(Clone, PartialEq, Eq)]
pub struct SegmentEntry {
    /// The record's place in the chain.
    pub seq: u64,
    /// Its seal.
    pub hash: Hash,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// Shows no byte of the record.
impl std::fmt::Debug for SegmentEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentEntry").field("seq", &self.seq).field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// Reads a segment into memory.
///
/// # Errors
/// The outer error is the file system's; the inner one says why the file has no header of a segment.
pub fn read_segment(file: File) -> io::Result<Result<Segment, &'static str>> {
    let (header, mut scan) = match Scan::open(file)? {
        Ok(opened) => opened,
        Err(reason) => return Ok(Err(reason)),
    };
    let mut entries = Vec::new();
    let torn = loop {
        match scan.step()? {
            Step::Entry { seq, hash, body } => entries.push(SegmentEntry { seq, hash, body: body.to_vec() }),
            Step::End => break false,
            Step::Torn => break true,
        }
    };
    let length = scan.offset();
    Ok(Ok(Segment { stream: header.stream, first_seq: header.first_seq, prev: header.prev, entries, length, torn }))
}
