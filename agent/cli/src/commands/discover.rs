//! `callgate discover`: what workloads call, by whom, and what policy would say of it.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use callgate_collector::{Filter, show_time};
use clap::Args;
use serde_json::json;

use super::audit::filter::Window;
use super::audit::rows;
use super::audit::source::{Source, SourceArgs};
use super::audit::{nothing, printed};
use crate::discovery::{Discovery, Key, Seen, What};

/// `callgate discover`
#[derive(Debug, Args)]
#[command(after_help = "\
Calls of one shape are one row: what looks like an id becomes `*`. Connections whose calls are not known have a row of
their own, `(uninspected: WHY)`: policy (@tls), certificate_refused (observe mode: clients do not trust our CA, so their
TLS passes unopened), upstream_tls (observe mode: the service's TLS cannot be verified), protocol (none that is decoded).
Their count includes those that came to nothing; client_tls among the reasons: clients broke their handshake off.

Examples:
  callgate discover --since 1d
  callgate discover --workload build --json | jq -r 'select(.would_deny > 0) | .function'
  callgate policy suggest --workload build > build.cedar

With --json one row a line:
  workload, service, function
            who and what; function is empty for connections whose calls are not known
  uninspected
            why they are not, where they passed; empty for calls
  count, would_deny, denied
            calls (or connections), of them would-be denials in observe mode, and refusals
  reasons   of the denials
  executables, example, last_us, last
            which programs, the path of one call, and when the latest was

Exit codes: 0 done (also when there is nothing), 1 failed, 2 usage")]
pub struct DiscoverArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Whose calls, of when, from where.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Workload: its entity id, or what follows the first `/` (`build` finds `run/build`)
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    #[command(flatten)]
    window: Window,
    #[command(flatten)]
    source: SourceArgs,
}

impl Which {
    /// Everything that is meant, and where it was looked for.
    pub(crate) fn gather(&self) -> Result<(Discovery, Source)> {
        let mut source = self.source.open()?;
        let filter = Filter {
            workload: self.workload.clone(),
            from_us: self.window.since,
            until_us: self.window.until,
            ..Filter::default()
        };
        Ok((Discovery::gather(&mut source, filter)?, source))
    }
}

/// Runs `callgate discover`.
///
/// # Errors
/// If the store or the collector cannot be read.
pub fn run(args: &DiscoverArgs) -> Result<ExitCode> {
    printed(run_to(args, &mut io::BufWriter::new(io::stdout().lock())))
}

fn run_to(args: &DiscoverArgs, out: &mut impl Write) -> Result<ExitCode> {
    let (discovery, mut source) = args.which.gather()?;
    if discovery.rows.is_empty() {
        eprintln!("callgate: {}", nothing(&mut source)?);
        return Ok(ExitCode::SUCCESS);
    }
    if args.json {
        discovery.rows.iter().try_for_each(|(key, seen)| writeln!(out, "{}", object(key, seen)))?;
    } else {
        let header = ["WORKLOAD", "FUNCTION", "CALLS", "WOULD-DENY", "DENIED", "WHY", "BY", "LAST"];
        let mut table = rows::plain_table(&header);
        for (key, seen) in &discovery.rows {
            table.add_row([
                rows::printable(&key.workload),
                rows::printable(&shown(key, seen)),
                seen.count.to_string(),
                seen.would_deny.to_string(),
                seen.denied.to_string(),
                seen.reasons.iter().copied().collect::<Vec<_>>().join(", "),
                rows::printable(&seen.executables.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
                rows::time(seen.last_us),
            ]);
        }
        rows::print_table(&table, out)?;
    }
    out.flush()?;
    if discovery.left_out > 0 {
        eprintln!("callgate: {} more had no row left: narrow it down by --workload or --since", discovery.left_out);
    }
    Ok(ExitCode::SUCCESS)
}

/// Why it is uninspected.
fn words(seen: &Seen) -> Vec<&'static str> {
    seen.uninspected.iter().map(|why| why.as_str()).collect()
}

fn shown(key: &Key, seen: &Seen) -> String {
    match &key.what {
        What::Calls { protocol, method, shape } => format!("{}:{method} {}{shape}", protocol.as_str(), key.service),
        What::Undecoded if seen.uninspected.is_empty() => format!("{} (no call)", key.service),
        What::Undecoded => format!("{} (uninspected: {})", key.service, words(seen).join(", ")),
    }
}

fn object(key: &Key, seen: &Seen) -> serde_json::Value {
    let function = if key.what == What::Undecoded { String::new() } else { shown(key, seen) };
    json!({
        "workload": key.workload, "service": key.service.to_string(), "function": function,
        "uninspected": words(seen),
        "count": seen.count, "would_deny": seen.would_deny, "denied": seen.denied, "reasons": seen.reasons,
        "executables": seen.executables, "example": seen.example,
        "last_us": seen.last_us, "last": show_time(seen.last_us),
    })
}
