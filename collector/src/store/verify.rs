//! Checks what is stored: every chain from its first record to its head, over all day files.

use std::collections::{BTreeMap, VecDeque};

use callgate_model::StreamId;
use callgate_proto::decode_record;
use callgate_proto::v1::SealedRecord;
use callgate_seal::{FIRST_SEQ, Fault, FaultKind, Hash, Verifier};
use rusqlite::Connection;

use super::day::Day;
use super::row::{Row, verdict_word};
use super::search::{COLUMNS, found};
use super::{Head, Store, index};
use crate::StoreError;
use crate::error::At as _;

/// Records read at once from one day.
const STEP: usize = 256;

/// What a check found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// One report a chain, by name.
    pub streams: Vec<StreamReport>,
}

/// What the check of one chain found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamReport {
    /// Chain.
    pub stream: StreamId,
    /// Records checked and found good.
    pub records: u64,
    /// Seq of the first record that is kept; above 1 after retention.
    pub first_seq: u64,
    /// Last good record; its seq is 0 if there is none.
    pub last: Head,
    /// What is wrong first; none: the chain is whole.
    pub fault: Option<StreamFault>,
}

/// The first fault of a chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamFault {
    /// What is wrong.
    pub kind: FaultKind,
    /// Record where it shows.
    pub seq: u64,
    /// One sentence, with the file.
    pub detail: String,
}

impl Report {
    /// Whether every chain is whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.streams.iter().all(|stream| stream.fault.is_none())
    }
}

impl Store {
    /// Checks one chain, or all. Blocking: about a second for 200,000 records.
    ///
    /// `head` is one that is known from elsewhere (an agent's, a checkpoint); it finds a tail that was cut off.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read; a fault of a chain is no error.
    pub fn verify(&self, only: Option<&StreamId>, head: Option<Head>) -> Result<Report, StoreError> {
        // Heads first: what is stored while we read makes the days longer than the heads say, never shorter.
        let mut expected: BTreeMap<StreamId, (Option<Head>, u64)> = BTreeMap::new();
        if let Some(connection) = self.index()? {
            for (name, _) in index::heads(&connection, self.dir())? {
                if let Some(stream) = index::stream(&connection, self.dir(), &name.0)? {
                    expected.insert(name, (Some(stream.head), stream.kept_from));
                }
            }
        }
        for name in self.streams_of_days()? {
            expected.entry(name).or_insert((None, FIRST_SEQ));
        }
        if let Some(only) = only {
            expected.retain(|name, _| name == only);
            if expected.is_empty() && head.is_some() {
                expected.insert(only.clone(), (None, FIRST_SEQ));
            }
        }
        let mut report = Report::default();
        for (name, (stored, kept_from)) in expected {
            let heads = [stored, head].into_iter().flatten().collect();
            report.streams.push(self.verify_stream(name, kept_from, heads)?);
        }
        Ok(report)
    }

    fn verify_stream(&self, name: StreamId, kept_from: u64, heads: Vec<Head>) -> Result<StreamReport, StoreError> {
        let mut chain = Chain::open(self, &name)?;
        let mut report = StreamReport {
            stream: name.clone(),
            records: 0,
            first_seq: 0,
            last: Head { seq: 0, hash: callgate_seal::genesis(&name.0) },
            fault: None,
        };
        let mut verifier = Verifier::from_start(&name.0);
        while let Some((day, record, columns)) = chain.next(self)? {
            if report.records == 0 {
                report.first_seq = record.seq;
                if let (true, Ok(prev)) = (kept_from > FIRST_SEQ, Hash::try_from(&record.prev[..])) {
                    // What the first kept record is sealed to was dropped by retention, so it is taken on trust.
                    verifier = Verifier::resume(kept_from - 1, prev);
                }
            }
            let checked = verifier.check(record.seq, &record.prev, &record.hash, &record.body);
            let fault = match checked {
                Err(fault) => Some((fault, String::new())),
                Ok(hash) => heads
                    .iter()
                    .find(|head| head.seq == record.seq && head.hash != hash)
                    .map(|_| (changed(record.seq), "it is not the one that the head names".into()))
                    .or_else(|| misplaced(day, &record, &columns).map(|why| (changed(record.seq), why))),
            };
            if let Some((fault, why)) = fault {
                report.fault = Some(StreamFault::at(fault, &why, &day.to_string()));
                return Ok(report);
            }
            report.records += 1;
            report.last = Head { seq: verifier.last_seq(), hash: verifier.head() };
        }
        let cut = heads.iter().find_map(|head| verifier.check_head(head.seq, &head.hash).err());
        report.fault = cut.map(|fault| StreamFault::at(fault, "", "all days"));
        Ok(report)
    }

    fn streams_of_days(&self) -> Result<Vec<StreamId>, StoreError> {
        let mut names = Vec::new();
        for day in self.days()? {
            let Some(connection) = self.day(day)? else { continue };
            let read = || {
                let sql = "SELECT text FROM names n WHERE EXISTS (SELECT 1 FROM records WHERE stream = n.id)";
                let mut all = connection.prepare(sql)?;
                all.query_map([], |row| row.get(0).map(StreamId))?.collect::<Result<Vec<_>, _>>()
            };
            names.extend(read().at(&day.file(self.dir()))?);
        }
        Ok(names)
    }
}

impl StreamFault {
    fn at(fault: Fault, why: &str, place: &str) -> Self {
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        Self { kind: fault.kind, seq: fault.seq, detail: format!("{fault}{why} ({place})") }
    }
}

fn changed(seq: u64) -> Fault {
    Fault { kind: FaultKind::Changed, seq, expected: seq }
}

/// The derived columns of a stored record.
struct Columns {
    id: i64,
    kind: String,
    call: Option<Vec<u8>>,
    session: Option<Vec<u8>>,
    verdict: Option<String>,
    reason: Option<String>,
    workload: Option<String>,
    function: Option<String>,
}

/// Whether a record stands where its sealed body says: else a search would not show it, or show it as another.
fn misplaced(day: Day, sealed: &SealedRecord, columns: &Columns) -> Option<String> {
    let record = match decode_record(&sealed.body) {
        Ok(record) => record,
        Err(error) => return Some(error.to_string()),
    };
    let (right_day, least_id) = Day::place(record.time_us);
    let row = Row::of(&record);
    let about = &row.about;
    let own = !row.inherits();
    let wrong = [
        ("day", day != right_day),
        ("time", columns.id >> super::day::ID_SHIFT != least_id >> super::day::ID_SHIFT),
        ("kind", columns.kind != row.kind.as_str()),
        ("call", columns.call != row.call.map(|id| id.0.into_bytes().to_vec())),
        ("reason", columns.reason.as_deref() != row.reason.map(callgate_model::Reason::as_str)),
        ("session", own && columns.session != about.session.map(|id| id.0.into_bytes().to_vec())),
        ("verdict", own && columns.verdict.as_deref() != about.verdict.map(verdict_word)),
        ("workload", own && columns.workload != about.workload),
        ("function", own && columns.function != about.function),
    ];
    wrong.iter().find(|(_, wrong)| *wrong).map(|(column, _)| format!("its column `{column}` is not what its body says"))
}

/// The records of one stream in the order of the chain, merged from the days.
struct Chain {
    days: Vec<Source>,
}

struct Source {
    day: Day,
    connection: Connection,
    stream: i64,
    next: i64,
    read: VecDeque<(SealedRecord, Columns)>,
}

impl Chain {
    fn open(store: &Store, name: &StreamId) -> Result<Self, StoreError> {
        let mut days = Vec::new();
        for day in store.days()? {
            let Some(connection) = store.day(day)? else { continue };
            let sql = "SELECT n.id, min(r.seq) FROM names n JOIN records r ON r.stream = n.id WHERE n.text = ?";
            let found = connection.query_row(sql, [&name.0], |row| Ok((row.get(0)?, row.get(1)?)));
            if let (Some(stream), Some(next)) = found.at(&day.file(store.dir()))? {
                days.push(Source { day, connection, stream, next, read: VecDeque::new() });
            }
        }
        Ok(Self { days })
    }

    fn next(&mut self, store: &Store) -> Result<Option<(Day, SealedRecord, Columns)>, StoreError> {
        loop {
            let Some(source) = self.days.iter_mut().min_by_key(|source| source.next) else { return Ok(None) };
            if source.read.is_empty() {
                source.fill().at(&source.day.file(store.dir()))?;
            }
            let day = source.day;
            match source.read.front().map(|(record, _)| record.seq.cast_signed()) {
                None => self.days.retain(|source| source.day != day),
                // Places in between may lie in another day.
                Some(seq) if seq > source.next => source.next = seq,
                Some(seq) => {
                    source.next = seq.saturating_add(1);
                    return Ok(source.read.pop_front().map(|(record, columns)| (day, record, columns)));
                }
            }
        }
    }
}

impl Source {
    fn fill(&mut self) -> rusqlite::Result<()> {
        let sql = format!(
            "SELECT {COLUMNS}, r.kind, r.call, r.session, r.verdict, r.reason, w.text, f.text
             FROM records r JOIN names n ON n.id = r.stream
             LEFT JOIN names w ON w.id = r.workload LEFT JOIN functions f ON f.id = r.function
             WHERE r.stream = ? AND r.seq >= ? ORDER BY r.seq LIMIT {STEP}"
        );
        let mut find = self.connection.prepare_cached(&sql)?;
        let mut rows = find.query((self.stream, self.next))?;
        while let Some(row) = rows.next()? {
            let found = found(row)?;
            let columns = Columns {
                id: found.id,
                kind: row.get(6)?,
                call: row.get(7)?,
                session: row.get(8)?,
                verdict: row.get(9)?,
                reason: row.get(10)?,
                workload: row.get(11)?,
                function: row.get(12)?,
            };
            self.read.push_back((found.record, columns));
        }
        Ok(())
    }
}
