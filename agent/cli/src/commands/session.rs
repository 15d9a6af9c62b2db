//! `callgate session list|show`: all calls of one run or process, in order.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;

use anyhow::Result;
use callgate_collector::{SessionSearch, SessionSummary, StoredRecord, show_time};
use callgate_model::{CallId, LineageEnd, Process, RecordKind, SessionId};
use clap::{Args, Subcommand};
use serde_json::json;

use super::audit::filter::Window;
use super::audit::rows::{self, Row};
use super::audit::source::{Source, SourceArgs};
use super::audit::{json_line, nothing, printed};

/// Most calls that wait for their end, so that each is one row; then the oldest is shown as open.
const WAITING_MAX: usize = 1_024;

/// `callgate session`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  callgate session list --since 1d
  callgate session show 019ab0d4-7f11-7000-8000-0c61c8d0d6fe

Exit codes: 0 done (list: also when there is none), 1 failed or not found, 2 usage")]
pub struct SessionArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List sessions, the one with the latest record first
    #[command(after_help = "Example:\n  callgate session list --workload build --json | jq -r .session")]
    List(ListArgs),
    /// Show one session: its calls in order
    #[command(
        after_help = "Examples:\n  callgate session show 019ab0d4-7f11-7000-8000-0c61c8d0d6fe\n  callgate session show 019ab0d4-7f11-7000-8000-0c61c8d0d6fe --json   # every record, bodies included"
    )]
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Workload: its entity id, or what follows the first `/` (`build` finds `run/build`)
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    #[command(flatten)]
    window: Window,
    /// Most sessions
    #[arg(long, value_name = "N", default_value = "50")]
    limit: NonZeroUsize,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The session's id
    session: SessionId,
    /// Print one JSON object a line: every record of the session, bodies included, in the order of their making
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs `callgate session`.
///
/// # Errors
/// If the store or the collector cannot be read.
pub fn run(args: SessionArgs) -> Result<ExitCode> {
    printed(run_to(args, &mut io::BufWriter::new(io::stdout().lock())))
}

pub(crate) fn run_to(args: SessionArgs, out: &mut impl Write) -> Result<ExitCode> {
    let code = match args.command {
        Command::List(args) => list(&args, out),
        Command::Show(args) => show(&args, out),
    }?;
    out.flush()?;
    Ok(code)
}

fn list(args: &ListArgs, out: &mut impl Write) -> Result<ExitCode> {
    let mut source = args.source.open()?;
    let sessions = sessions(args, &mut source)?;
    if sessions.is_empty() {
        eprintln!("callgate: {}", nothing(&mut source)?);
        return Ok(ExitCode::SUCCESS);
    }
    if args.json {
        sessions.iter().try_for_each(|session| writeln!(out, "{}", object(session)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let header = ["SESSION", "STARTED", "LASTED", "WORKLOAD", "CALLS", "DENIED", "FAILED", "MASKED", "EXECUTABLE"];
    let mut table = rows::plain_table(&header);
    for session in &sessions {
        table.add_row([
            session.session.to_string(),
            rows::time(session.first_us),
            lasted(session.last_us.saturating_sub(session.first_us)),
            rows::printable(&session.workload),
            session.calls.to_string(),
            session.denied.to_string(),
            session.failed.to_string(),
            session.masked.to_string(),
            rows::printable(&session.executable),
        ]);
    }
    rows::print_table(&table, out)?;
    Ok(ExitCode::SUCCESS)
}

fn sessions(args: &ListArgs, source: &mut Source) -> Result<Vec<SessionSummary>> {
    let mut search = SessionSearch {
        workload: args.workload.clone(),
        from_us: args.window.since,
        until_us: args.window.until,
        ..SessionSearch::default()
    };
    let mut sessions = Vec::new();
    while sessions.len() < args.limit.get() {
        search.limit = args.limit.get() - sessions.len();
        let page = source.sessions(&search)?;
        sessions.extend(page.sessions);
        if page.cursor.is_empty() {
            break;
        }
        search.cursor = page.cursor;
    }
    Ok(sessions)
}

fn show(args: &ShowArgs, out: &mut impl Write) -> Result<ExitCode> {
    let mut source = args.source.open()?;
    let mut timeline = Timeline::default();
    let count = source.session(args.session, |record| {
        if args.json { json_line(&record, out) } else { Ok(timeline.add(record, out)?) }
    })?;
    if count == 0 {
        eprintln!("callgate: no session `{}` in {}; {}", args.session, source.name(), source.extent()?);
        return Ok(ExitCode::FAILURE);
    }
    timeline.finish(out)?;
    Ok(ExitCode::SUCCESS)
}

/// The rows of a session as they come; a call waits for its end, so that it is one row at the place of its begin.
#[derive(Default)]
struct Timeline {
    first_us: Option<u64>,
    waiting: VecDeque<(Option<CallId>, Vec<StoredRecord>)>,
}

impl Timeline {
    fn add(&mut self, record: StoredRecord, out: &mut impl Write) -> io::Result<()> {
        if self.first_us.is_none() {
            self.first_us = Some(record.record.time_us);
            writeln!(
                out,
                "session of {}, stream {}",
                rows::time(record.record.time_us),
                rows::printable(&record.stream.0)
            )?;
            let process = match &record.record.kind {
                RecordKind::Begin(begin) => Some(&begin.process),
                RecordKind::Connection(connection) => Some(&connection.process),
                _ => None,
            };
            for (name, value) in process.map(of_process).unwrap_or_default() {
                writeln!(out, "  {name:<10} {}", rows::printable(&value))?;
            }
        }
        match (&record.record.kind, record.call()) {
            (RecordKind::Chunk(_), _) => {}
            (RecordKind::End(_), call) => {
                if let Some((of, records)) = self.waiting.iter_mut().find(|(of, _)| *of == call) {
                    records.push(record);
                    *of = None;
                }
            }
            (_, call) => self.waiting.push_back((call, vec![record])),
        }
        while self.waiting.front().is_some_and(|(of, _)| of.is_none()) || self.waiting.len() > WAITING_MAX {
            self.print_first(out)?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut impl Write) -> io::Result<()> {
        while !self.waiting.is_empty() {
            self.print_first(out)?;
        }
        Ok(())
    }

    fn print_first(&mut self, out: &mut impl Write) -> io::Result<()> {
        let Some((_, records)) = self.waiting.pop_front() else { return Ok(()) };
        let row = Row::of_call(&records).or_else(|| records.first().and_then(Row::of));
        let Some(row) = row else { return Ok(()) };
        let since = row.time_us.saturating_sub(self.first_us.unwrap_or(row.time_us)) as f64 / 1e6;
        let parts = [&row.what, &row.decision, &row.result, &row.call];
        let text: Vec<&str> = parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        writeln!(out, "{since:>+11.3} s  {}", text.join("  "))
    }
}

/// What stands above the calls of a session whose first record is of this process.
fn of_process(process: &Process) -> Vec<(&'static str, String)> {
    let mut told = rows::placed(&process.placement);
    if process.lineage.end != LineageEnd::Unknown {
        told.push(("started by", rows::started_by(&process.lineage)));
    }
    told
}

/// One session as a JSON object. The names are those of the contract, beside `first` and `last` as RFC 3339.
fn object(session: &SessionSummary) -> serde_json::Value {
    json!({
        "session": session.session, "workload": session.workload, "stream": session.stream,
        "first_us": session.first_us, "first": show_time(session.first_us),
        "last_us": session.last_us, "last": show_time(session.last_us),
        "calls": session.calls, "denied": session.denied, "failed": session.failed, "masked": session.masked,
        "connections": session.connections, "executable": session.executable,
        "executable_sha256": session.executable_sha256,
    })
}

fn lasted(us: u64) -> String {
    let seconds = us / 1_000_000;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, _) => format!("{:.1}s", us as f64 / 1e6),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}
