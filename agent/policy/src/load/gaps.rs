//! Rules that read well and would not hold: refused, or warned of.

use callgate_model::TlsMode;
use cedar_policy::{Effect, ResourceConstraint};

use super::ids::service_of_function;
use super::{Finding, Loaded, Rule, Severity};
use crate::entities::Names;
use crate::index::Key;
use crate::set::{principal_key, resource_key};

/// Checks the policies together.
pub(super) fn check(loaded: &[Loaded<'_>], names: &Names, findings: &mut Vec<Finding>) {
    if loaded.is_empty() && findings.is_empty() {
        let mut finding = Finding::whole(Rule::Empty, "", "there is no policy, so everything is denied".to_owned());
        finding.severity = Severity::Warning;
        findings.push(finding.help("`callgate policy init DIR` writes a first one"));
    }
    for policy in loaded {
        permits_everything(policy, findings);
    }
    let unopened = |policy: &&Loaded<'_>| policy.terms.tls == Some(TlsMode::Passthrough);
    for passthrough in loaded.iter().filter(unopened) {
        unenforceable(passthrough, loaded, names, findings);
    }
}

fn permits_everything(policy: &Loaded<'_>, findings: &mut Vec<Finding>) {
    let all = principal_key(&policy.policy.principal_constraint()).is_none()
        && matches!(policy.policy.resource_constraint(), ResourceConstraint::Any)
        && !policy.policy.has_non_scope_constraint();
    if policy.effect != Effect::Permit || !all {
        return;
    }
    let message = match (policy.actions.connect, policy.actions.call) {
        (true, true) => "this permits every call and every connection of every workload, undecoded ones too",
        (true, false) => "this permits every connection of every workload, undecoded ones too",
        _ => "this permits every call of every workload",
    };
    let finding = policy.source.finding(Severity::Warning, Rule::Broad, policy.source.head(), message.to_owned());
    findings.push(finding.of(&policy.id).help("name the service: `resource in Callgate::Service::\"api.example\"`"));
}

/// Within TLS that passes unopened no call is seen, so no rule about calls can hold there.
fn unenforceable(passthrough: &Loaded<'_>, loaded: &[Loaded<'_>], names: &Names, findings: &mut Vec<Finding>) {
    let passed = services(passthrough, names);
    for rule in loaded.iter().filter(|rule| rule.actions.call) {
        let what = match rule.effect {
            Effect::Forbid => "this forbid could not be enforced",
            Effect::Permit if !rule.terms.mask.is_empty() => "`@mask` could not be carried out",
            Effect::Permit => continue,
        };
        if !meet(&principals(passthrough), &principals(rule)) {
            continue;
        }
        // Both name the service: somebody wants it both ways. A general rule meets a passthrough by accident.
        let severity = match overlap(&passed, &services(rule, names)) {
            Overlap::None => continue,
            Overlap::Named => Severity::Error,
            Overlap::General => Severity::Warning,
        };
        let message = format!("{what} within TLS that policy `{}` passes through unopened", passthrough.id);
        let finding = rule.source.finding(severity, Rule::Unenforceable, rule.source.head(), message).of(&rule.id);
        findings.push(finding.help("drop `@tls(\"passthrough\")` there, or keep the two scopes apart"));
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
