//! How a refusal looks to the caller: the one seam through which every protocol refuses.
//!
//! The caller learns the reason's code, the policies' ids, the event to quote and whom to ask; never a policy's text.

use bytes::Bytes;
use callgate_model::{CallId, Decision, Reason};
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

/// What a refused caller is told.
#[derive(Debug, Serialize)]
pub struct Refusal<'a> {
    /// Always `refused_by_callgate`: lets a client tell our answer from the service's own.
    pub error: &'static str,
    /// Reason's code.
    pub reason: Reason,
    /// Ids of the determining policies.
    pub policies: &'a [String],
    /// Event to quote: `callgate audit show EVENT`.
    pub event: String,
    /// One sentence: what happened, whom to ask.
    pub message: &'static str,
}

impl<'a> Refusal<'a> {
    /// The refusal of `call` by `decision`.
    #[must_use]
    pub fn new(call: CallId, decision: &'a Decision) -> Self {
        Self::because(call, decision.reason, &decision.policies)
    }

    /// A refusal for `reason`.
    #[must_use]
    pub fn because(call: CallId, reason: Reason, policies: &'a [String]) -> Self {
        Self { error: "refused_by_callgate", reason, policies, event: call.to_string(), message: reason.sentence() }
    }

    /// As an HTTP response: the status of [`status_of`] and a JSON body.
    #[must_use]
    pub fn to_http(&self) -> Response<Bytes> {
        let mut body = serde_json::to_vec(self).unwrap_or_default();
        body.push(b'\n');
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status_of(self.reason);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.reason == Reason::CallerUnverified {
            // RFC 9110 §15.5.2 wants a challenge with every 401, RFC 6750 §3.1 names the error.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer error="invalid_token""#));
        }
        response
    }
}

impl Refusal<'_> {
    /// As an answer of gRPC that has trailers alone: the status of [`grpc_status_of`], and a message with the event.
    #[must_use]
    pub fn to_grpc(&self) -> Response<()> {
        let mut response = Response::new(());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(grpc_status_of(self.reason)));
        // Reasons, events and sentences are printable ASCII without a percent sign, so the message needs no escapes.
        let message = format!("{} ({}, event {})", self.message, self.reason, self.event);
        headers.insert("grpc-message", HeaderValue::from_str(&message).unwrap_or(HeaderValue::from_static("refused")));
        response
    }
}

/// The status code of a refusal in gRPC: 7 `PERMISSION_DENIED` for verdicts, 3 `INVALID_ARGUMENT` for malformed requests,
/// 16 `UNAUTHENTICATED` for bad tokens, 14 `UNAVAILABLE` where a later try may succeed, 13 `INTERNAL` for answers that may not pass.
/// Source: the status codes of gRPC's core documentation.
#[must_use]
pub fn grpc_status_of(reason: Reason) -> u16 {
    match (reason, status_of(reason)) {
        (Reason::Unmaskable | Reason::UpstreamProtocol | Reason::Internal, _) => 13,
        (_, StatusCode::BAD_REQUEST) => 3,
        (_, StatusCode::UNAUTHORIZED) => 16,
        (_, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE) => 14,
        _ => 7,
    }
}

/// The HTTP status of a refusal: 403 for verdicts, 400 for malformed requests, 401 for bad tokens, 502 for the service's faults, 503 for ours.
#[must_use]
pub fn status_of(reason: Reason) -> StatusCode {
    match reason {
        Reason::BadHead => StatusCode::BAD_REQUEST,
        Reason::CallerUnverified => StatusCode::UNAUTHORIZED,
        Reason::UpstreamCertificate | Reason::UpstreamUnreachable | Reason::UpstreamProtocol | Reason::Unmaskable => {
            StatusCode::BAD_GATEWAY
        }
        Reason::AuditUnavailable | Reason::LimitReached | Reason::ShuttingDown | Reason::Internal => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::FORBIDDEN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_reason_policy_event_and_whom_to_ask() {
        let policies = ["no-deletes".to_owned()];
        let call = CallId::new();
        let response = Refusal::because(call, Reason::Forbidden, &policies).to_http();
        assert_eq!(response.status(), 403);
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["reason"], "forbidden");
        assert_eq!(body["policies"][0], "no-deletes");
        assert_eq!(body["event"], call.to_string());
        assert!(body["message"].as_str().unwrap().contains("ask"));
    }

    #[test]
    fn a_grpc_refusal_is_trailers_alone_with_the_event() {
        let call = CallId::new();
        let response = Refusal::because(call, Reason::Forbidden, &[]).to_grpc();
        assert_eq!((response.status(), &response.headers()["grpc-status"]), (StatusCode::OK, &HeaderValue::from(7)));
        assert!(response.headers()["grpc-message"].to_str().unwrap().contains(&call.to_string()));
    }

    #[test]
    fn a_bad_token_is_challenged() {
        let response = Refusal::because(CallId::new(), Reason::CallerUnverified, &[]).to_http();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], r#"Bearer error="invalid_token""#);
    }

    #[test]
    fn no_reason_looks_like_success() {
        for &reason in Reason::ALL {
            assert!(!status_of(reason).is_success(), "{reason}");
            let grpc = Refusal::because(CallId::new(), reason, &[]).to_grpc();
            assert!(grpc.headers()["grpc-message"].to_str().unwrap().contains(reason.as_str()), "{reason}");
            assert_ne!(grpc.headers()["grpc-status"], "0", "{reason}");
        }
    }
}
