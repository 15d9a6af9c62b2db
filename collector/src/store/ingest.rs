//! Writes batches: checks each record against its chain, then stores it with what is derived from it.
//!
//! A batch is durable when all its day files and then the index are committed, each synced. A crash in between leaves
//! records in a day file that the index does not know: [`Writer::resume`] takes them up.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use callgate_model::{CallId, Record, StreamId};
use callgate_proto::decode_record;
use callgate_proto::v1::SealedRecord;
use callgate_seal::{Fault, FaultKind, Hash, Verifier};
use rusqlite::{Connection, OptionalExtension as _};

use super::day::Day;
use super::index::{self, Stream};
use super::row::{About, Row};
use super::{Head, schema};
use crate::StoreError;
use crate::error::At as _;
use crate::store::day_file::DayFile;

/// Most day files that one transaction writes; a batch that spans more is stored in several.
const DAYS_AT_ONCE: usize = 8;
/// Day files kept open between batches.
const DAYS_KEPT: usize = 2;
/// Calls whose begin is remembered for their chunks and end; beyond, all are forgotten and read back when needed.
const CALLS_KEPT: usize = 65_536;

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Ingested {
    /// Records stored now.
    pub stored: u64,
    /// Records that were stored before.
    pub duplicates: u64,
    /// Last record of the stream that is durable now; 0 if there is none.
    pub last_seq: u64,
}

/// The one writer of this process.
#[derive(Debug)]
pub(crate) struct Writer {
    dir: PathBuf,
    index: Connection,
    index_path: PathBuf,
    days: BTreeMap<Day, DayFile>,
    calls: HashMap<CallId, About>,
}

/// What one transaction has written of a day.
#[derive(Clone, Copy)]
struct Written {
    first: u64,
    last: u64,
}

impl Writer {
    /// Opens the index of `dir`, and makes it again from the day files if it is absent.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let (index, made) = schema::open_index(dir)?;
        let index_path = dir.join(schema::INDEX);
        let writer = Self { dir: dir.into(), index, index_path, days: BTreeMap::new(), calls: HashMap::new() };
        if made && !Day::list(dir)?.is_empty() {
            tracing::warn!(dir = %dir.display(), "the index was absent: it is made again from the day files");
            writer.in_index(|| index::rebuild(&writer.index, dir))?;
        }
        Ok(writer)
    }

    /// Stores a batch of one stream.
    pub(crate) fn ingest(&mut self, batch: &[SealedRecord]) -> Result<Ingested, StoreError> {
        let mut total = Ingested::default();
        let mut rest = batch;
        while let Some(first) = rest.first() {
            let (done, part) = self.transaction(&first.stream, rest)?;
            total.stored += part.stored;
            total.duplicates += part.duplicates;
            total.last_seq = part.last_seq;
            rest = rest.get(done..).unwrap_or_default();
        }
        Ok(total)
    }

    /// The last stored record of a stream, after taking up what a crash left.
    pub(crate) fn resume(&mut self, name: &StreamId) -> Result<Option<Head>, StoreError> {
        let StreamId(name) = name;
        self.in_index(|| {
            let known = index::stream(&self.index, &self.dir, name)?;
            let mut head = known.map(|stream| stream.head);
            // A crash can leave one batch, which lies in the newest days alone.
            let newest = Day::list(&self.dir)?.into_iter().rev().take(DAYS_AT_ONCE).collect::<Vec<_>>();
            for day in newest.into_iter().rev() {
                let path = day.file(&self.dir);
                let Some(connection) = schema::open_to_read(&path)? else { continue };
                let ahead = records_after(&connection, name, head.map_or(0, |head| head.seq)).at(&path)?;
                let Some((first, last)) = contiguous(head, &ahead) else { continue };
                tracing::warn!(stream = name, %day, last = last.seq, "took up records that a crash left unindexed");
                let add = || index::widen(&self.index, index::set_head(&self.index, name, last)?, day, first, last.seq);
                add().at(&self.index_path)?;
                head = Some(last);
            }
            Ok(head)
        })
    }

    /// One transaction over as many records of `batch` as touch few enough days; gives how many those were.
    fn transaction(&mut self, name: &str, batch: &[SealedRecord]) -> Result<(usize, Ingested), StoreError> {
        self.index.execute_batch("BEGIN IMMEDIATE").at(&self.index_path)?;
        let known = index::stream(&self.index, &self.dir, name)?;
        let mut verifier = match known {
            Some(Stream { head, .. }) => Verifier::resume(head.seq, head.hash),
            None => Verifier::from_start(name),
        };
        let stored_before = verifier.last_seq();
        let (mut done, mut duplicates) = (0, 0);
        let mut written: BTreeMap<Day, Written> = BTreeMap::new();
        for sealed in batch {
            if sealed.stream != name {
                return Err(StoreError::Stream(sealed.stream.clone()));
            }
            if sealed.seq <= stored_before {
                self.check_duplicate(known, sealed)?;
                duplicates += 1;
                done += 1;
                continue;
            }
            let (record, hash) = open(&verifier, sealed)?;
            let (day, least_id) = Day::place(record.time_us);
            if !written.contains_key(&day) && written.len() == DAYS_AT_ONCE {
                break;
            }
            verifier = Verifier::resume(sealed.seq, hash);
            self.store(day, least_id, sealed, &record)?;
            written
                .entry(day)
                .and_modify(|of_day| of_day.last = sealed.seq)
                .or_insert(Written { first: sealed.seq, last: sealed.seq });
            done += 1;
        }
        self.commit(name, &verifier, &written)?;
        let stored = verifier.last_seq() - stored_before;
        Ok((done, Ingested { stored, duplicates, last_seq: verifier.last_seq() }))
    }

    fn store(&mut self, day: Day, least_id: i64, sealed: &SealedRecord, record: &Record) -> Result<(), StoreError> {
        let mut row = Row::of(record);
        if let (true, Some(call)) = (row.inherits(), row.call) {
            row.about = match self.calls.get(&call) {
                Some(about) => about.clone(),
                None => self.begin_of(day, call)?,
            };
        }
        let file = self.day(day)?;
        file.begin()?;
        file.insert(least_id, sealed, record, &row)?;
        if let Some(call) = row.call {
            match row.kind {
                super::Kind::Begin => {
                    if self.calls.len() >= CALLS_KEPT {
                        self.calls.clear();
                    }
                    self.calls.insert(call, row.about);
                }
                super::Kind::End => drop(self.calls.remove(&call)),
                _ => {}
            }
        }
        Ok(())
    }

    /// What the begin of a call says; nothing where it cannot be found.
    fn begin_of(&mut self, day: Day, call: CallId) -> Result<About, StoreError> {
        if self.calls.len() >= CALLS_KEPT {
            self.calls.clear();
        }
        if let Some(about) = self.day(day)?.begin_of(call)? {
            return Ok(about);
        }
        let first = Day::not_before(call.0);
        for earlier in Day::list(&self.dir)?.into_iter().rev().filter(|d| *d != day).take_while(|d| Some(*d) >= first) {
            // Opened for this look only: a call over midnight is rare.
            let path = earlier.file(&self.dir);
            let about = match self.days.get(&earlier) {
                Some(file) => file.begin_of(call)?,
                None => DayFile::open(&path)?.begin_of(call)?,
            };
            if let Some(about) = about {
                self.calls.insert(call, about.clone());
                return Ok(about);
            }
        }
        // Remembered, too: a call whose begin is nowhere may have many chunks.
        self.calls.insert(call, About::default());
        Ok(About::default())
    }

    fn day(&mut self, day: Day) -> Result<&mut DayFile, StoreError> {
        match self.days.entry(day) {
            std::collections::btree_map::Entry::Occupied(open) => Ok(open.into_mut()),
            std::collections::btree_map::Entry::Vacant(slot) => Ok(slot.insert(DayFile::open(&day.file(&self.dir))?)),
        }
    }

    /// Commits the days, oldest first, and then the index: it never names a record that is not durable.
    fn commit(&mut self, name: &str, verifier: &Verifier, written: &BTreeMap<Day, Written>) -> Result<(), StoreError> {
        for day in written.keys() {
            if let Some(file) = self.days.get_mut(day) {
                file.commit()?;
            }
        }
        let note = || {
            if !written.is_empty() {
                let head = Head { seq: verifier.last_seq(), hash: verifier.head() };
                let stream = index::set_head(&self.index, name, head)?;
                for (day, part) in written {
                    index::widen(&self.index, stream, *day, part.first, part.last)?;
                }
            }
            self.index.execute_batch("COMMIT")
        };
        note().at(&self.index_path)?;
        while self.days.len() > DAYS_KEPT {
            self.days.pop_first();
        }
        Ok(())
    }

    fn check_duplicate(&self, known: Option<Stream>, sealed: &SealedRecord) -> Result<(), StoreError> {
        let conflict = || StoreError::Conflict { stream: sealed.stream.clone(), seq: sealed.seq };
        let stream = known.ok_or_else(conflict)?;
        let mut dropped = sealed.seq < stream.kept_from;
        for span in index::spans(&self.index, &self.dir, stream.id)? {
            if !(span.first_seq..=span.last_seq).contains(&sealed.seq) {
                continue;
            }
            let path = span.day.file(&self.dir);
            let found = match self.days.get(&span.day) {
                Some(file) => file.hash_of(&sealed.stream, sealed.seq)?,
                None if path.exists() => DayFile::open(&path)?.hash_of(&sealed.stream, sealed.seq)?,
                None => {
                    dropped = true;
                    continue;
                }
            };
            if let Some(hash) = found {
                return if hash.as_bytes()[..] == sealed.hash[..] { Ok(()) } else { Err(conflict()) };
            }
        }
        // A day that was dropped cannot be compared with; the index vouches that the record was stored.
        if dropped { Ok(()) } else { Err(conflict()) }
    }

    fn in_index<T>(&self, act: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.index.execute_batch("BEGIN IMMEDIATE").at(&self.index_path)?;
        let result = act()?;
        self.index.execute_batch("COMMIT").at(&self.index_path)?;
        Ok(result)
    }
}

/// Checks the next record of a chain and reads its body.
fn open(verifier: &Verifier, sealed: &SealedRecord) -> Result<(Record, Hash), StoreError> {
    let seal = |source| StoreError::Seal { stream: sealed.stream.clone(), source };
    if i64::try_from(sealed.seq).is_err() {
        return Err(StoreError::Overflow(sealed.stream.clone()));
    }
    let hash = verifier.clone().check(sealed.seq, &sealed.prev, &sealed.hash, &sealed.body).map_err(seal)?;
    let record = decode_record(&sealed.body).map_err(|source| StoreError::Body {
        stream: sealed.stream.clone(),
        seq: sealed.seq,
        source,
    })?;
    Ok((record, hash))
}

/// A stored record that the index does not name: seq, prev and hash.
type Ahead = (u64, [u8; 32], [u8; 32]);

/// Records of a stream after `seq`, in the order of the chain.
fn records_after(connection: &Connection, name: &str, seq: u64) -> rusqlite::Result<Vec<Ahead>> {
    let id =
        connection.query_row("SELECT id FROM names WHERE text = ?", [name], |row| row.get::<_, i64>(0)).optional()?;
    let Some(id) = id else { return Ok(Vec::new()) };
    let sql = "SELECT seq, prev, hash FROM records WHERE stream = ? AND seq > ? ORDER BY seq";
    let mut find = connection.prepare(sql)?;
    let rows = find.query_map((id, seq.cast_signed()), |row| {
        Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?, row.get(2)?))
    })?;
    rows.collect()
}

/// First and last of the records that follow `head` without a gap.
fn contiguous(head: Option<Head>, ahead: &[Ahead]) -> Option<(u64, Head)> {
    let mut last: Option<Head> = head;
    let mut first = None;
    for (seq, prev, hash) in ahead {
        let follows = match last {
            Some(head) => *seq == head.seq + 1 && *prev == head.hash.0,
            None => *seq == callgate_seal::FIRST_SEQ,
        };
        if !follows {
            break;
        }
        first.get_or_insert(*seq);
        last = Some(Head { seq: *seq, hash: Hash(*hash) });
    }
    first.zip(last)
}

impl StoreError {
    /// Whether records are missing before the one that came.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        matches!(self, Self::Seal { source: Fault { kind: FaultKind::Gap, .. }, .. })
    }
}
