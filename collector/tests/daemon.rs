//! The daemon over real sockets: what its probes and metrics say, from the start to the stop.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;

use callgate_collector::Issuing;
use callgate_collector::{Config, Daemon, Role, Tls};
use callgate_model::{AgentRecord, AgentState, Record, RecordKind};
use callgate_proto::encode_record;
use callgate_proto::v1::ingest_client::IngestClient;
use callgate_proto::v1::{Batch, Hello, SealedRecord, ShipRequest, ship_request};
use callgate_seal::{genesis, seal};
use tokio_stream::wrappers::ReceiverStream;

async fn ask(address: SocketAddr, path: &'static str) -> String {
    tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    })
    .await
    .unwrap()
}

fn config(dir: &Path) -> Config {
    Config {
        listen: vec!["127.0.0.1:0".into()],
        store_dir: dir.join("store"),
        metrics_listen: Some("127.0.0.1:0".parse().unwrap()),
        ..Config::default()
    }
}

fn record(stream: &str) -> SealedRecord {
    let kind =
        RecordKind::Agent(AgentRecord { state: AgentState::Started, version: "1".into(), detail: String::new() });
    let body = encode_record(&Record { time_us: 1_795_348_800_000_000, kind });
    let prev = genesis(stream);
    let hash = seal(&prev, 1, &body);
    SealedRecord { stream: stream.into(), seq: 1, prev: prev.to_vec(), hash: hash.to_vec(), body }
}

/// Ships and reads the answers to their end, which is an error where something was refused.
async fn ship(endpoint: &str, record: SealedRecord) -> Result<usize, tonic::Status> {
    let channel = tonic::transport::Endpoint::from_shared(endpoint.to_owned()).unwrap().connect().await.unwrap();
    let hello = Hello { stream: "n/agent".into(), node: "n".into(), version: "1".into() };
    let (requests, outgoing) = tokio::sync::mpsc::channel(2);
    for message in [ship_request::Message::Hello(hello), ship_request::Message::Batch(Batch { records: vec![record] })]
    {
        requests.send(ShipRequest { message: Some(message) }).await.unwrap();
    }
    drop(requests);
    let mut replies = IngestClient::new(channel).ship(ReceiverStream::new(outgoing)).await?.into_inner();
    let mut count = 0;
    while replies.message().await?.is_some() {
        count += 1;
    }
    Ok(count)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_and_refused_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&config(dir.path())).await.unwrap();
    let address = daemon.metrics_address().unwrap();
    assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    let endpoint = daemon.endpoints().next().unwrap().to_owned();
    assert_eq!(ship(&endpoint, record("n/agent")).await.unwrap(), 2, "welcome and acknowledgement");
    assert_eq!(ship(&endpoint, record("n/agent")).await.unwrap(), 2, "the same again is skipped");
    let mut forged = record("n/agent");
    (forged.seq, forged.hash[0]) = (2, forged.hash[0] ^ 1);
    ship(&endpoint, forged).await.unwrap_err();
    ship(&endpoint, record("m/agent")).await.unwrap_err();
    let metrics = ask(address, "/metrics").await;
    for line in [
        "callgate_collector_batches_total 2",
        "callgate_collector_records_total 1",
        "callgate_collector_duplicates_total 1",
        "callgate_collector_refused_total{why=\"chain\"} 1",
        "callgate_collector_refused_total{why=\"malformed\"} 1",
        "callgate_collector_streams_open 0",
        "callgate_collector_store_seconds_count 2",
    ] {
        assert!(metrics.lines().any(|found| found == line), "no `{line}` in:\n{metrics}");
    }
    let size = metrics.lines().find_map(|line| line.strip_prefix("callgate_collector_store_size_bytes "));
    assert!(size.unwrap().parse::<u64>().unwrap() > 4_096, "{size:?}");
    assert!(!metrics.contains("certificate"), "there is none");
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_is_seen_coming() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Issuing::open(&dir.path().join("tls")).unwrap();
    let role = Role::Collector(vec!["localhost".into()]);
    let files = ca.issue(&role, std::time::Duration::from_secs(3_600)).unwrap();
    let tls =
        Tls { cert: files.cert, key: files.key, client_ca: files.ca, clients: Vec::new(), connection_max_s: 1_800 };
    let config = Config { listen: vec!["https://127.0.0.1:0".into()], tls: Some(tls), ..config(dir.path()) };
    let daemon = Daemon::start(&config).await.unwrap();
    let metrics = ask(daemon.metrics_address().unwrap(), "/metrics").await;
    let left =
        metrics.lines().find_map(|line| line.strip_prefix("callgate_certificate_expiry_seconds{of=\"collector\"} "));
    assert!((3_000..=3_600).contains(&left.unwrap().parse::<i64>().unwrap()), "{left:?}");
    daemon.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_opened_is_no_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("store"), "no folder").unwrap();
    Daemon::start(&config(dir.path())).await.unwrap_err();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config { metrics_listen: Some(taken.local_addr().unwrap()), ..config(&dir.path().join("other")) };
    let error = format!("{:#}", Daemon::start(&config).await.unwrap_err());
    assert!(error.contains("metrics_listen"), "{error}");
}
