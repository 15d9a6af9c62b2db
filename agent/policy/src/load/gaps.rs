//! Rules that read well and would not hold: refused, or warned of.

use std::collections::HashMap;

use callgate_model::{Service, TlsMode};
use cedar_policy::{Effect, Policy, ResourceConstraint};

use super::finding::FINDINGS_MAX;
use super::ids::service_of_function;
use super::{Finding, Loaded, Rule, Severity};
use crate::entities::Names;
use crate::index::Key;
use crate::set::{principal_key, resource_key};

/// Checks the policies of one text together.
pub(super) fn check(loaded: &[Loaded], findings: &mut Vec<Finding>) {
    for policy in loaded {
        permits_everything(policy, findings);
    }
    let rules: Vec<&Loaded> = loaded.iter().filter(|policy| demands(policy).is_some()).collect();
    for passthrough in loaded.iter().filter(|policy| passes(policy)) {
        within(passthrough, &rules, findings);
    }
}

/// Whether TLS passes unopened by it.
fn passes(policy: &Loaded) -> bool {
    policy.terms.tls == Some(TlsMode::Passthrough)
}

/// What of a policy would not hold within TLS that passes unopened.
fn demands(policy: &Loaded) -> Option<&'static str> {
    match policy.effect {
        _ if !policy.actions.call => None,
        Effect::Forbid => Some("this forbid could not be enforced"),
        Effect::Permit if !policy.terms.mask.is_empty() => Some("`@mask` could not be carried out"),
        Effect::Permit => None,
    }
}

fn permits_everything(policy: &Loaded, findings: &mut Vec<Finding>) {
    let all = policy.reach.principal.is_none()
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

/// Policies of the texts that were taken, as far as those of later texts can contradict them; by namespace, since those
/// of two never meet.
#[derive(Default)]
pub(crate) struct Taken<'a> {
    passing: HashMap<Option<&'a str>, Vec<&'a Loaded>>,
    demanding: HashMap<Option<&'a str>, Vec<&'a Loaded>>,
}

impl<'a> Taken<'a> {
    /// Adds the policies of one text.
    pub fn take(&mut self, new: &'a [Loaded]) {
        for policy in new {
            let namespace = policy.origin.namespace();
            if passes(policy) {
                self.passing.entry(namespace).or_default().push(policy);
            }
            if demands(policy).is_some() {
                self.demanding.entry(namespace).or_default().push(policy);
            }
        }
    }

    /// Checks the policies of one text against those that were taken before it.
    ///
    /// Whoever came first stays: texts of an operator come before those of a namespace, and those that pass TLS through
    /// come last among their like.
    pub fn hold_against(&self, new: &[Loaded], findings: &mut Vec<Finding>) {
        for passthrough in new.iter().filter(|policy| passes(policy)) {
            if are_enough(findings, Severity::Error) {
                return;
            }
            for rule in near(&self.demanding, passthrough) {
                let Some((what, overlap)) = gap(passthrough, rule) else { continue };
                // Nobody loosens by a general rule what an operator has tied down.
                let severity = match overlap {
                    Overlap::General if rule.origin.rank() == passthrough.origin.rank() => Severity::Warning,
                    _ => Severity::Error,
                };
                if are_enough(findings, severity) {
                    continue;
                }
                let message = format!("{what} of policy `{}` within TLS that this passes through unopened", rule.id);
                let source = &passthrough.source;
                let finding = source.finding(severity, Rule::Unenforceable, source.head(), message);
                let help = "drop `@tls(\"passthrough\")`, or keep the two scopes apart";
                findings.push(finding.of(&passthrough.id).help(help));
            }
        }
        for rule in new.iter().filter(|policy| demands(policy).is_some()) {
            if are_enough(findings, Severity::Error) {
                return;
            }
            for passthrough in near(&self.passing, rule) {
                let Some((what, overlap)) = gap(passthrough, rule) else { continue };
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
}

/// Those that `policy` can meet: everybody's, and of its own namespace.
fn near<'m, 'a>(
    taken: &'m HashMap<Option<&'a str>, Vec<&'a Loaded>>,
    policy: &'m Loaded,
) -> impl Iterator<Item = &'a Loaded> + use<'m, 'a> {
    let own = policy.origin.namespace().and_then(|own| taken.get(&Some(own)));
    taken.get(&None).into_iter().chain(own).flatten().copied()
}

/// Within TLS that passes unopened no call is seen, so no rule about calls can hold there.
fn within(passthrough: &Loaded, rules: &[&Loaded], findings: &mut Vec<Finding>) {
    for rule in rules {
        // Both name the service: somebody wants it both ways. A general rule meets a passthrough by accident.
        let Some((what, overlap)) = gap(passthrough, rule) else { continue };
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

fn unenforceable(severity: Severity, what: &str, passthrough: &Loaded, rule: &Loaded) -> Finding {
    let message = format!("{what} within TLS that policy `{}` passes through unopened", passthrough.id);
    let finding = rule.source.finding(severity, Rule::Unenforceable, rule.source.head(), message).of(&rule.id);
    finding.help("drop `@tls(\"passthrough\")` there, or keep the two scopes apart")
}

/// What of `rule` would not hold within the TLS of `passthrough`, and how the two meet; none where all of it does.
///
/// Asked of every pair, so what it needs of each is read beforehand.
fn gap(passthrough: &Loaded, rule: &Loaded) -> Option<(&'static str, Overlap)> {
    let what = demands(rule)?;
    if !meet(&passthrough.reach.principal, &rule.reach.principal) {
        return None;
    }
    match overlap(&passthrough.reach, &rule.reach) {
        Overlap::None => None,
        overlap => Some((what, overlap)),
    }
}

enum Overlap {
    None,
    Named,
    General,
}

/// What the scope of a policy means.
pub(super) struct Reach {
    principal: Key,
    /// None: any.
    services: Option<Vec<Target>>,
}

/// A service that a scope names.
struct Target {
    /// `host:port`, or `host`.
    id: String,
    host: String,
}

impl Reach {
    pub fn of(policy: &Policy, names: &Names) -> Self {
        let services = resource_key(&policy.resource_constraint()).map(|uid| {
            let id = uid.id().unescaped();
            if *uid.type_name() == names.function {
                service_of_function(id).iter().map(|service| Target::of(service.to_string())).collect()
            } else {
                vec![Target::of(id.to_owned())]
            }
        });
        Self { principal: principal_key(&policy.principal_constraint()), services }
    }
}

impl Target {
    fn of(id: String) -> Self {
        let host = id.parse::<Service>().map_or_else(|_| id.clone(), |service| service.host().to_owned());
        Self { id, host }
    }

    /// Two ports of one host are apart; the host itself holds them all.
    fn meets(&self, other: &Self) -> bool {
        let exact = |target: &Self| target.host != target.id;
        if exact(self) && exact(other) { self.id == other.id } else { self.host == other.host }
    }
}

fn overlap(a: &Reach, b: &Reach) -> Overlap {
    let (Some(a), Some(b)) = (&a.services, &b.services) else { return Overlap::General };
    if a.iter().any(|a| b.iter().any(|b| a.meets(b))) { Overlap::Named } else { Overlap::None }
}

/// Whether two principal scopes can match one workload. Group and workload may: who is in a group is not known here.
fn meet(a: &Key, b: &Key) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b || a.type_name() != b.type_name(),
        _ => true,
    }
}
