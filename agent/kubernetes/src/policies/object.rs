//! One object of the API as policy wants it.
//!
//! Read without a generated type: an object that does not read is broken by itself, and its list is read on.

use callgate_policy::{Offer, Origin, PolicyText};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::serde_json::{Value, from_value};
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde::{Deserialize, Serialize};

/// Group of the API, and its version.
const GROUP: &str = "callgate.dev";
const VERSION: &str = "v1alpha1";

/// A kind of objects that hold policies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// ClusterCallPolicy.
    Cluster,
    /// CallPolicy.
    Namespaced,
}

impl Kind {
    /// What the API is asked for.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        let (kind, plural) = match self {
            Self::Cluster => ("ClusterCallPolicy", "clustercallpolicies"),
            Self::Namespaced => ("CallPolicy", "callpolicies"),
        };
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, kind), plural)
    }

    /// The kind of objects of `origin`; none of a directory.
    #[must_use]
    pub fn of(origin: &Origin) -> Option<Self> {
        match origin {
            Origin::Directory => None,
            Origin::Cluster { .. } => Some(Self::Cluster),
            Origin::Namespace { .. } => Some(Self::Namespaced),
        }
    }
}

/// What an agent knows of an object from before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Past<'a> {
    /// Nothing.
    Unknown,
    /// This text of it was in force.
    InForce(&'a str),
    /// Nothing of it was, though it should have been.
    Lost,
}

/// An object that holds policies.
#[derive(Clone, PartialEq, Debug)]
pub struct PolicyObject {
    /// Its kind, namespace and name.
    pub origin: Origin,
    /// The API's uid of it: another one under the same name is another object.
    pub uid: String,
    /// Counts changes of its spec.
    pub generation: i64,
    /// Cedar text, or why there is none.
    pub text: Result<String, String>,
    /// What the controller said of it.
    pub status: Status,
}

/// What the controller says of an object.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The generation that it speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, or not, and why.
    pub conditions: Vec<Condition>,
    /// The text that was accepted last: it stands in for a broken one on nodes that have not seen it themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_accepted: Option<Accepted>,
}

impl Status {
    /// The type of the condition that says whether an object is accepted.
    pub const ACCEPTED: &str = "Accepted";

    /// Whether anything of the object was ever accepted, so that somebody may rely on it.
    fn ever_accepted(&self) -> bool {
        let accepts = |condition: &Condition| condition.type_ == Self::ACCEPTED && condition.status == "True";
        self.last_accepted.is_some() || self.conditions.iter().any(accepts)
    }
}

/// A text that was accepted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// Of which generation.
    pub generation: i64,
    /// The text.
    pub cedar: String,
}

/// `spec`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    cedar: String,
    #[serde(default)]
    options: Options,
}

/// `spec.options`: none in this version, and an unknown one is an error.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {}

impl PolicyObject {
    /// None for an object without name or, where it must have one, namespace, which the API never sends.
    #[must_use]
    pub fn read(kind: Kind, object: DynamicObject) -> Option<Self> {
        let DynamicObject { metadata, mut data, .. } = object;
        let name = metadata.name?;
        let origin = match kind {
            Kind::Cluster => Origin::Cluster { name },
            Kind::Namespaced => Origin::Namespace { namespace: metadata.namespace?, name },
        };
        let mut part = |name: &str| data.get_mut(name).map(Value::take).unwrap_or_default();
        let spec = from_value(part("spec")).map_err(|error| format!("`spec` does not read: {error}"));
        Some(Self {
            origin,
            uid: metadata.uid.unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            text: spec.map(|Spec { cedar, options: Options {} }| cedar),
            // What somebody else wrote into it is nothing that the controller said.
            status: from_value(part("status")).unwrap_or_default(),
        })
    }

    /// As the compiler of policies takes it. What was in force of it here stands in for a broken text, else what the
    /// controller accepted last.
    #[must_use]
    pub fn offer(&self, past: Past<'_>) -> Offer {
        let origin = || self.origin.clone();
        let last = match past {
            Past::InForce(text) => Some(text),
            Past::Unknown | Past::Lost => self.status.last_accepted.as_ref().map(|accepted| accepted.cedar.as_str()),
        };
        Offer {
            text: match &self.text {
                Ok(text) => PolicyText::object(origin(), text),
                Err(why) => PolicyText::unfit(origin(), why.clone()),
            },
            last: last.map(|last| PolicyText::object(origin(), last)),
            relied_on: past != Past::Unknown || self.status.ever_accepted(),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::json;

    use super::*;

    fn read(kind: Kind, value: Value) -> Option<PolicyObject> {
        PolicyObject::read(kind, from_value(value).unwrap())
    }

    #[test]
    fn an_object_reads_and_its_status_too() {
        let value = json!({
            "apiVersion": "callgate.dev/v1alpha1", "kind": "CallPolicy",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "generation": 3},
            "spec": {"cedar": "permit", "options": {}},
            "status": {"observedGeneration": 2, "lastAccepted": {"generation": 2, "cedar": "old"},
                       "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
                                       "lastTransitionTime": "2026-11-23T10:00:00Z"}]},
        });
        let object = read(Kind::Namespaced, value).unwrap();
        assert_eq!(object.origin, Origin::Namespace { namespace: "shop".into(), name: "web".into() });
        assert_eq!((object.generation, object.text.as_deref()), (3, Ok("permit")));
        assert_eq!(object.status.conditions[0].status, "True");
        let last = |past| object.offer(past).last;
        assert_eq!(last(Past::Unknown), Some(PolicyText::object(object.origin.clone(), "old")));
        assert_eq!(last(Past::InForce("mine")), Some(PolicyText::object(object.origin.clone(), "mine")));
    }

    #[test]
    fn what_was_ever_in_force_is_relied_on_and_nothing_else_is() {
        let value = |status: Value| json!({"metadata": {"name": "a"}, "spec": {"cedar": "permit ("}, "status": status});
        let relied_on =
            |past: Past<'_>, status: Value| read(Kind::Cluster, value(status)).unwrap().offer(past).relied_on;
        let condition = |kind: &str, status: &str| {
            json!({"conditions": [{"type": kind, "status": status, "reason": "Syntax", "message": "m",
                                   "lastTransitionTime": "2026-11-23T10:00:00Z"}]})
        };
        assert!(!relied_on(Past::Unknown, json!({})));
        assert!(!relied_on(Past::Unknown, condition("Accepted", "False")));
        assert!(!relied_on(Past::Unknown, condition("Ready", "True")));
        // Its text is lost, but there was one.
        assert!(relied_on(Past::Unknown, condition("Accepted", "True")));
        assert!(relied_on(Past::Unknown, json!({"lastAccepted": {"generation": 1, "cedar": "x"}})));
        assert!(relied_on(Past::InForce("x"), json!({})));
        assert!(relied_on(Past::Lost, json!({})));
    }

    #[test]
    fn what_does_not_read_is_broken_by_itself() {
        for spec in [
            json!(null),
            json!({}),
            json!({"cedar": 1}),
            json!({"cedar": "", "cedra": ""}),
            json!({"cedar": "", "options": {"mode": "x"}}),
        ] {
            let value = json!({"metadata": {"name": "a"}, "spec": spec, "status": {"conditions": 1}});
            let object = read(Kind::Cluster, value).unwrap();
            assert!(object.text.unwrap_err().contains("`spec`"));
            assert_eq!(object.status, Status::default());
        }
        assert_eq!(read(Kind::Namespaced, json!({"metadata": {"name": "a"}})), None);
    }
}
