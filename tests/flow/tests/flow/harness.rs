//! The measuring tools themselves: without Callgate in between, client and upstream count the same.

use std::time::Duration;

use anyhow::Result;
use callgate_harness::{LoadConfig, TestCa, Upstream, load, samples};

#[test]
fn client_and_upstream_count_the_same_over_tls() -> Result<()> {
    let ca = TestCa::new()?;
    let upstream = Upstream::tls(&ca, &["users.internal"])?;
    let report = load::run(LoadConfig {
        connect_to: Some(upstream.address()),
        roots_pem: Some(ca.pem().to_owned()),
        ..LoadConfig::get("https://users.internal/v1/users/{n}", 4, 100)
    })?;
    assert_eq!((report.calls, report.status(200), report.connected), (100, 100, 4));
    let mut numbers: Vec<u64> =
        upstream.requests().iter().filter_map(|request| request.call_id.as_ref()?.parse().ok()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    assert!(upstream.requests().iter().all(|request| request.host.as_deref() == Some("users.internal")));
    Ok(())
}

#[test]
fn each_way_to_fail_is_counted_apart() -> Result<()> {
    let upstream = Upstream::plain()?;
    let at = |path: &str| format!("http://{}{path}", upstream.address());
    let one = |url: String| load::run(LoadConfig { timeout: Duration::from_millis(300), ..LoadConfig::get(url, 1, 1) });
    assert_eq!(one(at("/status/403"))?.status(403), 1);
    assert_eq!(one(at("/cut/100000"))?.broken, 1);
    assert_eq!(one(at("/hang"))?.broken, 1);

    let other = TestCa::new()?;
    let tls = Upstream::tls(&TestCa::new()?, &["users.internal"])?;
    let report = load::run(LoadConfig {
        connect_to: Some(tls.address()),
        roots_pem: Some(other.pem().to_owned()),
        ..LoadConfig::get("https://users.internal/", 1, 1)
    })?;
    assert_eq!(report.tls_failed, 1);

    let gone = upstream.address();
    drop(upstream);
    let report = load::run(LoadConfig::get(format!("http://{gone}/"), 2, 10))?;
    assert_eq!(report.refused(), 10, "{report:?}");
    Ok(())
}

#[test]
fn answers_hold_what_the_samples_say() -> Result<()> {
    let upstream = Upstream::plain()?;
    let length = |path: &str| -> Result<u64> {
        Ok(load::run(LoadConfig::get(format!("http://{}{path}", upstream.address()), 1, 1))?.body_bytes)
    };
    assert_eq!(length("/v1/users/7")?, samples::user_json(7).len() as u64);
    assert_eq!(length("/split/7")?, samples::user_json(7).len() as u64);
    assert_eq!(length("/bytes/100000")?, 100_000);
    assert_eq!(length("/chunked/3")?, 24);
    assert!(length("/stream/2?ms=1")? > 0);
    let sent = load::run(LoadConfig {
        method: "POST".parse()?,
        body: vec![b'x'; 100_000].into(),
        ..LoadConfig::get(format!("http://{}/mirror", upstream.address()), 1, 1)
    })?;
    assert_eq!(sent.body_bytes, 100_000);
    assert_eq!(upstream.wait_for(6, Duration::from_secs(5))?[5].body_len, 100_000);
    Ok(())
}
