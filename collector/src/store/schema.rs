//! The tables of the store, and how its files are opened.
//!
//! `YYYY-MM-DD.db` holds the records of a day and what is derived from them; `index.db` says for every stream how far it
//! is stored and in which days. The sealed bodies are the truth: every other column can be made again from them.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::StoreError;
use crate::error::At as _;

/// Number in `user_version`. A reader refuses another one.
const SCHEMA: i64 = 1;

/// How long one process waits for another's transaction. A batch is written in well under a second.
const BUSY: Duration = Duration::from_secs(30);

/// File of heads and spans.
pub(crate) const INDEX: &str = "index.db";

const INDEX_TABLES: &str = "
    CREATE TABLE streams(
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        seq INTEGER NOT NULL,
        hash BLOB NOT NULL,
        -- First record that must be there: above 1 once older days were dropped on purpose.
        kept_from INTEGER NOT NULL DEFAULT 1
    ) STRICT;
    -- Which days hold which part of a stream. Spans of two days overlap where a clock was set back.
    CREATE TABLE spans(
        stream INTEGER NOT NULL,
        day TEXT NOT NULL,
        first_seq INTEGER NOT NULL,
        last_seq INTEGER NOT NULL,
        PRIMARY KEY(stream, day)
    ) STRICT, WITHOUT ROWID;
";

const DAY_TABLES: &str = "
    -- Texts that repeat: streams, workloads.
    CREATE TABLE names(id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;
    -- Functions as they print.
    CREATE TABLE functions(id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;
    -- id: microsecond of the day << 20, plus a number that tells records of one microsecond apart.
    -- session, workload, function and verdict of a chunk or an end are those of its begin.
    CREATE TABLE records(
        id INTEGER PRIMARY KEY,
        stream INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        kind TEXT NOT NULL,
        call BLOB,
        session BLOB,
        workload INTEGER,
        function INTEGER,
        verdict TEXT,
        reason TEXT,
        prev BLOB NOT NULL,
        hash BLOB NOT NULL,
        body BLOB NOT NULL,
        UNIQUE(stream, seq)
    ) STRICT;
    CREATE INDEX records_by_call ON records(call) WHERE call IS NOT NULL;
    CREATE INDEX records_by_session ON records(session) WHERE session IS NOT NULL;
    CREATE INDEX records_by_workload ON records(workload) WHERE kind NOT IN ('chunk', 'end');
    CREATE INDEX records_by_function ON records(function) WHERE kind NOT IN ('chunk', 'end');
    CREATE INDEX records_denied ON records(verdict) WHERE verdict = 'deny';
    CREATE INDEX records_failed ON records(reason) WHERE reason <> 'permitted';
    -- Text of each record, under the record's id. The text itself is not kept: it is in the body.
    CREATE VIRTUAL TABLE words USING fts5(text, content='', columnsize=0);
    -- What a day knows of each session; a list adds up the days.
    CREATE TABLE sessions(
        session BLOB PRIMARY KEY,
        workload TEXT NOT NULL,
        stream TEXT NOT NULL,
        first_us INTEGER NOT NULL,
        last_us INTEGER NOT NULL,
        calls INTEGER NOT NULL,
        denied INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        masked INTEGER NOT NULL,
        connections INTEGER NOT NULL,
        executable TEXT NOT NULL,
        executable_sha256 TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX sessions_by_time ON sessions(last_us);
";

/// Makes the directory if it is absent, for its owner alone.
pub(crate) fn create_dir(dir: &Path) -> Result<(), StoreError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).at(dir)
}

/// Opens `index.db` for writing, and makes it if it is absent; true when it was.
pub(crate) fn open_index(dir: &Path) -> Result<(Connection, bool), StoreError> {
    // Two processes that make the file at once would trip over the change to WAL, which does not wait.
    let lock = File::open(dir).at(dir)?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).map_err(std::io::Error::from).at(dir)?;
    open_writable(&dir.join(INDEX), INDEX_TABLES)
}

/// Opens a day for writing, and makes it if it is absent. The caller holds the write lock of `index.db`.
pub(crate) fn open_day(path: &Path) -> Result<Connection, StoreError> {
    open_writable(path, DAY_TABLES).map(|(connection, _)| connection)
}

/// Opens a file for reading; none if it is absent or still being made.
pub(crate) fn open_to_read(path: &Path) -> Result<Option<Connection>, StoreError> {
    if !path.try_exists().at(path)? {
        return Ok(None);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).at(path)?;
    connection.busy_timeout(BUSY).at(path)?;
    // A writer that was killed may have left a journal that only a writer can roll back.
    let found = version(&connection, path).or_else(|_| {
        let writable = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let recovering = Connection::open_with_flags(path, writable).at(path)?;
        recovering.busy_timeout(BUSY).at(path)?;
        version(&recovering, path)
    })?;
    match found {
        0 => Ok(None),
        SCHEMA => Ok(Some(connection)),
        found => Err(StoreError::Schema { path: path.into(), found, expected: SCHEMA }),
    }
}

fn open_writable(path: &Path, tables: &str) -> Result<(Connection, bool), StoreError> {
    // SQLite would make it readable for all; its -wal and -shm take the mode of the file.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).at(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).at(path)?;
    connection.busy_timeout(BUSY).at(path)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "journal_mode", "wal").at(path)?;
    // FULL: the WAL is synced at each commit, so a committed batch survives power loss and may be acknowledged.
    connection.pragma_update(None, "synchronous", "full").at(path)?;
    // Unit: KiB, negative by SQLite's convention.
    connection.pragma_update(None, "cache_size", -32_768).at(path)?;
    // Unit: pages of 4 KiB. The default of 1,000 would copy the same hot pages back many times a second.
    connection.pragma_update(None, "wal_autocheckpoint", 8_000).at(path)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20).at(path)?;
    let made = match version(&connection, path)? {
        0 => {
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).at(path)?;
            transaction.execute_batch(tables).at(path)?;
            transaction.pragma_update(None, "user_version", SCHEMA).at(path)?;
            transaction.commit().at(path)?;
            // The name of a new file must be as durable as the records that will be acknowledged.
            if let Some(dir) = path.parent() {
                File::open(dir).and_then(|dir| dir.sync_all()).at(dir)?;
            }
            true
        }
        SCHEMA => false,
        found => return Err(StoreError::Schema { path: path.into(), found, expected: SCHEMA }),
    };
    Ok((connection, made))
}

fn version(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).at(path)
}
