//! Conditions: literals that an attribute never has, and uses of `context` that cannot be seen through.
//!
//! Reads Cedar's JSON form of a policy, without recursion.

use std::collections::BTreeSet;

use callgate_model::{Protocol, Service};
use cedar_policy::Effect;
use serde_json::Value;

use super::nearest::nearest;
use super::{Finding, Loaded, Rule, Severity};

/// Methods that are surely meant when their letters are there in another case.
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];

/// Checks the conditions of `policy`.
pub(super) fn check(policy: &mut Loaded, findings: &mut Vec<Finding>) {
    let Ok(json) = policy.policy.to_json() else {
        findings.push(Finding::internal("a policy has no JSON form").of(&policy.id));
        return;
    };
    let mut seen = Seen::default();
    let mut open: Vec<&Value> = json.get("conditions").into_iter().collect();
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(fields) => {
                for (operator, operand) in fields {
                    // A literal record's keys are the policy's own, and no operators.
                    match operator.as_str() {
                        "Record" => open.extend(operand.as_object().into_iter().flat_map(serde_json::Map::values)),
                        "Value" => {}
                        _ => {
                            seen.look(operator, operand);
                            if !is_context_access(operator, operand) {
                                open.push(operand);
                            }
                        }
                    }
                }
            }
            _ => {}
        }
    }

    let mut say = |severity, rule, span, message: String, help: String| {
        findings.push(policy.source.finding(severity, rule, span, message).of(&policy.id).help(help));
    };
    for (attribute, literal, message, help) in seen.literals {
        let message = format!("`resource.{attribute}` is never `{}`: {message}", literal.escape_debug());
        say(Severity::Error, Rule::Literal, policy.source.literal(&literal), message, help);
    }
    if seen.approved {
        let message = "`context.approved` needs `@hold`, which is not supported by this version".to_owned();
        say(Severity::Error, Rule::Context, policy.source.head(), message, "remove it".to_owned());
    }
    if seen.bare_context {
        let message = "`context` is used as a whole".to_owned();
        let help = "name the attributes that are meant: `context.uid`".to_owned();
        say(Severity::Error, Rule::Context, policy.source.head(), message, help);
    }
    if seen.executable.contains("path") && !seen.executable.contains("sha256") {
        let message = "the path of an executable is a label that the workload can choose".to_owned();
        let help = "name `context.executable.sha256`".to_owned();
        say(Severity::Warning, Rule::Spoofable, policy.source.head(), message, help);
    }
    let excludes = seen.lineage.contains("ancestors") && !seen.lineage.contains("complete");
    if policy.effect == Effect::Forbid && excludes {
        let message = "an ancestor of which nothing is known is not excluded".to_owned();
        let help = "write `unless { context.lineage.complete && … }`".to_owned();
        say(Severity::Warning, Rule::Exceeds, policy.source.head(), message, help);
    }
}

/// What the conditions of one policy use.
#[derive(Default)]
struct Seen {
    /// Attribute, literal, what is wrong with it, what to do.
    literals: Vec<(&'static str, String, String, String)>,
    approved: bool,
    bare_context: bool,
    executable: BTreeSet<String>,
    lineage: BTreeSet<String>,
}

impl Seen {
    fn look(&mut self, operator: &str, operand: &Value) {
        match operator {
            "==" | "!=" => {
                let (left, right) = (operand.get("left"), operand.get("right"));
                self.compare(left, right);
                self.compare(right, left);
            }
            "contains" => {
                let elements = operand.get("left").and_then(|set| set.get("Set")).and_then(Value::as_array);
                for element in elements.into_iter().flatten() {
                    self.compare(operand.get("right"), Some(element));
                }
            }
            "like" => self.like(operand),
            "." | "has" => self.access(operand),
            "Var" if operand == "context" => self.bare_context = true,
            _ => {}
        }
    }

    fn compare(&mut self, attribute: Option<&Value>, literal: Option<&Value>) {
        let Some(attribute) = attribute.and_then(resource_attribute) else { return };
        let Some(literal) = literal.and_then(|literal| literal.get("Value")).and_then(Value::as_str) else { return };
        if let Some((attribute, message, help)) = never(attribute, literal) {
            self.literals.push((attribute, literal.to_owned(), message, help));
        }
    }

    /// A pattern whose fixed beginning no value has.
    fn like(&mut self, operand: &Value) {
        let Some(attribute) = operand.get("left").and_then(resource_attribute) else { return };
        let elements = operand.get("pattern").and_then(Value::as_array);
        let mut pattern = String::new();
        for element in elements.into_iter().flatten() {
            match element.get("Literal").and_then(Value::as_str) {
                Some(text) => pattern.push_str(text),
                None => pattern.push('*'),
            }
        }
        let wrong = match attribute {
            "path" if !pattern.starts_with(['/', '*']) => {
                Some(("path", "paths begin with `/`", format!("did you mean `/{pattern}`?")))
            }
            "path" if pattern.contains('?') => Some(("path", "the query is no part of it", String::new())),
            "host" if pattern != pattern.to_lowercase() => {
                Some(("host", "hosts are lower-case", format!("did you mean `{}`?", pattern.to_lowercase())))
            }
            _ => None,
        };
        if let Some((attribute, message, help)) = wrong {
            self.literals.push((attribute, pattern, message.to_owned(), help));
        }
    }

    fn access(&mut self, operand: &Value) {
        let (Some(left), Some(attribute)) = (operand.get("left"), operand.get("attr")) else { return };
        // `context has a.b` comes with a list of names.
        let names: Vec<&str> = match attribute {
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            name => name.as_str().into_iter().collect(),
        };
        if is_context(left) {
            self.approved |= names.first() == Some(&"approved");
            if let [outer, inner, ..] = names.as_slice() {
                self.part(outer, inner);
            }
        }
        let outer = left.get(".").or_else(|| left.get("has"));
        if let Some(outer) = outer
            && outer.get("left").is_some_and(is_context)
            && let Some(outer) = outer.get("attr").and_then(Value::as_str)
            && let Some(inner) = names.first()
        {
            self.part(outer, inner);
        }
    }

    /// `context.OUTER.INNER` is asked for.
    fn part(&mut self, outer: &str, inner: &str) {
        match outer {
            "executable" => self.executable.insert(inner.to_owned()),
            "lineage" => self.lineage.insert(inner.to_owned()),
            _ => false,
        };
    }
}

pub(super) fn is_context(value: &Value) -> bool {
    value.get("Var").and_then(Value::as_str) == Some("context")
}

fn is_context_access(operator: &str, operand: &Value) -> bool {
    matches!(operator, "." | "has") && operand.get("left").is_some_and(is_context)
}

/// The attribute, if `value` is `resource.ATTRIBUTE`.
fn resource_attribute(value: &Value) -> Option<&str> {
    let access = value.get(".")?;
    (access.get("left")?.get("Var")?.as_str()? == "resource").then(|| access.get("attr")?.as_str())?
}

/// Why the attribute never equals the literal, and what to do about it; none if it can.
fn never(attribute: &str, literal: &str) -> Option<(&'static str, String, String)> {
    let did_you_mean = |word: &str| format!("did you mean `{word}`?");
    match attribute {
        "protocol" if Protocol::ALL.iter().all(|protocol| protocol.as_str() != literal) => {
            let known: Vec<&str> = Protocol::ALL.iter().map(|protocol| protocol.as_str()).collect();
            let all = || format!("this version decodes `{}`", known.join("`, `"));
            let help = nearest(literal, known.iter().copied()).map_or_else(all, did_you_mean);
            Some(("protocol", "it is no protocol that this version decodes".to_owned(), help))
        }
        "method" if !METHODS.contains(&literal) && METHODS.contains(&literal.to_uppercase().as_str()) => {
            Some(("method", "methods are case-sensitive".to_owned(), did_you_mean(&literal.to_uppercase())))
        }
        "path" if !literal.starts_with('/') && literal != "*" => {
            Some(("path", "paths begin with `/`".to_owned(), did_you_mean(&format!("/{literal}"))))
        }
        "path" if literal.contains('?') => Some(("path", "the query is no part of it".to_owned(), String::new())),
        "path" if literal.len() > 1 && literal.ends_with('*') => {
            Some(("path", "`==` knows no star".to_owned(), format!("write `resource.path like \"{literal}\"`")))
        }
        "host" if Service::new(literal, 1).is_ok_and(|service| service.host() == literal) => None,
        "host" => {
            let bare = literal.split_once("://").map_or(literal, |(_, rest)| rest);
            let help = match Service::new(bare.split(['/', ':']).next().unwrap_or(bare), 1) {
                Ok(service) => did_you_mean(service.host()),
                Err(_) => "for more than one host write `resource.host like \"*.example\"`".to_owned(),
            };
            Some(("host", "it is not a lower-case name or an address".to_owned(), help))
        }
        _ => None,
    }
}
