//! What admission changes in a pod, so that its clients trust the gate of whatever node it comes to.
//!
//! A read-only volume of the node's trust directory, variables that name files in it, and no CAP_NET_RAW. Nothing that
//! the pod says is overwritten: a variable that it sets stays, a capability that it asks for too.
//! The policy of the chart (`admission-policy.yaml`) says the same in CEL.

use callgate_trust::{NodeFiles, variables};
use serde::Serialize;
use serde_json::{Value, json};

/// Name of the volume.
pub const VOLUME: &str = "callgate-trust";
/// The agent's directory on the node, and where containers see it.
pub const DIRECTORY: &str = "/run/callgate/trust";
/// Annotation by which agents tell people who did it.
pub const TRUST_BY: &str = "callgate.dev/trust-by";
/// Label of a pod by which it says otherwise. That of its namespace is asked by the selectors of the chart.
const TRUST: &str = "callgate.dev/trust";

/// One operation of a JSON patch (RFC 6902). Adding replaces a member, but nothing here does.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Operation {
    op: &'static str,
    path: String,
    value: Value,
}

/// The operations that `pod` takes; none if it has everything, wants nothing, or is for Windows.
#[must_use]
pub fn patch(pod: &Value) -> Vec<Operation> {
    let label = pod["metadata"]["labels"][TRUST].as_str();
    if matches!(label, Some("mount" | "none")) || pod["spec"]["os"]["name"] == "windows" {
        return Vec::new();
    }
    let mut operations = Vec::new();
    for list in ["initContainers", "containers"] {
        for (n, container) in members(&pod["spec"][list]).enumerate() {
            of_container(container, &format!("/spec/{list}/{n}"), &mut operations);
        }
    }
    if members(&pod["spec"]["volumes"]).all(|volume| volume["name"] != VOLUME) {
        let volume = json!({ "name": VOLUME, "hostPath": { "path": DIRECTORY, "type": "DirectoryOrCreate" } });
        append(&pod["spec"], "/spec", "volumes", vec![volume], &mut operations);
    }
    if pod["metadata"]["annotations"][TRUST_BY].is_null() {
        let annotations = &pod["metadata"]["annotations"];
        operations.push(if annotations.is_object() {
            add(format!("/metadata/annotations/{}", TRUST_BY.replace('/', "~1")), json!("webhook"))
        } else {
            add("/metadata/annotations".into(), json!({ TRUST_BY: "webhook" }))
        });
    }
    operations
}

fn of_container(container: &Value, path: &str, operations: &mut Vec<Operation>) {
    let is_set = |name: &str| members(&container["env"]).any(|variable| variable["name"] == name);
    let environment = environment().filter(|(name, _)| !is_set(name));
    let environment = environment.map(|(name, value)| json!({ "name": name, "value": value })).collect();
    append(container, path, "env", environment, operations);
    if members(&container["volumeMounts"]).all(|mount| mount["mountPath"] != DIRECTORY) {
        let mount = json!({ "name": VOLUME, "mountPath": DIRECTORY, "readOnly": true });
        append(container, path, "volumeMounts", vec![mount], operations);
    }
    drop_net_raw(&container["securityContext"], &format!("{path}/securityContext"), operations);
}

/// Every variable, and what it says.
fn environment() -> impl Iterator<Item = (&'static str, String)> {
    let bundle = format!("{DIRECTORY}/{}", NodeFiles::BUNDLE);
    let java = variables::java_options(&format!("{DIRECTORY}/{}", NodeFiles::STORE));
    variables::BUNDLE.iter().map(move |name| (*name, bundle.clone())).chain([(variables::JAVA, java)])
}

/// Unless it is dropped already, or the container asks for it.
fn drop_net_raw(context: &Value, path: &str, operations: &mut Vec<Operation>) {
    let capabilities = &context["capabilities"];
    let named = |list: &Value| members(list).any(|name| name == "NET_RAW" || name == "ALL");
    if named(&capabilities["drop"]) || named(&capabilities["add"]) || context["privileged"] == true {
        return;
    }
    let dropped = json!(["NET_RAW"]);
    match (context.is_object(), capabilities.is_object()) {
        (false, _) => operations.push(add(path.to_owned(), json!({ "capabilities": { "drop": dropped } }))),
        (true, false) => operations.push(add(format!("{path}/capabilities"), json!({ "drop": dropped }))),
        (true, true) => {
            append(capabilities, &format!("{path}/capabilities"), "drop", vec![json!("NET_RAW")], operations);
        }
    }
}

/// Appends `values` to the list `name` of `object`, which is at `path`.
fn append(object: &Value, path: &str, name: &str, values: Vec<Value>, operations: &mut Vec<Operation>) {
    if values.is_empty() {
        return;
    }
    if object[name].is_array() {
        operations.extend(values.into_iter().map(|value| add(format!("{path}/{name}/-"), value)));
    } else {
        operations.push(add(format!("{path}/{name}"), Value::Array(values)));
    }
}

fn add(path: String, value: Value) -> Operation {
    Operation { op: "add", path, value }
}

fn members(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Applies what [`patch`] makes: for tests.
#[cfg(test)]
pub(super) fn apply(pod: &mut Value, operations: &[Operation]) {
    for Operation { path, value, .. } in operations {
        let (parent, last) = path.rsplit_once('/').unwrap();
        let last = last.replace("~1", "/");
        match pod.pointer_mut(parent).unwrap_or_else(|| panic!("nothing at {parent}")) {
            Value::Array(list) if last == "-" => list.push(value.clone()),
            Value::Object(object) => {
                let before = object.insert(last, value.clone());
                assert!(before.is_none_or(|before| before.is_null()), "{path} was overwritten");
            }
            other => panic!("nothing can be added to {other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(pod: &Value) -> Value {
        let mut patched = pod.clone();
        apply(&mut patched, &patch(pod));
        patched
    }

    #[test]
    fn a_bare_pod_gets_everything() {
        let pod = patched(&json!({ "metadata": {}, "spec": {
            "initContainers": [{ "name": "init" }], "containers": [{ "name": "a" }, { "name": "b" }],
        }}));
        for container in ["/spec/initContainers/0", "/spec/containers/0", "/spec/containers/1"] {
            let container = pod.pointer(container).unwrap();
            let variables = container["env"].as_array().unwrap();
            assert_eq!(variables.len(), variables::BUNDLE.len() + 1);
            assert_eq!(variables[0], json!({ "name": "SSL_CERT_FILE", "value": "/run/callgate/trust/bundle.pem" }));
            let java = variables.last().unwrap()["value"].as_str().unwrap();
            assert!(java.starts_with("-Djavax.net.ssl.trustStore=/run/callgate/trust/truststore.p12 "), "{java}");
            let mount = json!([{ "name": VOLUME, "mountPath": DIRECTORY, "readOnly": true }]);
            assert_eq!(container["volumeMounts"], mount);
            assert_eq!(container["securityContext"], json!({ "capabilities": { "drop": ["NET_RAW"] } }));
        }
        let volume = json!([{ "name": VOLUME, "hostPath": { "path": DIRECTORY, "type": "DirectoryOrCreate" } }]);
        assert_eq!(pod["spec"]["volumes"], volume);
        assert_eq!(pod["metadata"]["annotations"][TRUST_BY], "webhook");
        assert_eq!(patch(&pod), [], "once is enough");
    }

    #[test]
    fn what_the_pod_says_stays() {
        let container = json!({
            "name": "a",
            "env": [{ "name": "SSL_CERT_FILE", "value": "/own.pem" }, { "name": "JAVA_TOOL_OPTIONS", "value": "-Xmx1g" }],
            "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
            "securityContext": { "runAsNonRoot": true, "capabilities": { "drop": ["CHOWN"], "add": ["NET_BIND_SERVICE"] } },
        });
        let pod = json!({
            "metadata": { "annotations": { "a/b": "c" } },
            "spec": { "volumes": [{ "name": "data", "emptyDir": {} }], "containers": [container] },
        });
        let now = patched(&pod);
        let (container, before) = (&now["spec"]["containers"][0], &pod["spec"]["containers"][0]);
        let variables = container["env"].as_array().unwrap();
        assert_eq!(variables[..2], before["env"].as_array().unwrap()[..]);
        assert_eq!(variables.len(), 2 + variables::BUNDLE.len() - 1);
        assert_eq!(container["volumeMounts"][0], before["volumeMounts"][0]);
        assert_eq!(container["volumeMounts"].as_array().unwrap().len(), 2);
        let capabilities = json!({ "drop": ["CHOWN", "NET_RAW"], "add": ["NET_BIND_SERVICE"] });
        assert_eq!(container["securityContext"], json!({ "runAsNonRoot": true, "capabilities": capabilities }));
        assert_eq!(now["spec"]["volumes"].as_array().unwrap().len(), 2);
        assert_eq!(now["metadata"]["annotations"], json!({ "a/b": "c", TRUST_BY: "webhook" }));
    }

    #[test]
    fn a_capability_that_is_dropped_or_asked_for_is_left() {
        for context in [
            json!({ "capabilities": { "drop": ["ALL"] } }),
            json!({ "capabilities": { "drop": ["NET_RAW"] } }),
            json!({ "capabilities": { "add": ["NET_RAW"] } }),
            json!({ "privileged": true }),
        ] {
            let pod =
                json!({ "metadata": {}, "spec": { "containers": [{ "name": "a", "securityContext": context }] } });
            assert_eq!(patched(&pod)["spec"]["containers"][0]["securityContext"], context);
        }
    }

    #[test]
    fn the_policy_of_the_chart_names_the_same() {
        let policy = include_str!("../../../deploy/kubernetes/templates/admission-policy.yaml");
        let quoted: Vec<&str> = policy.lines().find(|line| line.contains("range list")).unwrap().split('"').collect();
        let names: Vec<&str> = quoted.into_iter().skip(1).step_by(2).collect();
        assert_eq!(names.strip_suffix(&["containers", "initContainers"]).unwrap_or(&names), variables::BUNDLE);
        // A path without blanks: others are put in quotes.
        let java = variables::java_options("DIRECTORY/truststore.p12").replace("DIRECTORY", "{{ $directory }}");
        for said in [DIRECTORY, VOLUME, TRUST_BY, TRUST, &java, NodeFiles::BUNDLE, variables::JAVA] {
            assert!(policy.contains(said), "{said}");
        }
    }

    #[test]
    fn the_policy_of_the_chart_makes_the_same_pod() {
        // What the policy's expressions make of it, by an evaluator of CEL.
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let mut by_policy = read(include_str!("../../testdata/admission/by-policy.json"));
        by_policy["metadata"]["annotations"][TRUST_BY] = json!("webhook");
        assert_eq!(patched(&read(include_str!("../../testdata/admission/pod.json"))), by_policy);
    }

    #[test]
    fn a_pod_that_says_otherwise_is_left_alone() {
        let pod = |label: &str, os: &str| json!({ "metadata": { "labels": { TRUST: label } }, "spec": { "os": { "name": os }, "containers": [{}] } });
        for (label, os, is_left) in [
            ("mount", "linux", true),
            ("none", "linux", true),
            ("admission", "windows", true),
            ("admission", "linux", false),
        ] {
            assert_eq!(patch(&pod(label, os)).is_empty(), is_left, "{label} {os}");
        }
        // What is no pod at all breaks nothing.
        for odd in [json!(null), json!([]), json!({ "spec": { "containers": 7, "volumes": "x" } })] {
            let _operations = patch(&odd);
        }
    }
}
