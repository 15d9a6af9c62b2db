//! The index answers as the whole set would.

use callgate_model::{Decision, Reason, Verdict};
use cedar_policy::Authorizer;
use proptest::prelude::*;

use super::{Asker, set};
use crate::entities::Subject;
use crate::{ConnectRequest, PolicySet};

fn principal() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "principal",
        "principal is Callgate::Workload",
        "principal == Callgate::Workload::\"run/a\"",
        "principal in Callgate::Workload::\"run/b\"",
        "principal in Callgate::Group::\"g\"",
        "principal is Callgate::Workload in Callgate::Group::\"h\"",
    ])
}

fn resource() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "resource",
        "resource is Callgate::Function",
        "resource in Callgate::Service::\"api.x\"",
        "resource in Callgate::Service::\"api.x:443\"",
        "resource in Callgate::Service::\"api.x:8443\"",
        "resource in Callgate::Service::\"other.x\"",
        "resource is Callgate::Function in Callgate::Service::\"other.x:443\"",
        "resource == Callgate::Function::\"http:GET api.x/v1\"",
        "resource in Callgate::Function::\"http:GET other.x/v1\"",
    ])
}

fn condition() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "",
        "when { resource.method == \"GET\" }",
        "unless { resource.path like \"/v1*\" }",
        "when { resource.segments * 9223372036854775807 > 1 }",
        "when { principal.name == \"a\" }",
    ])
}

fn policy() -> impl Strategy<Value = String> {
    (proptest::bool::weighted(0.8), principal(), resource(), condition()).prop_map(|(permit, p, r, c)| {
        let effect = if permit { "permit" } else { "forbid" };
        format!("{effect} ({p}, action == Callgate::Action::\"call\", {r}) {c};")
    })
}

proptest! {
    #[test]
    fn agrees_with_the_whole_set(
        policies in proptest::collection::vec(policy(), 0..12),
        workload in proptest::sample::select(vec!["run/a", "run/b", "run/c"]),
        groups in proptest::sample::subsequence(vec!["g", "h"], 0..=2),
        method in proptest::sample::select(vec!["GET", "PUT"]),
        service in proptest::sample::select(vec!["api.x", "api.x:8443", "other.x"]),
        path in proptest::sample::select(vec!["/v1", "/v1/a/b", "/"]),
    ) {
        let set = set(&policies.join("\n"));
        let mut asker = Asker::new(workload);
        asker.groups = groups.into_iter().map(str::to_owned).collect();
        let call = format!("{method} {service}{path}");
        let expected = by_the_whole_set(&set, &asker, &call);
        // Where not even the scope of a permit matches, the connect is refused before the call is asked.
        let function = asker.function(&call);
        match asker.connect(&set, &function.service.to_string()) {
            Err(decision) => {
                prop_assert_eq!(decision.reason, Reason::NoPermit);
                prop_assert_ne!(expected.verdict, Verdict::Allow);
            }
            Ok(_) => {
                let answer = asker.call(&set, &call);
                let decision = answer.map_or_else(|denied| denied, crate::CallPermit::into_decision);
                prop_assert_eq!(decision, expected);
            }
        }
    }
}

fn by_the_whole_set(set: &PolicySet, asker: &Asker, call: &str) -> Decision {
    let function = asker.function(call);
    let request = ConnectRequest {
        connection: callgate_model::ConnectionId::new(),
        workload: &asker.workload,
        groups: &asker.groups,
        process: &asker.process,
        service: &function.service,
        destination: asker.destination,
        address_declared: false,
        tls: asker.tls,
        sni: &asker.sni,
    };
    let subject = Subject::new(&set.names, &request).unwrap();
    let (request, entities, _) = subject.call(&set.names, &function).unwrap();
    let response = Authorizer::new().is_authorized(&request, &set.whole, &entities);
    let failed: Vec<String> = response
        .diagnostics()
        .errors()
        .map(|cedar_policy::AuthorizationError::PolicyEvaluationError(error)| error.policy_id().to_string())
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
    Decision {
        verdict: if reason == Reason::Permitted { Verdict::Allow } else { Verdict::Deny },
        reason,
        policies,
        policy_set: set.hash().to_owned(),
        obligations: callgate_model::Obligations::default(),
    }
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
    let request = crate::CallRequest { connect: &connect, call: callgate_model::CallId::new(), function: &function };
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
