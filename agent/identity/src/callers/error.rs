//! Why a token is refused, and why a configuration of issuers is: two small, closed lists.
//!
//! Neither ever holds a byte of a token: what a caller sent must not reach a log by way of an error.

use callgate_model::Reason;
use thiserror::Error;

/// Why a presented token does not verify. Each is a denial; none makes the call an anonymous one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum TokenError {
    /// Two tokens were presented, so that it is open on whose behalf the call is.
    #[error("more than one token was presented")]
    Ambiguous,
    /// Longer than [`TOKEN_MAX`](super::parse::TOKEN_MAX).
    #[error("the token is too long")]
    TooLong,
    /// Not three base64url parts of which two are JSON objects.
    #[error("the token is not a signed JWT")]
    Malformed,
    /// A key stands twice in one JSON object: two readers could read two tokens.
    #[error("the token states something twice")]
    Duplicate,
    /// The header demands or brings something that is not accepted: `crit`, a key of its own, another type.
    #[error("the header of the token is not acceptable")]
    Header,
    /// The algorithm is not on the issuer's list, `none` and symmetric ones included.
    #[error("the algorithm of the token is not on the list of its issuer")]
    Algorithm,
    /// The issuer is not configured, or not for the header that the token came in.
    #[error("the issuer of the token is not configured")]
    UnknownIssuer,
    /// The issuer publishes no key, or more than one, that fits the token's key id and algorithm.
    #[error("the issuer has no such key")]
    UnknownKey,
    /// The issuer's keys could not be fetched, and none are fresh enough to be used.
    #[error("the keys of the issuer cannot be had")]
    KeysUnavailable,
    /// The signature is not the key's.
    #[error("the signature of the token is wrong")]
    Signature,
    /// `iss`, `sub`, `aud` or `exp` is absent.
    #[error("the token lacks a claim that is required")]
    MissingClaim,
    /// A claim is of the wrong kind or out of bounds.
    #[error("a claim of the token is malformed")]
    Claim,
    /// `exp` is past.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` is in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Made for somebody else.
    #[error("the token is for another audience")]
    Audience,
    /// The subject does not match the issuer's pattern.
    #[error("the subject of the token is not one that its issuer may name here")]
    Subject,
    /// The cluster does not stand by the token (any more).
    #[error("the cluster does not stand by the token")]
    Revoked,
    /// The cluster could not be asked whether it stands by the token, or did not answer in time.
    #[error("the cluster does not say whether it stands by the token")]
    ReviewUnavailable,
}

impl TokenError {
    /// The reason that logs, metrics, records and refusals share.
    #[must_use]
    pub fn reason(self) -> Reason {
        Reason::CallerUnverified
    }
}

/// Why a configuration of issuers is refused.
#[derive(Debug, Error)]
pub enum IssuersError {
    /// A key of an `[[issuer]]` has an unfit value.
    #[error("`{key}` of the issuer `{issuer}`: {detail}")]
    Setting {
        /// The issuer, as configured.
        issuer: String,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The file of CA certificates is unfit, or there is no CA to trust.
    #[error("the TLS configuration for the issuer `{issuer}` cannot be made: {source}")]
    Tls {
        /// The issuer, as configured.
        issuer: String,
        /// Names the file.
        source: crate::IdentityError,
    },
    /// More issuers than are carried.
    #[error("{0} issuers are configured, at most {1} are carried")]
    TooMany(usize, usize),
}

impl IssuersError {
    pub(super) fn setting(issuer: &str, key: &'static str, detail: impl Into<String>) -> Self {
        Self::Setting { issuer: issuer.into(), key, detail: detail.into() }
    }
}
