//! Keeps the CA, what is trusted, and the leaves that pods mount.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use callgate_mtls::{Authority, Certificate, Role};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use tracing::{info, warn};

use super::LEAF_LIFE;
use super::authority::Authorities;
use crate::metrics::Kind;
use crate::tasks::Context;

/// How often everything is looked at, and how soon again after a failure.
const LOOK: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(5);

/// Of the Secret with the CA, and of the ConfigMap with what is trusted.
const CA: &str = "callgate-ca";
/// Key of the ConfigMap: all CAs that count now, PEM.
const BUNDLE: &str = "ca.pem";
/// Secrets with leaves.
const COLLECTOR: &str = "callgate-collector-tls";
const READER: &str = "callgate-reader-tls";

/// Keys of Secrets. Source: `kubernetes.io/tls`.
const CERT: &str = "tls.crt";
const KEY: &str = "tls.key";
const NEXT_CERT: &str = "next.crt";
const NEXT_KEY: &str = "next.key";

/// Annotation of a leaf's Secret: whom it names.
const NAMES: &str = "callgate.dev/names";

/// Who writes, for the API.
const MANAGER: &str = "callgate-controller";

/// Keeps all of it as it should be, for ever.
pub async fn keep_authority(context: Context) {
    loop {
        let pause = match keep(&context).await {
            Ok(()) => LOOK,
            Err(error) => {
                warn!(error = %format!("{error:#}"), "certificates of the cluster are not as they should be");
                PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn keep(context: &Context) -> Result<()> {
    let namespace = &context.options.namespace;
    let secrets = Api::<Secret>::namespaced(context.client.clone(), namespace);
    let authorities =
        if context.options.external_ca { external(&secrets).await? } else { own(context, &secrets).await? };
    // What is trusted comes first: nothing is signed by a CA that nobody knows.
    let trusted = publish(&Api::namespaced(context.client.clone(), namespace), &authorities).await?;
    let current = Arc::new(authorities.current);
    context.trust.set(Arc::clone(&current));
    let issuer = Issuer { authority: &current, trusted: &trusted };
    if leaf(&secrets, COLLECTOR, &issuer, &Role::Collector(context.options.collector_name.clone())).await? {
        context.metrics.issued(Kind::Collector);
    }
    if let Some(reader) = &context.options.reader
        && leaf(&secrets, READER, &issuer, &Role::Reader(reader.clone())).await?
    {
        context.metrics.issued(Kind::Reader);
    }
    Ok(())
}

/// The CA that we make ourselves.
async fn own(context: &Context, secrets: &Api<Secret>) -> Result<Authorities> {
    let there = secrets.get_opt(CA).await.context("read the CA's secret")?;
    let kept = there.as_ref().map(read).transpose()?;
    let (authorities, changed) = Authorities::at(SystemTime::now(), kept)?;
    if !changed {
        return Ok(authorities);
    }
    let mut data = pair(CERT, KEY, &authorities.current);
    if let Some(next) = &authorities.next {
        data.extend(pair(NEXT_CERT, NEXT_KEY, next));
    }
    let mut metadata = ObjectMeta { name: Some(CA.into()), labels: labels(), ..ObjectMeta::default() };
    // With its version: what somebody else wrote meanwhile is read again, and never written over.
    metadata.resource_version = there.as_ref().and_then(|there| there.metadata.resource_version.clone());
    let secret = Secret { metadata, type_: Some("kubernetes.io/tls".into()), data: Some(data), ..Secret::default() };
    let params = PostParams::default();
    if there.is_some() {
        secrets.replace(CA, &params, &secret).await.context("keep the CA")?;
    } else {
        secrets.create(&params, &secret).await.context("keep the CA")?;
    }
    context.metrics.issued(Kind::Authority);
    info!(next = authorities.next.is_some(), "a certificate authority was made, or the next one took over");
    Ok(authorities)
}

/// The CA that another issuer keeps in that Secret.
async fn external(secrets: &Api<Secret>) -> Result<Authorities> {
    let there = secrets.get_opt(CA).await.context("read the CA's secret")?;
    let there = there.with_context(|| format!("there is no secret `{CA}` yet: its issuer has not made it"))?;
    Ok(Authorities { next: None, ..read(&there)? })
}

fn read(secret: &Secret) -> Result<Authorities> {
    let text = |key: &str| -> Option<&str> { std::str::from_utf8(&secret.data.as_ref()?.get(key)?.0).ok() };
    let authority = |cert: &str, key: &str| -> Result<Authority> {
        let missing = || format!("the secret `{CA}` has no `{cert}` or `{key}`");
        let (cert, key) = (text(cert).with_context(missing)?, text(key).with_context(missing)?);
        Authority::from_pem(cert, key).with_context(|| format!("the secret `{CA}`"))
    };
    let next = text(NEXT_CERT).map(|_| authority(NEXT_CERT, NEXT_KEY)).transpose()?;
    Ok(Authorities { current: authority(CERT, KEY)?, next })
}

/// Publishes all CAs that count: the current and the next one, and those before that have not ended. What it published.
async fn publish(maps: &Api<ConfigMap>, authorities: &Authorities) -> Result<String> {
    let there = maps.get_opt(CA).await.context("read what is trusted")?;
    let before = there.and_then(|map| map.data?.remove(BUNDLE)).unwrap_or_default();
    let ours = [Some(&authorities.current), authorities.next.as_ref()];
    let bundle = bundle(&before, ours.into_iter().flatten().map(Authority::pem));
    if bundle == before {
        return Ok(bundle);
    }
    let map = ConfigMap {
        metadata: ObjectMeta { name: Some(CA.into()), labels: labels(), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([(BUNDLE.into(), bundle.clone())])),
        ..ConfigMap::default()
    };
    maps.patch(CA, &apply(), &Patch::Apply(&map)).await.context("publish what is trusted")?;
    Ok(bundle)
}

/// `ours`, then those of `before` that are others and still count.
fn bundle<'a>(before: &str, ours: impl Iterator<Item = &'a str>) -> String {
    let mut all: Vec<String> = ours.map(|pem| format!("{}\n", pem.trim_end())).collect();
    for pem in Certificate::split(before) {
        let counts = Certificate::from_pem(&pem).is_some_and(|read| read.expires > SystemTime::now());
        if counts && !all.contains(&pem) {
            all.push(pem);
        }
    }
    all.concat()
}

/// Who signs leaves, and the CAs that count.
struct Issuer<'a> {
    authority: &'a Authority,
    trusted: &'a str,
}

/// Makes a leaf's Secret anew where it is missing, for others, due, or of a CA that counts no more; whether it was.
async fn leaf(secrets: &Api<Secret>, name: &str, issuer: &Issuer<'_>, role: &Role) -> Result<bool> {
    let there = secrets.get_opt(name).await.with_context(|| format!("read the secret `{name}`"))?;
    let names = role.to_string();
    if there.is_some_and(|secret| is_good(&secret, &names, issuer.trusted)) {
        return Ok(false);
    }
    let issued = issuer.authority.issue(role, SystemTime::now() + LEAF_LIFE)?;
    let data = BTreeMap::from([
        (CERT.into(), ByteString(issued.cert.into_bytes())),
        (KEY.into(), ByteString(issued.key.into_bytes())),
    ]);
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: labels(),
            annotations: Some(BTreeMap::from([(NAMES.into(), names.clone())])),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".into()),
        data: Some(data),
        ..Secret::default()
    };
    secrets.patch(name, &apply(), &Patch::Apply(&secret)).await.with_context(|| format!("keep `{name}`"))?;
    info!(secret = name, names, "a certificate was issued");
    Ok(true)
}

fn is_good(secret: &Secret, names: &str, trusted: &str) -> bool {
    let named = secret.metadata.annotations.as_ref().and_then(|all| all.get(NAMES)).is_some_and(|it| *it == names);
    let pem = secret.data.as_ref().and_then(|data| std::str::from_utf8(&data.get(CERT)?.0).ok());
    let is_fresh = |pem| Certificate::from_pem(pem).is_some_and(|read| read.renew_at() > SystemTime::now());
    named && pem.is_some_and(|pem| is_fresh(pem) && Certificate::is_signed_by(pem, trusted))
}

fn pair(cert: &str, key: &str, authority: &Authority) -> BTreeMap<String, ByteString> {
    BTreeMap::from([
        (cert.into(), ByteString(authority.pem().as_bytes().to_vec())),
        (key.into(), ByteString(authority.key_pem().into_bytes())),
    ])
}

fn labels() -> Option<BTreeMap<String, String>> {
    Some(BTreeMap::from([("app.kubernetes.io/name".into(), "callgate".into())]))
}

fn apply() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_signed_is_trusted_until_it_ends() {
        let hour = Duration::from_secs(3_600);
        let made = |life| Authority::make("a", life).unwrap();
        let (old, ended, current) = (made(hour), made(Duration::ZERO), made(hour));
        let before = format!("{}{}{}", old.pem(), ended.pem(), current.pem());
        let now = bundle(&before, [current.pem()].into_iter());
        assert_eq!(now, format!("{}{}", current.pem(), old.pem()));
        assert_eq!(bundle(&now, [current.pem()].into_iter()), now);
        assert_eq!(bundle("no certificate", [current.pem()].into_iter()), current.pem());
    }

    #[test]
    fn a_leaf_of_a_ca_that_was_thrown_away_is_made_anew() {
        let hour = Duration::from_secs(3_600);
        let (old, new) = (Authority::make("a", hour * 100).unwrap(), Authority::make("a", hour * 100).unwrap());
        let role = Role::Reader("ops".into());
        let leaf = old.issue(&role, SystemTime::now() + LEAF_LIFE).unwrap();
        let secret = Secret {
            metadata: ObjectMeta {
                annotations: Some(BTreeMap::from([(NAMES.into(), role.to_string())])),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(CERT.into(), ByteString(leaf.cert.into_bytes()))])),
            ..Secret::default()
        };
        let names = role.to_string();
        assert!(is_good(&secret, &names, old.pem()));
        // The next one has taken over, and the last one still counts.
        assert!(is_good(&secret, &names, &format!("{}{}", new.pem(), old.pem())));
        assert!(!is_good(&secret, &names, new.pem()));
        assert!(!is_good(&secret, "another", old.pem()));
    }

    #[test]
    fn a_secret_is_read_as_it_was_written() {
        let (current, _) = Authorities::at(SystemTime::now(), None).unwrap();
        let mut data = pair(CERT, KEY, &current.current);
        let secret = |data: &BTreeMap<String, ByteString>| Secret { data: Some(data.clone()), ..Secret::default() };
        assert!(read(&secret(&data)).unwrap().next.is_none());
        data.extend(pair(NEXT_CERT, NEXT_KEY, &Authority::make("b", LEAF_LIFE).unwrap()));
        assert!(read(&secret(&data)).unwrap().next.is_some());
        data.remove(KEY);
        let error = read(&secret(&data)).err().unwrap().to_string();
        assert_eq!(error, "the secret `callgate-ca` has no `tls.crt` or `tls.key`");
    }
}
