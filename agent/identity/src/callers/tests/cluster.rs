//! Service accounts of a cluster: what its API stands by, and everything else.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::issuer::{AUDIENCE, Signer, b64, issuers, now};
use crate::callers::clock::Clock;
use crate::callers::cluster::{FAILED_FOR, REVIEWED_FOR};
use crate::callers::{Answer, ClusterApi, ClusterKeys, ClusterTokens, Issuers, Review, TokenError};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const SUB: &str = "system:serviceaccount:shop:web";

/// A cluster that says what it is told to.
#[derive(Debug)]
struct Cluster {
    jwks: Mutex<Result<String, String>>,
    says: Mutex<Result<Review, String>>,
    hangs: Mutex<bool>,
    reviews: AtomicUsize,
}

impl ClusterApi for Cluster {
    fn keys(&self) -> Answer<'_, ClusterKeys> {
        let jwks = self.jwks.lock().unwrap().clone();
        Box::pin(async { Ok(ClusterKeys { issuer: ISSUER.into(), jwks: jwks?.into_bytes() }) })
    }

    fn review<'a>(&'a self, _token: &'a str, audiences: &'a [String]) -> Answer<'a, Review> {
        assert_eq!(audiences, [AUDIENCE]);
        self.reviews.fetch_add(1, SeqCst);
        let (says, hangs) = (self.says.lock().unwrap().clone(), *self.hangs.lock().unwrap());
        Box::pin(async move { if hangs { std::future::pending().await } else { says } })
    }
}

impl Cluster {
    fn says(&self, says: Result<Review, String>) {
        *self.says.lock().unwrap() = says;
    }
}

fn stands_by(username: &str, audience: &str) -> Review {
    Review::Authentic { username: username.into(), audiences: vec![audience.into()] }
}

fn tokens(more: &str) -> ClusterTokens {
    toml::from_str(&format!("audience = [\"{AUDIENCE}\"]\n{more}")).unwrap()
}

async fn cluster() -> (Issuers, Clock, Arc<Cluster>, Signer) {
    let signer = Signer::rsa("k");
    let cluster = Arc::new(Cluster {
        jwks: Mutex::new(Ok(json!({ "keys": [signer.jwk()] }).to_string())),
        says: Mutex::new(Ok(stands_by(SUB, AUDIENCE))),
        hangs: Mutex::default(),
        reviews: AtomicUsize::new(0),
    });
    let (issuers, clock) = issuers(&[]);
    let api = Arc::clone(&cluster) as Arc<dyn ClusterApi>;
    let issuers = issuers.with_cluster(&tokens(""), api).unwrap();
    issuers.learn_cluster().await;
    (issuers, clock, cluster, signer)
}

/// The claims of a token that a kubelet projects into a pod.
fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": SUB, "aud": [AUDIENCE], "iat": now(), "nbf": now(), "exp": now() + 3600,
        "kubernetes.io": {
            "namespace": "shop", "pod": {"name": "web-0", "uid": "p-1"},
            "serviceaccount": {"name": "web", "uid": "s-1"},
        },
    })
}

fn in_header(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("x-callgate-caller"), HeaderValue::from_str(token).unwrap());
    headers
}

#[tokio::test]
async fn a_service_account_is_a_caller_with_its_namespace_and_pod() {
    let (issuers, _, cluster, signer) = cluster().await;
    let token = signer.token(&claims());
    let identified = issuers.identify(&in_header(&token)).await.unwrap().unwrap();
    assert_eq!((identified.caller.sub.as_str(), identified.caller.iss.as_str()), (SUB, ISSUER));
    assert_eq!(
        identified.caller.groups,
        [
            "kubernetes:namespace:shop",
            "kubernetes:pod-uid:p-1",
            "kubernetes:pod:shop/web-0",
            "kubernetes:serviceaccount:shop/web"
        ]
    );
    assert_eq!(identified.strip.unwrap(), "x-callgate-caller");
    // Once for all calls of the next seconds.
    for _ in 0..3 {
        issuers.verify(&token).await.unwrap();
        assert!(issuers.verify_now(&token).unwrap().is_ok());
    }
    assert_eq!(cluster.reviews.load(SeqCst), 1);
}

#[tokio::test]
async fn what_is_wrong_by_itself_is_never_put_before_the_cluster() {
    let (issuers, _, cluster, signer) = cluster().await;
    let with = |field: &str, value: Value| {
        let mut claims = claims();
        claims[field] = value;
        signer.token(&claims)
    };
    let bound = |pointer: &str, value: Value| {
        let mut claims = claims();
        *claims.pointer_mut(pointer).unwrap() = value;
        signer.token(&claims)
    };
    let mut unbound = claims();
    unbound.as_object_mut().unwrap().remove("kubernetes.io");
    let good = signer.token(&claims());
    let (_, rest) = good.split_once('.').unwrap();
    let (body, _) = rest.split_once('.').unwrap();
    for (token, error) in [
        (with("aud", json!(["https://kubernetes.default.svc"])), TokenError::Audience),
        (with("exp", json!(now() - 60)), TokenError::Expired),
        (with("nbf", json!(now() + 600)), TokenError::NotYetValid),
        (with("iss", json!("https://other.example")), TokenError::UnknownIssuer),
        (with("sub", json!("ada")), TokenError::Subject),
        (with("sub", json!("system:serviceaccount:shop")), TokenError::Subject),
        (with("sub", json!("system:serviceaccount:shop:web:x")), TokenError::Subject),
        (with("sub", json!("system:serviceaccount:bank:web")), TokenError::Claim),
        (bound("/kubernetes.io/serviceaccount/name", json!("root")), TokenError::Claim),
        (bound("/kubernetes.io/pod/uid", json!(7)), TokenError::Claim),
        (signer.token(&unbound), TokenError::MissingClaim),
        (Signer::rsa("k").token(&claims()), TokenError::Signature),
        (format!("{}.{body}.", b64(r#"{"alg":"none"}"#)), TokenError::Algorithm),
        (format!("{}.{rest}", b64(r#"{"alg":"HS256","kid":"k"}"#)), TokenError::Algorithm),
        ("x".into(), TokenError::Malformed),
    ] {
        assert_eq!(issuers.identify(&in_header(&token)).await, Err(error), "{token}");
    }
    assert_eq!(cluster.reviews.load(SeqCst), 0);
}

#[tokio::test]
async fn a_review_that_says_no_fails_or_is_late_refuses() {
    for (says, error) in [
        (Ok(Review::Refused), TokenError::Revoked),
        (Ok(stands_by("system:serviceaccount:shop:other", AUDIENCE)), TokenError::Revoked),
        (Ok(stands_by(SUB, "another")), TokenError::Revoked),
        (Ok(Review::Authentic { username: SUB.into(), audiences: Vec::new() }), TokenError::Revoked),
        (Err("no connection".to_owned()), TokenError::ReviewUnavailable),
    ] {
        let (issuers, _, cluster, signer) = cluster().await;
        cluster.says(says);
        let token = signer.token(&claims());
        assert_eq!(issuers.verify(&token).await, Err(error));
        // Told again without asking.
        assert_eq!(issuers.verify(&token).await, Err(error));
        assert_eq!(cluster.reviews.load(SeqCst), 1);
    }
}

#[tokio::test]
async fn a_late_review_refuses() {
    let (issuers, _, cluster, signer) = cluster().await;
    *cluster.hangs.lock().unwrap() = true;
    let asked = Instant::now();
    assert_eq!(issuers.verify(signer.token(&claims())).await, Err(TokenError::ReviewUnavailable));
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn what_the_cluster_takes_back_ends_within_the_time_that_its_answer_counts() {
    let (issuers, clock, cluster, signer) = cluster().await;
    let token = signer.token(&claims());
    issuers.verify(&token).await.unwrap();
    cluster.says(Ok(Review::Refused));
    issuers.verify(&token).await.unwrap();
    clock.advance(REVIEWED_FOR);
    assert_eq!(issuers.verify_now(&token), None);
    assert_eq!(issuers.verify(&token).await, Err(TokenError::Revoked));
    // A failure is tried again sooner.
    clock.advance(REVIEWED_FOR);
    cluster.says(Err("away".into()));
    assert_eq!(issuers.verify(&token).await, Err(TokenError::ReviewUnavailable));
    cluster.says(Ok(stands_by(SUB, AUDIENCE)));
    clock.advance(FAILED_FOR + Duration::from_millis(1));
    issuers.verify(&token).await.unwrap();
}

#[tokio::test]
async fn many_calls_with_one_token_make_one_review() {
    let (issuers, _, cluster, signer) = cluster().await;
    let token = signer.token(&claims());
    let all = (0..20).map(|_| issuers.verify(&token));
    let mut ok = 0;
    for call in all.map(Box::pin) {
        ok += usize::from(call.await.is_ok());
    }
    assert_eq!((ok, cluster.reviews.load(SeqCst)), (20, 1));
}

#[tokio::test]
async fn before_the_cluster_says_who_it_is_its_tokens_are_refused() {
    let signer = Signer::rsa("k");
    let (issuers, _) = issuers(&[]);
    let api = Arc::new(Cluster {
        jwks: Mutex::new(Err("away".into())),
        says: Mutex::new(Ok(Review::Refused)),
        hangs: Mutex::default(),
        reviews: AtomicUsize::new(0),
    });
    let issuers = issuers.with_cluster(&tokens(""), api).unwrap();
    let headers = in_header(&signer.token(&claims()));
    assert_eq!(issuers.identify(&headers).await, Err(TokenError::UnknownIssuer));
    assert_eq!(issuers.identify(&HeaderMap::new()).await, Ok(None));
}

#[tokio::test]
async fn unfit_settings_are_named() {
    for (more, says) in
        [("header = \"authorization\"", "header"), ("header = \"host\"", "header"), ("forward = true", "")]
    {
        let (issuers, _, api, _) = cluster().await;
        let said = issuers.with_cluster(&tokens(more), api).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(if says.is_empty() { said.is_empty() } else { said.contains(says) }, "{more}: {said}");
    }
    assert!(toml::from_str::<ClusterTokens>("audiences = [\"x\"]").is_err());
}

#[tokio::test]
async fn no_byte_of_a_token_is_shown() {
    let (issuers, _, _, signer) = cluster().await;
    let token = signer.token(&claims());
    issuers.verify(&token).await.unwrap();
    let shown = format!("{issuers:?} {}", TokenError::Revoked);
    assert!(token.split('.').all(|part| !shown.contains(part)));
}
