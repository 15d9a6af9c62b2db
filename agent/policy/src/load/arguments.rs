//! Arguments that a policy names, read off its conditions at load.
//!
//! Which maps and pointers a policy looks at must be known for certain: else a value sent as another kind could slip
//! past it unseen. So `context.arguments.KIND` may stand before `hasTag` and `getTag`, and nowhere else.
//! Reads Cedar's JSON form of a policy, without recursion.

use std::collections::BTreeSet;

use callgate_model::ArgumentKind;
use cedar_policy::Effect;
use serde_json::Value;

use super::expressions::is_context;
use super::{Finding, Loaded, Rule, Severity};
use crate::arguments::Named;

/// Reads the arguments that `policy` names into its terms.
pub(super) fn check(policy: &mut Loaded, findings: &mut Vec<Finding>) {
    let Ok(json) = policy.policy.to_json() else {
        findings.push(Finding::internal("a policy has no JSON form").of(&policy.id));
        return;
    };
    let mut seen = Seen::default();
    for condition in json.get("conditions").and_then(Value::as_array).into_iter().flatten() {
        let unless = condition.get("kind").and_then(Value::as_str) == Some("unless");
        if let Some(body) = condition.get("body") {
            seen.look(body, !unless);
        }
    }
    let mut say = |severity, rule, span, message: String, help: &str| {
        findings.push(policy.source.finding(severity, rule, span, message).of(&policy.id).help(help));
    };
    if seen.whole {
        let message = "`context.arguments` is used otherwise than by `hasTag` and `getTag`".to_owned();
        let help = "write `context.arguments.number.getTag(\"/amount\")`, with the kind and the pointer that are meant";
        say(Severity::Error, Rule::Context, policy.source.head(), message, help);
    }
    for named in &seen.named {
        if let Some(pointer) = named.pointer.as_deref()
            && !pointer.is_empty()
            && !pointer.starts_with(['/', '?'])
        {
            let message = format!("no argument is ever at `{}`", pointer.escape_debug());
            let help = format!("did you mean `/{0}` (in the body) or `?{0}` (in the query)?", pointer.escape_debug());
            say(Severity::Error, Rule::Literal, policy.source.literal(pointer), message, &help);
        }
    }
    if seen.present_matters && policy.effect == Effect::Forbid {
        let message = "this forbids by what an argument is, so a call without the argument passes".to_owned();
        let help = "say what is allowed: `forbid … unless { …hasTag(\"/amount\") && …getTag(\"/amount\") <= 1000 }`";
        say(Severity::Warning, Rule::Exceeds, policy.source.head(), message, help);
    }
    policy.terms.arguments = seen.named.into_iter().collect();
}

#[derive(Default)]
struct Seen {
    named: BTreeSet<Named>,
    /// Whether a map, or all of them, is used as a value.
    whole: bool,
    /// Whether the policy can come to hold by an argument's being there.
    present_matters: bool,
}

impl Seen {
    /// Looks through an expression; `holds` tells whether the policy holds where the expression does.
    fn look(&mut self, body: &Value, holds: bool) {
        let mut open = vec![(body, holds)];
        while let Some((value, holds)) = open.pop() {
            match value {
                Value::Array(items) => open.extend(items.iter().map(|item| (item, holds))),
                Value::Object(fields) => {
                    for (operator, operand) in fields {
                        match operator.as_str() {
                            // A literal record's keys are the policy's own, and no operators.
                            "Record" => {
                                let values = operand.as_object().into_iter().flat_map(serde_json::Map::values);
                                open.extend(values.map(|value| (value, holds)));
                            }
                            "Value" => {}
                            "!" => open.push((operand, !holds)),
                            "hasTag" | "getTag" => {
                                let (left, right) = (operand.get("left"), operand.get("right"));
                                match left.and_then(map_of) {
                                    Some(kind) => {
                                        self.name(kind, right);
                                        self.present_matters |= operator == "hasTag" && holds;
                                    }
                                    None => open.extend(left.map(|left| (left, holds))),
                                }
                                open.extend(right.map(|right| (right, holds)));
                            }
                            "." if is_arguments(operand) => self.whole = true,
                            _ => open.push((operand, holds)),
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn name(&mut self, kind: ArgumentKind, tag: Option<&Value>) {
        let pointer = tag.and_then(|tag| tag.get("Value")).and_then(Value::as_str).map(str::to_owned);
        self.named.insert(Named { kind, pointer });
    }
}

/// The kind, if `value` is `context.arguments.KIND`.
fn map_of(value: &Value) -> Option<ArgumentKind> {
    let access = value.get(".")?;
    let kind = access.get("attr")?.as_str()?;
    let whole = access.get("left")?.get(".").is_some_and(is_arguments);
    ArgumentKind::ALL.into_iter().find(|known| whole && known.as_str() == kind)
}

/// Whether an access is `context.arguments`.
fn is_arguments(access: &Value) -> bool {
    access.get("left").is_some_and(is_context) && access.get("attr").and_then(Value::as_str) == Some("arguments")
}
