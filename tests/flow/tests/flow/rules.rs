//! Rules that look into calls: arguments of bodies and queries, verified callers, places that are masked.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use callgate_harness::{Upstream, samples};
use callgate_identity::callers::IssuerConfig;
use callgate_model::{Record, RecordKind};

use crate::gate::{FlowGate, GateConfig, ends};

const LIMITS: &str = r#"
@id("orders")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"users.internal");

@id("limit")
forbid (principal, action == Callgate::Action::"call", resource in Callgate::Service::"users.internal")
unless {
  resource.path != "/v1/refunds" ||
  (context has caller && context.caller.groups.contains("refund-admins")) ||
  (context.arguments.number.hasTag("/amount") && context.arguments.number.getTag("/amount") <= 1000)
};
"#;

fn gate(policies: &str, upstream: &Upstream, issuers: &[IssuerConfig]) -> Result<FlowGate> {
    let config = GateConfig::new(policies, upstream.address());
    FlowGate::start(&GateConfig { names: &["users.internal"], issuers, ..config })
}

/// Sends one request and reads the answer.
fn ask(gate: &FlowGate, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(gate.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let fields: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nhost: users.internal\r\nconnection: close\r\ncontent-length: {length}\r\n{fields}\r\n"
    );
    stream.write_all(head.as_bytes())?;
    // A long body may be refused before it is sent: then the connection closes under it, and may take the answer along.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn refund(gate: &FlowGate, kind: &str, body: &str) -> Result<String> {
    ask(gate, "POST /v1/refunds", &[("content-type", kind)], body.as_bytes())
}

#[test]
fn a_limit_holds_however_the_amount_is_sent() -> Result<()> {
    let upstream = Upstream::plain()?;
    let gate = gate(LIMITS, &upstream, &[])?;
    const JSON: &str = "application/json";
    for fits in [r#"{"amount":1000}"#, r#"{"amount": 1e3, "note":"ok"}"#, r#"{"amount":999.0}"#] {
        let answer = refund(&gate, JSON, fits)?;
        assert!(answer.starts_with("HTTP/1.1 201"), "{fits}: {answer}");
        // What was judged is what arrives.
        let arrived = upstream.requests().last().context("a request")?.body_len;
        assert_eq!(arrived, fits.len() as u64);
    }
    let seen = upstream.request_count();
    let long = format!(r#"{{"amount":1,"pad":"{}"}}"#, "x".repeat(1 << 20));
    for (kind, body, reason) in [
        (JSON, r#"{"amount":1001}"#, "forbidden"),
        (JSON, r#"{}"#, "forbidden"),
        (JSON, "", "forbidden"),
        (JSON, r#"{"amount":"5000"}"#, "arguments_unfit"),
        (JSON, r#"{"amount":5000.5}"#, "arguments_unfit"),
        (JSON, r#"{"amount":1,"amount":5000}"#, "arguments_unfit"),
        (JSON, r#"{"amount":1,"Amount":5000}"#, "arguments_unfit"),
        (JSON, r#"{"amount":1} {"amount":5000}"#, "arguments_unfit"),
        (JSON, long.as_str(), "arguments_unfit"),
        ("application/x-www-form-urlencoded", "amount=5000", "arguments_unfit"),
        ("text/plain", r#"{"amount":5000}"#, "arguments_unfit"),
        ("multipart/form-data; boundary=x", "--x--", "arguments_unfit"),
    ] {
        let answer = refund(&gate, kind, body)?;
        let lost = body.len() > 1 << 20 && answer.is_empty();
        assert!(lost || answer.starts_with("HTTP/1.1 403") && answer.contains(reason), "{kind} {:.60}: {answer}", body);
    }
    assert_eq!(upstream.request_count(), seen);
    // A refused call says what was refused.
    let records = gate.records("every end", |records| ends(records) == 15)?;
    assert!(bodies(&records).contains(r#"{"amount":1001}"#), "{}", bodies(&records));
    Ok(())
}

#[test]
fn a_body_goes_on_as_it_came_where_rules_look_at_it() -> Result<()> {
    let upstream = Upstream::plain()?;
    let gate = gate(LIMITS, &upstream, &[])?;
    let body = format!(r#"{{"text":"{}"}}"#, "é\\u0041 ".repeat(40_000));
    let answer = ask(&gate, "POST /mirror", &[("content-type", "application/json")], body.as_bytes())?;
    assert!(answer.contains(&body[..999]) && answer.len() > body.len(), "{:.300}", answer);
    Ok(())
}

fn bodies(records: &[Record]) -> String {
    let chunk = |record: &Record| match &record.kind {
        RecordKind::Chunk(chunk) => chunk.data.clone(),
        _ => Vec::new(),
    };
    String::from_utf8_lossy(&records.iter().flat_map(chunk).collect::<Vec<u8>>()).into_owned()
}

/// An issuer with one key, which answers every request with its key set.
struct Issuer {
    pair: EcdsaKeyPair,
    address: SocketAddr,
}

impl Issuer {
    fn start() -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let set = format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"one","use":"sig","x":"{x}","y":"{y}"}}]}}"#);
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4096]);
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{set}",
                    set.len()
                );
            }
        });
        Ok(Self { pair, address })
    }

    fn config(&self) -> Result<IssuerConfig> {
        let url = format!("http://{}", self.address);
        Ok(serde_json::from_value(serde_json::json!({
            "issuer": url, "jwks_uri": format!("{url}/jwks"), "audience": ["gate"], "algorithms": ["ES256"],
        }))?)
    }

    fn token(&self, audience: &str, groups: &[&str], lives: i64) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() as i64;
        let claims = serde_json::json!({
            "iss": format!("http://{}", self.address), "sub": "ann", "aud": audience, "exp": now + lives, "groups": groups,
        });
        let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
        let signed =
            format!("{}.{}", encode(r#"{"alg":"ES256","kid":"one","typ":"JWT"}"#.into()), encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[test]
fn a_verified_caller_is_judged_recorded_and_not_sent_on() -> Result<()> {
    let issuer = Issuer::start()?;
    let upstream = Upstream::plain()?;
    let gate = gate(LIMITS, &upstream, &[issuer.config()?])?;
    let big = |token: &str| {
        let headers = [("content-type", "application/json"), ("authorization", token)];
        ask(&gate, "POST /v1/refunds", &headers, br#"{"amount":5000}"#)
    };
    let admin = issuer.token("gate", &["refund-admins"], 600)?;
    let answer = big(&format!("Bearer {admin}"))?;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(upstream.requests()[0].header("authorization"), None);
    let clerk = issuer.token("gate", &["clerks"], 600)?;
    assert!(big(&format!("Bearer {clerk}"))?.contains(r#""reason":"forbidden""#));
    for bad in [issuer.token("other", &["refund-admins"], 600)?, issuer.token("gate", &["refund-admins"], -600)?] {
        let answer = big(&format!("Bearer {bad}"))?;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("caller_unverified"), "{answer}");
    }
    assert_eq!(upstream.request_count(), 1);
    let records = gate.records("every end", |records| ends(records) == 4)?;
    let kept = format!("{records:?}");
    assert!(!kept.contains(&admin), "a token is in the record");
    let callers: Vec<Option<String>> = records
        .iter()
        .filter_map(|record| match &record.kind {
            RecordKind::Begin(begin) => Some(begin.caller.as_ref().map(|caller| caller.sub.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(callers, [Some("ann".to_owned()), Some("ann".to_owned()), None, None]);
    Ok(())
}

const PLACES: &str = r#"
@id("users")
@mask("json:/name, header:date, email=partial, payment_card=pseudonym")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"users.internal");
"#;

#[test]
fn places_are_masked_and_findings_replaced_as_policy_says() -> Result<()> {
    let upstream = Upstream::plain()?;
    let gate = gate(PLACES, &upstream, &[])?;
    let one = ask(&gate, "GET /v1/users/7", &[], b"")?;
    let two = ask(&gate, "GET /v1/users/7", &[], b"")?;
    for hidden in [samples::name(7), samples::email(7), samples::card(7)] {
        assert!(!one.contains(&hidden), "{hidden}: {one}");
    }
    assert!(one.contains("date: [masked") && one.contains("[payment_card:"), "{one}");
    let body = |answer: &str| answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    assert_eq!(body(&one), body(&two));
    // What is no JSON cannot be masked by its places: refused, not passed.
    let answer = ask(&gate, "GET /bytes/100", &[], b"")?;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("unmaskable"), "{answer}");
    Ok(())
}
