//! The load generator against the real upstream: what it counts, and from when.

use anyhow::Result;
use bytes::Bytes;

use super::{LoadConfig, LoadReport, Outcome, Protocol, run};
use crate::{TestCa, Upstream, UpstreamConfig, samples};

const HOST: &str = "users.internal";

fn bare() -> Result<(TestCa, Upstream)> {
    let ca = TestCa::new()?;
    let config = UpstreamConfig { tls: Some(ca.server(&[HOST])?), bare: true, ..UpstreamConfig::at([127, 0, 0, 1]) };
    Ok((ca, Upstream::start(config)?))
}

fn load(ca: &TestCa, upstream: &Upstream, change: impl FnOnce(&mut LoadConfig), path: &str) -> Result<LoadReport> {
    let url = format!("https://{HOST}:{}{path}", upstream.address().port());
    let mut config = LoadConfig {
        connect_to: Some(upstream.address()),
        roots_pem: Some(ca.pem().to_owned()),
        ..LoadConfig::get(url, 2, 100)
    };
    change(&mut config);
    run(config)
}

#[test]
fn streams_share_their_connection() -> Result<()> {
    let (ca, upstream) = bare()?;
    let h2 = |config: &mut LoadConfig| (config.protocol, config.streams) = (Protocol::Http2, 10);
    let report = load(&ca, &upstream, h2, "/v1/kib")?;
    assert_eq!((report.calls, report.status(200), report.connected), (100, 100, 2));
    assert_eq!(report.body_bytes, 100 * samples::kib_json().len() as u64);
    assert_eq!((upstream.connections(), upstream.request_count()), (2, 0));
    assert_eq!(report.latencies.count(), 100);
    let fresh = |config: &mut LoadConfig| (config.protocol, config.fresh) = (Protocol::Http2, true);
    assert_eq!(load(&ca, &upstream, fresh, "/v1/kib")?.connected, 100);
    Ok(())
}

#[test]
fn unary_calls_are_judged_by_their_status_of_grpc() -> Result<()> {
    let (ca, upstream) = bare()?;
    let unary = |config: &mut LoadConfig| {
        (config.protocol, config.streams, config.body) = (Protocol::Grpc, 5, Bytes::from_static(b"hello"));
    };
    let report = load(&ca, &upstream, unary, "/bench.Echo/Unary")?;
    assert_eq!((report.status(200), report.grpc_failed.len()), (100, 0));
    // The message comes back with its prefix.
    assert_eq!(report.body_bytes, 100 * 10);
    // An answer without a status of gRPC is none, even with 200.
    let logging = Upstream::tls(&ca, &[HOST])?;
    assert_eq!(load(&ca, &logging, unary, "/echo")?.grpc_failed.get(&2), Some(&100));
    Ok(())
}

#[test]
fn at_a_fixed_rate_waiting_counts_from_when_a_call_was_due() -> Result<()> {
    let upstream = Upstream::plain()?;
    let url = format!("http://{}/slow/1?ms=20", upstream.address());
    // Due within 10 ms, but one connection takes 20 ms for each of the ten.
    let report = run(LoadConfig { rate: Some(1000.0), ..LoadConfig::get(&url, 1, 10) })?;
    assert_eq!(report.status(200), 10);
    assert!(report.max_us >= 10 * 20_000 - 10_000, "{report:?}");
    assert!(report.p50_us >= 4 * 20_000 - 10_000, "{report:?}");
    // The closed loop does not see it.
    assert!(run(LoadConfig::get(&url, 1, 10))?.min_us < report.max_us);
    Ok(())
}

#[test]
fn a_fixed_rate_is_kept() -> Result<()> {
    let upstream = Upstream::plain()?;
    let url = format!("http://{}/v1/health", upstream.address());
    let report = run(LoadConfig { rate: Some(200.0), ..LoadConfig::get(url, 4, 40) })?;
    // The last of 40 is due after 39 intervals of 5 ms, however fast the answers are.
    assert!(report.seconds >= 0.195, "{report:?}");
    assert_eq!(report.outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Status(200)).count(), 40);
    Ok(())
}
