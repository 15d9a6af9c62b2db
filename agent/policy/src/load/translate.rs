//! Cedar's own errors as findings: placed in the file, and with the nearest valid name.

use std::fmt::Display;
use std::ops::Range;

use cedar_policy::{Effect, ParseError, ValidationError, ValidationWarning};
use miette::Diagnostic;

use super::layout::Layout;
use super::nearest::{advice, nearest};
use super::{Finding, Loaded, Rule, Severity};

/// Entity types of the schema, by their last name.
const ENTITY_TYPES: &[&str] = &["Function", "Group", "Namespace", "Service", "ServiceAccount", "Workload"];

/// An error of the parser.
pub(super) fn syntax(error: &ParseError, file: &str, text: &str, layout: &Layout) -> Finding {
    let (span, label) = label(error);
    let span = span.unwrap_or(0..0);
    let number = layout.statements.iter().position(|s| s.span.contains(&span.start)).map_or(0, |at| at + 1);
    let policy = layout.statement_at(span.start).map_or_else(String::new, |_| format!("{file}:{number}"));
    let help = help(error).or(label).unwrap_or_default();
    Finding::at(Severity::Error, Rule::Syntax, file, text, span, error.to_string()).of(&policy).help(help)
}

/// An error of the type checker.
pub(super) fn validation(error: &ValidationError, policy: &Loaded) -> Finding {
    let message = message(error);
    let (rule, help) = match error {
        ValidationError::UnrecognizedEntityType(_) => {
            (Rule::UnknownName, entity_type_advice(last_quoted(&message).unwrap_or("")))
        }
        ValidationError::UnrecognizedActionId(_) => {
            (Rule::UnknownName, action_advice(last_quoted(&message).unwrap_or("")))
        }
        ValidationError::UnsafeAttributeAccess(_) | ValidationError::UndefinedFunction(_) => {
            (Rule::UnknownName, help(error).unwrap_or_default())
        }
        _ => (Rule::Type, help(error).unwrap_or_default()),
    };
    let span = label(error).0.unwrap_or_else(|| policy.source.head());
    policy.source.finding(Severity::Error, rule, span, message).of(&policy.id).help(help)
}

/// A warning of the type checker.
pub(super) fn warning(warning: &ValidationWarning, policy: &Loaded) -> Finding {
    let (rule, severity) = match warning {
        // A permit that never matches denies, which is safe; a forbid that never matches forbids nothing, which is not.
        ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_) => {
            let severity = if policy.effect == Effect::Forbid { Severity::Error } else { Severity::Warning };
            (Rule::NeverMatches, severity)
        }
        _ => (Rule::Misleading, Severity::Warning),
    };
    let (message, advice) = match rule {
        Rule::NeverMatches => (
            "the policy can never match".to_owned(),
            "`call` has a workload and a function, `connect` a workload and a service; do the conditions contradict?",
        ),
        _ => (message(warning), ""),
    };
    let span = policy.source.head();
    let help = help(warning).unwrap_or_else(|| advice.to_owned());
    policy.source.finding(severity, rule, span, message).of(&policy.id).help(help)
}

/// The message without the name of the policy, which stands beside it.
fn message(error: &impl Display) -> String {
    let message = error.to_string();
    match message.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, ")) {
        Some((_, rest)) => rest.to_owned(),
        None => message,
    }
}

fn label(error: &impl Diagnostic) -> (Option<Range<usize>>, Option<String>) {
    let first = error.labels().and_then(|mut labels| labels.next());
    let span = first.as_ref().map(|label| label.offset()..label.offset() + label.len());
    (span, first.and_then(|label| label.label().map(str::to_owned)))
}

fn help(error: &impl Diagnostic) -> Option<String> {
    error.help().map(|help| help.to_string())
}

/// What stands in the last pair of backticks.
fn last_quoted(message: &str) -> Option<&str> {
    message.strip_suffix('`').and_then(|rest| rest.rsplit_once('`')).map(|(_, quoted)| quoted)
}

fn entity_type_advice(name: &str) -> String {
    let last = name.rsplit("::").next().unwrap_or(name);
    match nearest(last, ENTITY_TYPES.iter().copied()) {
        Some(near) => format!("did you mean `Callgate::{near}`?"),
        None => advice(last, ENTITY_TYPES),
    }
}

fn action_advice(name: &str) -> String {
    let id = name.split('"').nth(1).unwrap_or(name);
    let near = nearest(id, ["connect", "call"]);
    match near {
        Some(near) => format!("did you mean `Callgate::Action::\"{near}\"`?"),
        None => "actions are `Callgate::Action::\"connect\"` and `Callgate::Action::\"call\"`".to_owned(),
    }
}
