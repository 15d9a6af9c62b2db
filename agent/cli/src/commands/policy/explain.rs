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
use callgate_model::{
    ArgumentsState, CallBegin, CallEnd, CallId, Direction, FailMode, Mode, Reason, RecordKind, Unfit, Workload,
};
use callgate_policy::{PolicySet, Weighed, Weight};
use callgate_wire::{Content, read_arguments};
use clap::Args;
use serde::{Serialize, Serializer};

use super::ask::Question;
use super::kinds::KindsArgs;
use crate::commands::audit::rows::{placed, printable, said, started_by};
use crate::commands::audit::source::SourceArgs;

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The call's id, as a refusal or `callgate audit search` shows it
    #[arg(value_name = "EVENT")]
    event: CallId,
    /// Directory of the policies that answered
    #[arg(long, value_name = "DIR", default_value = "./callgate")]
    policy: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    kinds: KindsArgs,
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
    let (set, _) = policy_source::parse(&files, &*args.kinds.detectors()?).map_err(|errors| {
        let shown = args.policy.display();
        anyhow!("{errors}")
            .context(format!("the policies in `{shown}` are refused: see `callgate policy check {shown}`"))
    })?;
    let explanation = explain(begin, &records, &set, &files, &args.policy.display().to_string())?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&explanation)?)?;
    } else {
        explanation.print(out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Why a call was decided as it was. As JSON it is what `--json` prints.
#[derive(Debug, Serialize)]
struct Explanation {
    /// What was asked and what was said, by name.
    #[serde(flatten, serialize_with = "as_map")]
    asked: Vec<(&'static str, String)>,
    /// Whether the set that answered is the one that was read.
    same_set: bool,
    /// Policies that determine it.
    determined: Vec<Shown>,
    /// Others whose scope matches.
    matched: Vec<Shown>,
}

fn as_map<S: Serializer>(pairs: &[(&'static str, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

/// A policy with its text.
#[derive(Debug, Serialize)]
struct Shown {
    policy: String,
    /// What came of it, of one that does not determine.
    #[serde(skip_serializing_if = "str::is_empty")]
    came: &'static str,
    /// Where it stands; empty: not in the set that was read.
    file: String,
    line: usize,
    text: String,
}

fn explain(
    begin: &CallBegin,
    records: &[StoredRecord],
    set: &PolicySet,
    files: &Files,
    directory: &str,
) -> Result<Explanation> {
    let arguments = arguments(begin, records);
    let mut asked = asked(begin, &arguments);
    let question = question(begin, arguments)?;
    let answer = question.put(set).context("the recorded call could not be put as a question")?;
    let recorded = &begin.decision;
    let same = recorded.policy_set == set.hash();
    let now = said(&answer.decision);
    let stands = if same {
        format!("`{directory}` holds the set that answered")
    } else {
        format!("`{directory}` holds another set, {}, which says: {now}", set.hash())
    };
    asked.push(("policies", stands));
    // The record's values are masked, so a condition on one may come out otherwise now.
    if same && (recorded.verdict, recorded.reason) != (answer.decision.verdict, answer.decision.reason) {
        let why = "what it looked at is masked there, or was not kept";
        asked.push(("note", format!("asked again from the record, it says {now}: {why}")));
    }
    let determining = if same { &recorded.policies } else { &answer.decision.policies };
    let show = |policy: &str, came| shown(set, files, directory, policy, came);
    let beside = answer.weighed.iter().filter(|weighed| !determining.contains(&weighed.policy));
    Ok(Explanation {
        asked,
        same_set: same,
        determined: determining.iter().map(|policy| show(policy, "")).collect(),
        matched: beside.map(|weighed| show(&weighed.policy, came(weighed))).collect(),
    })
}

fn shown(set: &PolicySet, files: &Files, directory: &str, policy: &str, came: &'static str) -> Shown {
    let policy = policy.to_owned();
    let Some(place) = set.place(&policy) else {
        return Shown { policy, came, file: String::new(), line: 0, text: String::new() };
    };
    let texts = files.texts();
    let text = texts.iter().find(|(name, _)| *name == place.file).map_or("", |(_, text)| text);
    let lines = text.lines().skip(place.line.saturating_sub(1)).take(place.last + 1 - place.line);
    let file = format!("{directory}/{}", place.file);
    Shown { policy, came, file, line: place.line, text: lines.collect::<Vec<_>>().join("\n") }
}

fn came(weighed: &Weighed) -> &'static str {
    match (weighed.weight, weighed.permits) {
        (Weight::Holds, true) => "permits, but something denies",
        (Weight::Holds, false) => "forbids",
        (Weight::ConditionFalse, true) => "would permit, but its condition is false",
        (Weight::ConditionFalse, false) => "would forbid, but its condition is false",
        (Weight::Fails, _) => "could not be evaluated, which denies",
        (Weight::ArgumentsUnfit, _) => "names arguments that are unfit, which denies",
    }
}

impl Explanation {
    /// For people.
    fn print(&self, out: &mut impl Write) -> Result<()> {
        for (name, value) in &self.asked {
            writeln!(out, "{name:<12} {}", printable(value))?;
        }
        let when = if self.same_set { "" } else { " now" };
        if self.determined.is_empty() {
            writeln!(out, "\nno policy determines it{when}: what no policy permits is denied")?;
        } else {
            writeln!(out, "\ndetermined{when} by")?;
        }
        self.determined.iter().try_for_each(|shown| shown.print(out))?;
        if !self.matched.is_empty() {
            writeln!(out, "\nalso matched by scope")?;
        }
        self.matched.iter().try_for_each(|shown| shown.print(out))
    }
}

impl Shown {
    fn print(&self, out: &mut impl Write) -> Result<()> {
        let came = if self.came.is_empty() { String::new() } else { format!(": {}", self.came) };
        let place =
            if self.file.is_empty() { String::new() } else { format!(" ({}:{})", printable(&self.file), self.line) };
        writeln!(out, "  {}{came}{place}", printable(&self.policy))?;
        self.text.lines().try_for_each(|line| Ok(writeln!(out, "    {}", printable(line))?))
    }
}

/// What was asked and what was said.
fn asked(begin: &CallBegin, arguments: &ArgumentsState) -> Vec<(&'static str, String)> {
    let process = &begin.process;
    let mut asked = Vec::from([
        ("call", begin.call.to_string()),
        ("function", begin.function.to_string()),
        ("workload", format!("{}, pid {}, uid {}", begin.workload, process.pid, process.uid)),
    ]);
    let executable = process.executable.as_ref();
    let executable = executable.map(|executable| format!("{} sha256:{}", executable.path, executable.sha256));
    asked.push(("executable", executable.unwrap_or_else(|| "could not be told for certain".to_owned())));
    asked.push(("started by", started_by(&process.lineage)));
    asked.extend(placed(&process.placement));
    let caller = begin.caller.as_ref();
    let caller =
        caller.map(|caller| format!("{} of {} (groups: {})", caller.sub, caller.iss, caller.groups.join(", ")));
    asked.push(("caller", caller.unwrap_or_else(|| "none was verified".to_owned())));
    asked.push(("destination", begin.destination.clone()));
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
    asked.push(("arguments", names));
    let observed = if begin.observed { "; observed, not enforced" } else { "" };
    asked.push(("decision", format!("{} by set {}{observed}", said(&begin.decision), begin.decision.policy_set)));
    asked.push(("reason", begin.decision.reason.sentence().to_owned()));
    asked
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

#[cfg(test)]
mod tests;
