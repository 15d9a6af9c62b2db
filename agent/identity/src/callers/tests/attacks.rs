//! Tokens that hold, and a table of tokens that must not.

use aws_lc_rs::hmac;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::issuer::{AUDIENCE, Server, Signer, b64, claims, issuers, now};
use crate::callers::{IssuerConfig, Issuers, TokenError, parse};

#[tokio::test]
async fn each_kind_of_key_names_a_caller() {
    let server = Server::plain().await;
    let signers = [Signer::rsa("r"), Signer::ec("e"), Signer::ed("d")];
    server.publishes(&signers.each_ref());
    let (issuers, _) = issuers(&[server.config()]);
    for signer in &signers {
        let token = signer.token(&claims(&server.url()));
        let caller = issuers.verify(&token).await.unwrap();
        assert_eq!((caller.sub.as_str(), caller.iss.as_str()), ("ada", server.url().as_str()));
        assert_eq!(caller.groups, ["dev", "ops"]);
        assert_eq!(issuers.verify_now(&token).unwrap().unwrap(), caller);
    }
    assert_eq!(server.asked(), 1, "keys are fetched once");
}

#[tokio::test]
async fn forged_signatures_are_refused() {
    let server = Server::plain().await;
    let signers = [Signer::rsa("r"), Signer::ec("e"), Signer::ed("d")];
    server.publishes(&signers.each_ref());
    let (issuers, _) = issuers(&[server.config()]);
    let iss = server.url();
    let text = claims(&iss).to_string();
    for signer in &signers {
        let good = signer.token(&claims(&iss));
        issuers.verify(&good).await.unwrap();
        let (message, signature) = good.rsplit_once('.').unwrap();

        // Every single bit of the claims and of the signature counts.
        let (header, _) = message.split_once('.').unwrap();
        let other = b64(text.replace("ada", "eve"));
        assert_eq!(issuers.verify(format!("{header}.{other}.{signature}")).await, Err(TokenError::Signature));
        let mut bytes = base64_decoded(signature);
        bytes[5] ^= 1;
        assert_eq!(issuers.verify(format!("{message}.{}", b64(&bytes))).await, Err(TokenError::Signature));
        for signature in [vec![0; bytes.len()], vec![], vec![1], bytes[1..].to_vec()] {
            let said = issuers.verify(format!("{message}.{}", b64(signature))).await;
            assert_eq!(said, Err(TokenError::Signature));
        }

        // Another key of the same name and kind.
        let thief = match signer.algorithm() {
            "RS256" => Signer::rsa("r"),
            "ES256" => Signer::ec("e"),
            _ => Signer::ed("d"),
        };
        assert_eq!(issuers.verify(thief.token(&claims(&iss))).await, Err(TokenError::Signature));
        // Its own key in the header, as RFC 7515 §4.1.3 would allow.
        let mut header = thief.header();
        header["jwk"] = thief.jwk();
        assert_eq!(issuers.verify(thief.raw(&header.to_string(), &text)).await, Err(TokenError::Header));

        // Alg confusion: the public key, in every form, as the secret of an HMAC.
        for secret in signer.public_forms() {
            for algorithm in ["HS256", "hs256"] {
                let header = json!({ "alg": algorithm, "kid": signer.kid, "typ": "JWT" }).to_string();
                let message = format!("{}.{}", b64(header), b64(&text));
                let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
                let said = issuers.verify(format!("{message}.{}", b64(tag))).await;
                assert_eq!(said, Err(TokenError::Algorithm), "{algorithm}");
            }
        }
        // Another asymmetric algorithm than the key's: no key of that id is for it.
        for algorithm in ["RS256", "ES256", "EdDSA"].iter().filter(|other| **other != signer.algorithm()) {
            let header = json!({ "alg": algorithm, "kid": signer.kid }).to_string();
            assert_eq!(issuers.verify(signer.raw(&header, &text)).await, Err(TokenError::UnknownKey), "{algorithm}");
        }
        // One that the library knows and the issuer's list does not.
        let header = json!({ "alg": "PS256", "kid": signer.kid }).to_string();
        assert_eq!(issuers.verify(signer.raw(&header, &text)).await, Err(TokenError::Algorithm));
    }
}

fn base64_decoded(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap()
}

#[tokio::test]
async fn a_properly_signed_token_with_a_bad_header_is_refused() {
    let (server, signer, issuers) = one().await;
    let text = claims(&server.url()).to_string();
    let cases = [
        ("alg", json!("none"), TokenError::Algorithm),
        ("alg", json!("None"), TokenError::Algorithm),
        ("alg", json!("ES384"), TokenError::Algorithm),
        ("crit", json!(["exp"]), TokenError::Header),
        ("crit", json!([]), TokenError::Header),
        ("jku", json!(format!("{}/evil", server.url())), TokenError::Header),
        ("x5u", json!(format!("{}/evil", server.url())), TokenError::Header),
        ("x5c", json!(["AA=="]), TokenError::Header),
        ("typ", json!("logout+jwt"), TokenError::Header),
        ("typ", json!("JWS"), TokenError::Header),
        ("zip", json!("DEF"), TokenError::Header),
        ("kid", json!(["e"]), TokenError::Header),
        ("kid", json!("e".repeat(parse::KID_MAX + 1)), TokenError::Header),
        ("kid", json!("e\u{0}"), TokenError::UnknownKey),
        ("kid", json!("../jwks#e"), TokenError::UnknownKey),
        ("kid", json!("/dev/null"), TokenError::UnknownKey),
        ("kid", json!("e' OR '1'='1"), TokenError::UnknownKey),
        ("kid", json!("http://127.0.0.1/evil"), TokenError::UnknownKey),
        ("kid", json!("E"), TokenError::UnknownKey),
    ];
    for (field, value, expected) in cases {
        let mut header = signer.header();
        header[field] = value;
        assert_eq!(issuers.verify(signer.raw(&header.to_string(), &text)).await, Err(expected), "{header}");
    }
    let twice = r#"{"alg":"ES256","kid":"e","kid":"e"}"#;
    assert_eq!(issuers.verify(signer.raw(twice, &text)).await, Err(TokenError::Duplicate));
    // No signature, with and without the word for it.
    for alg in ["none", "None", "NONE"] {
        let unsigned = format!("{}.{}.", b64(json!({ "alg": alg }).to_string()), b64(&text));
        assert_eq!(issuers.verify(unsigned).await, Err(TokenError::Algorithm), "{alg}");
    }
    let unsigned = format!("{}.{}.", b64(signer.header().to_string()), b64(&text));
    assert_eq!(issuers.verify(unsigned).await, Err(TokenError::Signature));
    // Without a key id, the only key that fits is meant.
    let header = json!({ "alg": "ES256" }).to_string();
    issuers.verify(signer.raw(&header, &text)).await.unwrap();
}

#[tokio::test]
async fn a_properly_signed_token_with_bad_claims_is_refused() {
    let (server, signer, issuers) = one().await;
    let iss = server.url();
    let (past, future) = (json!(now() - 31), json!(now() + 60));
    let cases = [
        ("exp", past.clone(), TokenError::Expired),
        ("exp", json!(0), TokenError::Expired),
        ("exp", json!("4102444800"), TokenError::Claim),
        ("exp", json!(u64::MAX), TokenError::Claim),
        ("exp", json!(1e300), TokenError::Claim),
        ("nbf", future.clone(), TokenError::NotYetValid),
        ("iat", future, TokenError::NotYetValid),
        ("nbf", json!("0"), TokenError::Claim),
        ("aud", json!("other"), TokenError::Audience),
        ("aud", json!("gat"), TokenError::Audience),
        ("aud", json!("gate/"), TokenError::Audience),
        ("aud", json!([]), TokenError::Audience),
        ("aud", json!(["other", "another"]), TokenError::Audience),
        ("aud", json!(["gate", 1]), TokenError::Claim),
        ("aud", json!({ "gate": 1 }), TokenError::Claim),
        ("sub", json!(""), TokenError::Claim),
        ("sub", json!("a\r\nb"), TokenError::Claim),
        ("sub", json!("s".repeat(513)), TokenError::Claim),
        ("sub", json!(7), TokenError::Claim),
        ("groups", json!("ops"), TokenError::Claim),
        // The cluster alone says so.
        ("groups", json!(["kubernetes:serviceaccount:shop/web"]), TokenError::Claim),
        ("groups", json!(["ops", 7]), TokenError::Claim),
        ("groups", json!(vec!["g"; 257]), TokenError::Claim),
        ("iss", json!(format!("{iss}/")), TokenError::UnknownIssuer),
        ("iss", json!(iss.to_uppercase()), TokenError::UnknownIssuer),
        ("iss", json!(format!(" {iss}")), TokenError::UnknownIssuer),
        ("iss", json!(""), TokenError::UnknownIssuer),
        ("iss", json!([iss]), TokenError::Claim),
    ];
    for (field, value, expected) in cases {
        let mut changed = claims(&iss);
        changed[field] = value;
        assert_eq!(issuers.verify(signer.token(&changed)).await, Err(expected), "{changed}");
    }
    for field in ["iss", "sub", "aud", "exp"] {
        let mut changed = claims(&iss);
        changed.as_object_mut().unwrap().remove(field);
        assert_eq!(issuers.verify(signer.token(&changed)).await, Err(TokenError::MissingClaim), "{field}");
        let mut changed = claims(&iss);
        changed[field] = Value::Null;
        assert_eq!(issuers.verify(signer.token(&changed)).await, Err(TokenError::Claim), "{field}");
    }
    for (field, value) in [("sub", "\"eve\""), ("exp", "99999999999"), ("aud", "\"gate\""), ("iss", "\"x\"")] {
        let text = claims(&iss).to_string().replacen('{', &format!("{{\"{field}\":{value},"), 1);
        let said = issuers.verify(signer.raw(&signer.header().to_string(), &text)).await;
        assert_eq!(said, Err(TokenError::Duplicate), "{field}");
    }
    let mut large = claims(&iss);
    large["x"] = json!("x".repeat(parse::TOKEN_MAX));
    assert_eq!(issuers.verify(signer.token(&large)).await, Err(TokenError::TooLong));
    // What is within the leeway and among several audiences holds.
    let mut late = claims(&iss);
    (late["exp"], late["nbf"], late["aud"]) = (json!(now() - 5), json!(now() + 5), json!(["other", AUDIENCE]));
    issuers.verify(signer.token(&late)).await.unwrap();
}

#[tokio::test]
async fn tokens_that_cannot_hold_fetch_no_keys() {
    let server = Server::plain().await;
    let signer = Signer::ec("e");
    let (issuers, _) = issuers(&[server.config()]);
    let mut expired = claims(&server.url());
    expired["exp"] = json!(1);
    let tokens = [signer.token(&expired), signer.token(&claims("https://other.example")), "x.y.z".into()];
    for token in tokens {
        assert!(issuers.verify(&token).await.is_err());
        assert!(issuers.verify_now(&token).unwrap().is_err());
    }
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn the_key_of_one_issuer_does_not_speak_for_another() {
    let (a, b) = (Server::plain().await, Server::plain().await);
    // Both call their key by the same name.
    let (of_a, of_b) = (Signer::ec("k"), Signer::ec("k"));
    a.publishes(&[&of_a]);
    b.publishes(&[&of_b]);
    let (issuers, _) = issuers(&[a.config(), b.config()]);
    issuers.verify(of_a.token(&claims(&a.url()))).await.unwrap();
    issuers.verify(of_b.token(&claims(&b.url()))).await.unwrap();
    assert_eq!(issuers.verify(of_a.token(&claims(&b.url()))).await, Err(TokenError::Signature));
    assert_eq!(issuers.verify(of_b.token(&claims(&a.url()))).await, Err(TokenError::Signature));
}

#[tokio::test]
async fn a_subject_pattern_limits_whom_an_issuer_may_name() {
    let server = Server::plain().await;
    let signer = Signer::ed("d");
    server.publishes(&[&signer]);
    let config = IssuerConfig { subject: Some("system:serviceaccount:shop:*".into()), ..server.config() };
    let (issuers, _) = issuers(&[config]);
    let mut named = claims(&server.url());
    assert_eq!(issuers.verify(signer.token(&named)).await, Err(TokenError::Subject));
    named["sub"] = json!("system:serviceaccount:shop:cart");
    issuers.verify(signer.token(&named)).await.unwrap();
}

#[tokio::test]
async fn headers_name_the_caller_or_deny() {
    let (a, b) = (Server::plain().await, Server::plain().await);
    let (of_a, of_b) = (Signer::ec("a"), Signer::ec("b"));
    a.publishes(&[&of_a]);
    b.publishes(&[&of_b]);
    let own = IssuerConfig { header: "X-Callgate-Caller".into(), forward: true, ..b.config() };
    let (issuers, _) = issuers(&[a.config(), own]);
    let (token_a, token_b) = (of_a.token(&claims(&a.url())), of_b.token(&claims(&b.url())));
    let strange = of_a.token(&claims("https://elsewhere.example"));
    let forged = of_b.token(&claims(&a.url()));
    let bearer = |token: &str| ("authorization", format!("Bearer {token}"));
    let own = |token: &str| ("x-callgate-caller", token.to_owned());
    let authorization = Some(http::header::AUTHORIZATION);

    // Twice: what is remembered must not change what is said.
    for round in 0..2 {
        let of = async |lines: &[(&'static str, String)]| identify(&issuers, lines).await;
        assert_eq!(of(&[]).await, Ok(None));
        assert_eq!(of(&[bearer(&token_a)]).await, Ok(Some((a.url(), authorization.clone()))), "{round}");
        assert_eq!(of(&[own(&token_b)]).await, Ok(Some((b.url(), None))), "forwarded");
        assert_eq!(of(&[bearer("ghp_0123"), own(&token_b)]).await, Ok(Some((b.url(), None))));
        for others in ["ghp_0123", strange.as_str(), token_b.as_str()] {
            assert_eq!(of(&[bearer(others)]).await, Ok(None), "the application's own");
        }
        assert_eq!(of(&[bearer(&forged)]).await, Err(TokenError::UnknownKey));
        assert_eq!(of(&[bearer(&token_a), bearer(&token_a)]).await, Err(TokenError::Ambiguous));
        assert_eq!(of(&[bearer(&token_a), own(&token_b)]).await, Err(TokenError::Ambiguous));
        assert_eq!(of(&[own("ghp_0123")]).await, Err(TokenError::Malformed));
        assert_eq!(of(&[own("")]).await, Err(TokenError::Malformed));
        assert_eq!(of(&[own(&strange)]).await, Err(TokenError::UnknownIssuer));
        assert_eq!(of(&[own(&token_a)]).await, Err(TokenError::UnknownIssuer), "not that issuer's header");
    }
}

#[tokio::test]
async fn without_issuers_headers_are_the_applications_own() {
    let (issuers, _) = issuers(&[]);
    let token = Signer::ed("d").token(&claims("https://idp.example"));
    let lines = [("authorization", format!("Bearer {token}")), ("authorization", "Basic dTpw".into())];
    assert!(issuers.is_empty() && issuers.headers().is_empty());
    assert_eq!(identify(&issuers, &lines).await, Ok(None));
}

#[tokio::test]
async fn nothing_shows_a_byte_of_a_token() {
    let (server, signer, issuers) = one().await;
    let secret = claims(&server.url()).to_string().replace("ada", "sesame");
    let token = signer.raw(&signer.header().to_string(), &secret);
    issuers.verify(&token).await.unwrap();
    assert!(!format!("{issuers:?}").contains("sesame"));
    let error = issuers.verify(format!("{token}AA")).await.unwrap_err();
    let shown = format!("{error} {error:?} {}", error.reason());
    assert!(token.split('.').all(|part| !shown.contains(part)), "{shown}");
}

async fn one() -> (Server, Signer, Issuers) {
    let server = Server::plain().await;
    let signer = Signer::ec("e");
    server.publishes(&[&signer]);
    let (issuers, _) = issuers(&[server.config()]);
    assert_eq!(issuers.warm().await, [""; 0]);
    (server, signer, issuers)
}

/// Who was identified, by issuer, and which header is taken off.
async fn identify(
    issuers: &Issuers,
    lines: &[(&'static str, String)],
) -> Result<Option<(String, Option<HeaderName>)>, TokenError> {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    Ok(issuers.identify(&headers).await?.map(|found| (found.caller.iss.clone(), found.strip)))
}
