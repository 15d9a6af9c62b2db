//! One day's file, open for writing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use callgate_model::{CallId, Outcome, Process, Record, RecordKind, SessionId, Verdict};
use callgate_proto::v1::SealedRecord;
use callgate_seal::Hash;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::day::ID_SHIFT;
use super::row::{About, Row, verdict_of, verdict_word};
use super::{schema, text};
use crate::StoreError;
use crate::error::At as _;

/// Texts whose row is remembered; beyond, all are forgotten and looked up again.
const TEXTS_KEPT: usize = 16_384;

/// Most findings that one transaction adds to a session: its sum never overflows, whatever a record claims.
const MASKED_MAX: u64 = 1 << 40;

/// One day's file and the transaction that is open on it.
#[derive(Debug)]
pub(crate) struct DayFile {
    path: PathBuf,
    connection: Connection,
    names: HashMap<String, i64>,
    functions: HashMap<String, i64>,
    open: bool,
    /// Texts to be indexed at the commit, in the order of their ids: FTS5 writes a segment whenever ids go back.
    texts: Vec<(i64, String)>,
    sessions: HashMap<SessionId, Delta>,
}

/// What a transaction adds to a session.
#[derive(Debug)]
struct Delta {
    workload: String,
    stream: String,
    first_us: u64,
    last_us: u64,
    calls: u64,
    denied: u64,
    failed: u64,
    masked: u64,
    connections: u64,
    executable: (String, String),
}

impl DayFile {
    /// Opens the file, and makes it if it is absent.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            path: path.into(),
            connection: schema::open_day(path)?,
            names: HashMap::new(),
            functions: HashMap::new(),
            open: false,
            texts: Vec::new(),
            sessions: HashMap::new(),
        })
    }

    /// Begins a transaction unless one is open.
    pub(crate) fn begin(&mut self) -> Result<(), StoreError> {
        if !self.open {
            self.connection.execute_batch("BEGIN IMMEDIATE").at(&self.path)?;
            self.open = true;
        }
        Ok(())
    }

    /// Adds a record, under the first free id of its microsecond.
    pub(crate) fn insert(
        &mut self,
        least_id: i64,
        sealed: &SealedRecord,
        record: &Record,
        row: &Row,
    ) -> Result<(), StoreError> {
        self.try_insert(least_id, sealed, record, row).map_err(|error| match error {
            // Ids are taken from what is free, so the stream's own place is the one that was taken.
            rusqlite::Error::SqliteFailure(code, _) if code.code == rusqlite::ErrorCode::ConstraintViolation => {
                StoreError::Conflict { stream: sealed.stream.clone(), seq: sealed.seq }
            }
            source => StoreError::Sqlite { path: self.path.clone(), source },
        })
    }

    /// Commits what was begun, durably.
    pub(crate) fn commit(&mut self) -> Result<(), StoreError> {
        self.write_texts().at(&self.path)?;
        self.write_sessions().at(&self.path)?;
        if self.open {
            self.connection.execute_batch("COMMIT").at(&self.path)?;
            self.open = false;
        }
        Ok(())
    }

    /// What the begin of a call says, if it lies in this day.
    pub(crate) fn begin_of(&self, call: CallId) -> Result<Option<About>, StoreError> {
        let read = || {
            let sql = "SELECT r.session, n.text, f.text, r.verdict FROM records r
                       LEFT JOIN names n ON n.id = r.workload LEFT JOIN functions f ON f.id = r.function
                       WHERE r.call = ? AND r.kind = 'begin'";
            let mut find = self.connection.prepare_cached(sql)?;
            find.query_row([call.0.as_bytes()], |row| {
                let session: Option<[u8; 16]> = row.get(0)?;
                let verdict: Option<String> = row.get(3)?;
                Ok(About {
                    session: session.map(|bytes| SessionId(uuid::Uuid::from_bytes(bytes))),
                    workload: row.get(1)?,
                    function: row.get(2)?,
                    verdict: verdict.as_deref().and_then(verdict_of),
                })
            })
            .optional()
        };
        read().at(&self.path)
    }

    /// Seal of a stored record, if it lies in this day.
    pub(crate) fn hash_of(&self, stream: &str, seq: u64) -> Result<Option<Hash>, StoreError> {
        let read = || {
            let sql = "SELECT hash FROM records WHERE stream = (SELECT id FROM names WHERE text = ?) AND seq = ?";
            let mut find = self.connection.prepare_cached(sql)?;
            find.query_row((stream, seq.cast_signed()), |row| row.get::<_, [u8; 32]>(0)).optional()
        };
        Ok(read().at(&self.path)?.map(Hash))
    }

    fn try_insert(&mut self, least_id: i64, sealed: &SealedRecord, record: &Record, row: &Row) -> rusqlite::Result<()> {
        let about = &row.about;
        let stream = text_id(&self.connection, "names", &mut self.names, &sealed.stream)?;
        let mut named = |name: &Option<String>| match name {
            Some(name) => text_id(&self.connection, "names", &mut self.names, name).map(Some),
            None => Ok(None),
        };
        let workload = named(&about.workload)?;
        let function = match &about.function {
            Some(function) => Some(text_id(&self.connection, "functions", &mut self.functions, function)?),
            None => None,
        };
        let next_id = "SELECT max(id) + 1 FROM records WHERE id >= ?1 AND id < ?1 + (1 << ?2)";
        let id = self.connection.prepare_cached(next_id)?.query_row((least_id, ID_SHIFT), |row| row.get(0))?;
        let id: i64 = Option::unwrap_or(id, least_id);
        let sql = "INSERT INTO records(id, stream, seq, kind, call, session, workload, function, verdict, reason, prev,
                                       hash, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        self.connection.prepare_cached(sql)?.execute(params![
            id,
            stream,
            sealed.seq.cast_signed(),
            row.kind.as_str(),
            row.call.map(|call| call.0.into_bytes()),
            about.session.map(|session| session.0.into_bytes()),
            workload,
            function,
            about.verdict.map(verdict_word),
            row.reason.map(callgate_model::Reason::as_str),
            sealed.prev,
            sealed.hash,
            sealed.body,
        ])?;
        let text = text::searchable(record);
        if !text.is_empty() {
            self.texts.push((id, text));
        }
        self.add_to_session(sealed, record, row);
        Ok(())
    }

    fn write_texts(&mut self) -> rusqlite::Result<()> {
        self.texts.sort_unstable_by_key(|(id, _)| *id);
        let mut add = self.connection.prepare_cached("INSERT INTO words(rowid, text) VALUES (?, ?)")?;
        self.texts.drain(..).try_for_each(|(id, text)| add.execute((id, text)).map(|_| ()))
    }

    fn add_to_session(&mut self, sealed: &SealedRecord, record: &Record, row: &Row) {
        let Some(session) = row.about.session else { return };
        let delta = self.sessions.entry(session).or_insert_with(|| Delta {
            workload: row.about.workload.clone().unwrap_or_default(),
            stream: sealed.stream.clone(),
            first_us: record.time_us,
            last_us: record.time_us,
            calls: 0,
            denied: 0,
            failed: 0,
            masked: 0,
            connections: 0,
            executable: Default::default(),
        });
        delta.first_us = delta.first_us.min(record.time_us);
        delta.last_us = delta.last_us.max(record.time_us);
        match &record.kind {
            RecordKind::Begin(begin) => {
                delta.calls += 1;
                delta.denied += u64::from(begin.decision.verdict == Verdict::Deny);
                delta.ran(&begin.process);
            }
            RecordKind::End(end) => {
                delta.failed += u64::from(!matches!(end.outcome, Outcome::Complete | Outcome::Refused));
                delta.masked = delta.masked.saturating_add(end.masked).min(MASKED_MAX);
            }
            RecordKind::Connection(connection) => {
                delta.connections += 1;
                delta.ran(&connection.process);
            }
            _ => {}
        }
    }

    fn write_sessions(&mut self) -> rusqlite::Result<()> {
        let sql = "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(session) DO UPDATE SET
                       first_us = min(first_us, excluded.first_us), last_us = max(last_us, excluded.last_us),
                       calls = calls + excluded.calls, denied = denied + excluded.denied,
                       failed = failed + excluded.failed, masked = masked + excluded.masked,
                       connections = connections + excluded.connections,
                       executable_sha256 = iif(executable = '', excluded.executable_sha256, executable_sha256),
                       executable = iif(executable = '', excluded.executable, executable)";
        let mut add = self.connection.prepare_cached(sql)?;
        for (session, delta) in self.sessions.drain() {
            add.execute(params![
                session.0.as_bytes(),
                delta.workload,
                delta.stream,
                time(delta.first_us),
                time(delta.last_us),
                delta.calls.cast_signed(),
                delta.denied.cast_signed(),
                delta.failed.cast_signed(),
                delta.masked.cast_signed(),
                delta.connections.cast_signed(),
                delta.executable.0,
                delta.executable.1,
            ])?;
        }
        Ok(())
    }
}

impl Delta {
    fn ran(&mut self, process: &Process) {
        if let (true, Some(executable)) = (self.executable.0.is_empty(), &process.executable) {
            self.executable = (executable.path.clone(), executable.sha256.clone());
        }
    }
}

/// A time as a column; one beyond the year 290,000 is the latest.
fn time(time_us: u64) -> i64 {
    i64::try_from(time_us).unwrap_or(i64::MAX)
}

/// The row of a text in `names` or `functions`, made if it is new.
fn text_id(
    connection: &Connection,
    table: &'static str,
    known: &mut HashMap<String, i64>,
    text: &str,
) -> rusqlite::Result<i64> {
    if let Some(id) = known.get(text) {
        return Ok(*id);
    }
    let mut find = connection.prepare_cached(&format!("SELECT id FROM {table} WHERE text = ?"))?;
    let id = match find.query_row([text], |row| row.get(0)).optional()? {
        Some(id) => id,
        None => {
            connection.prepare_cached(&format!("INSERT INTO {table}(text) VALUES (?)"))?.execute([text])?;
            connection.last_insert_rowid()
        }
    };
    if known.len() >= TEXTS_KEPT {
        known.clear();
    }
    known.insert(text.to_owned(), id);
    Ok(id)
}
