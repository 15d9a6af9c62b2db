//! The API server's question, `admission.k8s.io/v1` AdmissionReview, and the answer: always allowed, with a patch.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::patch::patch;

/// What it asks about: others are allowed as they are.
const POD: &str = "Pod";

/// The answer to `question`; none if that is no review.
#[must_use]
pub fn answer(question: &[u8]) -> Option<Value> {
    let review: Value = serde_json::from_slice(question).ok()?;
    let request = &review["request"];
    let uid = request["uid"].as_str()?;
    if review["apiVersion"] != "admission.k8s.io/v1" {
        return None;
    }
    let mut response = json!({ "uid": uid, "allowed": true });
    let operations = if request["kind"]["kind"] == POD { patch(&request["object"]) } else { Vec::new() };
    if !operations.is_empty() {
        let text = serde_json::to_vec(&operations).ok()?;
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(BASE64_STANDARD.encode(text));
    }
    Some(json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(kind: &str, object: Value) -> Value {
        let request = json!({ "uid": "u-1", "kind": { "kind": kind }, "object": object });
        let review = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request });
        answer(&serde_json::to_vec(&review).unwrap()).unwrap()["response"].clone()
    }

    #[test]
    fn a_pod_is_allowed_with_a_patch() {
        let pod = json!({ "metadata": {}, "spec": { "containers": [{ "name": "a" }] } });
        let response = asked("Pod", pod.clone());
        assert_eq!(
            (&response["uid"], &response["allowed"], &response["patchType"]),
            (&json!("u-1"), &json!(true), &json!("JSONPatch"))
        );
        let text = BASE64_STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
        let told: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(told, serde_json::to_value(patch(&pod)).unwrap());
        assert!(told.as_array().unwrap().iter().all(|one| one["op"] == "add" && one["path"].is_string()));
    }

    #[test]
    fn anything_else_is_allowed_as_it_is_or_is_no_review() {
        assert_eq!(asked("Deployment", json!({ "spec": {} })), json!({ "uid": "u-1", "allowed": true }));
        let left =
            json!({ "metadata": { "labels": { "callgate.dev/trust": "none" } }, "spec": { "containers": [{}] } });
        assert_eq!(asked("Pod", left), json!({ "uid": "u-1", "allowed": true }));
        for odd in ["", "{}", "[]", r#"{"apiVersion":"admission.k8s.io/v1beta1","request":{"uid":"u"}}"#] {
            assert_eq!(answer(odd.as_bytes()), None, "{odd}");
        }
    }
}
