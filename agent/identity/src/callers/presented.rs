//! What the headers of a request present: no caller, one token, or something to refuse.
//!
//! | header | what stands in it | reading |
//! | --- | --- | --- |
//! | of its own (`x-callgate-caller`) | nothing | no caller |
//! | | anything once | a token: whatever does not verify is a denial |
//! | | twice | refused |
//! | `authorization`, as configured | nothing, another scheme, a Bearer that is no JWT or of no configured issuer | the application's own credential for the service: no caller, passed on untouched |
//! | | a Bearer that claims a configured issuer | a token: if it does not verify, a denial |
//! | | twice, or several in one | refused |
//! | `authorization`, with no issuer configured for it | anything | not looked at |
//!
//! Tokens in two headers are refused as well.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::seen::Digest;
use super::{TokenError, parse};

/// What is presented.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Presented<'h> {
    /// No caller: the call is the workload's own.
    None,
    /// One token, which must verify.
    Token(Token<'h>),
    /// Refused without a look at keys.
    Refused(TokenError),
}

/// A token, nothing of it verified, and the header that it came in. `Debug` does not show the token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token<'h> {
    /// The token.
    pub bytes: &'h [u8],
    /// Its header.
    pub header: HeaderName,
    pub(super) digest: Digest,
}

impl std::fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("header", &self.header).finish_non_exhaustive()
    }
}

/// Reads `headers`; `watched` are the configured ones.
///
/// `is_ours` says whether an issuer is one whose tokens come in that header.
/// `is_known` says whether a token of that header has lately been verified, so that it need not be read to know whose it is.
pub(super) fn read<'h>(
    headers: &'h HeaderMap,
    watched: &[HeaderName],
    is_ours: impl Fn(&HeaderName, &str) -> bool,
    is_known: impl Fn(&HeaderName, &Digest) -> bool,
) -> Presented<'h> {
    let mut presented = Presented::None;
    for header in watched {
        let mut values = headers.get_all(header).iter();
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Presented::Refused(TokenError::Ambiguous);
        }
        let token = |bytes| Token { bytes, header: header.clone(), digest: Digest::of(bytes) };
        let token = if header == AUTHORIZATION {
            match bearer(value).map(token) {
                Some(token) if is_known(header, &token.digest) => token,
                _ if !claims_ours(value, |issuer| is_ours(header, issuer)) => continue,
                Some(token) => token,
                // A token of ours beside others, or in another scheme: what the service reads of it is not known.
                None => return Presented::Refused(TokenError::Ambiguous),
            }
        } else {
            token(value.as_bytes())
        };
        if presented != Presented::None {
            return Presented::Refused(TokenError::Ambiguous);
        }
        presented = Presented::Token(token);
    }
    presented
}

/// The token of `Bearer TOKEN`, and nothing else. Source: RFC 6750 §2.1.
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    // Split at spaces only: a comma or a tab stays part of the token, which then is none.
    let mut pieces = value.as_bytes().split(|byte| *byte == b' ').filter(|piece| !piece.is_empty());
    match (pieces.next(), pieces.next(), pieces.next()) {
        (Some(scheme), Some(token), None) if scheme.eq_ignore_ascii_case(b"bearer") => Some(token),
        _ => None,
    }
}

/// Whether anything in the value claims an issuer of ours.
fn claims_ours(value: &HeaderValue, is_ours: impl Fn(&str) -> bool) -> bool {
    // However a lax reader may split it.
    let mut pieces = value.as_bytes().split(|byte| b" \t,;\"'".contains(byte));
    pieces.any(|piece| parse::claimed_issuers(piece).iter().any(|issuer| is_ours(issuer)))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn token(iss: &str) -> String {
        format!("e30.{}.AAAA", URL_SAFE_NO_PAD.encode(format!(r#"{{"iss":"{iss}"}}"#)))
    }

    fn of(lines: &[(&'static str, String)]) -> Result<Option<String>, TokenError> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let own = HeaderName::from_static("x-caller");
        let is_ours = |header: &HeaderName, iss: &str| header == AUTHORIZATION && iss == "ours";
        match read(&headers, &[AUTHORIZATION, own], is_ours, |_, _| false) {
            Presented::None => Ok(None),
            Presented::Token(token) => Ok(Some(String::from_utf8(token.bytes.to_vec()).unwrap())),
            Presented::Refused(error) => Err(error),
        }
    }

    #[test]
    fn a_bearer_of_ours_is_a_token_and_all_else_is_the_applications() {
        assert_eq!(of(&[]), Ok(None));
        for scheme in ["Bearer ", "bearer ", "BEARER   "] {
            assert_eq!(of(&[("authorization", format!("{scheme}{}", token("ours")))]), Ok(Some(token("ours"))));
        }
        let others =
            ["Basic dTpw", "Bearer ghp_x", "Bearer", "", "Bearer a.b.c", &format!("Bearer {}", token("theirs"))];
        for other in others {
            assert_eq!(of(&[("authorization", other.to_owned())]), Ok(None), "{other}");
        }
    }

    #[test]
    fn what_claims_us_twice_or_in_part_is_a_token() {
        let twice = format!("e30.{}.AAAA", URL_SAFE_NO_PAD.encode(r#"{"iss":"theirs","iss":"ours"}"#));
        assert_eq!(of(&[("authorization", format!("Bearer {twice}"))]), Ok(Some(twice)));
        for odd in [token("ours").replace("AAAA", ""), token("ours").replace(".AAAA", "==.AAAA==")] {
            assert_eq!(of(&[("authorization", format!("Bearer {odd}"))]), Ok(Some(odd)));
        }
    }

    #[test]
    fn a_token_of_ours_with_something_about_it_is_a_token_which_then_fails() {
        for odd in [format!(",{}", token("ours")), format!("{},", token("ours")), format!("\t{}", token("ours"))] {
            assert_eq!(of(&[("authorization", format!("Bearer {odd}"))]), Ok(Some(odd.clone())), "{odd}");
            assert!(parse::inspect(odd.as_bytes()).is_err(), "{odd}");
        }
    }

    #[test]
    fn more_than_one_is_refused() {
        let (bearer, bare) = (format!("Bearer {}", token("ours")), token("ours"));
        for lines in [
            vec![("authorization", bearer.clone()), ("authorization", bearer.clone())],
            vec![("authorization", bearer.clone()), ("authorization", "Basic dTpw".into())],
            vec![("authorization", "Bearer x".into()), ("authorization", "Basic dTpw".into())],
            vec![("authorization", format!("{bearer}, {bearer}"))],
            vec![("authorization", format!("Bearer\t{}", token("ours")))],
            vec![("authorization", format!("Bearer,{}", token("ours")))],
            vec![("authorization", format!("Token token=\"{}\"", token("ours")))],
            vec![("authorization", format!("Token token={}", token("ours")))],
            vec![("authorization", format!("Bearer x {}", token("ours")))],
            vec![("authorization", format!("DPoP {}", token("ours")))],
            vec![("authorization", token("ours"))],
            vec![("x-caller", bare.clone()), ("x-caller", bare.clone())],
            vec![("x-caller", bare.clone()), ("authorization", bearer.clone())],
        ] {
            assert_eq!(of(&lines), Err(TokenError::Ambiguous), "{lines:?}");
        }
        assert_eq!(of(&[("x-caller", bare.clone()), ("authorization", "Basic dTpw".into())]), Ok(Some(bare)));
    }

    #[test]
    fn a_header_of_its_own_holds_a_token_whatever_it_is() {
        for text in ["", "x", "Bearer x"] {
            assert_eq!(of(&[("x-caller", text.into())]), Ok(Some(text.into())), "{text}");
        }
    }

    #[test]
    fn debug_does_not_show_the_token() {
        let shown = format!("{:?}", Token { bytes: b"secret", header: AUTHORIZATION, digest: Digest::of(b"") });
        assert!(!shown.contains("secret") && !shown.contains("115"), "{shown}");
    }
}
