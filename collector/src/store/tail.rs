//! Follows what is stored, in the order of each chain.
//!
//! Works from the heads of the index, so it sees what other processes store, and late records of days gone by.

use std::collections::HashMap;

use callgate_model::StreamId;
use callgate_proto::v1::SealedRecord;
use rusqlite::params_from_iter;
use rusqlite::types::Value;

use super::filter::Filter;
use super::search::{COLUMNS, Found, found};
use super::{Search, Store, index};
use crate::StoreError;
use crate::error::At as _;

/// Most places of one stream that one look examines.
const STEP: u64 = 512;

/// A place in every stream, from which new records are given.
#[derive(Debug)]
pub struct Tail {
    store: Store,
    filter: Filter,
    seen: HashMap<StreamId, u64>,
}

impl Store {
    /// Follows what is stored from now on; first gives the latest `backlog` matching records, oldest first. Blocking.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn tail(&self, filter: Filter, backlog: usize) -> Result<(Vec<SealedRecord>, Tail), StoreError> {
        let seen: HashMap<_, _> = self.streams()?.into_iter().map(|(stream, head)| (stream, head.seq)).collect();
        let mut latest = Vec::new();
        let mut search = Search { filter: filter.clone(), ..Default::default() };
        while latest.len() < backlog {
            search.limit = backlog - latest.len();
            let page = self.search(&search)?;
            // What came since the heads were read is given by the first look.
            latest.extend(
                page.records.into_iter().filter(|record| {
                    seen.get(&StreamId(record.stream.clone())).is_some_and(|seen| record.seq <= *seen)
                }),
            );
            if page.cursor.is_empty() {
                break;
            }
            search.cursor = page.cursor;
        }
        latest.reverse();
        Ok((latest, Tail { store: self.clone(), filter, seen }))
    }
}

impl Tail {
    /// What came since the last look, and whether there may be more at once. Never waits. Blocking.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read; the place is kept then.
    pub fn look(&mut self) -> Result<(Vec<SealedRecord>, bool), StoreError> {
        let Some(connection) = self.store.index()? else { return Ok((Vec::new(), false)) };
        let dir = self.store.dir().to_owned();
        let (mut news, mut more) = (Vec::new(), false);
        for (name, head) in index::heads(&connection, &dir)? {
            let seen = self.seen.get(&name).copied().unwrap_or(0);
            if head.seq <= seen || self.filter.stream.as_ref().is_some_and(|stream| *stream != name) {
                continue;
            }
            let until = head.seq.min(seen + STEP);
            more |= until < head.seq;
            let Some(stream) = index::stream(&connection, &dir, &name.0)? else { continue };
            for span in index::spans(&connection, &dir, stream.id)? {
                if span.last_seq > seen && span.first_seq <= until && self.filter.covers(span.day) {
                    news.extend(self.of_day(&name, span.day, seen, until)?.into_iter().map(|f| (span.day, f)));
                }
            }
            self.seen.insert(name, until);
        }
        news.sort_by_key(|(day, found)| (*day, found.id));
        Ok((news.into_iter().map(|(_, found)| found.record).collect(), more))
    }

    fn of_day(&self, name: &StreamId, day: super::Day, seen: u64, until: u64) -> Result<Vec<Found>, StoreError> {
        let Some(connection) = self.store.day(day)? else { return Ok(Vec::new()) };
        let read = || {
            let filter = Filter { stream: Some(name.clone()), ..self.filter.clone() };
            let Some(mut is) = filter.conditions(day, &connection)? else { return Ok(Vec::new()) };
            is.sql.push("r.seq > ? AND r.seq <= ?".into());
            is.values.extend([Value::Integer(seen.cast_signed()), Value::Integer(until.cast_signed())]);
            if let Some(words) = is.words {
                is.sql.push("EXISTS (SELECT 1 FROM words WHERE words MATCH ? AND words.rowid = r.id)".into());
                is.values.push(Value::Text(words));
            }
            let condition = is.sql.join(" AND ");
            let sql = format!("SELECT {COLUMNS} FROM records r JOIN names n ON n.id = r.stream WHERE {condition}");
            let mut find = connection.prepare(&sql)?;
            find.query_map(params_from_iter(is.values), found)?.collect()
        };
        read().at(&day.file(self.store.dir()))
    }
}
