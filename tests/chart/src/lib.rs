//! Manifests held against the types of Kubernetes: a field that a type does not know, or knows by another name, is lost
//! on the way through it, and an API server would drop it as silently.
//!
//! Only for the tests of this crate. The chart's renderer, in Go, is beside it in `render/`.

use k8s_openapi::Resource;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

type Through = fn(Value) -> Result<Value, serde_json::Error>;

/// Kinds that the chart may have, by API version and name; a new one is a line.
const KINDS: &[(&str, &str, Through)] = &[
    kind::<ClusterRole>(),
    kind::<ClusterRoleBinding>(),
    kind::<ConfigMap>(),
    kind::<CustomResourceDefinition>(),
    kind::<DaemonSet>(),
    kind::<Deployment>(),
    kind::<MutatingAdmissionPolicy>(),
    kind::<MutatingAdmissionPolicyBinding>(),
    kind::<MutatingWebhookConfiguration>(),
    kind::<NetworkPolicy>(),
    kind::<Role>(),
    kind::<RoleBinding>(),
    kind::<Secret>(),
    kind::<Service>(),
    kind::<ServiceAccount>(),
    kind::<StatefulSet>(),
];

const fn kind<T: Resource + DeserializeOwned + Serialize>() -> (&'static str, &'static str, Through) {
    (T::API_VERSION, T::KIND, |object| serde_json::to_value(serde_json::from_value::<T>(object)?))
}

/// The documents of a YAML stream.
///
/// # Errors
/// What is wrong with it, a repeated key for example.
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Takes `object` through the type of its kind.
///
/// # Errors
/// The kind is none of [`KINDS`], the type does not take it, or something was lost: the message says where.
pub fn round_trip(object: &Value) -> Result<(), String> {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    let (version, name) = (text("apiVersion"), text("kind"));
    let known = KINDS.iter().find(|(of, kind, _)| (*of, *kind) == (version, name));
    let Some((_, _, through)) = known else { return Err(format!("`{version}` has no kind `{name}`")) };
    let back = through(object.clone()).map_err(|error| format!("{name}: {error}"))?;
    match difference(String::new(), object, &back) {
        Some(place) => Err(format!("{name} {place} is not as it was")),
        None => Ok(()),
    }
}

/// The first place where the two are not the same.
fn difference(place: String, one: &Value, other: &Value) -> Option<String> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let keys = one.keys().chain(other.keys().filter(|key| !one.contains_key(*key)));
            keys.map(|key| (format!("{place}/{key}"), one.get(key), other.get(key))).find_map(|(place, one, other)| {
                match (one, other) {
                    (Some(one), Some(other)) => difference(place, one, other),
                    _ => Some(place),
                }
            })
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let pairs = one.iter().zip(other).enumerate();
            pairs.map(|(at, (one, other))| difference(format!("{place}/{at}"), one, other)).find_map(|found| found)
        }
        _ => (one != other).then_some(place),
    }
}
