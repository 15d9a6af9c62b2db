//! Lists sessions: adds up what each day knows of them.

use callgate_model::SessionId;
use rusqlite::{Connection, Row};
use uuid::Uuid;

use super::day::Day;
use super::search::PAGE_MAX;
use super::{Search, Store};
use crate::StoreError;
use crate::error::At as _;

/// One session in a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionSummary {
    /// The session.
    pub session: SessionId,
    /// Workload's entity id.
    pub workload: String,
    /// Chain that its first record is in.
    pub stream: String,
    /// Time of its first record. Unit: microseconds since the Unix epoch.
    pub first_us: u64,
    /// Time of its last record. Unit: microseconds since the Unix epoch.
    pub last_us: u64,
    /// Calls.
    pub calls: u64,
    /// Calls that policy denied.
    pub denied: u64,
    /// Calls that were cut or interrupted.
    pub failed: u64,
    /// Findings replaced in responses.
    pub masked: u64,
    /// Connections that ended.
    pub connections: u64,
    /// Executable of its first call, as a path; empty if unknown.
    pub executable: String,
    /// SHA-256 of that executable, 64 hex digits; empty if unknown.
    pub executable_sha256: String,
}

/// Which sessions.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SessionSearch {
    /// Workload's entity id, or what follows its first `/`.
    pub workload: Option<String>,
    /// Sessions with a record not before this. Unit: microseconds since the Unix epoch.
    pub from_us: Option<u64>,
    /// Sessions with a record before this. Unit: microseconds since the Unix epoch.
    pub until_us: Option<u64>,
    /// Most sessions in the page; at most [`PAGE_MAX`].
    pub limit: usize,
    /// Where the page before ended; empty: from the start.
    pub cursor: String,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SessionsPage {
    /// Sessions, the one with the latest record first.
    pub sessions: Vec<SessionSummary>,
    /// Where the next page starts; empty: there is none.
    pub cursor: String,
}

impl Store {
    /// Lists sessions, the one with the latest record first: one page. Blocking.
    ///
    /// # Errors
    /// [`StoreError::Cursor`], or the store cannot be read.
    pub fn sessions(&self, search: &SessionSearch) -> Result<SessionsPage, StoreError> {
        let limit = search.limit.clamp(1, PAGE_MAX);
        let after = parse_cursor(&search.cursor)?;
        let mut days = Vec::new();
        for day in self.days()?.into_iter().rev() {
            if let Some(connection) = self.day(day)? {
                days.push((day, connection));
            }
        }
        let mut sessions: Vec<SessionSummary> = Vec::new();
        for (number, (day, connection)) in days.iter().enumerate() {
            let (newer, older) = (days.get(..number).unwrap_or_default(), days.get(number + 1..).unwrap_or_default());
            let walk = walk_day(connection, search, after, |mut session| {
                // A session is listed once, in the day of its last record.
                if any_has(newer, session.session)? {
                    return Ok(true);
                }
                session.add_days(older)?;
                if search.until_us.is_none_or(|until| session.first_us < until) {
                    sessions.push(session);
                }
                Ok(sessions.len() <= limit)
            });
            walk.at(&day.file(self.dir()))?;
            if sessions.len() > limit {
                break;
            }
        }
        let more = sessions.len() > limit;
        sessions.truncate(limit);
        let cursor = match sessions.last() {
            Some(last) if more => format!("{}.{}", last.last_us, last.session),
            _ => String::new(),
        };
        Ok(SessionsPage { sessions, cursor })
    }

    /// One session; none if nothing of it is stored. Blocking. Its records: [`Store::session_records`].
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn session(&self, session: SessionId) -> Result<Option<SessionSummary>, StoreError> {
        let mut whole: Option<SessionSummary> = None;
        for day in self.days()?.into_iter().rev() {
            if Day::not_before(session.0).is_some_and(|first| day < first) {
                break;
            }
            let Some(connection) = self.day(day)? else { continue };
            let Some(part) = one(&connection, session).at(&day.file(self.dir()))? else { continue };
            match &mut whole {
                Some(whole) => whole.add_earlier(part),
                None => whole = Some(part),
            }
        }
        Ok(whole)
    }

    /// What finds all records of a session in the order of their making, for replay.
    #[must_use]
    pub fn session_records(session: SessionId) -> Search {
        let filter = super::Filter { session: Some(session), ..Default::default() };
        Search { filter, limit: PAGE_MAX, oldest_first: true, ..Default::default() }
    }
}

impl SessionSummary {
    /// Adds what days before, newest first, know of it.
    fn add_days(&mut self, older: &[(Day, Connection)]) -> rusqlite::Result<()> {
        for (day, connection) in older {
            if Day::not_before(self.session.0).is_some_and(|first| *day < first) {
                break;
            }
            if let Some(part) = one(connection, self.session)? {
                self.add_earlier(part);
            }
        }
        Ok(())
    }

    fn add_earlier(&mut self, earlier: Self) {
        self.first_us = self.first_us.min(earlier.first_us);
        self.last_us = self.last_us.max(earlier.last_us);
        self.calls += earlier.calls;
        self.denied += earlier.denied;
        self.failed += earlier.failed;
        self.masked += earlier.masked;
        self.connections += earlier.connections;
        self.stream = earlier.stream;
        if !earlier.executable.is_empty() {
            (self.executable, self.executable_sha256) = (earlier.executable, earlier.executable_sha256);
        }
    }
}

/// Gives sessions of one day, the latest first, to `take` until it says false.
fn walk_day(
    connection: &Connection,
    search: &SessionSearch,
    after: Option<(u64, SessionId)>,
    mut take: impl FnMut(SessionSummary) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    let sql = "SELECT * FROM sessions
               WHERE (?1 IS NULL OR workload = ?1 OR substr(workload, instr(workload, '/') + 1) = ?1)
                 AND last_us >= ?2 AND last_us <= ?3 AND (last_us < ?3 OR ?4 IS NULL OR session < ?4)
               ORDER BY last_us DESC, session DESC";
    let (last, id) = after.map_or((u64::MAX, None), |(last, id)| (last, Some(id.0.into_bytes())));
    let column = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
    let mut find = connection.prepare_cached(sql)?;
    let mut rows = find.query((&search.workload, column(search.from_us.unwrap_or(0)), column(last), id))?;
    while let Some(row) = rows.next()? {
        if !take(summary(row)?)? {
            break;
        }
    }
    Ok(())
}

fn any_has(days: &[(Day, Connection)], session: SessionId) -> rusqlite::Result<bool> {
    for (_, connection) in days {
        if one(connection, session)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn one(connection: &Connection, session: SessionId) -> rusqlite::Result<Option<SessionSummary>> {
    use rusqlite::OptionalExtension as _;
    let mut find = connection.prepare_cached("SELECT * FROM sessions WHERE session = ?")?;
    find.query_row([session.0.as_bytes()], summary).optional()
}

fn summary(row: &Row<'_>) -> rusqlite::Result<SessionSummary> {
    let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
    Ok(SessionSummary {
        session: SessionId(Uuid::from_bytes(row.get(0)?)),
        workload: row.get(1)?,
        stream: row.get(2)?,
        first_us: number(3)?,
        last_us: number(4)?,
        calls: number(5)?,
        denied: number(6)?,
        failed: number(7)?,
        masked: number(8)?,
        connections: number(9)?,
        executable: row.get(10)?,
        executable_sha256: row.get(11)?,
    })
}

fn parse_cursor(cursor: &str) -> Result<Option<(u64, SessionId)>, StoreError> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let read = || {
        let (last, id) = cursor.split_once('.')?;
        Some((last.parse().ok()?, id.parse().ok()?))
    };
    read().map(Some).ok_or_else(|| StoreError::Cursor(cursor.chars().take(64).collect()))
}
