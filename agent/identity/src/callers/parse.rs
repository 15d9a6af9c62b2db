//! Reads a compact JWS strictly, before any key is looked for. Pure: no clock, no key, no I/O; it cannot panic.
//!
//! What is read here is unverified: `iss`, `kid` and `alg` only choose the issuer, its key and the check.
//! The signature and the claims are judged by [`verify`](super::verify).

use std::fmt;

use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, Engine};
use serde_json::{Map, Value};

use super::{Algorithm, TokenError, json};

/// Longest token. Unit: bytes.
/// Source: Kubernetes and OIDC tokens take 1 to 4 KiB; servers accept heads of 8 to 16 KiB in all.
pub const TOKEN_MAX: usize = 16 * 1024;

/// Longest key id, of a token or a key. Unit: bytes. Source: a SHA-512 in hexadecimal takes 128.
pub const KID_MAX: usize = 256;

/// A token as it reads, nothing of it verified. `Debug` shows nothing that it says.
#[derive(Clone, PartialEq)]
pub struct Inspected {
    /// The algorithm it claims; always an asymmetric one.
    pub algorithm: Algorithm,
    /// The key it claims to be signed with.
    pub kid: Option<String>,
    /// The issuer it claims.
    pub iss: String,
    /// All claims.
    pub(super) claims: Map<String, Value>,
}

impl fmt::Debug for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspected").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// Reads a token.
///
/// # Errors
/// What is wrong with its form: its length, its parts, its header, a repeated key, an absent issuer.
pub fn inspect(token: &[u8]) -> Result<Inspected, TokenError> {
    if token.len() > TOKEN_MAX {
        return Err(TokenError::TooLong);
    }
    let [header, claims, signature] = parts(token).ok_or(TokenError::Malformed)?;
    if signature.is_empty() && !header.is_empty() {
        // An unsigned one is told apart, where its header can be read: it is the best known of all attacks.
        return Err(unsigned(header));
    }
    if URL_SAFE_NO_PAD.decode(signature).is_err() {
        return Err(TokenError::Malformed);
    }
    let (algorithm, kid) = judge_header(&decoded(header)?)?;
    let claims = decoded(claims)?;
    let iss = match claims.get("iss") {
        Some(Value::String(iss)) => iss.clone(),
        Some(_) => return Err(TokenError::Claim),
        None => return Err(TokenError::MissingClaim),
    };
    Ok(Inspected { algorithm, kid, iss, claims })
}

/// The issuers that a credential claims, if it has the shape of a JWT; the most lenient reading there is.
///
/// Tells an application's own credential from one of ours. Whatever a lax reader may take for a token of a configured
/// issuer must be judged, so what [`inspect`] would refuse (repeated keys, padding, broken JSON) is read here.
pub fn claimed_issuers(token: &[u8]) -> Vec<String> {
    let Some([_, claims, _]) = parts(token) else { return Vec::new() };
    let bare: Vec<u8> = claims
        .iter()
        .filter(|byte| **byte != b'=')
        .map(|byte| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => *other,
        })
        .collect();
    LENIENT.decode(bare).map(|bytes| json::stated(&bytes, "iss")).unwrap_or_default()
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

fn parts(token: &[u8]) -> Option<[&[u8]; 3]> {
    let mut parts = token.split(|byte| *byte == b'.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(claims), Some(signature), None) => Some([header, claims, signature]),
        _ => None,
    }
}

fn decoded(part: &[u8]) -> Result<Map<String, Value>, TokenError> {
    // Refuses padding and set trailing bits, so one token has one spelling.
    json::object(&URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?)
}

fn unsigned(header: &[u8]) -> TokenError {
    match decoded(header).and_then(|header| judge_header(&header)) {
        Ok(_) => TokenError::Signature,
        Err(error) => error,
    }
}

/// Types that an access or identity token may state, in lower case, without `application/`.
/// Source: RFC 7519 §5.1, RFC 9068 §2.1. Others (`logout+jwt`, `dpop+jwt`, `secevent+jwt`) are not for callers.
const TYPES: &[&str] = &["jwt", "at+jwt"];

/// Header fields that would have us trust the token's own word on how to verify it, or that change what is signed.
/// Source: RFC 7515 §4.1, RFC 7516 §4.1, RFC 8725 §3.10.
const REFUSED: &[&str] = &["crit", "b64", "jwk", "jku", "x5u", "x5c", "cty", "enc", "zip"];

fn judge_header(header: &Map<String, Value>) -> Result<(Algorithm, Option<String>), TokenError> {
    if REFUSED.iter().any(|field| header.contains_key(*field)) {
        return Err(TokenError::Header);
    }
    let algorithm = match header.get("alg") {
        Some(Value::String(name)) => Algorithm::named(name).ok_or(TokenError::Algorithm)?,
        _ => return Err(TokenError::Algorithm),
    };
    match header.get("typ") {
        None => {}
        Some(Value::String(typ)) => {
            let typ = typ.to_ascii_lowercase();
            if !TYPES.contains(&typ.strip_prefix("application/").unwrap_or(&typ)) {
                return Err(TokenError::Header);
            }
        }
        Some(_) => return Err(TokenError::Header),
    }
    match header.get("kid") {
        None => Ok((algorithm, None)),
        // Compared for equality only: what looks like a path or a query is just an unknown key.
        Some(Value::String(kid)) if !kid.is_empty() && kid.len() <= KID_MAX => Ok((algorithm, Some(kid.clone()))),
        Some(_) => Err(TokenError::Header),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    fn said(header: &str, claims: &str) -> Option<TokenError> {
        inspect(token(header, claims).as_bytes()).err()
    }

    #[test]
    fn reads_a_plain_token() {
        let header = r#"{"alg":"ES256","kid":"../../etc/passwd","typ":"application/AT+jwt","x5t":"x"}"#;
        let read = inspect(token(header, r#"{"iss":"https://a"}"#).as_bytes()).unwrap();
        assert_eq!(read.algorithm, Algorithm::ES256);
        assert_eq!((read.kid.as_deref(), read.iss.as_str()), (Some("../../etc/passwd"), "https://a"));
    }

    #[test]
    fn refuses_every_header_that_is_not_plain() {
        let good = r#"{"iss":"https://a"}"#;
        for algorithm in ["none", "None", "NONE", "nOnE", "HS256", "HS512", "rs256", "RS1", "ES256K", "", "dir"] {
            let header = format!(r#"{{"alg":"{algorithm}"}}"#);
            assert_eq!(said(&header, good), Some(TokenError::Algorithm), "{algorithm}");
        }
        for header in [r#"{}"#, r#"{"alg":null}"#, r#"{"alg":["RS256"]}"#] {
            assert_eq!(said(header, good), Some(TokenError::Algorithm), "{header}");
        }
        for field in REFUSED {
            for value in ["null", "[]", "\"x\"", "true", "{\"kty\":\"RSA\"}"] {
                let header = format!(r#"{{"alg":"RS256","{field}":{value}}}"#);
                assert_eq!(said(&header, good), Some(TokenError::Header), "{header}");
            }
        }
        let long = "k".repeat(KID_MAX + 1);
        for field in [r#""typ":"logout+jwt""#, r#""typ":1"#, r#""kid":1"#, r#""kid":"""#, &format!(r#""kid":"{long}""#)]
        {
            let header = format!(r#"{{"alg":"RS256",{field}}}"#);
            assert_eq!(said(&header, good), Some(TokenError::Header), "{header}");
        }
        assert_eq!(said(r#"{"alg":"RS256","alg":"none"}"#, good), Some(TokenError::Duplicate));
        assert_eq!(said(r#"{"alg":"RS256"}"#, r#"{"iss":"a","iss":"a"}"#), Some(TokenError::Duplicate));
        assert_eq!(said(r#"{"alg":"RS256"}"#, r#"{"iss":["a"]}"#), Some(TokenError::Claim));
        assert_eq!(said(r#"{"alg":"RS256"}"#, "{}"), Some(TokenError::MissingClaim));
    }

    #[test]
    fn refuses_every_other_spelling() {
        let good = token(r#"{"alg":"RS256"}"#, r#"{"iss":"a"}"#);
        assert!(inspect(good.as_bytes()).is_ok());
        let (unsigned, _) = good.rsplit_once('.').unwrap();
        for bad in [format!("{good}="), format!(" {good}"), format!("{good}."), unsigned.to_owned(), "..".to_owned()] {
            assert_eq!(inspect(bad.as_bytes()), Err(TokenError::Malformed), "{bad}");
        }
        assert_eq!(inspect(format!("{unsigned}.").as_bytes()), Err(TokenError::Signature));
        assert_eq!(inspect(&vec![b'.'; TOKEN_MAX + 1]), Err(TokenError::TooLong));
        // "e30" is {}; "e31" decodes to the same bytes for a lax reader.
        assert_eq!(inspect(b"e31.e30.AAAA"), Err(TokenError::Malformed));
    }

    #[test]
    fn finds_the_claimed_issuer_also_in_what_is_refused() {
        let twice = token("{}", r#"{"iss":"a","iss":"b"}"#);
        assert_eq!(claimed_issuers(twice.as_bytes()), ["a", "b"]);
        assert_eq!(claimed_issuers(twice.replace(".AAAA", "==.").as_bytes()), ["a", "b"]);
        assert_eq!(claimed_issuers(b"ghp_0123456789"), [""; 0]);
        assert_eq!(claimed_issuers(b"a.b.c.d.e"), [""; 0]);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = (inspect(&bytes), claimed_issuers(&bytes));
        }

        #[test]
        fn never_panics_on_what_looks_like_a_token(header in ".{0,80}", claims in ".{0,80}", tail in "[A-Za-z0-9_.=-]{0,20}") {
            let _ = inspect(format!("{}{tail}", token(&header, &claims)).as_bytes());
            let _ = claimed_issuers(token(&header, &claims).as_bytes());
        }

        /// What is accepted claims the same issuer to the lax reader, and no other.
        #[test]
        fn the_lax_reader_sees_every_issuer_that_the_strict_one_does(iss in ".{0,30}", more in "[a-z]{4}") {
            let claims = serde_json::json!({ "iss": iss, more: 1 }).to_string();
            let text = token(r#"{"alg":"EdDSA"}"#, &claims);
            let read = inspect(text.as_bytes()).unwrap();
            prop_assert_eq!(claimed_issuers(text.as_bytes()), [read.iss]);
        }
    }
}
