//! The cluster as the issuer of its service accounts' tokens: who it is, its keys, and whether it stands by a token.
//!
//! Answers are read here and not by kube, which would log one that does not parse: a review repeats the token.

use callgate_identity::callers::{Answer, ClusterApi, ClusterKeys, Review};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Limited};
use k8s_openapi::serde_json::{Value, from_slice, json, to_vec};
use kube::client::Body;
use serde::Deserialize;

use crate::Cluster;

const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
/// What is read. The API has its keys as the first alone, RFC 7517 §8.5.2, and refuses a request that does not name it.
const ACCEPTED: &str = "application/jwk-set+json, application/json";
/// Longest answer. Unit: bytes. Source: tokens of 16 KiB are repeated in reviews; key sets are smaller.
const ANSWER_MAX: usize = 256 << 10;

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

/// What a TokenReview comes back with; the token, which it repeats, is not read.
#[derive(Deserialize)]
struct Reviewed {
    #[serde(default)]
    status: ReviewStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReviewStatus {
    authenticated: bool,
    error: String,
    audiences: Vec<String>,
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
}

impl ClusterApi for Cluster {
    fn keys(&self) -> Answer<'_, ClusterKeys> {
        Box::pin(async {
            let document = self.exchange(Method::GET, DISCOVERY, Vec::new()).await?;
            // Its `jwks_uri` may be an address for others, so it is not followed: the API has them at this one.
            let Discovery { issuer } = from_slice(&document).map_err(|_| "its discovery document does not read")?;
            Ok(ClusterKeys { issuer, jwks: self.exchange(Method::GET, KEYS, Vec::new()).await? })
        })
    }

    fn review<'a>(&'a self, token: &'a str, audiences: &'a [String]) -> Answer<'a, Review> {
        Box::pin(async move {
            let asked = json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                "spec": { "token": token, "audiences": audiences },
            });
            let answer = self.exchange(Method::POST, REVIEWS, bytes(&asked)?).await?;
            // The reason of a failure to read could quote what was read.
            let Reviewed { status } = from_slice(&answer).map_err(|_| "its review does not read")?;
            if status.authenticated && status.error.is_empty() {
                return Ok(Review::Authentic { username: status.user.username, audiences: status.audiences });
            }
            Ok(Review::Refused)
        })
    }
}

impl Cluster {
    async fn exchange(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Vec<u8>, String> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(ACCEPT, ACCEPTED)
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .map_err(|_| "the request cannot be made")?;
        let response = self.client.send(request).await.map_err(|error| format!("no answer: {error}"))?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("the answer at {path} was {status}"));
        }
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        body.map(|body| body.to_bytes().to_vec()).map_err(|_| format!("the answer at {path} is too large or broke off"))
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

fn bytes(value: &Value) -> Result<Vec<u8>, String> {
    to_vec(value).map_err(|_| "the request cannot be written".into())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http::Response;
    use k8s_openapi::serde_json::from_slice;
    use tower::service_fn;

    use super::*;

    const TOKEN: &str = "e30.secret.AAAA";

    /// Path and body of each request.
    type Asked = Arc<Mutex<Vec<(String, Value)>>>;

    /// A cluster whose API answers so, and what it was asked.
    fn cluster(status: u16, answer: &Value) -> (Cluster, Asked) {
        let asked = Asked::default();
        let (seen, answer) = (Arc::clone(&asked), answer.to_string());
        let service = service_fn(move |request: Request<Body>| {
            let (seen, answer) = (Arc::clone(&seen), answer.clone());
            async move {
                let (head, body) = request.into_parts();
                // As the API does.
                let named = head.headers[ACCEPT].to_str().unwrap();
                let wanted = if head.uri.path() == KEYS { "application/jwk-set+json" } else { "application/json" };
                let status = if named.split(", ").any(|kind| kind == wanted) { status } else { 406 };
                let body = body.collect().await.unwrap().to_bytes();
                let body = from_slice(&body).unwrap_or_default();
                seen.lock().unwrap().push((format!("{} {}", head.method, head.uri.path()), body));
                Ok::<_, Infallible>(Response::builder().status(status).body(Body::from(answer.into_bytes())).unwrap())
            }
        });
        (Cluster { client: kube::Client::new(service, "default") }, asked)
    }

    fn ours() -> Vec<String> {
        vec!["callgate".into()]
    }

    #[tokio::test]
    async fn a_review_is_asked_for_our_audience_and_read() {
        let answer = json!({ "spec": { "token": TOKEN }, "status": {
            "authenticated": true, "audiences": ["callgate"], "user": { "username": "system:serviceaccount:a:b" } } });
        let (cluster, asked) = cluster(201, &answer);
        let review = cluster.review(TOKEN, &ours()).await.unwrap();
        let username = "system:serviceaccount:a:b".to_owned();
        assert_eq!(review, Review::Authentic { username, audiences: ours() });
        let asked = asked.lock().unwrap();
        assert_eq!(asked[0].0, format!("POST {REVIEWS}"));
        assert_eq!(asked[0].1["spec"], json!({ "token": TOKEN, "audiences": ["callgate"] }));
    }

    #[tokio::test]
    async fn what_is_not_authentic_beyond_doubt_is_refused() {
        for status in [
            json!({}),
            json!({ "authenticated": false, "user": { "username": "x" } }),
            json!({ "authenticated": true, "error": "invalid bearer token" }),
            json!({ "error": "the token has been invalidated" }),
        ] {
            let (cluster, _) = cluster(201, &json!({ "status": status }));
            assert_eq!(cluster.review(TOKEN, &ours()).await, Ok(Review::Refused), "{status}");
        }
    }

    #[tokio::test]
    async fn a_failure_says_no_byte_of_the_token() {
        let refused = json!({ "kind": "Status", "message": TOKEN, "code": 403 });
        for (code, answer) in
            [(403, refused), (201, json!([TOKEN])), (201, json!({ "status": TOKEN })), (500, json!(TOKEN))]
        {
            let (cluster, _) = cluster(code, &answer);
            let error = cluster.review(TOKEN, &ours()).await.unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
        let (large, _) = cluster(201, &json!({ "status": { "error": "x".repeat(ANSWER_MAX) } }));
        assert!(large.review(TOKEN, &ours()).await.is_err());
    }

    #[tokio::test]
    async fn keys_come_from_the_api_itself() {
        let document = json!({ "issuer": "https://a", "jwks_uri": "https://elsewhere/keys", "keys": [] });
        let (cluster, asked) = cluster(200, &document);
        let keys = cluster.keys().await.unwrap();
        assert_eq!((keys.issuer.as_str(), from_slice::<Value>(&keys.jwks).unwrap()), ("https://a", document));
        let asked: Vec<String> = asked.lock().unwrap().iter().map(|(what, _)| what.clone()).collect();
        assert_eq!(asked, [format!("GET {DISCOVERY}"), format!("GET {KEYS}")]);
    }
}
