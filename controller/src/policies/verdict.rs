//! What the compiler of policies says of each object, as its status.

use std::collections::HashMap;

use callgate_kubernetes::{Accepted, Past, PolicyObject, Status, within_bounds};
use callgate_mask::kinds_named;
use callgate_policy::{Closed, Compiled, Compiler, Finding, LoadErrors, Refused, Severity};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Most findings told of one object.
const FINDINGS_TOLD: usize = 5;
/// Longest message. Unit: characters. Source: the API takes 32,768; a person reads less.
const MESSAGE_MAX: usize = 4_096;

/// Judges the objects as they change.
#[derive(Debug)]
pub struct Judge {
    compiler: Compiler<'static>,
}

impl Judge {
    /// `kinds` are those that the agents' configuration adds.
    ///
    /// # Errors
    /// A bug of ours: the built-in schema does not load.
    pub fn new(kinds: Vec<String>) -> Result<Self, LoadErrors> {
        let added = move |word: &str| kinds.iter().any(|kind| kind == word).then(|| kinds_named("all")).flatten();
        Ok(Self { compiler: Compiler::new(move |word| kinds_named(word).or_else(|| added(word)))? })
    }

    /// The objects whose status is another than they have, with it.
    pub fn verdicts(&mut self, objects: Vec<PolicyObject>) -> Vec<(PolicyObject, Status)> {
        let offers = within_bounds(&objects, |_| Past::Unknown);
        let Compiled { warnings, refused, closed, .. } = match self.compiler.compile(&offers) {
            Ok(compiled) => compiled,
            Err(error) => {
                tracing::error!(%error, "policies cannot be judged");
                return Vec::new();
            }
        };
        let refused: HashMap<usize, &Refused> = refused.iter().map(|refused| (refused.offer, refused)).collect();
        let mut warned: HashMap<&str, Vec<&Finding>> = HashMap::new();
        for finding in &warnings {
            warned.entry(&finding.file).or_default().push(finding);
        }
        let judged = objects.into_iter().enumerate().filter_map(|(place, object)| {
            let warnings = warned.get(object.origin.to_string().as_str()).map(Vec::as_slice).unwrap_or_default();
            let closed = closed.iter().find(|closed| closed.concerns(object.origin.namespace()));
            let status = status(&object, refused.get(&place).copied(), warnings, closed);
            (status != object.status).then_some((object, status))
        });
        judged.collect()
    }
}

fn status(object: &PolicyObject, refused: Option<&Refused>, warnings: &[&Finding], closed: Option<&Closed>) -> Status {
    let (holds, reason, said) = match refused {
        None if warnings.is_empty() => ("True", Status::ACCEPTED.to_owned(), "It holds.".to_owned()),
        None => ("True", Status::ACCEPTED.to_owned(), told(warnings.iter().copied())),
        Some(refused) => {
            let last = object.status.last_accepted.as_ref().filter(|_| refused.stands_in);
            let rest = match last {
                Some(last) => format!("The text of generation {} stays in force.", last.generation),
                None => "Nothing of it is in force.".to_owned(),
            };
            ("False", reason(&refused.errors), format!("{} {rest}", told(refused.errors.errors())))
        }
    };
    // Not empty in any case: an empty text is left out by the client, and the API wants one.
    let message = match closed {
        Some(closed) => format!("{said} {closed}: {}.", closed.meaning()),
        None => said,
    };
    let before = object.status.conditions.iter().find(|condition| condition.type_ == Status::ACCEPTED);
    let since = before.filter(|before| before.status == holds).map(|before| before.last_transition_time.clone());
    let mut conditions = object.status.conditions.clone();
    conditions.retain(|condition| condition.type_ != Status::ACCEPTED);
    conditions.push(Condition {
        type_: Status::ACCEPTED.into(),
        status: holds.into(),
        reason,
        message,
        observed_generation: Some(object.generation),
        last_transition_time: since.unwrap_or_else(|| Time(Timestamp::now())),
    });
    let accepted = object.text.as_ref().ok().filter(|_| refused.is_none());
    let accepted = accepted.map(|cedar| Accepted { generation: object.generation, cedar: cedar.clone() });
    Status {
        observed_generation: Some(object.generation),
        conditions,
        last_accepted: accepted.or_else(|| object.status.last_accepted.clone()),
    }
}

/// The check that the first error comes from, in one word.
fn reason(errors: &LoadErrors) -> String {
    errors.errors().next().map_or_else(|| "Refused".to_owned(), |error| format!("{:?}", error.rule))
}

fn told<'a>(findings: impl Iterator<Item = &'a Finding>) -> String {
    let all: Vec<String> = findings.map(one).collect();
    let mut text = all.iter().take(FINDINGS_TOLD).cloned().collect::<Vec<_>>().join(" ");
    if all.len() > FINDINGS_TOLD {
        text.push_str(&format!(" And {} more.", all.len() - FINDINGS_TOLD));
    }
    match text.char_indices().nth(MESSAGE_MAX) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

fn one(finding: &Finding) -> String {
    let place = match finding.line {
        0 => String::new(),
        line => format!("line {line}, column {}: ", finding.column),
    };
    let severity = if finding.severity == Severity::Warning { "warning: " } else { "" };
    let help = if finding.help.is_empty() { String::new() } else { format!(" ({})", finding.help) };
    format!("{place}{severity}{}{help}.", finding.message)
}

#[cfg(test)]
mod tests {
    use callgate_kubernetes::OBJECTS_MAX;
    use callgate_policy::Origin;

    use super::*;

    const GOOD: &str =
        "permit (principal, action == Callgate::Action::\"call\", resource in Callgate::Service::\"a.x\");";

    fn object(namespace: &str, text: &str) -> PolicyObject {
        PolicyObject {
            origin: Origin::Namespace { namespace: namespace.into(), name: "web".into() },
            uid: "u".into(),
            generation: 3,
            text: Ok(text.into()),
            status: Status::default(),
        }
    }

    fn verdicts(objects: Vec<PolicyObject>) -> Vec<(PolicyObject, Status)> {
        Judge::new(vec!["badge".to_owned()]).unwrap().verdicts(objects)
    }

    fn judged(object: PolicyObject) -> (Status, Condition) {
        let (_, status) = verdicts(vec![object]).remove(0);
        let condition = status.conditions[0].clone();
        (status, condition)
    }

    #[test]
    fn a_sound_object_is_accepted_once() {
        let (status, condition) = judged(object("a", GOOD));
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", "Accepted"));
        assert_eq!((status.observed_generation, condition.observed_generation), (Some(3), Some(3)));
        assert_eq!(status.last_accepted.as_ref().unwrap().cedar, GOOD);
        // Said already: not written again.
        assert!(verdicts(vec![PolicyObject { status, ..object("a", GOOD) }]).is_empty());
    }

    #[test]
    fn a_broken_object_is_told_where_and_keeps_what_was_accepted() {
        let (accepted, _) = judged(object("a", GOOD));
        let since = accepted.conditions[0].last_transition_time.clone();
        let broken = PolicyObject {
            generation: 4,
            status: accepted,
            ..object("a", &format!("\n  {}", GOOD.replace("call", "cal")))
        };
        let (status, condition) = judged(broken.clone());
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "UnknownName"));
        assert!(condition.message.starts_with("line 2, column 32:"), "{}", condition.message);
        assert!(condition.message.contains("did you mean `Callgate::Action::\"call\"`?"), "{}", condition.message);
        assert!(condition.message.ends_with("The text of generation 3 stays in force."), "{}", condition.message);
        assert_eq!(status.last_accepted.as_ref().unwrap().generation, 3);
        assert!(condition.last_transition_time >= since);
        // Broken otherwise, but broken still: since the same time.
        let (_, again) = judged(PolicyObject { generation: 5, status, ..object("a", "permit") });
        assert_eq!(again.last_transition_time, condition.last_transition_time);
        assert_eq!(again.reason, "Syntax");
        let (_, never) = judged(object("a", "permit"));
        assert!(never.message.ends_with("Nothing of it is in force."), "{}", never.message);
    }

    #[test]
    fn another_namespace_is_told_apart_and_added_kinds_are_known() {
        let (_, condition) = judged(object("a", "permit (principal in Callgate::Namespace::\"b\", action, resource);"));
        assert_eq!(condition.reason, "Foreign");
        let mask = |kind: &str| GOOD.replace("permit", &format!("@mask(\"{kind}\") permit"));
        assert_eq!(judged(object("a", &mask("badge"))).1.status, "True");
        assert_eq!(judged(object("a", &mask("bagde"))).1.reason, "AnnotationValue");
        let all = verdicts(vec![object("a", "permit"), object("b", GOOD)]);
        let said: Vec<&str> = all.iter().map(|(_, status)| status.conditions[0].status.as_str()).collect();
        assert_eq!(said, ["False", "True"]);
    }

    fn named(namespace: &str, name: usize, text: &str) -> PolicyObject {
        let origin = Origin::Namespace { namespace: namespace.into(), name: name.to_string() };
        PolicyObject { origin, ..object(namespace, text) }
    }

    fn conditions(all: &[(PolicyObject, Status)]) -> Vec<(&str, &str)> {
        let said = all.iter().map(|(_, status)| &status.conditions[0]);
        said.map(|condition| (condition.status.as_str(), condition.reason.as_str())).collect()
    }

    #[test]
    fn a_namespace_over_its_bound_is_told_so_on_each_object_and_no_other_is() {
        let mut objects: Vec<PolicyObject> = (0..=OBJECTS_MAX).map(|name| named("a", name, GOOD)).collect();
        objects.push(object("b", GOOD));
        let all = verdicts(objects.clone());
        assert_eq!(conditions(&all[..1]), [("False", "OverBound")]);
        assert!(conditions(&all[..=OBJECTS_MAX]).windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(conditions(&all[OBJECTS_MAX + 1..]), [("True", "Accepted")]);
        assert_eq!(
            all[0].1.conditions[0].message,
            "the CallPolicies of namespace `a` are more than 256. Nothing of it is in force. policies of namespace a \
             are over their bound: all calls of its workloads are refused."
        );
        assert_eq!(all[0].1.last_accepted, None);
        // Within the bound again, each is accepted.
        objects.remove(0);
        assert!(conditions(&verdicts(objects)).iter().all(|said| *said == ("True", "Accepted")));
    }

    #[test]
    fn what_was_accepted_once_and_is_lost_closes_its_namespace() {
        let (mut accepted, _) = judged(object("a", GOOD));
        accepted.last_accepted = None;
        let lost = PolicyObject { generation: 4, status: accepted, ..object("a", "permit") };
        let all = verdicts(vec![lost, named("a", 2, GOOD), object("b", GOOD), object("c", "permit")]);
        assert_eq!(
            conditions(&all),
            [("False", "Syntax"), ("True", "Accepted"), ("True", "Accepted"), ("False", "Syntax")]
        );
        let closed = |place: usize| all[place].1.conditions[0].message.contains("policies of namespace a cannot be");
        assert_eq!([0, 1, 2, 3].map(closed), [true, true, false, false]);
    }
}
