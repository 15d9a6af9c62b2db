//! Finds records, a page at a time.
//!
//! Ids follow time, so both orders are walks over the table (or over the hits of the full-text index) of one day after
//! another, and a cursor is a day and an id.

use callgate_proto::v1::SealedRecord;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::Store;
use super::day::Day;
use super::filter::{Conditions, Filter};
use crate::StoreError;
use crate::error::At as _;

/// Most records in a page.
pub const PAGE_MAX: usize = 1_000;
/// A page ends once it holds this much of bodies: half of the 4 MiB that a gRPC client takes by default. Unit: bytes.
const PAGE_BYTES: usize = 2 << 20;

/// What to find.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Search {
    /// Which records.
    pub filter: Filter,
    /// Most records in the page; at most [`PAGE_MAX`].
    pub limit: usize,
    /// Where the page before ended; empty: from the start.
    pub cursor: String,
    /// Oldest first; else newest first.
    pub oldest_first: bool,
}

/// What was found.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Page {
    /// Records, in the order that was asked for.
    pub records: Vec<SealedRecord>,
    /// Where the next page starts; empty: there is none.
    pub cursor: String,
}

impl Store {
    /// Finds records: one page. Blocking.
    ///
    /// # Errors
    /// [`StoreError::Cursor`], or the store cannot be read.
    pub fn search(&self, search: &Search) -> Result<Page, StoreError> {
        let limit = search.limit.clamp(1, PAGE_MAX);
        let after = parse_cursor(&search.cursor)?;
        let mut days = self.days()?;
        if !search.oldest_first {
            days.reverse();
        }
        let mut page = Page::default();
        let mut bytes = 0;
        for day in days.into_iter().filter(|day| search.filter.covers(*day)) {
            let from = match after {
                Some((of_day, _)) if (day < of_day) == search.oldest_first && day != of_day => continue,
                Some((of_day, id)) if day == of_day => Some(id),
                _ => None,
            };
            let Some(connection) = self.day(day)? else { continue };
            let path = day.file(self.dir());
            let Some(conditions) = search.filter.conditions(day, &connection).at(&path)? else { continue };
            // One more than fits tells whether there is a next page.
            let wanted = limit - page.records.len() + 1;
            let mut walk = |found: Found| {
                if page.records.len() == limit || bytes >= PAGE_BYTES {
                    return false;
                }
                bytes += found.record.body.len();
                page.records.push(found.record);
                page.cursor = format!("{day}.{}", found.id);
                true
            };
            let whole = walk_day(&connection, conditions, from, search.oldest_first, wanted, &mut walk).at(&path)?;
            if !whole {
                return Ok(page);
            }
        }
        page.cursor.clear();
        Ok(page)
    }
}

/// A record and its id within its day.
pub(crate) struct Found {
    pub id: i64,
    pub record: SealedRecord,
}

/// The columns that [`found`] reads.
pub(crate) const COLUMNS: &str = "r.id, n.text, r.seq, r.prev, r.hash, r.body";

/// Reads [`COLUMNS`].
pub(crate) fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    let seq: i64 = row.get(2)?;
    let record = SealedRecord {
        stream: row.get(1)?,
        seq: seq.unsigned_abs(),
        prev: row.get(3)?,
        hash: row.get(4)?,
        body: row.get(5)?,
    };
    Ok(Found { id: row.get(0)?, record })
}

/// Gives records of one day to `take` until it says false; false if it did.
fn walk_day(
    connection: &Connection,
    conditions: Conditions,
    after: Option<i64>,
    oldest_first: bool,
    wanted: usize,
    take: &mut impl FnMut(Found) -> bool,
) -> rusqlite::Result<bool> {
    let Conditions { mut sql, mut values, words } = conditions;
    let mut from = "records r";
    let mut id = "r.id";
    if let Some(words) = words {
        // The hits lead (CROSS JOIN keeps the order): they come sorted by id from the index itself.
        from = "words CROSS JOIN records r ON r.id = words.rowid";
        id = "words.rowid";
        sql.insert(0, "words MATCH ?".into());
        values.insert(0, Value::Text(words));
    }
    let (beyond, order) = if oldest_first { (">", "ASC") } else { ("<", "DESC") };
    if let Some(after) = after {
        sql.push(format!("{id} {beyond} ?"));
        values.push(Value::Integer(after));
    }
    let condition = if sql.is_empty() { "1".into() } else { sql.join(" AND ") };
    let sql = format!(
        "SELECT {COLUMNS} FROM {from} CROSS JOIN names n ON n.id = r.stream WHERE {condition} ORDER BY {id} {order} LIMIT {wanted}"
    );
    let mut find = connection.prepare(&sql)?;
    let mut rows = find.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        if !take(found(row)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn parse_cursor(cursor: &str) -> Result<Option<(Day, i64)>, StoreError> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let read = || {
        let (day, id) = cursor.split_once('.')?;
        Some((day.parse().ok()?, id.parse().ok()?))
    };
    read().map(Some).ok_or_else(|| StoreError::Cursor(cursor.chars().take(64).collect()))
}
