//! Heads and spans: what `index.db` says of each stream, and how it is made again when it is lost.

use std::path::Path;

use callgate_model::StreamId;
use callgate_seal::Hash;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::day::Day;
use super::{Head, schema};
use crate::StoreError;
use crate::error::At as _;

/// What the index says of one stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    /// Its row.
    pub id: i64,
    /// Its last record.
    pub head: Head,
    /// First record that must be there.
    pub kept_from: u64,
}

/// A part of a stream that lies in one day.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// The day.
    pub day: Day,
    /// Its first record there.
    pub first_seq: u64,
    /// Its last record there.
    pub last_seq: u64,
}

/// The stream of that name; none if nothing of it is stored.
pub(crate) fn stream(index: &Connection, dir: &Path, name: &str) -> Result<Option<Stream>, StoreError> {
    let sql = "SELECT id, seq, hash, kept_from FROM streams WHERE name = ?";
    let found = index.prepare_cached(sql).and_then(|mut find| {
        find.query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, [u8; 32]>(2)?, row.get(3)?))).optional()
    });
    let found: Option<(i64, i64, [u8; 32], i64)> = found.at(&dir.join(schema::INDEX))?;
    Ok(found.map(|(id, seq, hash, kept_from)| Stream {
        id,
        head: Head { seq: seq.unsigned_abs(), hash: Hash(hash) },
        kept_from: kept_from.unsigned_abs(),
    }))
}

/// All heads, by name.
pub(crate) fn heads(index: &Connection, dir: &Path) -> Result<Vec<(StreamId, Head)>, StoreError> {
    let read = || {
        let mut all = index.prepare_cached("SELECT name, seq, hash FROM streams ORDER BY name")?;
        let rows = all.query_map([], |row| {
            let (seq, hash): (i64, [u8; 32]) = (row.get(1)?, row.get(2)?);
            Ok((StreamId(row.get(0)?), Head { seq: seq.unsigned_abs(), hash: Hash(hash) }))
        })?;
        rows.collect::<Result<Vec<_>, _>>()
    };
    read().at(&dir.join(schema::INDEX))
}

/// Where records of a stream lie, in the order of the chain.
pub(crate) fn spans(index: &Connection, dir: &Path, stream: i64) -> Result<Vec<Span>, StoreError> {
    let read = || {
        let sql = "SELECT day, first_seq, last_seq FROM spans WHERE stream = ? ORDER BY first_seq, day";
        let mut all = index.prepare_cached(sql)?;
        let rows = all
            .query_map([stream], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))?;
        rows.collect::<Result<Vec<_>, _>>()
    };
    let rows = read().at(&dir.join(schema::INDEX))?;
    let span = |(day, first, last): (String, i64, i64)| {
        Some(Span { day: day.parse().ok()?, first_seq: first.unsigned_abs(), last_seq: last.unsigned_abs() })
    };
    Ok(rows.into_iter().filter_map(span).collect())
}

/// Sets a stream's head; gives its row.
pub(crate) fn set_head(index: &Connection, name: &str, head: Head) -> rusqlite::Result<i64> {
    let sql = "INSERT INTO streams(name, seq, hash) VALUES (?1, ?2, ?3)
               ON CONFLICT(name) DO UPDATE SET seq = excluded.seq, hash = excluded.hash RETURNING id";
    index.prepare_cached(sql)?.query_row(params![name, head.seq.cast_signed(), head.hash.as_bytes()], |row| row.get(0))
}

/// Adds records `first..=last` to what a day holds of a stream.
pub(crate) fn widen(index: &Connection, stream: i64, day: Day, first: u64, last: u64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO spans(stream, day, first_seq, last_seq) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT(stream, day) DO UPDATE SET
                   first_seq = min(first_seq, excluded.first_seq), last_seq = max(last_seq, excluded.last_seq)";
    let values = params![stream, day.to_string(), first.cast_signed(), last.cast_signed()];
    index.prepare_cached(sql)?.execute(values).map(|_| ())
}

/// Makes the index again from the day files. The caller has begun a transaction.
pub(crate) fn rebuild(index: &Connection, dir: &Path) -> Result<(), StoreError> {
    for day in Day::list(dir)? {
        let path = day.file(dir);
        let Some(connection) = schema::open_to_read(&path)? else { continue };
        let parts = || {
            let sql = "SELECT n.text, p.first, r.seq, r.hash
                       FROM (SELECT stream, min(seq) AS first, max(seq) AS last FROM records GROUP BY stream) p
                       JOIN records r ON r.stream = p.stream AND r.seq = p.last
                       JOIN names n ON n.id = p.stream";
            let mut all = connection.prepare(sql)?;
            let rows = all.query_map([], |row| {
                let (first, last, hash): (i64, i64, [u8; 32]) = (row.get(1)?, row.get(2)?, row.get(3)?);
                let last = Head { seq: last.unsigned_abs(), hash: Hash(hash) };
                Ok((row.get::<_, String>(0)?, first.unsigned_abs(), last))
            })?;
            rows.collect::<Result<Vec<_>, _>>()
        };
        for (name, first, last) in parts().at(&path)? {
            let head = match stream(index, dir, &name)? {
                Some(known) if known.head.seq > last.seq => known.head,
                _ => last,
            };
            let add = || widen(index, set_head(index, &name, head)?, day, first, last.seq);
            add().at(&dir.join(schema::INDEX))?;
        }
    }
    Ok(())
}
