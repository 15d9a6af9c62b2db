//! The keys that an issuer publishes: a JWK set becomes keys that can verify, each for the algorithms it is meant for.
//!
//! What is of no use is left out, as RFC 7517 §5 wants: symmetric and private keys, keys for encryption, short RSA keys,
//! curves that we do not carry. So a token can never be checked with a key of another kind than its algorithm.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::parse::KID_MAX;
use super::{Algorithm, json};

/// Most keys in a set, unusable ones included. Large providers publish 3 to 10.
pub(super) const KEYS_MAX: usize = 64;

/// RSA moduli that are accepted. Unit: bits. Source: RFC 7518 §3.3 for the least; AWS-LC's verifiers for the most.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// What a key is, by name, purpose and material. A key that comes back changed is another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct KeyId([u8; 32]);

/// One key that can verify.
pub(super) struct Key {
    pub id: KeyId,
    pub material: DecodingKey,
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
}

/// The keys of one issuer at one time.
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a JWK set; none if it is not one or is too large. A set without a usable key is one that verifies nothing.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let document = json::object(bytes).ok()?;
        let keys = document.get("keys")?.as_array()?;
        if keys.len() > KEYS_MAX {
            return None;
        }
        let mut found: Vec<Key> = Vec::new();
        for key in keys.iter().filter_map(|key| Key::read(key.as_object()?)) {
            if !found.iter().any(|other| other.id == key.id) {
                found.push(key);
            }
        }
        Some(Self(found))
    }

    /// The key of that id for that algorithm; without an id, the only key for the algorithm.
    ///
    /// None where two would do: it is not for us to guess which one was meant.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let fits = |key: &&Key| key.algorithms.contains(&algorithm) && (kid.is_none() || key.kid.as_deref() == kid);
        let mut fitting = self.0.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Some(key),
            _ => None,
        }
    }

    pub fn holds(&self, id: KeyId) -> bool {
        self.0.iter().any(|key| key.id == id)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Key {
    fn read(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |field: &str| jwk.get(field).and_then(Value::as_str);
        let bytes = |field: &str| URL_SAFE_NO_PAD.decode(text(field)?).ok();
        if !is_for_verifying(jwk) {
            return None;
        }
        let kid = match jwk.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str().filter(|kid| !kid.is_empty() && kid.len() <= KID_MAX)?.to_owned()),
        };
        let (mut algorithms, material) = match (text("kty")?, text("crv")) {
            ("RSA", None) => {
                let (modulus, exponent) = (bytes("n")?, bytes("e")?);
                if !RSA_BITS.contains(&bits(&modulus)) || !is_exponent(&exponent) {
                    return None;
                }
                (Algorithm::RSA.to_vec(), DecodingKey::from_rsa_raw_components(&modulus, &exponent))
            }
            ("EC", Some(curve)) => {
                let (algorithm, length) = match curve {
                    "P-256" => (Algorithm::ES256, 32),
                    "P-384" => (Algorithm::ES384, 48),
                    _ => return None,
                };
                if bytes("x")?.len() != length || bytes("y")?.len() != length {
                    return None;
                }
                (vec![algorithm], DecodingKey::from_ec_components(text("x")?, text("y")?).ok()?)
            }
            ("OKP", Some("Ed25519")) if bytes("x")?.len() == 32 => {
                (vec![Algorithm::EdDSA], DecodingKey::from_ed_components(text("x")?).ok()?)
            }
            _ => return None,
        };
        if let Some(named) = jwk.get("alg") {
            let named = Algorithm::named(named.as_str()?)?;
            algorithms.retain(|algorithm| *algorithm == named);
        }
        if algorithms.is_empty() {
            return None;
        }
        Some(Self { id: KeyId::of(jwk), material, kid, algorithms })
    }
}

impl KeyId {
    fn of(jwk: &Map<String, Value>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for field in ["kty", "kid", "alg", "crv", "n", "e", "x", "y"] {
            let text = jwk.get(field).and_then(Value::as_str).unwrap_or_default();
            // Length first, so that no two keys run together into the same bytes.
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        Self(id)
    }
}

/// Whether `use` and `key_ops` allow it, and the key is a public one. Source: RFC 7517 §4.2, §4.3.
fn is_for_verifying(jwk: &Map<String, Value>) -> bool {
    let by_use = jwk.get("use").is_none_or(|purpose| purpose == "sig");
    let by_operations = jwk
        .get("key_ops")
        .is_none_or(|operations| operations.as_array().is_some_and(|list| list.iter().any(|one| one == "verify")));
    // A private part that is published is known to everybody: what it signs proves nothing.
    by_use && by_operations && !jwk.contains_key("d") && !jwk.contains_key("k")
}

/// Length of a big-endian number. Unit: bits.
fn bits(number: &[u8]) -> usize {
    let significant = number.iter().skip_while(|byte| **byte == 0);
    let bytes = significant.clone().count();
    significant.clone().next().map_or(0, |first| bytes * 8 - first.leading_zeros() as usize)
}

/// Odd, at least 3, at most 33 bits, which is what AWS-LC verifies with. An exponent of 1 would accept forgeries.
fn is_exponent(exponent: &[u8]) -> bool {
    let bits = bits(exponent);
    (2..=33).contains(&bits) && exponent.last().is_some_and(|last| last % 2 == 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rsa(bytes: usize) -> Value {
        json!({ "kty": "RSA", "kid": "a", "n": URL_SAFE_NO_PAD.encode(vec![0xff; bytes]), "e": "AQAB" })
    }

    fn ec() -> Value {
        let half = URL_SAFE_NO_PAD.encode([7; 32]);
        json!({ "kty": "EC", "crv": "P-256", "kid": "a", "x": half, "y": half })
    }

    fn set(keys: &[Value]) -> KeySet {
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    fn with(mut key: Value, field: &str, value: Value) -> Value {
        key[field] = value;
        key
    }

    #[test]
    fn a_key_is_found_for_its_own_algorithms_only() {
        let keys = set(&[rsa(256), with(ec(), "kid", json!("b"))]);
        assert_eq!(keys.len(), 2);
        for algorithm in Algorithm::ALL {
            assert_eq!(keys.find(Some("a"), *algorithm).is_some(), Algorithm::RSA.contains(algorithm), "{algorithm:?}");
            assert_eq!(keys.find(Some("b"), *algorithm).is_some(), *algorithm == Algorithm::ES256, "{algorithm:?}");
            assert!(keys.find(Some("A"), *algorithm).is_none());
            assert!(keys.find(Some("a?"), *algorithm).is_none());
        }
        let only = set(&[with(rsa(256), "alg", json!("PS256"))]);
        assert!(only.find(Some("a"), Algorithm::PS256).is_some() && only.find(Some("a"), Algorithm::RS256).is_none());
    }

    #[test]
    fn without_a_key_id_the_only_fitting_key_is_meant() {
        let two = [ec(), with(with(ec(), "kid", json!("b")), "x", json!(URL_SAFE_NO_PAD.encode([8; 32])))];
        assert!(set(&two[..1]).find(None, Algorithm::ES256).is_some());
        assert!(set(&two).find(None, Algorithm::ES256).is_none());
        // Two keys of one id and kind: none is meant. The same key twice is one.
        assert!(set(&[ec(), with(two[1].clone(), "kid", json!("a"))]).find(Some("a"), Algorithm::ES256).is_none());
        assert!(set(&[ec(), ec()]).find(Some("a"), Algorithm::ES256).is_some());
    }

    #[test]
    fn what_is_not_for_verifying_is_left_out() {
        let unfit = [
            with(ec(), "use", json!("enc")),
            with(ec(), "use", json!(1)),
            with(ec(), "key_ops", json!(["sign"])),
            with(ec(), "key_ops", json!("verify")),
            with(ec(), "d", json!("AA")),
            with(ec(), "alg", json!("RS256")),
            with(ec(), "alg", json!("ES384")),
            with(ec(), "alg", json!("HS256")),
            with(ec(), "alg", json!(null)),
            with(ec(), "crv", json!("P-384")),
            with(ec(), "crv", json!("secp256k1")),
            with(ec(), "kid", json!("")),
            with(ec(), "kid", json!(1)),
            with(ec(), "kid", json!("k".repeat(KID_MAX + 1))),
            with(ec(), "kty", json!("RSA")),
            with(ec(), "x", json!("AA")),
            rsa(128),
            rsa(255),
            rsa(1025),
            with(rsa(256), "e", json!("AQ")),
            with(rsa(256), "e", json!("AA")),
            with(rsa(256), "e", json!("BA")),
            with(rsa(256), "n", json!("+/==")),
            json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" }),
            json!({ "kty": "OKP", "crv": "X25519", "x": URL_SAFE_NO_PAD.encode([7; 32]) }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([7; 31]) }),
            json!({}),
            json!(7),
        ];
        for key in unfit {
            assert_eq!(set(std::slice::from_ref(&key)).len(), 0, "{key}");
        }
        assert_eq!(set(&[with(with(ec(), "use", json!("sig")), "key_ops", json!(["verify"]))]).len(), 1);
    }

    #[test]
    fn what_is_no_key_set_is_none() {
        let many = json!({ "keys": vec![ec(); KEYS_MAX + 1] }).to_string();
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, "<html>", &many] {
            assert!(KeySet::read(text.as_bytes()).is_none(), "{text}");
        }
        assert_eq!(set(&[]).len(), 0);
    }

    #[test]
    fn a_key_that_comes_back_changed_is_another() {
        let id = |key: Value| set(&[key]).0[0].id;
        assert_eq!(id(ec()), id(with(ec(), "use", json!("sig"))));
        for (field, value) in [("kid", "b"), ("alg", "ES256"), ("x", &URL_SAFE_NO_PAD.encode([9; 32]))] {
            assert_ne!(id(ec()), id(with(ec(), field, json!(value))));
        }
    }
}
