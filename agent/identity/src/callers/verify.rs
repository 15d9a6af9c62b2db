//! Judges a token against its issuer's terms with one of its keys.
//!
//! The library checks the signature and the registered claims; what it leaves open is checked here first:
//! the kinds and bounds of claims, one issuer only, `iat`, groups, the subject's pattern.

use std::collections::{BTreeSet, HashSet};

use callgate_model::Caller;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::config::Terms;
use super::keys::Key;
use super::parse::Inspected;
use super::{TokenError, cluster, glob};

/// Longest subject. Unit: bytes. Source: OIDC allows 255; Kubernetes service accounts take up to 340.
pub(super) const SUB_MAX: usize = 512;
/// Most groups of one caller. Source: Entra ID lists up to 200 in a token.
const GROUPS_MAX: usize = 256;
/// Longest name of a group. Unit: bytes. Source: a distinguished name of LDAP rarely takes more.
const GROUP_MAX: usize = 256;
/// Largest time. Unit: seconds since 1970. Source: RFC 8259 §6, integers that every reader of JSON keeps exact.
const TIME_MAX: u64 = 1 << 53;

/// Judges what needs no key: whose token it is, its algorithm, its claims at `now` (seconds since 1970).
///
/// So a token that could never hold does not make us fetch keys.
///
/// # Errors
/// The first thing that is wrong with it.
pub(super) fn claims(inspected: &Inspected, terms: &Terms, now: u64) -> Result<Claims, TokenError> {
    if inspected.iss != terms.issuer {
        return Err(TokenError::UnknownIssuer);
    }
    if !terms.algorithms.contains(&inspected.algorithm) {
        return Err(TokenError::Algorithm);
    }
    let mut claims = Claims::read(&inspected.claims, &terms.groups_claim)?;
    if terms.is_cluster {
        claims.groups = cluster::groups(&inspected.claims, &claims.sub)?;
    } else if claims.groups.iter().any(|group| group.starts_with(cluster::GROUPS)) {
        // Nobody else speaks for the cluster.
        return Err(TokenError::Claim);
    }
    claims.judge(terms, now)?;
    Ok(claims)
}

/// Judges the signature of `token`, which reads as `inspected`, and once more its registered claims.
///
/// # Errors
/// [`TokenError::Signature`] in general.
pub(super) fn signature(token: &[u8], inspected: &Inspected, terms: &Terms, key: &Key) -> Result<(), TokenError> {
    let algorithm = inspected.algorithm.of_library();
    // The one algorithm of the token, which is on the list: the library wants all of a list to be of one family.
    let mut validation = Validation::new(algorithm);
    validation.leeway = terms.leeway_s;
    validation.validate_nbf = true;
    validation.aud = Some(terms.audience.iter().cloned().collect());
    validation.iss = Some(HashSet::from([terms.issuer.clone()]));
    validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
    match decode::<IgnoredAny>(token, &key.material, &validation) {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.kind() {
            ErrorKind::ExpiredSignature => TokenError::Expired,
            ErrorKind::ImmatureSignature => TokenError::NotYetValid,
            ErrorKind::InvalidAudience => TokenError::Audience,
            ErrorKind::InvalidIssuer => TokenError::UnknownIssuer,
            ErrorKind::MissingRequiredClaim(_) => TokenError::MissingClaim,
            ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
            _ => TokenError::Signature,
        }),
    }
}

/// The claims that count, of the right kind and within bounds.
pub(super) struct Claims {
    sub: String,
    audience: BTreeSet<String>,
    /// Seconds since 1970.
    pub exp: u64,
    not_before: u64,
    groups: Vec<String>,
}

impl Claims {
    /// The caller they name: to be asked for once the signature is found good.
    pub fn to_caller(&self, iss: &str) -> Caller {
        Caller { sub: self.sub.clone(), iss: iss.into(), groups: self.groups.clone() }
    }

    fn read(claims: &Map<String, Value>, groups_claim: &str) -> Result<Self, TokenError> {
        let required = |name: &str| claims.get(name).ok_or(TokenError::MissingClaim);
        let audience = match required("aud")? {
            Value::String(one) => BTreeSet::from([one.clone()]),
            Value::Array(many) => many.iter().map(text).collect::<Result<_, _>>()?,
            _ => return Err(TokenError::Claim),
        };
        let early = |name: &str| claims.get(name).map_or(Ok(0), |value| time(value, f64::ceil));
        Ok(Self {
            sub: name(required("sub")?, SUB_MAX)?,
            audience,
            exp: time(required("exp")?, f64::floor)?,
            // Nothing is issued in the future, and nothing is valid before it is issued.
            not_before: early("nbf")?.max(early("iat")?),
            groups: claims.get(groups_claim).map_or(Ok(Vec::new()), groups)?,
        })
    }

    fn judge(&self, terms: &Terms, now: u64) -> Result<(), TokenError> {
        if now >= self.exp.saturating_add(terms.leeway_s) {
            return Err(TokenError::Expired);
        }
        if self.not_before > now.saturating_add(terms.leeway_s) {
            return Err(TokenError::NotYetValid);
        }
        if self.audience.is_disjoint(&terms.audience) {
            return Err(TokenError::Audience);
        }
        match &terms.subject {
            Some(pattern) if !glob::matches(pattern, &self.sub) => Err(TokenError::Subject),
            _ => Ok(()),
        }
    }
}

fn text(value: &Value) -> Result<String, TokenError> {
    value.as_str().map(str::to_owned).ok_or(TokenError::Claim)
}

/// A name that may stand in records and policies: not empty, bounded, no control characters.
pub(super) fn name(value: &Value, max: usize) -> Result<String, TokenError> {
    let text = text(value)?;
    let fits = !text.is_empty() && text.len() <= max && !text.contains(char::is_control);
    if fits { Ok(text) } else { Err(TokenError::Claim) }
}

fn groups(value: &Value) -> Result<Vec<String>, TokenError> {
    let list = value.as_array().filter(|list| list.len() <= GROUPS_MAX).ok_or(TokenError::Claim)?;
    let sorted = list.iter().map(|group| name(group, GROUP_MAX)).collect::<Result<BTreeSet<_>, _>>()?;
    Ok(sorted.into_iter().collect())
}

/// A NumericDate (RFC 7519 §2), which may have a fraction; rounded so that a token is never valid for longer.
fn time(value: &Value, round: fn(f64) -> f64) -> Result<u64, TokenError> {
    if let Some(whole) = value.as_u64() {
        return if whole <= TIME_MAX { Ok(whole) } else { Err(TokenError::Claim) };
    }
    match value.as_f64() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0 and 2^53, and whole")]
        Some(seconds) if (0.0..=TIME_MAX as f64).contains(&seconds) => Ok(round(seconds) as u64),
        _ => Err(TokenError::Claim),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(claims: Value) -> Result<Claims, TokenError> {
        Claims::read(claims.as_object().unwrap(), "groups")
    }

    fn with(field: &str, value: Value) -> Value {
        let mut claims = json!({ "sub": "ada", "aud": "gate", "exp": 100 });
        claims[field] = value;
        claims
    }

    #[test]
    fn claims_are_read_with_groups_sorted_and_once() {
        let claims = read(with("groups", json!(["b", "a", "b"]))).unwrap();
        assert_eq!(claims.groups, ["a", "b"]);
        assert_eq!(read(with("exp", json!(100.9))).unwrap().exp, 100);
        assert_eq!(read(with("nbf", json!(100.1))).unwrap().not_before, 101);
    }

    #[test]
    fn claims_of_another_kind_or_size_are_refused() {
        let cases = [
            (
                "sub",
                vec![json!(""), json!(1), json!(["a"]), json!("a\nb"), json!("s".repeat(SUB_MAX + 1)), json!(null)],
            ),
            ("aud", vec![json!(1), json!(null), json!({}), json!(["gate", 1])]),
            ("exp", vec![json!("100"), json!(-1), json!(null), json!(1e300), json!(u64::MAX), json!([1])]),
            ("nbf", vec![json!("1"), json!(-1), json!(null), json!(true)]),
            ("iat", vec![json!("1"), json!(-0.5), json!(null)]),
            (
                "groups",
                vec![
                    json!("a"),
                    json!("a,b"),
                    json!([1]),
                    json!([["a"]]),
                    json!([""]),
                    json!(["a\u{0}"]),
                    json!({"a": 1}),
                    json!(null),
                    json!(["g".repeat(GROUP_MAX + 1)]),
                    json!(vec!["g"; GROUPS_MAX + 1]),
                ],
            ),
        ];
        for (field, values) in cases {
            for value in values {
                assert_eq!(read(with(field, value.clone())).err(), Some(TokenError::Claim), "{field}: {value}");
            }
        }
    }

    #[test]
    fn absent_claims_are_refused() {
        for field in ["sub", "aud", "exp"] {
            let mut claims = with("x", json!(1));
            claims.as_object_mut().unwrap().remove(field);
            assert_eq!(read(claims).err(), Some(TokenError::MissingClaim), "{field}");
        }
    }
}
