//! This node's certificate towards the collector, asked of the cluster by its API for certificate signing requests.
//!
//! The key is made here and never leaves the node; what the cluster signs names the node that it knows this pod to be on.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use callgate_mtls::{Certificate, Role, request, write};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use kube::api::{Api, ObjectMeta, PostParams};
use tracing::{info, warn};

use crate::{Cluster, ClusterError};

/// Longest wait for an answer to a request, and how often it is looked for.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(500);
/// Pause after a failure, and at least between two requests.
const PAUSE: Duration = Duration::from_secs(10);
/// How often the clock is looked at: a sleeping machine's timers stand still.
const CLOCK_LOOK: Duration = Duration::from_secs(60);

/// Keeps a certificate of `node` with its key in `file` (PEM, mode 0600), replaced whole when a third of its life is
/// left. Never ends: what fails is tried again.
/// One that none of the CAs in `bundle` has signed is replaced too, once for each content of the bundle: the cluster's CA
/// may have been made anew, and a collector elsewhere has a CA of its own.
pub async fn keep_certificate(cluster: Cluster, signer: String, node: String, file: &Path, bundle: &Path) {
    let role = Role::Node(node.clone());
    let mut asked_with = None;
    loop {
        while let Some(left) = until_due(file, bundle, &node, asked_with.as_deref()) {
            tokio::time::sleep(left.min(CLOCK_LOOK)).await;
        }
        let trusted = std::fs::read_to_string(bundle).ok();
        match renew(&cluster, &signer, &role, file).await {
            Ok(()) => {
                info!(file = %file.display(), "a certificate for the way to the collector was issued");
                asked_with = trusted;
            }
            Err(error) => {
                let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                warn!(%error, %why, "no certificate for the way to the collector: asked for again");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// How long the certificate in `file` is good; none if another is due. `asked_with` is what `bundle` held when it was
/// asked for: it says nothing new then.
fn until_due(file: &Path, bundle: &Path, node: &str, asked_with: Option<&str>) -> Option<Duration> {
    let pem = std::fs::read_to_string(file).ok()?;
    // Without a bundle nobody can say; it is still to come.
    if let Ok(trusted) = std::fs::read_to_string(bundle)
        && asked_with != Some(trusted.as_str())
        && !Certificate::is_signed_by(&pem, &trusted)
    {
        return None;
    }
    let there = Certificate::from_pem(&pem)?;
    let left = there.renew_at().duration_since(SystemTime::now()).ok()?;
    (there.client.is_node(node) && !left.is_zero()).then_some(left)
}

async fn renew(cluster: &Cluster, signer: &str, role: &Role, file: &Path) -> Result<(), ClusterError> {
    let made = request(role).map_err(ClusterError::Certificate)?;
    let requests = Api::<CertificateSigningRequest>::all(cluster.client.clone());
    let asked = CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some("callgate-node-".into()),
            labels: Some(BTreeMap::from([("app.kubernetes.io/name".into(), "callgate".into())])),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(made.cert.into_bytes()),
            signer_name: signer.to_owned(),
            usages: Some(vec!["digital signature".into(), "client auth".into()]),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let failed = |error| ClusterError::Request(Box::new(error));
    let name = requests.create(&PostParams::default(), &asked).await.map_err(failed)?.metadata.name.unwrap_or_default();
    let answer = async {
        loop {
            let status = requests.get(&name).await.map_err(failed)?.status.unwrap_or_default();
            if let Some(refused) = status.conditions.iter().flatten().find(|condition| condition.type_ != "Approved") {
                let why = refused.message.clone().unwrap_or_default();
                return Err(ClusterError::Refused { name: name.clone(), why });
            }
            if let Some(ByteString(pem)) = status.certificate.filter(|pem| !pem.0.is_empty()) {
                return Ok(pem);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let answer = tokio::time::timeout(ANSWERED_WITHIN, answer).await;
    let signed = answer.map_err(|_| ClusterError::Unanswered { name: name.clone(), within: ANSWERED_WITHIN })??;
    let signed = String::from_utf8_lossy(&signed);
    // In one file: who follows it never sees the one without the other.
    write(file, &format!("{}\n{}", signed.trim_end(), made.key), 0o600).map_err(ClusterError::Certificate)
}

#[cfg(test)]
mod tests {
    use callgate_mtls::Authority;

    use super::*;

    #[test]
    fn a_certificate_is_due_before_it_ends_and_for_another_node() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("node.pem");
        let bundle = directory.path().join("ca.pem");
        let until_due = |node: &str| super::until_due(&file, &bundle, node, None);
        assert_eq!(until_due("n1"), None);
        let hour = Duration::from_secs(3_600);
        let authority = Authority::make("a", hour * 100).unwrap();
        let put = |left: Duration| {
            let issued = authority.issue(&Role::Node("n1".into()), SystemTime::now() + left).unwrap();
            write(&file, &(issued.cert + &issued.key), 0o600).unwrap();
        };
        // Valid since an hour ago: a third of 24 hours is 8.
        put(hour * 23);
        let left = until_due("n1").unwrap();
        assert!(left > hour * 14 && left < hour * 15, "{left:?}");
        assert_eq!(until_due("n2"), None);
        write(&bundle, authority.pem(), 0o644).unwrap();
        assert!(until_due("n1").is_some());
        let other = Authority::make("a", hour).unwrap();
        write(&bundle, other.pem(), 0o644).unwrap();
        assert_eq!(until_due("n1"), None);
        // A collector elsewhere has a CA of its own: asked once.
        assert!(super::until_due(&file, &bundle, "n1", Some(other.pem())).is_some());
        assert_eq!(super::until_due(&file, &bundle, "n1", Some(authority.pem())), None);
        write(&bundle, authority.pem(), 0o644).unwrap();
        put(hour / 4);
        assert_eq!(until_due("n1"), None);
    }
}
