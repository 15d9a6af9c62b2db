//! Gives records to the uplink, in order, from any place that is still held.
//!
//! Gives only what is on disk: a record that a power loss could take back must not be in the collector.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use callgate_proto::v1::SealedRecord;
use callgate_seal::Hash;
use tokio::sync::watch;

use super::current::Segment;
use super::scan::{Scan, Step};
use super::shared::{Progress, Shared};
use crate::AuditError;

/// Most bytes of bodies in a batch, unless one record alone is larger. Unit: bytes.
/// Source: a quarter of the largest gRPC message that tonic takes by default.
const BATCH_BYTES: usize = 1 << 20;

/// A place in the chain, moving on as records are read. Several can read at once.
#[derive(Debug)]
pub struct SpoolReader {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    next: u64,
    place: Option<Place>,
}

/// An open segment, before the record `SpoolReader::next`.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    scan: Scan,
    prev: Hash,
}

impl SpoolReader {
    pub(crate) fn new(shared: Arc<Shared>, from_seq: u64) -> Self {
        let progress = shared.progress.subscribe();
        Self { shared, progress, next: from_seq.max(callgate_seal::FIRST_SEQ), place: None }
    }

    /// Seq of the record that the next batch starts with.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Reads the next records: at most `max`, at most 1 MiB of bodies (but at least one record), none if there are no
    /// more on disk yet. Blocks for reads from the page cache or the disk.
    ///
    /// # Errors
    /// [`AuditError::NotHeld`] if the place was freed, or lies behind the end by more than one record: the collector
    /// and this spool are not of the same history. [`AuditError::Corrupt`] or [`AuditError::Io`] if the files cannot
    /// be read back. The reader stays where it was.
    pub fn next_batch(&mut self, max: usize) -> Result<Vec<SealedRecord>, AuditError> {
        let durable_seq = self.check_place()?;
        let mut batch = Vec::with_capacity(max.min((durable_seq + 1).saturating_sub(self.next) as usize).min(1024));
        let mut bytes = 0;
        let started_at = self.next;
        if let Some(place) = &mut self.place {
            // What was read ahead last time may have been half written then.
            place.scan.refresh();
        }
        while batch.len() < max && self.next <= durable_seq && bytes < BATCH_BYTES {
            match self.read_one(BATCH_BYTES - bytes, batch.is_empty()) {
                Ok(Some(record)) => {
                    bytes += record.body.len();
                    batch.push(record);
                }
                Ok(None) => break,
                Err(error) => {
                    self.next = started_at;
                    self.place = None;
                    return Err(error);
                }
            }
        }
        Ok(batch)
    }

    /// Waits until [`SpoolReader::next_batch`] has something to give: true; or the spool was closed or failed, and
    /// nothing will follow: false.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn wait(&mut self) -> bool {
        let next = self.next;
        match self.progress.wait_for(|progress| progress.durable_seq >= next || progress.over).await {
            Ok(progress) => progress.durable_seq >= next,
            Err(_) => false,
        }
    }

    /// Checks that the place is within what is held; gives the last record on disk.
    fn check_place(&self) -> Result<u64, AuditError> {
        let inside = self.shared.lock();
        let last = inside.writer.durable_seq;
        let first = inside.writer.segments.front().map_or(1, |segment| segment.first_seq);
        if self.next < first || self.next > last + 1 {
            return Err(AuditError::NotHeld { seq: self.next, first, last });
        }
        Ok(last)
    }

    /// Reads the record at the place, if its body is at most `room` bytes or `any` is.
    fn read_one(&mut self, room: usize, any: bool) -> Result<Option<SealedRecord>, AuditError> {
        loop {
            let place = match &mut self.place {
                Some(place) => place,
                None => self.place.insert(Self::find(&self.shared, self.next)?),
            };
            let read = AuditError::io("read", &place.path);
            let corrupt = |detail: &str| {
                let detail = format!("record {}: {detail}", self.next);
                AuditError::Corrupt { file: place.path.clone(), detail }
            };
            match place.scan.peek_len().map_err(read)? {
                Some(len) if len > room && !any => return Ok(None),
                _ => {}
            }
            match place.scan.step().map_err(AuditError::io("read", &place.path))? {
                Step::Entry { seq, hash, body } if seq == self.next => {
                    let record = SealedRecord {
                        stream: self.shared.stream.clone(),
                        seq,
                        prev: place.prev.to_vec(),
                        hash: hash.to_vec(),
                        body: body.to_vec(),
                    };
                    place.prev = hash;
                    self.next += 1;
                    return Ok(Some(record));
                }
                Step::Entry { .. } => return Err(corrupt("another stands in its place")),
                Step::Torn => return Err(corrupt("it cannot be read back")),
                Step::End => {
                    let after = Self::segment_of(&self.shared, self.next)?;
                    if after.path == place.path {
                        return Err(corrupt("it is missing"));
                    }
                    self.place = None;
                }
            }
        }
    }

    fn segment_of(shared: &Shared, seq: u64) -> Result<Segment, AuditError> {
        let inside = shared.lock();
        let segments = &inside.writer.segments;
        let index = segments.partition_point(|segment| segment.first_seq <= seq);
        let first = segments.front().map_or(1, |segment| segment.first_seq);
        let not_held = AuditError::NotHeld { seq, first, last: inside.writer.durable_seq };
        index.checked_sub(1).and_then(|index| segments.get(index)).cloned().ok_or(not_held)
    }

    /// Opens the segment of record `seq` and goes to it.
    fn find(shared: &Shared, seq: u64) -> Result<Place, AuditError> {
        let Segment { first_seq, path, .. } = Self::segment_of(shared, seq)?;
        let file = File::open(&path).map_err(|error| match error.kind() {
            // Freed since it was looked up.
            io::ErrorKind::NotFound => AuditError::NotHeld { seq, first: seq + 1, last: seq + 1 },
            _ => AuditError::io("open", &path)(error),
        })?;
        let corrupt = |detail: &str| AuditError::Corrupt { file: path.clone(), detail: detail.into() };
        let (header, mut scan) = Scan::open(file).map_err(AuditError::io("read", &path))?.map_err(corrupt)?;
        let mut prev = header.prev;
        for expected in first_seq..seq {
            match scan.step().map_err(AuditError::io("read", &path))? {
                Step::Entry { seq, hash, .. } if seq == expected => prev = hash,
                _ => return Err(corrupt(&format!("record {expected} cannot be read back"))),
            }
        }
        Ok(Place { path, scan, prev })
    }
}
