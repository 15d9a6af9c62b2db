//! Tells the API server by which CA the webhook is known: the `caBundle` of its configuration, which the chart leaves
//! empty.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::issuer::Trust;

/// Name of the configuration. The chart's.
const NAME: &str = "callgate-trust";
/// Time between two looks: a chart that is applied again empties the field.
const LOOK: Duration = Duration::from_secs(30);

/// Keeps it so, for ever.
pub(super) async fn keep(client: Client, trust: Trust) {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client);
    loop {
        let ca = trust.get().await;
        match told(&api, ca.pem()).await {
            Ok(true) => info!("the webhook's CA was announced"),
            Ok(false) => {}
            Err(error) => warn!(%error, "the webhook's CA cannot be announced: pods get no trust by admission"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether it had to be written.
async fn told(api: &Api<MutatingWebhookConfiguration>, ca: &str) -> kube::Result<bool> {
    let Some(configuration) = api.get_opt(NAME).await? else { return Ok(false) };
    let Some(patch) = patch(&configuration, ca) else { return Ok(false) };
    api.patch(NAME, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(true)
}

/// What is to be changed; lists are merged by the names in them.
fn patch(configuration: &MutatingWebhookConfiguration, ca: &str) -> Option<Value> {
    let webhooks = configuration.webhooks.iter().flatten();
    let other = webhooks.filter(|one| one.client_config.ca_bundle.as_ref().is_none_or(|now| now.0 != ca.as_bytes()));
    let bundle = BASE64_STANDARD.encode(ca);
    let changes: Vec<Value> =
        other.map(|one| json!({ "name": one.name, "clientConfig": { "caBundle": bundle } })).collect();
    (!changes.is_empty()).then(|| json!({ "webhooks": changes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let bundle = BASE64_STANDARD.encode("ca");
        let webhook = |name: &str, ca: Option<&str>| {
            json!({ "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
                    "clientConfig": { "caBundle": ca } })
        };
        let text = json!({ "webhooks": [webhook("a", None), webhook("b", Some(&bundle)), webhook("c", Some("AAAA"))] });
        let configuration: MutatingWebhookConfiguration = serde_json::from_value(text).unwrap();
        let change = |name: &str| json!({ "name": name, "clientConfig": { "caBundle": bundle } });
        assert_eq!(patch(&configuration, "ca"), Some(json!({ "webhooks": [change("a"), change("c")] })));
        let whole = json!({ "webhooks": [webhook("b", Some(&bundle))] });
        assert_eq!(patch(&serde_json::from_value(whole).unwrap(), "ca"), None);
    }
}
