//! Signs what agents ask for, after a look at where they really are.
//!
//! A request says which node it is for; the API server adds which pod has sent it, from the pod's bound token. So it is
//! the pod's place that counts, and a token that was taken from one node is good for that node's name alone.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use callgate_mtls::Role;
use futures_util::StreamExt as _;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, watcher};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::LEAF_LIFE;
use crate::metrics::Kind;
use crate::tasks::Context;

/// Whose requests are ours.
pub const SIGNER: &str = "callgate.dev/node";

/// What a certificate of a node may be used for. Source: names of the API, `certificates.k8s.io/v1`.
const USAGES: [&str; 3] = ["digital signature", "key encipherment", "client auth"];

/// Where the API server tells the pod of a bound token.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Answers requests as they come, for ever; those that came while nobody was here, too.
pub async fn sign_for_nodes(context: Context) {
    let requests = Api::<CertificateSigningRequest>::all(context.client.clone());
    let ours = Config::default().fields(&format!("spec.signerName={SIGNER}"));
    let mut events = pin!(watcher(requests.clone(), ours).default_backoff().applied_objects());
    while let Some(event) = events.next().await {
        match event {
            Ok(request) => {
                let name = request.metadata.name.clone().unwrap_or_default();
                if let Err(error) = answer(&context, &requests, request).await {
                    warn!(request = name, error = %format!("{error:#}"), "a request for a certificate is not answered");
                }
            }
            Err(error) => warn!(%error, "requests for certificates cannot be followed"),
        }
    }
}

async fn answer(
    context: &Context,
    requests: &Api<CertificateSigningRequest>,
    request: CertificateSigningRequest,
) -> Result<()> {
    let name = request.metadata.name.unwrap_or_default();
    let mut version = request.metadata.resource_version;
    let status = request.status.unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    if status.certificate.is_some() || conditions.iter().any(|condition| condition.type_ != "Approved") {
        return Ok(());
    }
    let verdict = match sender(&request.spec, &context.options.namespace, &context.options.agent_account) {
        Ok((pod, uid)) => {
            let pods = Api::<Pod>::namespaced(context.client.clone(), &context.options.namespace);
            node_of(pods.get_opt(pod).await.context("look for the pod that asks")?, uid)
        }
        Err(why) => Err(why),
    };
    let authority = context.trust.get().await;
    let signed = verdict.and_then(|node| {
        let text = String::from_utf8_lossy(&request.spec.request.0);
        let signed = authority.sign(&text, &Role::Node(node.clone()), SystemTime::now() + LEAF_LIFE);
        signed.map(|pem| (node, pem)).map_err(|error| error.to_string())
    });
    let params = PatchParams::default();
    match signed {
        Ok((node, pem)) => {
            if conditions.is_empty() {
                let why = format!("the pod of the request is an agent on the node `{node}`");
                let approved = decision("Approved", "AgentOnNode", &why);
                let approved =
                    requests.patch_approval(&name, &params, &Patch::Merge(&approved)).await.context("approve")?;
                version = approved.metadata.resource_version;
            }
            let certificate = k8s_openapi::ByteString(pem.into_bytes());
            let metadata = json!({ "resourceVersion": version });
            let signed = json!({ "metadata": metadata, "status": { "certificate": certificate } });
            match requests.patch_status(&name, &params, &Patch::Merge(&signed)).await {
                // It has changed since, as by our own answer: what it is now comes as another event.
                Err(kube::Error::Api(status)) if status.is_conflict() => return Ok(()),
                handed_over => drop(handed_over.context("hand it over")?),
            }
            context.metrics.issued(Kind::Node);
            info!(request = name, node, "a certificate was issued");
        }
        Err(why) => {
            context.metrics.denied();
            warn!(request = name, user = request.spec.username, why, "a certificate was denied");
            // What somebody has approved cannot be denied any more; it can fail.
            if conditions.is_empty() {
                let denied = decision("Denied", "NotAnAgent", &why);
                requests.patch_approval(&name, &params, &Patch::Merge(&denied)).await.context("deny")?;
            } else {
                let mut all = json!(conditions);
                let failed = decision("Failed", "NotAnAgent", &why)["status"]["conditions"][0].take();
                all.as_array_mut().context("conditions are a list")?.push(failed);
                let failed = json!({ "status": { "conditions": all } });
                requests.patch_status(&name, &params, &Patch::Merge(&failed)).await.context("let it fail")?;
            }
        }
    }
    Ok(())
}

/// Name and uid of the pod that asks, if it is an agent's and asks for what an agent needs.
fn sender<'a>(
    spec: &'a CertificateSigningRequestSpec,
    namespace: &str,
    account: &str,
) -> Result<(&'a str, &'a str), String> {
    let expected = format!("system:serviceaccount:{namespace}:{account}");
    if spec.username.as_deref() != Some(&expected) {
        return Err(format!("only `{expected}` may ask for it"));
    }
    if !spec.usages.iter().flatten().all(|usage| USAGES.contains(&usage.as_str())) {
        return Err(format!("it asks for more than {}", USAGES.join(", ")));
    }
    let told = |key: &str| match spec.extra.as_ref().and_then(|extra| extra.get(key)).map(Vec::as_slice) {
        Some([one]) => Some(one.as_str()),
        _ => None,
    };
    let pod = told(POD_NAME).zip(told(POD_UID));
    pod.ok_or_else(|| "its token is not bound to a pod: a projected token is".to_owned())
}

/// The node of `pod`, if it is the one with this uid.
fn node_of(pod: Option<Pod>, uid: &str) -> Result<String, String> {
    let pod = pod.filter(|pod| pod.metadata.uid.as_deref() == Some(uid));
    let node = pod.and_then(|pod| pod.spec?.node_name);
    node.ok_or_else(|| "the pod that asked is gone, or on no node".to_owned())
}

fn decision(kind: &str, reason: &str, message: &str) -> Value {
    let condition = BTreeMap::from([("type", kind), ("status", "True"), ("reason", reason), ("message", message)]);
    json!({ "status": { "conditions": [condition] } })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn spec() -> CertificateSigningRequestSpec {
        CertificateSigningRequestSpec {
            request: ByteString(Vec::new()),
            signer_name: SIGNER.into(),
            usages: Some(vec!["client auth".into(), "digital signature".into()]),
            username: Some("system:serviceaccount:callgate-system:callgate-agent".into()),
            extra: Some([(POD_NAME.into(), vec!["agent-x".into()]), (POD_UID.into(), vec!["u1".into()])].into()),
            ..CertificateSigningRequestSpec::default()
        }
    }

    fn asked(spec: &CertificateSigningRequestSpec) -> Result<(&str, &str), String> {
        sender(spec, "callgate-system", "callgate-agent")
    }

    #[test]
    fn an_agents_pod_is_known_by_its_token() {
        assert_eq!(asked(&spec()).unwrap(), ("agent-x", "u1"));
    }

    #[test]
    fn nobody_else_is_an_agent() {
        let mut other = spec();
        other.username = Some("system:serviceaccount:shop:callgate-agent".into());
        assert!(asked(&other).unwrap_err().contains("may ask"));
        let mut more = spec();
        more.usages = Some(vec!["server auth".into()]);
        assert!(asked(&more).unwrap_err().contains("more than"));
        let mut unbound = spec();
        unbound.extra = None;
        assert!(asked(&unbound).unwrap_err().contains("not bound"));
        let mut two = spec();
        two.extra = Some([(POD_NAME.into(), vec!["a".into(), "b".into()]), (POD_UID.into(), vec!["u".into()])].into());
        assert!(asked(&two).is_err());
    }

    #[test]
    fn a_pod_of_the_same_name_is_another() {
        let pod = |uid: &str, node: Option<&str>| {
            let pod = json!({ "metadata": { "uid": uid }, "spec": { "containers": [], "nodeName": node } });
            serde_json::from_value::<Pod>(pod).unwrap()
        };
        assert_eq!(node_of(Some(pod("u1", Some("n1"))), "u1").unwrap(), "n1");
        assert!(node_of(Some(pod("u2", Some("n1"))), "u1").is_err());
        assert!(node_of(Some(pod("u1", None)), "u1").is_err());
        assert!(node_of(None, "u1").is_err());
    }
}
