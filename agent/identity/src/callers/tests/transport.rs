//! How keys are fetched: discovery, TLS, and the answers that are not taken.

use callgate_model::Reason;
use serde_json::json;

use super::issuer::{Answer, Server, Signer, claims, issuers};
use crate::Authority;
use crate::callers::{IssuerConfig, Issuers, IssuersError, TokenError};

const DISCOVERY: &str = "/.well-known/openid-configuration";

#[tokio::test]
async fn discovery_over_tls_leads_to_the_keys() {
    let authority = Authority::new("test").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, authority.ca_pem()).unwrap();
    let server = Server::tls(authority.server_config("127.0.0.1", &[b"http/1.1"]).unwrap()).await;
    let signer = Signer::ec("e");
    server.publishes(&[&signer]);
    server.answers(DISCOVERY, discovery(&server.url(), &format!("{}/jwks", server.url())));
    let token = signer.token(&claims(&server.url()));

    let trusting = IssuerConfig { jwks_uri: None, ca: Some(ca), ..server.config() };
    let (trusted, _) = issuers(&[trusting]);
    trusted.verify(&token).await.unwrap();
    assert_eq!(server.asked(), 2);

    // A certificate that nobody vouches for: no request is made, and the token is refused.
    let (distrusting, _) = issuers(&[server.config()]);
    assert_eq!(distrusting.verify(&token).await, Err(TokenError::KeysUnavailable));
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new("test").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, authority.ca_pem()).unwrap();
    let server = Server::tls(authority.server_config("elsewhere.example", &[b"http/1.1"]).unwrap()).await;
    let signer = Signer::ec("e");
    server.publishes(&[&signer]);
    let (issuers, _) = issuers(&[IssuerConfig { ca: Some(ca), ..server.config() }]);
    assert_eq!(issuers.verify(signer.token(&claims(&server.url()))).await, Err(TokenError::KeysUnavailable));
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn a_discovery_document_of_another_issuer_is_refused() {
    let server = Server::plain().await;
    let signer = Signer::ec("e");
    server.publishes(&[&signer]);
    let jwks = format!("{}/jwks", server.url());
    let token = signer.token(&claims(&server.url()));
    for document in [
        discovery(&format!("{}/", server.url()), &jwks),
        discovery("https://elsewhere.example", &jwks),
        discovery(&server.url(), "http://keys.example/jwks"),
        discovery(&server.url(), "file:///etc/passwd"),
        Answer::ok("{}"),
    ] {
        server.answers(DISCOVERY, document);
        let (issuers, _) = issuers(&[IssuerConfig { jwks_uri: None, ..server.config() }]);
        let asked = server.asked();
        assert_eq!(issuers.verify(&token).await, Err(TokenError::KeysUnavailable));
        assert_eq!(server.asked(), asked + 1, "the keys are not asked for");
    }
    server.answers(DISCOVERY, discovery(&server.url(), &jwks));
    let (issuers, _) = issuers(&[IssuerConfig { jwks_uri: None, ..server.config() }]);
    issuers.verify(&token).await.unwrap();
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (server, elsewhere) = (Server::plain().await, Server::plain().await);
    let thief = Signer::ec("e");
    elsewhere.publishes(&[&thief]);
    server.publishes(&[&thief]);
    let jwks = json!({ "keys": [thief.jwk()] });
    for status in [301, 302, 303, 307, 308] {
        for target in [format!("{}/jwks", elsewhere.url()), "/other".into()] {
            server.answers("/other", Answer::ok(&jwks));
            // Keys in the body of the redirect are no keys either.
            let moved = Answer { status, ..Answer::ok(&jwks) }.with("location", &target);
            server.answers("/jwks", moved);
            let (issuers, _) = issuers(&[server.config()]);
            let asked = server.asked();
            let said = issuers.verify(thief.token(&claims(&server.url()))).await;
            assert_eq!(said, Err(TokenError::KeysUnavailable), "{status}");
            assert_eq!((server.asked(), elsewhere.asked()), (asked + 1, 0));
        }
    }
}

#[tokio::test]
async fn answers_that_are_no_bounded_key_set_are_not_taken() {
    let server = Server::plain().await;
    let signer = Signer::ec("e");
    let set = json!({ "keys": [signer.jwk()] });
    let padded = format!("{}{}", " ".repeat(256 * 1024), set);
    let many = json!({ "keys": vec![signer.jwk(); 65] });
    for answer in [
        Answer::ok(padded),
        Answer::ok(many),
        Answer::ok("<html>sign in</html>"),
        Answer::ok(""),
        Answer::ok(&set).with("content-encoding", "gzip"),
        Answer { status: 206, ..Answer::ok(&set) },
        Answer { status: 404, ..Answer::ok(&set) },
        Answer { status: 500, ..Answer::ok(&set) },
    ] {
        server.answers("/jwks", answer);
        let (issuers, _) = issuers(&[server.config()]);
        assert_eq!(issuers.verify(signer.token(&claims(&server.url()))).await, Err(TokenError::KeysUnavailable));
    }
    assert_eq!(TokenError::KeysUnavailable.reason(), Reason::CallerUnverified);
}

#[tokio::test]
async fn an_issuer_that_never_answers_is_given_up() {
    let server = Server::plain().await;
    let signer = Signer::ec("e");
    server.publishes(&[&signer]);
    let (issuers, _) = issuers(&[server.config()]);
    let token = signer.token(&claims(&server.url()));
    let _held = server.hold().await;
    let begun = std::time::Instant::now();
    assert_eq!(issuers.verify(&token).await, Err(TokenError::KeysUnavailable));
    assert!(begun.elapsed().as_secs() < 10);
    // The next is told at once.
    let begun = std::time::Instant::now();
    assert_eq!(issuers.verify(&token).await, Err(TokenError::KeysUnavailable));
    assert!(begun.elapsed().as_secs() < 3);
}

#[test]
fn a_configuration_that_is_unfit_is_named() {
    let config = |issuer: &str| {
        let text = format!("issuer = \"{issuer}\"\naudience = [\"gate\"]\nalgorithms = [\"ES256\"]\n");
        toml::from_str::<IssuerConfig>(&text).unwrap()
    };
    let twice = [config("https://a.example"), config("https://a.example")];
    assert!(Issuers::new(&twice).unwrap_err().to_string().contains("twice"));
    assert!(Issuers::new(&[config("http://a.example")]).unwrap_err().to_string().contains("http://a.example"));
    let many: Vec<_> = (0..33).map(|n| config(&format!("https://{n}.example"))).collect();
    assert!(matches!(Issuers::new(&many), Err(IssuersError::TooMany(33, 32))));
    let absent = IssuerConfig { ca: Some("absent.pem".into()), ..config("https://a.example") };
    let said = Issuers::new(&[absent]).unwrap_err().to_string();
    assert!(said.contains("absent.pem") && said.contains("https://a.example"), "{said}");
}

fn discovery(issuer: &str, jwks_uri: &str) -> Answer {
    Answer::ok(json!({ "issuer": issuer, "jwks_uri": jwks_uri }))
}
