//! Service accounts of the cluster as callers: tokens made for us, which the cluster still stands by.
//!
//! A token is verified offline first, as those of other issuers are, by keys and a name that the cluster's API tells.
//! Only one that holds is put before the API (TokenReview), which knows whether its pod and its service account are
//! still there. No answer is a denial. What the API said counts for [`REVIEWED_FOR`].

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{HeaderName, header};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::clock::Clock;
use super::config::Terms;
use super::keyring::{Keyring, Source};
use super::seen::Digest;
use super::verify::name;
use super::{Issuer, IssuersError, TokenError};
use crate::generations::Generations;

/// How long an answer counts. Source: ours; the API server itself caches them for 10 seconds (2 minutes for webhooks).
pub(super) const REVIEWED_FOR: Duration = Duration::from_secs(10);
/// How long a review that failed is not tried again.
pub(super) const FAILED_FOR: Duration = Duration::from_secs(1);
/// Longest wait for one review, and for that with the wait for its turn.
const REVIEW_WITHIN: Duration = Duration::from_secs(3);
const TURN_WITHIN: Duration = Duration::from_secs(6);
/// Most answers that are kept.
const ANSWERS_MAX: usize = 4_096;
/// Most reviews at once.
const LANES: usize = 16;
/// Pause before the cluster is asked again for its name, at first and at most.
const LEARN_MIN: Duration = Duration::from_secs(1);
const LEARN_MAX: Duration = Duration::from_secs(30);
/// Longest name of an issuer. Unit: bytes.
const ISSUER_MAX: usize = 512;

/// What every subject of a service account begins with.
const SUBJECT: &str = "system:serviceaccount:";

/// `[kubernetes.tokens]` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterTokens {
    /// Who we are to the cluster: a token must be made for one of them.
    pub audience: Vec<String>,
    /// The header that tokens come in, bare. Never `authorization`: there pods show the API tokens of the same issuer.
    #[serde(default = "header_name")]
    pub header: String,
    /// Whether the header goes on to the service; else it is taken off.
    #[serde(default)]
    pub forward: bool,
}

fn header_name() -> String {
    "x-callgate-caller".into()
}

impl ClusterTokens {
    /// The header, if all settings are fit.
    ///
    /// # Errors
    /// Names the key whose value is unfit.
    pub fn check(&self) -> Result<HeaderName, IssuersError> {
        let unfit = |key, detail: &str| IssuersError::setting("the cluster", key, detail);
        if self.audience.is_empty() || self.audience.iter().any(String::is_empty) {
            return Err(unfit("audience", "name at least one, none of them empty"));
        }
        let header = Terms::header(&self.header).map_err(|detail| unfit("header", detail))?;
        if header == header::AUTHORIZATION {
            return Err(unfit("header", "pods show the cluster's API tokens of the same issuer there"));
        }
        Ok(header)
    }
}

/// An answer that is waited for; an error says why there is none, without a byte of a token.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// The cluster's API, as far as callers are concerned. Real where there is a cluster, and told what to say in tests.
pub trait ClusterApi: Debug + Send + Sync {
    /// Its name as an issuer, and its keys.
    fn keys(&self) -> Answer<'_, ClusterKeys>;
    /// Whether it stands by a token that was made for one of `audiences`.
    fn review<'a>(&'a self, token: &'a str, audiences: &'a [String]) -> Answer<'a, Review>;
}

/// Whom the cluster is, as an issuer.
#[derive(Clone, Debug)]
pub struct ClusterKeys {
    /// What stands in `iss`.
    pub issuer: String,
    /// A JWK set.
    pub jwks: Vec<u8>,
}

/// What the cluster says of a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Review {
    /// It stands by it.
    Authentic {
        /// Whose it is.
        username: String,
        /// For whom it is, among those that were asked for.
        audiences: Vec<String>,
    },
    /// It does not.
    Refused,
}

/// The cluster as an issuer.
pub(super) struct ClusterIssuer {
    tokens: ClusterTokens,
    pub header: HeaderName,
    api: Arc<dyn ClusterApi>,
    /// None: the cluster has not told its name yet.
    issuer: ArcSwapOption<Issuer>,
    answers: Generations<Digest, Reviewed>,
    lanes: [Mutex<()>; LANES],
    clock: Clock,
}

#[derive(Clone, Copy)]
struct Reviewed {
    until: Duration,
    said: Result<(), TokenError>,
}

impl ClusterIssuer {
    /// # Errors
    /// Names the key whose value is unfit.
    pub fn new(tokens: &ClusterTokens, api: Arc<dyn ClusterApi>, clock: Clock) -> Result<Self, IssuersError> {
        Ok(Self {
            header: tokens.check()?,
            tokens: tokens.clone(),
            api,
            issuer: ArcSwapOption::empty(),
            answers: Generations::new(ANSWERS_MAX),
            lanes: Default::default(),
            clock,
        })
    }

    /// The issuer, once the cluster has told its name.
    pub fn issuer(&self) -> Option<Arc<Issuer>> {
        self.issuer.load_full()
    }

    /// Asks the cluster who it is, until it says so.
    pub async fn learn(&self) {
        let mut pause = LEARN_MIN;
        while self.issuer.load().is_none() {
            match self.api.keys().await.and_then(|keys| self.take(&keys.issuer)) {
                Ok(()) => return,
                Err(error) => {
                    warn!(error, "the cluster does not say who issues its tokens: they are refused until it does");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LEARN_MAX);
        }
    }

    fn take(&self, issuer: &str) -> Result<(), String> {
        if issuer.is_empty() || issuer.len() > ISSUER_MAX || issuer.contains(char::is_control) {
            return Err("its name as an issuer is unfit".into());
        }
        let terms = Terms::of_cluster(issuer, &self.tokens, self.header.clone());
        let source = Source::Cluster(Arc::clone(&self.api));
        let keyring = Keyring::new(issuer, source, terms.stale_max, self.clock.clone());
        keyring.start();
        info!(issuer, "tokens of the cluster's service accounts name callers");
        self.issuer.store(Some(Arc::new(Issuer { terms, keyring })));
        Ok(())
    }

    /// What the cluster said of the token lately.
    pub fn known(&self, digest: &Digest) -> Option<Result<(), TokenError>> {
        let reviewed = self.answers.get(digest)?;
        (self.clock.steady() < reviewed.until).then_some(reviewed.said)
    }

    /// Has the cluster review a token of `sub` that holds by itself.
    ///
    /// # Errors
    /// [`TokenError::Revoked`] if the cluster does not stand by it, [`TokenError::ReviewUnavailable`] if it does not say.
    pub async fn review(&self, token: &[u8], digest: &Digest, sub: &str) -> Result<(), TokenError> {
        if let Some(said) = self.known(digest) {
            return said;
        }
        let reviewed = async {
            // One at a time for a token: the others take the same answer.
            let lane = self.lanes.get(digest.lane(LANES)).ok_or(TokenError::ReviewUnavailable)?;
            let _turn = lane.lock().await;
            if let Some(said) = self.known(digest) {
                return said;
            }
            let said = self.ask(token, sub).await;
            let counts = if said == Err(TokenError::ReviewUnavailable) { FAILED_FOR } else { REVIEWED_FOR };
            let reviewed = Reviewed { until: self.clock.steady() + counts, said };
            self.answers.get_or(digest, |_| false, || reviewed).said
        };
        tokio::time::timeout(TURN_WITHIN, reviewed).await.unwrap_or(Err(TokenError::ReviewUnavailable))
    }

    async fn ask(&self, token: &[u8], sub: &str) -> Result<(), TokenError> {
        let token = std::str::from_utf8(token).map_err(|_| TokenError::Malformed)?;
        let audiences = &self.tokens.audience;
        match tokio::time::timeout(REVIEW_WITHIN, self.api.review(token, audiences)).await {
            Ok(Ok(Review::Authentic { username, audiences: of })) => {
                // A server that knows nothing of audiences names none, and has not looked at ours.
                let ours = of.iter().any(|audience| audiences.contains(audience));
                if ours && username == sub { Ok(()) } else { Err(TokenError::Revoked) }
            }
            Ok(Ok(Review::Refused)) => Err(TokenError::Revoked),
            Ok(Err(error)) => {
                warn!(error, "the cluster does not review a token: it is refused");
                Err(TokenError::ReviewUnavailable)
            }
            Err(_late) => {
                warn!("the cluster does not review a token in time: it is refused");
                Err(TokenError::ReviewUnavailable)
            }
        }
    }
}

/// What the groups of a service account begin with; nobody else's may.
pub(super) const GROUPS: &str = "kubernetes:";

/// What policies see as the groups of a service account: its namespace, itself, and its pod where the token is bound
/// to one. All of it is signed.
///
/// # Errors
/// [`TokenError::Claim`] where the claims contradict the subject, [`TokenError::Subject`] if that is none of a service
/// account.
pub(super) fn groups(claims: &Map<String, Value>, sub: &str) -> Result<Vec<String>, TokenError> {
    let account = sub.strip_prefix(SUBJECT).and_then(|account| account.split_once(':'));
    let (namespace, account) = account.ok_or(TokenError::Subject)?;
    if namespace.is_empty() || account.is_empty() || account.contains(':') {
        return Err(TokenError::Subject);
    }
    let bound = claims.get("kubernetes.io").and_then(Value::as_object).ok_or(TokenError::MissingClaim)?;
    let stated = |of: Option<&Value>, expected: &str| of.and_then(Value::as_str) == Some(expected);
    let of_account = bound.get("serviceaccount").and_then(|account| account.get("name"));
    if !stated(bound.get("namespace"), namespace) || !stated(of_account, account) {
        return Err(TokenError::Claim);
    }
    let mut groups =
        vec![format!("kubernetes:namespace:{namespace}"), format!("kubernetes:serviceaccount:{namespace}/{account}")];
    if let Some(pod) = bound.get("pod") {
        let part = |part: &str| name(pod.get(part).ok_or(TokenError::Claim)?, NAME_MAX);
        groups.push(format!("kubernetes:pod:{namespace}/{}", part("name")?));
        groups.push(format!("kubernetes:pod-uid:{}", part("uid")?));
    }
    groups.sort();
    Ok(groups)
}

/// Longest name of an object. Unit: bytes. Source: RFC 1123 subdomains, as Kubernetes takes them.
const NAME_MAX: usize = 253;
