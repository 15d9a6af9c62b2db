//! The index answers as the whole set would, for connects and for calls.
//!
//! What is expected comes from Cedar over the whole set, and, for arguments and implied connects, from Cedar over the
//! scope of each policy alone.

use callgate_model::{Argument, ArgumentKind, Arguments, ArgumentsState, Decimal, Function, Reason, Unfit};
use cedar_policy::{AuthorizationError, Authorizer, Entities, Request};
use proptest::prelude::*;

use super::{Asker, set};
use crate::PolicySet;
use crate::arguments::Named;
use crate::entities::Subject;

const PRINCIPALS: &[&str] = &[
    "principal",
    "principal is Callgate::Workload",
    "principal == Callgate::Workload::\"run/a\"",
    "principal in Callgate::Workload::\"run/b\"",
    "principal in Callgate::Group::\"g\"",
    "principal is Callgate::Workload in Callgate::Group::\"h\"",
];

const RESOURCES: &[&str] = &[
    "resource",
    "resource is Callgate::Function",
    "resource is Callgate::Service",
    "resource in Callgate::Service::\"api.x\"",
    "resource in Callgate::Service::\"api.x:443\"",
    "resource in Callgate::Service::\"api.x:8443\"",
    "resource in Callgate::Service::\"other.x\"",
    "resource == Callgate::Service::\"api.x:443\"",
    "resource is Callgate::Function in Callgate::Service::\"other.x:443\"",
    "resource == Callgate::Function::\"http:GET api.x/v1\"",
    "resource in Callgate::Function::\"http:GET other.x/v1\"",
];

/// Conditions of both actions.
const CONDITIONS: &[&str] = &[
    "",
    "when { context.uid == 1000 }",
    "when { context.uid * 9223372036854775807 > 1 }",
    "when { principal.name == \"a\" }",
    "unless { context has caller && context.caller.groups.contains(\"admins\") }",
];

/// Conditions of calls, and the argument that they name.
const CALL_CONDITIONS: &[(&str, Option<(ArgumentKind, &str)>)] = &[
    ("when { resource.method == \"GET\" }", None),
    ("unless { resource.path like \"/v1*\" }", None),
    (
        "unless { context.arguments.number.hasTag(\"/n\") && context.arguments.number.getTag(\"/n\") <= 10 }",
        Some((ArgumentKind::Number, "/n")),
    ),
    (
        "when { context.arguments.text.hasTag(\"/t\") && context.arguments.text.getTag(\"/t\") == \"x\" }",
        Some((ArgumentKind::Text, "/t")),
    ),
];

/// A policy, in parts.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    permit: bool,
    call: bool,
    principal: &'static str,
    resource: &'static str,
    condition: &'static str,
    named: Option<(ArgumentKind, &'static str)>,
}

impl Rule {
    fn scope(&self) -> String {
        let action = if self.call { "call" } else { "connect" };
        format!("({}, action == Callgate::Action::\"{action}\", {})", self.principal, self.resource)
    }

    pub(super) fn text(&self, number: usize) -> String {
        let effect = if self.permit { "permit" } else { "forbid" };
        format!("@id(\"p{number}\") {effect} {} {};", self.scope(), self.condition)
    }

    /// Whether Cedar says that its scope matches.
    fn matches(&self, (request, entities): &(Request, Entities)) -> bool {
        let scope = format!("permit {};", self.scope()).parse().unwrap();
        Authorizer::new().is_authorized(request, &scope, entities).decision() == cedar_policy::Decision::Allow
    }
}

pub(super) fn rule() -> impl Strategy<Value = Rule> {
    let select = proptest::sample::select::<&'static str>;
    let condition = prop_oneof![
        select(CONDITIONS).prop_map(|condition| (condition, None, false)),
        proptest::sample::select(CALL_CONDITIONS).prop_map(|(condition, named)| (condition, named, true)),
    ];
    (proptest::bool::weighted(0.7), any::<bool>(), select(PRINCIPALS), select(RESOURCES), condition)
        .prop_map(|(permit, call, principal, resource, (condition, named, of_call))| Rule {
            permit,
            call: call || of_call,
            principal,
            resource,
            condition,
            named,
        })
        // Refused at load: it could never match, or a forbid never would.
        .prop_filter("loads", |rule| crate::tests::parse(&rule.text(0)).is_ok())
}

pub(super) fn state() -> impl Strategy<Value = ArgumentsState> {
    let number = |n: i64| Argument::Number { whole: Some(n), decimal: Some(Decimal(n * 10_000)) };
    let value = proptest::option::of(proptest::sample::select(vec![
        number(5),
        number(50),
        Argument::Text("x".into()),
        Argument::Text("y".into()),
        Argument::Other,
    ]));
    prop_oneof![
        1 => Just(ArgumentsState::NotRead),
        1 => Just(ArgumentsState::Unfit(Unfit::Duplicate)),
        6 => (value.clone(), value).prop_map(|(n, t)| {
            let mut arguments = Arguments::new();
            for (pointer, value) in [("/n", n), ("/t", t)] {
                if let Some(value) = value {
                    arguments.insert(pointer.into(), value).unwrap();
                }
            }
            ArgumentsState::Complete(arguments)
        }),
    ]
}

prop_compose! {
    fn asker()(
        workload in proptest::sample::select(vec!["run/a", "run/b", "run/c"]),
        groups in proptest::sample::subsequence(vec!["g", "h"], 0..=2),
        caller in proptest::sample::select(vec![None, Some("admins"), Some("others")]),
        arguments in state(),
    ) -> Asker {
        let mut asker = Asker::new(workload);
        if let Some(group) = caller {
            asker = asker.on_behalf("ann", &[group]);
        }
        asker.groups = groups.into_iter().map(str::to_owned).collect();
        asker.arguments = arguments;
        asker
    }
}

proptest! {
    #[test]
    fn agrees_with_the_whole_set(
        rules in proptest::collection::vec(rule(), 0..12),
        asker in asker(),
        method in proptest::sample::select(vec!["GET", "PUT"]),
        service in proptest::sample::select(vec!["api.x", "api.x:8443", "other.x"]),
        path in proptest::sample::select(vec!["/v1", "/v1/a/b", "/"]),
    ) {
        let text: Vec<String> = rules.iter().enumerate().map(|(number, rule)| rule.text(number)).collect();
        let set = set(&text.join("\n"));
        let function = asker.function(&format!("{method} {service}{path}"));
        let connect = asker.connect(&set, &function.service.to_string());
        let expected = expected_connect(&set, &rules, &asker, &function);
        prop_assert_eq!(said(connect.as_ref().map(crate::ConnectPermit::decision)), expected);
        if let Ok(permit) = connect {
            let wants = expected_naming(&set, &rules, &asker, &function).next().is_some();
            prop_assert_eq!(set.wants_arguments(&permit, &function), wants);
            let answer = set.decide_call(&asker.ask(&permit, &function));
            let expected = expected_call(&set, &rules, &asker, &function);
            prop_assert_eq!(said(answer.as_ref().map(crate::CallPermit::decision)), expected);
        }
    }
}

type Said = (Reason, Vec<String>);

fn said(answer: Result<&callgate_model::Decision, &callgate_model::Decision>) -> Said {
    let decision = answer.unwrap_or_else(|denied| denied);
    (decision.reason, decision.policies.clone())
}

fn call_question(set: &PolicySet, asker: &Asker, function: &Function) -> (Request, Entities) {
    let subject = Subject::new(&set.names, &asker.request(&function.service)).unwrap();
    let (resource, _) = subject.resource(&set.names, function);
    let all = ArgumentKind::ALL.map(|kind| Named { kind, pointer: None });
    let maps = match &asker.arguments {
        ArgumentsState::Complete(arguments) => set.names.maps.build(all.iter(), arguments).unwrap(),
        _ => Vec::new(),
    };
    subject.call(&set.names, (function, &resource), asker.caller.as_ref(), maps).unwrap()
}

/// The rules whose scope matches the call and that name an argument, with their numbers.
fn expected_naming<'a>(
    set: &PolicySet,
    rules: &'a [Rule],
    asker: &Asker,
    function: &Function,
) -> impl Iterator<Item = (usize, (ArgumentKind, &'static str))> + 'a {
    let question = call_question(set, asker, function);
    let named =
        move |(number, rule): (usize, &Rule)| rule.named.filter(|_| rule.matches(&question)).map(|n| (number, n));
    rules.iter().enumerate().filter_map(named)
}

fn expected_call(set: &PolicySet, rules: &[Rule], asker: &Asker, function: &Function) -> Said {
    let fits = |(kind, pointer): (ArgumentKind, &str)| match &asker.arguments {
        ArgumentsState::Complete(arguments) => arguments.get(pointer).is_none_or(|value| value.stands_in(kind)),
        _ => false,
    };
    let unfit = expected_naming(set, rules, asker, function).filter(|(_, named)| !fits(*named));
    let mut unfit: Vec<String> = unfit.map(|(number, _)| format!("p{number}")).collect();
    unfit.sort();
    if !unfit.is_empty() {
        return (Reason::ArgumentsUnfit, unfit);
    }
    by_the_whole_set(set, &call_question(set, asker, function))
}

fn expected_connect(set: &PolicySet, rules: &[Rule], asker: &Asker, function: &Function) -> Said {
    let subject = Subject::new(&set.names, &asker.request(&function.service)).unwrap();
    let said = by_the_whole_set(set, &subject.connect(&set.names, &function.service).unwrap());
    if said.0 != Reason::NoPermit {
        return said;
    }
    // A permit for calls that can match a function of the service implies the connect.
    let authority = function.service.to_string();
    let questions =
        ["GET", "PUT"].map(|method| call_question(set, asker, &asker.function(&format!("{method} {authority}/v1"))));
    let implies = |rule: &Rule| rule.permit && rule.call && questions.iter().any(|question| rule.matches(question));
    let implied = rules.iter().enumerate().filter(|(_, rule)| implies(rule));
    let mut implied: Vec<String> = implied.map(|(number, _)| format!("p{number}")).collect();
    implied.sort();
    if implied.is_empty() { said } else { (Reason::Permitted, implied) }
}

fn by_the_whole_set(set: &PolicySet, (request, entities): &(Request, Entities)) -> Said {
    let response = Authorizer::new().is_authorized(request, &set.whole, entities);
    let failed: Vec<String> = response
        .diagnostics()
        .errors()
        .map(|AuthorizationError::PolicyEvaluationError(error)| error.policy_id().to_string())
        .collect();
    let reasons: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    let allowed = response.decision() == cedar_policy::Decision::Allow;
    let (reason, mut policies) = match (failed.is_empty(), allowed, reasons.is_empty()) {
        (false, ..) => (Reason::EvaluationError, failed),
        (true, true, _) => (Reason::Permitted, reasons),
        (true, false, false) => (Reason::Forbidden, reasons),
        (true, false, true) => (Reason::NoPermit, reasons),
    };
    policies.sort();
    (reason, policies)
}

/// Prints what a decision costs; the bound is loose, because tests share the machine.
#[test]
fn decisions_stay_fast_with_many_policies() {
    use std::fmt::Write;
    let mut text = String::new();
    for n in 0..1_000 {
        writeln!(
            text,
            r#"@id("p{n}") permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"s{n}.x")
               when {{ resource.method == "GET" && resource.path like "/v1/users/*" }};"#
        )
        .unwrap();
    }
    for n in 0..10 {
        writeln!(
            text,
            r#"@id("f{n}") forbid (principal, action == Callgate::Action::"call", resource) when {{ resource.path like "/admin{n}/*" }};"#
        )
        .unwrap();
    }
    let set = set(&text);
    let asker = Asker::new("run/x").executable("/bin/a", &"a".repeat(64));
    let connect = asker.connect(&set, "s500.x:443").unwrap();
    let function = asker.function("GET s500.x/v1/users/7");
    let request = asker.ask(&connect, &function);
    let mut times: Vec<_> = (0..2_000)
        .map(|_| {
            let start = std::time::Instant::now();
            set.decide_call(&request).unwrap();
            start.elapsed()
        })
        .collect();
    times.sort();
    let (median, slow) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("decide_call, 1,010 policies: p50 {median:?}, p99 {slow:?}");
    assert!(median < std::time::Duration::from_millis(1), "{median:?}");
}
