//! Rotation, floods, outages and expiry: how often an issuer is asked, and for how long its keys are used.

use std::time::Duration;

use serde_json::json;

use super::issuer::{Answer, Server, Signer, claims, issuers, now};
use crate::callers::keyring::{RETRY_AFTER, UNKNOWN_EACH};
use crate::callers::{IssuerConfig, TokenError};

const HOUR: Duration = Duration::from_secs(3600);

/// Claims that outlive every outage here.
fn lasting(iss: &str) -> serde_json::Value {
    let mut claims = claims(iss);
    claims["exp"] = json!(now() + 1000 * 3600);
    claims
}

#[tokio::test]
async fn a_rotated_key_is_taken_up_at_once() {
    let server = Server::plain().await;
    let (old, new) = (Signer::ec("old"), Signer::ec("new"));
    server.publishes(&[&old]);
    let (issuers, _) = issuers(&[server.config()]);
    issuers.verify(old.token(&claims(&server.url()))).await.unwrap();
    server.publishes(&[&old, &new]);
    issuers.verify(new.token(&claims(&server.url()))).await.unwrap();
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn a_flood_of_unknown_key_ids_asks_once_per_half_minute() {
    let server = Server::plain().await;
    let signer = Signer::ed("d");
    server.publishes(&[&signer]);
    let (issuers, clock) = issuers(&[server.config()]);
    issuers.warm().await;
    assert_eq!(server.asked(), 1);
    let flood = async |round: usize| {
        for n in 0..200 {
            let header = json!({ "alg": "EdDSA", "kid": format!("{round}-{n}") }).to_string();
            let token = signer.raw(&header, &claims(&server.url()).to_string());
            assert_eq!(issuers.verify(token).await, Err(TokenError::UnknownKey));
        }
    };
    flood(0).await;
    assert_eq!(server.asked(), 2);
    clock.advance(UNKNOWN_EACH - Duration::from_secs(2));
    flood(1).await;
    assert_eq!(server.asked(), 2);
    clock.advance(Duration::from_secs(2));
    flood(2).await;
    assert_eq!(server.asked(), 3);
    issuers.verify(signer.token(&claims(&server.url()))).await.unwrap();
}

#[tokio::test]
async fn calls_that_come_together_share_one_fetch() {
    let server = Server::plain().await;
    let signer = Signer::ec("e");
    server.publishes(&[&signer]);
    let (issuers, _) = issuers(&[server.config()]);
    let token = signer.token(&claims(&server.url()));
    let held = server.hold().await;
    assert!(issuers.verify_now(&token).is_none(), "the keys must be fetched first");
    let all = futures(&issuers, &token, 50);
    let (outcomes, ()) = tokio::join!(all, async { drop(held) });
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(server.asked(), 1);
}

async fn futures(
    issuers: &crate::callers::Issuers,
    token: &str,
    times: usize,
) -> Vec<Result<std::sync::Arc<callgate_model::Caller>, TokenError>> {
    let mut waiting: Vec<_> = (0..times).map(|_| Box::pin(issuers.verify(token))).collect();
    // Each is polled once before any is waited for, so that all are under way together.
    for future in &mut waiting {
        std::future::poll_fn(|context| {
            assert!(future.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
    }
    let mut outcomes = Vec::new();
    for future in waiting {
        outcomes.push(future.await);
    }
    outcomes
}

#[tokio::test]
async fn who_hangs_up_does_not_keep_others_from_the_keys() {
    let server = Server::plain().await;
    let signer = Signer::ec("e");
    server.publishes(&[&signer]);
    let (issuers, _) = issuers(&[server.config()]);
    let token = signer.token(&claims(&server.url()));
    let held = server.hold().await;
    {
        let mut gone = Box::pin(issuers.verify(&token));
        std::future::poll_fn(|context| {
            assert!(gone.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
    }
    drop(held);
    issuers.verify(&token).await.unwrap();
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn stale_keys_serve_an_outage_of_a_day_and_no_longer() {
    let server = Server::plain().await;
    let signer = Signer::rsa("r");
    server.publishes(&[&signer]);
    let (issuers, clock) = issuers(&[server.config()]);
    let token = signer.token(&lasting(&server.url()));
    issuers.verify(&token).await.unwrap();
    server.answers("/jwks", Answer::status(503));

    clock.advance(2 * HOUR);
    issuers.verify(&token).await.unwrap();
    assert_eq!(server.asked(), 2, "past their time the issuer is asked first");
    for _ in 0..20 {
        issuers.verify(&token).await.unwrap();
    }
    assert_eq!(server.asked(), 2, "and not again at once");
    clock.advance(RETRY_AFTER);
    let held = server.hold().await;
    issuers.verify(&token).await.unwrap();
    drop(held);
    issuers.issuers[0].keyring.landed().await;
    assert_eq!(server.asked(), 3, "further attempts are waited for by nobody");

    clock.advance(24 * HOUR);
    assert_eq!(issuers.verify(&token).await, Err(TokenError::KeysUnavailable));
    assert_eq!(issuers.warm().await, [server.url()]);
    server.publishes(&[&signer]);
    clock.advance(RETRY_AFTER);
    issuers.verify(&token).await.unwrap();
}

#[tokio::test]
async fn stale_keys_are_not_used_where_that_is_configured() {
    let server = Server::plain().await;
    let signer = Signer::ec("e");
    server.publishes(&[&signer]);
    let (issuers, clock) = issuers(&[IssuerConfig { stale_max_h: 0, ..server.config() }]);
    let token = signer.token(&lasting(&server.url()));
    issuers.verify(&token).await.unwrap();
    server.answers("/jwks", Answer::status(503));
    clock.advance(HOUR);
    assert_eq!(issuers.verify(&token).await, Err(TokenError::KeysUnavailable));
}

#[tokio::test]
async fn a_withdrawn_key_ends_the_tokens_that_it_verified() {
    let server = Server::plain().await;
    let (bad, good) = (Signer::ec("bad"), Signer::ec("good"));
    server.publishes(&[&bad, &good]);
    let (issuers, clock) = issuers(&[server.config()]);
    let token = bad.token(&lasting(&server.url()));
    issuers.verify(&token).await.unwrap();
    server.publishes(&[&good]);
    clock.advance(HOUR);
    // The new keys come with another's token, so they are fresh when the old one is presented again.
    issuers.verify(good.token(&lasting(&server.url()))).await.unwrap();
    assert_eq!(issuers.verify_now(&token), None, "remembered, but not vouched for any more");
    assert_eq!(issuers.verify(&token).await, Err(TokenError::UnknownKey));
    // A key of the old name is another key.
    let heir = Signer::ec("bad");
    server.publishes(&[&good, &heir]);
    clock.advance(HOUR);
    assert_eq!(issuers.verify(&token).await, Err(TokenError::Signature));
    // A set without keys withdraws all.
    let last = heir.token(&lasting(&server.url()));
    issuers.verify(&last).await.unwrap();
    server.publishes(&[]);
    clock.advance(HOUR);
    assert_eq!(issuers.verify(&last).await, Err(TokenError::UnknownKey));
}

#[tokio::test]
async fn keys_are_renewed_in_the_background_before_their_time() {
    let server = Server::plain().await;
    let signer = Signer::ec("e");
    server.publishes(&[&signer]);
    let (issuers, clock) = issuers(&[server.config()]);
    let token = signer.token(&lasting(&server.url()));
    issuers.verify(&token).await.unwrap();
    clock.advance(HOUR * 4 / 5);
    let held = server.hold().await;
    // The first to come after three quarters starts it, and does not wait for it: no answer goes out meanwhile.
    issuers.verify_now(&token).expect("nothing to wait for").unwrap();
    drop(held);
    issuers.issuers[0].keyring.landed().await;
    assert_eq!(server.asked(), 2);
    clock.advance(HOUR / 2);
    issuers.verify_now(&token).expect("the keys are fresh again").unwrap();
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn a_remembered_token_ends_with_its_time() {
    let server = Server::plain().await;
    let signer = Signer::ec("e");
    server.publishes(&[&signer]);
    let (issuers, clock) = issuers(&[server.config()]);
    let mut short = claims(&server.url());
    short["exp"] = json!(now() + 60);
    let token = signer.token(&short);
    issuers.verify(&token).await.unwrap();
    issuers.verify_now(&token).unwrap().unwrap();
    clock.advance(Duration::from_secs(60 + 31));
    assert_eq!(issuers.verify_now(&token), Some(Err(TokenError::Expired)));
}
