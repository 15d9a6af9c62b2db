//! Tokens: what the strict reader takes has one spelling, one plain header and one issuer, and the lax one sees it too.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use callgate_identity::callers::Algorithm;
use callgate_identity::callers::parse::{Inspected, TOKEN_MAX, claimed_issuers, inspect};
use serde_json::{Map, Value};

/// The input is a token, or three lines that one is made of: mutations hardly get through base64.
pub fn run(data: &[u8]) -> bool {
    let mut accepted = judge(data);
    let lines: Vec<&[u8]> = data.splitn(3, |byte| *byte == b'\n').collect();
    if let [header, claims, signature] = lines[..] {
        let token = [header, claims, signature].map(|part| BASE64.encode(part)).join(".");
        accepted |= judge(token.as_bytes());
    }
    accepted
}

fn judge(token: &[u8]) -> bool {
    let issuers = claimed_issuers(token);
    let Ok(inspected) = inspect(token) else { return false };
    assert_eq!(issuers, [inspected.iss.as_str()], "the lax reader sees another issuer");
    assert!(token.len() <= TOKEN_MAX);
    let parts: Vec<&[u8]> = token.split(|byte| *byte == b'.').collect();
    let [header, claims, signature] = parts[..] else { panic!("accepted with {} parts", parts.len()) };
    assert!(!signature.is_empty(), "accepted unsigned");
    for part in [header, claims, signature] {
        let bytes = BASE64.decode(part).expect("each part is base64");
        assert_eq!(BASE64.encode(bytes).as_bytes(), part, "a second spelling");
    }
    check_header(&object(header), &inspected);
    assert_eq!(object(claims).get("iss").and_then(Value::as_str), Some(inspected.iss.as_str()));
    assert!(!format!("{inspected:?}").contains("iss"), "a token shows in Debug");
    true
}

fn check_header(header: &Map<String, Value>, inspected: &Inspected) {
    assert_eq!(header.get("alg").and_then(Value::as_str), Some(inspected.algorithm.as_str()));
    assert_eq!(Algorithm::named(inspected.algorithm.as_str()), Some(inspected.algorithm));
    assert!(!inspected.algorithm.as_str().starts_with("HS"), "a symmetric algorithm");
    assert_eq!(header.get("kid").map(|kid| kid.as_str()), inspected.kid.as_deref().map(Some));
    for field in ["crit", "b64", "jwk", "jku", "x5u", "x5c", "cty", "enc", "zip"] {
        assert!(!header.contains_key(field), "accepted with `{field}`");
    }
}

fn object(part: &[u8]) -> Map<String, Value> {
    let bytes = BASE64.decode(part).expect("each part is base64");
    serde_json::from_slice(&bytes).expect("what is accepted is JSON to everybody")
}
