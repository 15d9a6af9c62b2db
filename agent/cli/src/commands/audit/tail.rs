//! `callgate audit tail`: the latest, and what comes.

use std::collections::HashMap;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use callgate_collector::{Filter, Kind, Search, StoredRecord};
use callgate_model::{CallId, RecordKind};

use super::rows::{self, Row};
use super::source::Source;
use super::{TailArgs, find_rows, json_line, nothing};

/// Open calls whose begin is remembered for the line of their end.
const OPEN_MAX: usize = 4_096;

pub(crate) fn tail(args: &TailArgs, source: &mut Source, out: &mut impl Write) -> Result<ExitCode> {
    let filter = args.filter.filter();
    // The place is taken first, so that nothing is missed in between; what comes twice is shown twice.
    let follower = if args.follow { Some(source.follow(&live(&filter, args.json))?) } else { None };
    let found = if args.json {
        json_latest(&filter, args.lines, source, out)?
    } else {
        let mut rows = find_rows(&filter, args.lines, source)?;
        rows.reverse();
        rows::print(&rows, out)?;
        rows.len()
    };
    out.flush()?;
    let Some(mut follower) = follower else {
        if found == 0 && args.lines > 0 {
            eprintln!("callgate: {}", nothing(source)?);
        }
        return Ok(ExitCode::SUCCESS);
    };
    if found == 0 {
        eprintln!("callgate: nothing matches yet; waiting");
    }
    let mut open: HashMap<CallId, StoredRecord> = HashMap::new();
    while let Some(record) = source.next(&mut follower)? {
        if args.json {
            json_line(&record, out)?;
        } else if let Some(line) = line(record, &mut open, source)? {
            writeln!(out, "{line}")?;
        }
        out.flush()?;
    }
    eprintln!("callgate: the collector has ended");
    Ok(ExitCode::FAILURE)
}

/// What is followed: bodies would drown the rest.
fn live(filter: &Filter, json: bool) -> Filter {
    let kinds = Kind::ALL.iter().copied().filter(|kind| json || *kind != Kind::Chunk).collect();
    Filter { kinds, ..filter.clone() }
}

/// A line when a call begins, and one when it has ended.
fn line(record: StoredRecord, open: &mut HashMap<CallId, StoredRecord>, source: &mut Source) -> Result<Option<String>> {
    let row = match (&record.record.kind, record.call()) {
        (RecordKind::Begin(_), Some(call)) => {
            if open.len() >= OPEN_MAX {
                open.clear();
            }
            let row = Row::of(&record);
            open.insert(call, record);
            row
        }
        (RecordKind::End(_), Some(call)) => match open.remove(&call) {
            Some(begin) => Row::of_call(&[begin, record]),
            None => source.row_of(call, record)?,
        },
        _ => Row::of(&record),
    };
    Ok(row.map(|row| row.line()))
}

fn json_latest(filter: &Filter, count: usize, source: &mut Source, out: &mut impl Write) -> Result<usize> {
    let mut latest = Vec::new();
    let mut search = Search { filter: filter.clone(), ..Search::default() };
    while latest.len() < count {
        search.limit = count - latest.len();
        let page = source.search(&search)?;
        latest.extend(page.records);
        if page.cursor.is_empty() {
            break;
        }
        search.cursor = page.cursor;
    }
    for record in latest.iter().rev() {
        json_line(&StoredRecord::open(record)?, out)?;
    }
    Ok(latest.len())
}
