//! Ids of entities in policies: each must be one that an entity can have, else the policy would silently never match.

use callgate_model::{Protocol, Service};
use cedar_policy::{EntityUid, ResourceConstraint};

use super::nearest::nearest;
use super::{Finding, Loaded, Rule, Severity};
use crate::entities::Names;

/// Kinds of workloads that this version enrols: what an id begins with.
const WORKLOADS: &[&str] = &["run/", "cgroup/", "unit/", "container/", "k8s/"];

/// Checks every entity that `policy` names.
pub(super) fn check(policy: &mut Loaded, names: &Names, findings: &mut Vec<Finding>) {
    for uid in policy.policy.entity_literals() {
        let id = uid.id().unescaped();
        if let Some((severity, message, help)) = wrong(&uid, id, names) {
            let span = policy.source.literal(id);
            findings.push(policy.source.finding(severity, Rule::EntityId, span, message).of(&policy.id).help(help));
        }
        // It would match nothing: the set looks at the policy for its own namespace alone.
        if let (Some(own), Some(other)) = (policy.origin.namespace(), namespace_of(&uid, id, names))
            && own != other
        {
            let message =
                format!("a CallPolicy of namespace `{own}` cannot speak of namespace `{}`", other.escape_debug());
            let help = "put it into that namespace, or write a ClusterCallPolicy";
            let span = policy.source.literal(id);
            let finding = policy.source.finding(Severity::Error, Rule::Foreign, span, message).of(&policy.id);
            findings.push(finding.help(help));
        }
    }
    if let ResourceConstraint::Eq(uid) = policy.policy.resource_constraint()
        && *uid.type_name() == names.service
        && uid.id().unescaped().parse::<Service>().is_err()
    {
        let id = uid.id().unescaped();
        let message = format!("a connection goes to a host and a port, never to the host `{id}` alone");
        let span = policy.source.literal(id);
        let help = format!("write `resource in Callgate::Service::\"{id}\"`, or name the port");
        findings
            .push(policy.source.finding(Severity::Error, Rule::NeverMatches, span, message).of(&policy.id).help(help));
    }
}

fn wrong(uid: &EntityUid, id: &str, names: &Names) -> Option<(Severity, String, String)> {
    let kind = uid.type_name();
    let shown = id.escape_debug();
    if *kind == names.service {
        let help = service_advice(id)?;
        return Some((Severity::Error, format!("`{shown}` is not a service"), help));
    }
    if *kind == names.function {
        let help = function_advice(id)?;
        return Some((Severity::Error, format!("`{shown}` is not a function"), help));
    }
    if *kind == names.workload {
        return workload_advice(id).map(|help| (Severity::Error, format!("`{shown}` is not a workload"), help));
    }
    if names.maps.is_map(kind) {
        let help =
            "write `context.arguments.number`, and so on, so that it is seen which arguments are meant".to_owned();
        return Some((Severity::Error, format!("`{kind}` cannot be named"), help));
    }
    if *kind == names.service_account && !id.split_once('/').is_some_and(|(a, b)| !a.is_empty() && is_label(b)) {
        let help = "expected `NAMESPACE/NAME`".to_owned();
        return Some((Severity::Error, format!("`{shown}` is not a service account"), help));
    }
    if *kind == names.namespace && !is_label(id) {
        return Some((Severity::Error, format!("`{shown}` is not a namespace"), "expected its bare name".to_owned()));
    }
    None
}

/// Whether it can be a name of the cluster: of a namespace, or of a service account, which may have dots.
fn is_label(id: &str) -> bool {
    !id.is_empty() && id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
}

/// The namespace that an entity belongs to; none if it belongs to none.
fn namespace_of<'a>(uid: &EntityUid, id: &'a str, names: &Names) -> Option<&'a str> {
    let kind = uid.type_name();
    if *kind == names.namespace {
        return Some(id);
    }
    let account = match () {
        () if *kind == names.service_account => id,
        () if *kind == names.workload => id.strip_prefix("k8s/")?,
        () => return None,
    };
    Some(account.split_once('/').map_or(account, |(namespace, _)| namespace))
}

/// Advice if `id` is neither `host` nor `host:port` in their one canonical form.
fn service_advice(id: &str) -> Option<String> {
    if canonical_service(id) {
        return None;
    }
    if let Some(suffix) = id.strip_prefix("*.").or_else(|| id.strip_prefix('.')) {
        return Some(format!("leave the scope at `resource` and add `when {{ resource.host like \"*.{suffix}\" }}`"));
    }
    let bare = id.split_once("://").map_or(id, |(_, rest)| rest);
    let bare = bare.split('/').next().unwrap_or(bare);
    let canonical = match bare.parse::<Service>() {
        Ok(service) => Some(service.to_string()),
        Err(_) => Service::new(bare, 1).ok().map(|service| service.host().to_owned()),
    };
    Some(match canonical {
        Some(canonical) if canonical != id => format!("did you mean `{canonical}`?"),
        _ => "expected `host` or `host:port`, the host a lower-case name or an address".to_owned(),
    })
}

fn canonical_service(id: &str) -> bool {
    match id.parse::<Service>() {
        Ok(service) => service.to_string() == id,
        Err(_) => Service::new(id, 1).is_ok_and(|service| service.host() == id),
    }
}

/// Advice if no function prints as `id`.
fn function_advice(id: &str) -> Option<String> {
    let expected = || {
        Some(
            "expected `http:METHOD host/path` or `grpc:pkg.Svc/Method host`, such as `http:GET api.example/v1/users/7`"
                .to_owned(),
        )
    };
    let Some((protocol, rest)) = id.split_once(':') else { return expected() };
    if Protocol::ALL.iter().all(|known| known.as_str() != protocol) {
        return Some(format!("`{}` is not a protocol that this version decodes", protocol.escape_debug()));
    }
    if service_of_function(id).is_empty() || rest.contains('?') {
        return expected();
    }
    None
}

/// The services that a function's id can mean: without a port, those of both own ports. None if it is no id.
pub fn service_of_function(id: &str) -> Vec<Service> {
    let parts = || {
        // `http:METHOD host/path`, `grpc:pkg.Svc/Method host`.
        let (_, call) = id.split_once(':')?;
        let (name, target) = call.split_once(' ')?;
        let authority = target.get(..target.find('/').unwrap_or(target.len()))?;
        (!name.is_empty() && canonical_authority(authority)).then_some(authority)
    };
    let Some(authority) = parts() else { return Vec::new() };
    match authority.parse::<Service>() {
        Ok(service) => vec![service],
        Err(_) => [443, 80].into_iter().filter_map(|port| Service::new(authority, port).ok()).collect(),
    }
}

/// Whether `authority` is as [`Function`](callgate_model::Function) prints it: the host (a v6 address in brackets),
/// and the port only where there is one.
fn canonical_authority(authority: &str) -> bool {
    match authority.parse::<Service>() {
        Ok(service) => service.to_string() == authority,
        Err(_) => Service::new(authority, 1).is_ok_and(|service| service.to_string() == format!("{authority}:1")),
    }
}

fn workload_advice(id: &str) -> Option<String> {
    let named = |kinds: &[&str]| kinds.iter().any(|kind| id.strip_prefix(kind).is_some_and(|name| !name.is_empty()));
    if named(WORKLOADS) {
        return None;
    }
    let expected = "expected `run/NAME`, `cgroup/PATH` or `k8s/NAMESPACE/SERVICEACCOUNT`";
    let near = id.split_once('/').and_then(|(kind, name)| Some((nearest(kind, ["run", "cgroup", "k8s"])?, name)));
    Some(match near {
        Some((kind, name)) if !name.is_empty() => format!("did you mean `{kind}/{}`?", name.escape_debug()),
        _ => expected.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_canonical_or_advised() {
        for id in ["api.x", "api.x:443", "10.0.0.7", "10.0.0.7:80", "::1", "[::1]:443", "localhost"] {
            assert_eq!(service_advice(id), None, "{id}");
        }
        for (id, help) in [
            ("API.x", "did you mean `api.x`?"),
            ("https://api.x", "did you mean `api.x`?"),
            ("https://api.x:8443/v1", "did you mean `api.x:8443`?"),
            ("api.x.", "did you mean `api.x`?"),
            ("[::1]", "did you mean `::1`?"),
            ("::0:1", "did you mean `::1`?"),
            ("api.x:0443", "did you mean `api.x:443`?"),
            ("*.x.y", "leave the scope at `resource` and add `when { resource.host like \"*.x.y\" }`"),
            ("", "expected `host` or `host:port`, the host a lower-case name or an address"),
            ("a b", "expected `host` or `host:port`, the host a lower-case name or an address"),
        ] {
            assert_eq!(service_advice(id).as_deref(), Some(help), "{id}");
        }
    }

    #[test]
    fn a_function_without_a_port_means_both_own_ports() {
        let services = |id| service_of_function(id).iter().map(Service::to_string).collect::<Vec<_>>();
        assert_eq!(services("http:GET api.x/v1"), ["api.x:443", "api.x:80"]);
        assert_eq!(services("http:GET api.x:8443/v1"), ["api.x:8443"]);
        assert_eq!(services("http:GET [::1]/"), ["[::1]:443", "[::1]:80"]);
        assert_eq!(services("http:GET [::1]:81/"), ["[::1]:81"]);
        for id in ["", "http", "http:GET", "http:GET ", "http:GET API.x/", "http:GET a b/", "http:GET ::1/"] {
            assert!(service_of_function(id).is_empty(), "{id}");
        }
    }
}
