//! `callgate policy explain EVENT`: why a recorded call was decided as it was.
//!
//! The record tells what was asked and what was said; the policies tell why, if the set is still the one that
//! answered. Arguments are shown by name and kind, never by value: the record holds them masked.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use callgate_collector::StoredRecord;
use callgate_daemon::policy_source::{self, Files};
use callgate_mask::Detectors;
use callgate_model::{
    ArgumentsState, CallBegin, CallEnd, CallId, Direction, FailMode, Mode, Reason, RecordKind, Unfit, Workload,
};
use callgate_policy::{PolicySet, Weighed, Weight};
use callgate_wire::{Content, read_arguments};
use clap::Args;

use super::ask::{Answer, Question};
use crate::commands::audit::rows::{placed, printable, said};
use crate::commands::audit::source::SourceArgs;

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The call's id, as a refusal or `callgate audit search` shows it
    #[arg(value_name = "EVENT")]
    event: CallId,
    /// Directory of the policies that answered
    #[arg(long, value_name = "DIR", default_value = "./callgate")]
    policy: PathBuf,
    #[command(flatten)]
    source: SourceArgs,
}

/// Explains one call.
///
/// # Errors
/// The store or the policies cannot be read.
pub(super) fn run(args: &ExplainArgs, out: &mut impl Write) -> Result<ExitCode> {
    let mut source = args.source.open()?;
    let records = source.call(args.event)?;
    let begin = records.iter().find_map(|record| match &record.record.kind {
        RecordKind::Begin(begin) => Some(begin.as_ref()),
        _ => None,
    });
    let Some(begin) = begin else {
        eprintln!("callgate: no call `{}` in {}; {}", args.event, source.name(), source.extent()?);
        return Ok(ExitCode::FAILURE);
    };
    let files = policy_source::read(&args.policy)?;
    let (set, _) = policy_source::parse(&files, &Detectors::default()).map_err(|errors| {
        let shown = args.policy.display();
        anyhow!("{errors}")
            .context(format!("the policies in `{shown}` are refused: see `callgate policy check {shown}`"))
    })?;
    explain(begin, &records, &set, &files, &args.policy.display().to_string(), out)?;
    Ok(ExitCode::SUCCESS)
}

fn explain(
    begin: &CallBegin,
    records: &[StoredRecord],
    set: &PolicySet,
    files: &Files,
    directory: &str,
    out: &mut impl Write,
) -> Result<()> {
    let arguments = arguments(begin, records);
    asked(begin, &arguments, out)?;
    let question = question(begin, arguments)?;
    let answer = question.put(set).context("the recorded call could not be put as a question")?;
    let recorded = &begin.decision;
    if recorded.policy_set == set.hash() {
        field("policies", &format!("`{directory}` holds the set that answered"), out)?;
    } else {
        let now = format!("`{directory}` holds another set, {}, which says: {}", set.hash(), said(&answer.decision));
        field("policies", &now, out)?;
    }
    let same = recorded.policy_set == set.hash();
    // The record's values are masked, so a condition on one may come out otherwise now.
    if same && (recorded.verdict, recorded.reason) != (answer.decision.verdict, answer.decision.reason) {
        let now = said(&answer.decision);
        field(
            "note",
            &format!("asked again from the record, it says {now}: what it looked at is masked there, or was not kept"),
            out,
        )?;
    }
    let shown = Shown { set, files, directory };
    let determining: &[String] = if same { &recorded.policies } else { &answer.decision.policies };
    shown.determining(determining, same, out)?;
    shown.near_misses(&answer, determining, out)
}

/// Prints what was asked and what was said.
fn asked(begin: &CallBegin, arguments: &ArgumentsState, out: &mut impl Write) -> Result<()> {
    field("call", &begin.call.to_string(), out)?;
    field("function", &begin.function.to_string(), out)?;
    let process = &begin.process;
    field("workload", &format!("{}, pid {}, uid {}", begin.workload, process.pid, process.uid), out)?;
    match &process.executable {
        Some(executable) => field("executable", &format!("{} sha256:{}", executable.path, executable.sha256), out)?,
        None => field("executable", "could not be told for certain", out)?,
    }
    for (name, value) in placed(&process.placement) {
        field(name, &value, out)?;
    }
    match &begin.caller {
        Some(caller) => {
            let groups = caller.groups.join(", ");
            field("caller", &format!("{} of {} (groups: {groups})", caller.sub, caller.iss), out)?;
        }
        None => field("caller", "none was verified", out)?,
    }
    field("destination", &begin.destination, out)?;
    let names = match arguments {
        ArgumentsState::Complete(arguments) if arguments.is_empty() => "none".to_owned(),
        ArgumentsState::Complete(arguments) => {
            let name = |(pointer, argument): (&str, &callgate_model::Argument)| {
                let pointer = if pointer.is_empty() { "(the body)" } else { pointer };
                format!("{pointer} ({})", argument.shape())
            };
            arguments.iter().map(name).collect::<Vec<_>>().join(", ")
        }
        ArgumentsState::Unfit(Unfit::NotRead) | ArgumentsState::NotRead => "the body was not recorded whole".to_owned(),
        ArgumentsState::Unfit(cause) => format!("unfit: {cause}"),
    };
    field("arguments", &names, out)?;
    let observed = if begin.observed { "; observed, not enforced" } else { "" };
    field("decision", &format!("{} by set {}{observed}", said(&begin.decision), begin.decision.policy_set), out)?;
    field("reason", begin.decision.reason.sentence(), out)
}

fn field(name: &str, value: &str, out: &mut impl Write) -> Result<()> {
    Ok(writeln!(out, "{name:<12} {}", printable(value))?)
}

/// The arguments as far as the record holds them.
fn arguments(begin: &CallBegin, records: &[StoredRecord]) -> ArgumentsState {
    let values = |name: &str| -> Vec<&[u8]> {
        begin.headers.iter().filter(|header| header.name == name).map(|header| header.value.as_bytes()).collect()
    };
    let mut body = Vec::new();
    let mut end: Option<&CallEnd> = None;
    for record in records {
        match &record.record.kind {
            RecordKind::Chunk(chunk) if chunk.direction == Direction::Request => body.extend_from_slice(&chunk.data),
            RecordKind::End(found) => end = Some(found),
            _ => {}
        }
    }
    let announced = !values("transfer-encoding").is_empty() || values("content-length").iter().any(|l| *l != b"0");
    let whole = end.is_some_and(|end| !end.cut) && (!announced || !body.is_empty());
    if announced && !whole {
        return ArgumentsState::Unfit(Unfit::NotRead);
    }
    let (types, encodings) = (values("content-type"), values("content-encoding"));
    let content = Content { types: &types, encodings: &encodings, query: &begin.query, body: &body };
    read_arguments(&content).map_or_else(ArgumentsState::Unfit, ArgumentsState::Complete)
}

fn question(begin: &CallBegin, arguments: ArgumentsState) -> Result<Question> {
    let function = &begin.function;
    Ok(Question {
        workload: Workload {
            id: begin.workload.clone(),
            cgroup: begin.cgroup,
            cgroup_path: PathBuf::from(&begin.cgroup_path),
            mode: Mode::Enforce,
            fail: FailMode::Closed,
            session: Some(begin.session),
            weakened: Vec::new(),
        },
        groups: Vec::new(),
        process: begin.process.clone(),
        service: function.service.clone(),
        destination: begin.destination.parse().context("the record names no address")?,
        // The record does not tell whether the configuration declares the service, but what came of it.
        address_declared: begin.decision.reason != Reason::AddressNotNamed,
        tls: function.tls,
        caller: begin.caller.clone(),
        function: Some(function.clone()),
        arguments,
    })
}

/// Policies with their texts.
struct Shown<'a> {
    set: &'a PolicySet,
    files: &'a Files,
    directory: &'a str,
}

impl Shown<'_> {
    fn determining(&self, policies: &[String], same: bool, out: &mut impl Write) -> Result<()> {
        let when = if same { "" } else { " now" };
        if policies.is_empty() {
            writeln!(out, "\nno policy determines it{when}: what no policy permits is denied")?;
            return Ok(());
        }
        writeln!(out, "\ndetermined{when} by")?;
        policies.iter().try_for_each(|id| self.policy(id, "", out))
    }

    /// Policies whose scope matches, which did not come to hold.
    fn near_misses(&self, answer: &Answer, determining: &[String], out: &mut impl Write) -> Result<()> {
        let beside: Vec<&Weighed> =
            answer.weighed.iter().filter(|weighed| !determining.contains(&weighed.policy)).collect();
        if beside.is_empty() {
            return Ok(());
        }
        writeln!(out, "\nalso matched by scope")?;
        for weighed in beside {
            let came = match (weighed.weight, weighed.permits) {
                (Weight::Holds, true) => "permits, but something denies",
                (Weight::Holds, false) => "forbids",
                (Weight::ConditionFalse, true) => "would permit, but its condition is false",
                (Weight::ConditionFalse, false) => "would forbid, but its condition is false",
                (Weight::Fails, _) => "could not be evaluated, which denies",
                (Weight::ArgumentsUnfit, _) => "names arguments that are unfit, which denies",
            };
            self.policy(&weighed.policy, came, out)?;
        }
        Ok(())
    }

    fn policy(&self, id: &str, came: &str, out: &mut impl Write) -> Result<()> {
        let came = if came.is_empty() { String::new() } else { format!(": {came}") };
        let Some(place) = self.set.place(id) else {
            return Ok(writeln!(out, "  {}{came}", printable(id))?);
        };
        writeln!(out, "  {}{came} ({}/{}:{})", printable(id), self.directory, printable(&place.file), place.line)?;
        let texts = self.files.texts();
        let text = texts.iter().find(|(name, _)| *name == place.file).map_or("", |(_, text)| text);
        for line in text.lines().skip(place.line.saturating_sub(1)).take(place.last + 1 - place.line) {
            writeln!(out, "    {}", printable(line))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
