//! Rules that read well and would not hold: refused, or warned of.

use callgate_model::TlsMode;
use cedar_policy::{Effect, ResourceConstraint};

use super::finding::FINDINGS_MAX;
use super::ids::service_of_function;
use super::{Finding, Loaded, Rule, Severity};
use crate::entities::Names;
use crate::index::Key;
use crate::set::{principal_key, resource_key};

/// Checks the policies of one text together.
pub(super) fn check(loaded: &[Loaded<'_>], names: &Names, findings: &mut Vec<Finding>) {
    for policy in loaded {
        permits_everything(policy, findings);
    }
    let unopened = |policy: &&Loaded<'_>| policy.terms.tls == Some(TlsMode::Passthrough);
    for passthrough in loaded.iter().filter(unopened) {
        within(passthrough, loaded, names, findings);
    }
}

fn permits_everything(policy: &Loaded<'_>, findings: &mut Vec<Finding>) {
    let all = principal_key(&policy.policy.principal_constraint()).is_none()
        && matches!(policy.policy.resource_constraint(), ResourceConstraint::Any)
        && !policy.policy.has_non_scope_constraint();
    if policy.effect != Effect::Permit || !all {
        return;
    }
    let what = match (policy.actions.connect, policy.actions.call) {
        (true, true) => "every call and every connection",
        (true, false) => "every connection",
        _ => "every call",
    };
    let whose = policy.origin.namespace().map_or_else(String::new, |namespace| format!(" of namespace `{namespace}`"));
    let undecoded = if policy.actions.connect { ", undecoded ones too" } else { "" };
    let message = format!("this permits {what} of every workload{whose}{undecoded}");
    let finding = policy.source.finding(Severity::Warning, Rule::Broad, policy.source.head(), message);
    findings.push(finding.of(&policy.id).help("name the service: `resource in Callgate::Service::\"api.example\"`"));
}

/// Checks the policies of a text against those that were taken before it.
///
/// Whoever came first stays: texts of an operator come before those of a namespace, and those that pass TLS through
/// come last among their like.
pub(crate) fn between(taken: &[Loaded<'_>], new: &[Loaded<'_>], names: &Names, findings: &mut Vec<Finding>) {
    let unopened = |policy: &&Loaded<'_>| policy.terms.tls == Some(TlsMode::Passthrough);
    for passthrough in new.iter().filter(unopened) {
        for rule in taken {
            let Some((what, overlap)) = gap(passthrough, rule, names) else { continue };
            // Nobody loosens by a general rule what an operator has tied down.
            let severity = match overlap {
                Overlap::General if rule.origin.rank() == passthrough.origin.rank() => Severity::Warning,
                _ => Severity::Error,
            };
            let message = format!("{what} of policy `{}` within TLS that this passes through unopened", rule.id);
            if are_enough(findings, severity) {
                continue;
            }
            let head = passthrough.source.head();
            let finding = passthrough.source.finding(severity, Rule::Unenforceable, head, message).of(&passthrough.id);
            findings.push(finding.help("drop `@tls(\"passthrough\")`, or keep the two scopes apart"));
        }
    }
    for passthrough in taken.iter().filter(unopened) {
        for rule in new {
            let Some((what, overlap)) = gap(passthrough, rule, names) else { continue };
            // What an operator passes through stays so, and the rule holds elsewhere: told, and no more.
            let severity = match overlap {
                Overlap::Named if rule.origin.rank() == passthrough.origin.rank() => Severity::Error,
                _ => Severity::Warning,
            };
            if are_enough(findings, severity) {
                continue;
            }
            findings.push(unenforceable(severity, what, passthrough, rule));
        }
    }
}

/// Within TLS that passes unopened no call is seen, so no rule about calls can hold there.
fn within(passthrough: &Loaded<'_>, loaded: &[Loaded<'_>], names: &Names, findings: &mut Vec<Finding>) {
    for rule in loaded {
        // Both name the service: somebody wants it both ways. A general rule meets a passthrough by accident.
        let Some((what, overlap)) = gap(passthrough, rule, names) else { continue };
        let severity = if matches!(overlap, Overlap::Named) { Severity::Error } else { Severity::Warning };
        if are_enough(findings, severity) {
            continue;
        }
        findings.push(unenforceable(severity, what, passthrough, rule));
    }
}

/// Whether one more of these would change nothing: there can be one for each pair of policies.
fn are_enough(findings: &[Finding], severity: Severity) -> bool {
    let is_refused = || findings.iter().any(|finding| finding.severity == Severity::Error);
    findings.len() >= FINDINGS_MAX && (severity == Severity::Warning || is_refused())
}

fn unenforceable(severity: Severity, what: &str, passthrough: &Loaded<'_>, rule: &Loaded<'_>) -> Finding {
    let message = format!("{what} within TLS that policy `{}` passes through unopened", passthrough.id);
    let finding = rule.source.finding(severity, Rule::Unenforceable, rule.source.head(), message).of(&rule.id);
    finding.help("drop `@tls(\"passthrough\")` there, or keep the two scopes apart")
}

/// What of `rule` would not hold within the TLS of `passthrough`, and how the two meet; none where all of it does.
fn gap(passthrough: &Loaded<'_>, rule: &Loaded<'_>, names: &Names) -> Option<(&'static str, Overlap)> {
    let what = match rule.effect {
        _ if !rule.actions.call => return None,
        Effect::Forbid => "this forbid could not be enforced",
        Effect::Permit if !rule.terms.mask.is_empty() => "`@mask` could not be carried out",
        Effect::Permit => return None,
    };
    let apart = |a: Option<&str>, b: Option<&str>| a.is_some_and(|a| b.is_some_and(|b| a != b));
    if apart(passthrough.origin.namespace(), rule.origin.namespace())
        || !meet(&principals(passthrough), &principals(rule))
    {
        return None;
    }
    match overlap(&services(passthrough, names), &services(rule, names)) {
        Overlap::None => None,
        overlap => Some((what, overlap)),
    }
}

enum Overlap {
    None,
    Named,
    General,
}

fn overlap(a: &[Key], b: &[Key]) -> Overlap {
    if a.contains(&None) || b.contains(&None) {
        return Overlap::General;
    }
    let host = |key: &Key| key.as_ref().map(|uid| host_of(uid.id().unescaped()));
    let same = |a: &Key, b: &Key| {
        let exact = |key: &Key| key.as_ref().is_some_and(|uid| host_of(uid.id().unescaped()) != uid.id().unescaped());
        // Two ports of one host are apart; the host itself holds them all.
        if exact(a) && exact(b) { a == b } else { host(a) == host(b) }
    };
    if a.iter().any(|a| b.iter().any(|b| same(a, b))) { Overlap::Named } else { Overlap::None }
}

/// `host` of `host:port`, or of `host` itself.
fn host_of(id: &str) -> String {
    id.parse::<callgate_model::Service>().map_or_else(|_| id.to_owned(), |service| service.host().to_owned())
}

/// The services that a policy's scope means: `[None]` for any.
fn services(policy: &Loaded<'_>, names: &Names) -> Vec<Key> {
    match resource_key(&policy.policy.resource_constraint()) {
        Some(uid) if *uid.type_name() == names.function => {
            let services = service_of_function(uid.id().unescaped());
            services.iter().map(|service| Some(names.endpoint(service))).collect()
        }
        key => vec![key],
    }
}

fn principals(policy: &Loaded<'_>) -> Key {
    principal_key(&policy.policy.principal_constraint())
}

/// Whether two principal scopes can match one workload. Group and workload may: who is in a group is not known here.
fn meet(a: &Key, b: &Key) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b || a.type_name() != b.type_name(),
        _ => true,
    }
}
