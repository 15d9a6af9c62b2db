//! Test: what deploy/observe asks Prometheus for is what agent and collector count.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::time::Duration;

use callgate_audit::{Recorder, SpoolConfig};
use callgate_collector::{Daemon, Issuing, Role, Tls};
use callgate_dns::{Resolver, Settings, Upstreams};
use callgate_model::StreamId;
use callgate_proxy::Metrics;
use callgate_uplink::Uplink;
use prometheus_client::registry::Registry;
use serde_json::Value;

use super::attesting::LinksMissing;
use super::past::WentPast;
use super::warding;
use crate::alarms::Alarms;
use crate::config::Config;
use crate::traces::Exporter;

const DASHBOARD: &str = include_str!("../../../../deploy/observe/dashboard.json");
const ALERTS: &str = include_str!("../../../../deploy/observe/alerts.yaml");

/// Counted, and shown neither on the dashboard nor by an alert: each is for somebody who looks into one thing.
const NOT_SHOWN: &[&str] = &[
    "callgate_audit_commits",
    "callgate_audit_open_calls",
    "callgate_audit_segments_freed",
    "callgate_audit_written_bytes",
    "callgate_uplink_acked_seq",
    "callgate_uplink_connections",
    "callgate_uplink_sent_bytes",
];

/// Metrics with labels that nothing has happened to yet: an exposition leaves them out. The name as it is registered,
/// the whole name, the kind.
const FAMILIES: &[(&str, &str, &str)] = &[
    ("callgate_calls", "callgate_calls", "counter"),
    ("callgate_call_seconds", "callgate_call_seconds", "histogram"),
    ("callgate_connections", "callgate_connections", "counter"),
    ("callgate_connections_uninspected", "callgate_connections_uninspected", "counter"),
    ("callgate_dns_questions", "callgate_dns_questions", "counter"),
    ("refused", "callgate_collector_refused", "counter"),
];

/// What somebody must be told of.
const MUST_ALERT: &[&str] = &[
    "callgate_alarms",
    "callgate_audit_refused_total",
    "callgate_audit_spool_failed",
    "callgate_certificate_expiry_seconds",
    "callgate_collector_refused_total",
    "callgate_links_missing_total",
    "callgate_past_the_gate_connections_total",
    "callgate_uplink_broken",
    "callgate_uplink_connected",
];

/// Everything that the agent registers, each part by its own doing; and the collector, what of its own has labels.
fn registered() -> String {
    let dir = tempfile::tempdir().unwrap();
    let config = "collector = \"unix:/nonexistent\"\n[traces]\nendpoint = \"http://127.0.0.1:1\"\n";
    let config = Config::parse(config).unwrap();
    let mut registry = Registry::default();
    let spool = SpoolConfig::new(dir.path().join("spool"), StreamId("node/agent".into()));
    let (recorder, _) = Recorder::open(spool).unwrap();
    recorder.register(&mut registry);
    let settings = Settings { upstreams: Upstreams::Fixed(Vec::new()), ..Settings::default() };
    Resolver::new(settings).unwrap().register(&mut registry);
    let _metrics = Metrics::register(&mut registry);
    let _alarms = Alarms::register(&mut registry);
    let (_missing, _past) = (LinksMissing::register(&mut registry), WentPast::register(&mut registry));
    warding::register(&mut registry, &Err(anyhow::anyhow!("no kernel is asked")));
    let _uplink = Uplink::start(recorder, config.route().unwrap().unwrap(), &mut registry);
    let _exporter = Exporter::start(&config, config.traces.as_ref().unwrap(), &mut registry).unwrap();
    callgate_collector::Metrics::default().register(&mut registry);
    let registered = format!("{registry:?}");
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for (name, whole, kind) in FAMILIES {
        assert!(registered.contains(&format!("name: \"{name}\"")), "nobody registers `{name}`");
        text += &format!("# TYPE {whole} {kind}\n");
    }
    text
}

/// What a collector with TLS serves.
async fn collectors() -> String {
    let dir = tempfile::tempdir().unwrap();
    let ca = Issuing::open(&dir.path().join("tls")).unwrap();
    let files = ca.issue(&Role::Collector(vec!["localhost".into()]), Duration::from_secs(3_600)).unwrap();
    let (clients, connection_max_s) = (Vec::new(), 60);
    let config = callgate_collector::Config {
        listen: vec!["https://127.0.0.1:0".into()],
        store_dir: dir.path().join("store"),
        metrics_listen: Some("127.0.0.1:0".parse().unwrap()),
        tls: Some(Tls { cert: files.cert, key: files.key, client_ca: files.ca, clients, connection_max_s }),
        ..Default::default()
    };
    let daemon = Daemon::start(&config).await.unwrap();
    let address = daemon.metrics_address().unwrap();
    let asked = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let text = asked.await.unwrap();
    daemon.stop().await.unwrap();
    text
}

/// Name and kind of each metric in an exposition.
fn metrics(text: &str) -> BTreeSet<(String, String)> {
    let pair = |line: &str| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some((name.to_owned(), kind.to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

/// The series by which a query asks for a metric.
fn series(name: &str, kind: &str) -> Vec<String> {
    match kind {
        "counter" => vec![format!("{name}_total")],
        "histogram" => ["bucket", "count", "sum"].map(|suffix| format!("{name}_{suffix}")).to_vec(),
        _ => vec![name.to_owned()],
    }
}

/// The metrics that a query asks for.
fn asked(query: &str) -> impl Iterator<Item = &str> {
    query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("callgate_"))
}

/// Every text under `key`, at any depth.
fn texts<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(key).and_then(Value::as_str));
            fields.values().for_each(|field| texts(field, key, found));
        }
        Value::Array(values) => values.iter().for_each(|one| texts(one, key, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_and_alerts_ask_for_what_there_is() {
    let counted: BTreeSet<_> = metrics(&registered()).into_iter().chain(metrics(&collectors().await)).collect();
    let there: BTreeSet<String> = counted.iter().flat_map(|(name, kind)| series(name, kind)).collect();
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let alerts: Value = serde_saphyr::from_str(ALERTS).unwrap();
    let (mut panels, mut rules) = (Vec::new(), Vec::new());
    texts(&dashboard, "expr", &mut panels);
    texts(&alerts, "expr", &mut rules);
    assert!(panels.len() > 20 && rules.len() > 10, "{} panels, {} rules", panels.len(), rules.len());
    for query in panels.iter().chain(&rules) {
        assert_ne!(asked(query).count(), 0, "asks for nothing of ours: {query}");
        for name in asked(query) {
            assert!(there.contains(name), "nobody counts `{name}`: {query}");
        }
        let (open, close) = (query.matches('(').count(), query.matches(')').count());
        assert_eq!(open, close, "{query}");
    }
    let shown: BTreeSet<&str> = panels.iter().chain(&rules).flat_map(|query| asked(query)).collect();
    for (name, kind) in &counted {
        let is_shown = series(name, kind).iter().any(|series| shown.contains(series.as_str()));
        assert_ne!(is_shown, NOT_SHOWN.contains(&name.as_str()), "`{name}`: on the dashboard, or in NOT_SHOWN");
    }
    let alerted: BTreeSet<&str> = rules.iter().flat_map(|query| asked(query)).collect();
    for name in MUST_ALERT {
        assert!(alerted.contains(name), "no alert on `{name}`");
    }
    for rule in alerts["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        assert!(rule["alert"].is_string() && rule["annotations"]["summary"].is_string(), "{rule}");
        assert!(["critical", "warning", "info"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{rule}");
    }
}
