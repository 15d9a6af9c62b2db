//! `callgate audit tail|search|show|verify`: reads the audit trail.
//!
//! Reads the store's files, or a collector over gRPC: [`source`] makes the two alike. People get a row a call
//! ([`rows`], [`show`]), programs a record a line, as the collector's `StoredRecord` is serialised.

pub(crate) mod filter;
pub(crate) mod rows;
mod show;
pub(crate) mod source;
mod tail;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use callgate_collector::{Filter, Head, Kind, Search, StoredRecord, show_time};
use callgate_model::{CallId, StreamId};
use clap::{Args, Subcommand};
use serde_json::json;

use filter::FilterArgs;
use rows::Row;
use source::{Source, SourceArgs};

/// `callgate audit`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  callgate audit search --decision deny --since 1h
  callgate audit show 019ab0d4-8a51-7000-8000-5d1f7e3c2a10
  callgate audit verify

Exit codes: 0 done (search: also when nothing was found), 1 failed, not found or broken, 2 usage")]
pub struct AuditArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the latest calls, and with -f each further one as it comes
    #[command(after_help = "Example:\n  callgate audit tail -f --decision deny")]
    Tail(TailArgs),
    /// Find calls and other records, the newest first
    #[command(
        after_help = "Examples:\n  callgate audit search --workload build --function 'api.github.com' --since 2h\n  callgate audit search --text '\"payment failed\" order*' --since 1d"
    )]
    Search(SearchArgs),
    /// Show one call: who, what, the decision, and both bodies as recorded
    #[command(after_help = "Example:\n  callgate audit show 019ab0d4-8a51-7000-8000-5d1f7e3c2a10")]
    Show(ShowArgs),
    /// Check that nothing stored was changed, removed, reordered or cut off
    #[command(
        after_help = "Examples:\n  callgate audit verify\n  callgate audit verify --stream node1/agent --head 1842:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n\nExit codes: 0 whole, 1 broken (the first fault of each chain is named), 2 usage"
    )]
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Go on as records come, until interrupted
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many of the latest to show first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub(crate) lines: usize,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Debug, Args)]
struct SearchArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Words that all occur in what is recorded, bodies included; `"two words"` in that order, `pre*` begins with
    #[arg(long, value_name = "WORDS")]
    text: Option<String>,
    /// Most rows
    #[arg(long, value_name = "N", default_value = "50")]
    limit: NonZeroUsize,
    /// Print one JSON object a line: the records that match, of as many calls as there would be rows
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The call's id, as a refusal or a search shows it
    call: CallId,
    /// Print one JSON object a line: begin, chunks, end
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// One chain only: `NODE/agent` or `NODE/run-ID`
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// A head known from elsewhere, which must be in the chain: `SEQ:HASH`
    #[arg(long, value_name = "SEQ:HASH", requires = "stream", value_parser = parse_head)]
    head: Option<Head>,
    /// Print one JSON object a line, one line a chain
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs `callgate audit`.
///
/// # Errors
/// If the store or the collector cannot be read.
pub fn run(args: AuditArgs) -> Result<ExitCode> {
    printed(run_to(args, &mut io::BufWriter::new(io::stdout().lock())))
}

/// A reader that went away (`| head`) is no failure.
pub(crate) fn printed(result: Result<ExitCode>) -> Result<ExitCode> {
    match result {
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            Ok(ExitCode::SUCCESS)
        }
        result => result,
    }
}

fn run_to(args: AuditArgs, out: &mut impl Write) -> Result<ExitCode> {
    let code = match args.command {
        Command::Tail(args) => {
            let mut source = args.source.open()?;
            tail::tail(&args, &mut source, out)
        }
        Command::Search(args) => search(&args, out),
        Command::Show(args) => show(&args, out),
        Command::Verify(args) => verify(&args, out),
    }?;
    out.flush()?;
    Ok(code)
}

fn search(args: &SearchArgs, out: &mut impl Write) -> Result<ExitCode> {
    let mut source = args.source.open()?;
    let filter = Filter { text: args.text.clone(), ..args.filter.filter() };
    let found = if args.json {
        json_search(filter, args.limit.get(), &mut source, out)?
    } else {
        let rows = find_rows(&filter, args.limit.get(), &mut source)?;
        rows::print(&rows, out)?;
        rows.len()
    };
    if found == 0 {
        eprintln!("callgate: {}", nothing(&mut source)?);
    }
    if found == args.limit.get() {
        eprintln!("callgate: there may be more: narrow the search, or raise --limit");
    }
    Ok(ExitCode::SUCCESS)
}

/// Records that match, newest first, of `limit` calls and other records: as many as rows would show.
fn json_search(mut filter: Filter, limit: usize, source: &mut Source, out: &mut impl Write) -> Result<usize> {
    if filter.text.is_none() {
        // Bodies are what `show` is for; a text that is looked for may be in one.
        filter.kinds = Kind::ALL.iter().copied().filter(|kind| *kind != Kind::Chunk).collect();
    }
    let mut search = Search { filter: filter.clone(), limit: limit.max(100), ..Search::default() };
    let mut rows = 0;
    let mut seen = HashSet::new();
    // Calls that were begun earlier than their records printed so far, which are kept by number.
    let mut begun_earlier: HashMap<CallId, HashSet<u64>> = HashMap::new();
    'pages: loop {
        let page = source.search(&search)?;
        for record in &page.records {
            let record = StoredRecord::open(record)?;
            if record.call().is_none_or(|call| !seen.contains(&call)) {
                if rows == limit {
                    break 'pages;
                }
                rows += 1;
            }
            if let Some(call) = record.call() {
                if seen.insert(call) {
                    begun_earlier.insert(call, HashSet::new());
                }
                if Kind::of(&record.record) == Kind::Begin {
                    begun_earlier.remove(&call);
                } else if let Some(printed) = begun_earlier.get_mut(&call) {
                    printed.insert(record.seq);
                }
            }
            json_line(&record, out)?;
        }
        if page.cursor.is_empty() {
            return Ok(rows);
        }
        search.cursor = page.cursor;
    }
    // What else matches of the calls that count.
    for (call, printed) in begun_earlier {
        let filter = Filter { call: Some(call), ..filter.clone() };
        source.each(Search { filter, limit: 100, ..Search::default() }, |record| {
            if printed.contains(&record.seq) { Ok(()) } else { json_line(&record, out) }
        })?;
    }
    Ok(rows)
}

/// Rows for people, newest first: a row a call, however many of its records match.
pub(crate) fn find_rows(filter: &Filter, limit: usize, source: &mut Source) -> Result<Vec<Row>> {
    let mut filter = filter.clone();
    if filter.text.is_none() && filter.reason.is_none() {
        filter.kinds = Kind::ALL.iter().copied().filter(|kind| !matches!(kind, Kind::Chunk | Kind::End)).collect();
    }
    let mut search = Search { filter, limit: limit.max(100), ..Search::default() };
    let mut rows = Vec::new();
    let mut calls = std::collections::HashSet::new();
    while rows.len() < limit {
        let page = source.search(&search)?;
        for record in &page.records {
            let record = StoredRecord::open(record)?;
            match record.call() {
                Some(call) if !calls.insert(call) => {}
                Some(call) => rows.extend(source.row_of(call, record)?),
                None => rows.extend(Row::of(&record)),
            }
            if rows.len() == limit {
                break;
            }
        }
        if page.cursor.is_empty() {
            break;
        }
        search.cursor = page.cursor;
    }
    Ok(rows)
}

fn show(args: &ShowArgs, out: &mut impl Write) -> Result<ExitCode> {
    let mut source = args.source.open()?;
    let records = source.call(args.call)?;
    if records.is_empty() {
        eprintln!("callgate: no call `{}` in {}; {}", args.call, source.name(), source.extent()?);
        return Ok(ExitCode::FAILURE);
    }
    if args.json {
        records.iter().try_for_each(|record| json_line(record, out))?;
    } else {
        show::show(&records, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(args: &VerifyArgs, out: &mut impl Write) -> Result<ExitCode> {
    let mut source = args.source.open()?;
    let stream = args.stream.clone().map(StreamId);
    let report = source.verify(stream.as_ref(), args.head)?;
    if let (Some(stream), true) = (&stream, report.streams.is_empty()) {
        eprintln!("callgate: no stream `{stream}` in {}; {}", source.name(), source.extent()?);
        return Ok(ExitCode::FAILURE);
    }
    for stream in &report.streams {
        let fault = stream.fault.as_ref();
        if args.json {
            let fault = fault.map(|f| json!({ "kind": f.kind.as_str(), "seq": f.seq, "detail": f.detail }));
            let line = json!({
                "stream": stream.stream, "records": stream.records, "first_seq": stream.first_seq,
                "last_seq": stream.last.seq, "head": stream.last.hash.to_string(), "whole": fault.is_none(),
                "fault": fault,
            });
            writeln!(out, "{line}")?;
            continue;
        }
        let (name, records, last) = (rows::printable(&stream.stream.0), stream.records, stream.last);
        match fault {
            None => writeln!(out, "whole   {name}: {records} records, head {}:{}", last.seq, last.hash)?,
            Some(fault) => {
                let (kind, detail) = (fault.kind.as_str(), rows::printable(&fault.detail));
                writeln!(
                    out,
                    "BROKEN  {name}: {kind} at record {}: {detail}; {records} records before it hold",
                    fault.seq
                )?;
            }
        }
    }
    if report.streams.is_empty() {
        eprintln!("callgate: nothing to check: {}", source.extent()?);
    }
    Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One record as a line of JSON.
pub(crate) fn json_line(record: &StoredRecord, out: &mut impl Write) -> Result<()> {
    serde_json::to_writer(&mut *out, record).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// Why a search gave nothing.
pub(crate) fn nothing(source: &mut Source) -> Result<String> {
    Ok(format!("nothing matches in {}: {}", source.name(), source.extent()?))
}

/// What a store holds, in words, of its newest record.
pub(crate) fn extent_of(newest: Option<&StoredRecord>) -> String {
    match newest {
        None => "it is empty, nothing was recorded there yet".into(),
        Some(record) => format!("its newest record is of {}", show_time(record.record.time_us)),
    }
}

fn parse_head(text: &str) -> Result<Head, String> {
    let read = || {
        let (seq, hash) = text.split_once(':').context("no colon")?;
        Ok::<_, anyhow::Error>(Head { seq: seq.parse()?, hash: hash.parse()? })
    };
    read().map_err(|_| "expected SEQ:HASH, as `callgate audit verify` prints it".into())
}
