//! Records over TLS: who is let in, who is not, and certificates that change under a running stream.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use callgate_audit::{Recorder, SpoolConfig};
use callgate_collector::{
    Issuing, Listen, Metrics, PeerGuard, Remote, RemoteError, Role, Server, ServerTls, SessionSearch, Store, TlsFiles,
    serve, serve_tls,
};
use callgate_harness::eventually;
use callgate_model::{AgentRecord, AgentState, RecordKind, StreamId};
use callgate_uplink::{ClientTls, Endpoint, Route, Uplink};
use prometheus_client::registry::Registry;

/// Long enough for a slow machine; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const AGE: Duration = Duration::from_secs(3_600);

struct Bench {
    dir: tempfile::TempDir,
    ca: Issuing,
    collector: TlsFiles,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Issuing::open(&dir.path().join("tls")).unwrap();
        let collector = ca.issue(&localhost(), DAY * 30).unwrap();
        Self { dir, ca, collector }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn node(&self, name: &str) -> TlsFiles {
        self.ca.issue(&Role::Node(name.into()), DAY * 30).unwrap()
    }

    fn tls(&self) -> ServerTls {
        ServerTls::open(&self.collector, Vec::new(), AGE).unwrap()
    }

    async fn collector(&self, tls: &ServerTls) -> Server {
        let store = Store::open(&self.path("store")).unwrap();
        let guard = PeerGuard::new(|_| true);
        serve_tls(store, "https://127.0.0.1:0".parse().unwrap(), guard, Some(tls.clone()), Metrics::default())
            .await
            .unwrap()
    }

    /// A recorder of the stream `node/agent`.
    fn recorder(&self, name: &str) -> Recorder {
        Recorder::open(SpoolConfig::new(self.path(name), StreamId("node/agent".into()))).unwrap().0
    }

    /// Ships one record with the certificate in `files`; the error if it does not pass.
    async fn ship(&self, server: &Server, files: &TlsFiles) -> Result<(), String> {
        let spool = tempfile::tempdir_in(self.dir.path()).unwrap();
        let config = SpoolConfig::new(spool.path().join("spool"), StreamId("node/agent".into()));
        let recorder = Recorder::open(config).unwrap().0;
        let tls = ClientTls::open(files, AGE).unwrap();
        let uplink = start(&recorder, server.endpoint(), &tls, &mut Registry::default());
        let mut watch = uplink.watch();
        let done = watch.wait_for(|status| status.connected || status.error.is_some());
        let status = tokio::time::timeout(PATIENCE, done).await.unwrap().unwrap().clone();
        uplink.stop().await;
        if status.connected { Ok(()) } else { Err(status.error.unwrap()) }
    }

    fn check(&self, last_seq: u64) {
        let report = Store::open_to_read(&self.path("store")).unwrap().verify(None, None).unwrap();
        assert!(report.is_whole(), "{report:?}");
        assert_eq!((report.streams[0].records, report.streams[0].last.seq), (last_seq, last_seq));
    }
}

fn localhost() -> Role {
    Role::Collector(vec!["127.0.0.1".into(), "localhost".into()])
}

/// Refused before any name was looked at. The alert that says why may be lost: TLS 1.3 sends it after the handshake,
/// and the connection is closed with what the client has sent meanwhile unread.
fn refused_by_tls(error: &str) {
    let shown = ["alert", "closed", "reset", "Broken pipe", "broken pipe"];
    assert!(shown.iter().any(|word| error.contains(word)) && !error.contains("names"), "{error}");
}

fn start(recorder: &Recorder, endpoint: &str, tls: &ClientTls, registry: &mut Registry) -> Uplink {
    let route = Route::new(endpoint.parse::<Endpoint>().unwrap(), Some(tls.clone())).unwrap();
    Uplink::start(recorder.clone(), route, registry)
}

fn write(recorder: &Recorder, count: u64) {
    for _ in 0..count {
        let record = AgentRecord { state: AgentState::Alarm, version: "1".into(), detail: "a record".into() };
        recorder.write(RecordKind::Agent(record)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_node_with_a_valid_certificate_ships() {
    let bench = Bench::new();
    let server = bench.collector(&bench.tls()).await;
    bench.ship(&server, &bench.node("node")).await.unwrap();

    let error = bench.ship(&server, &bench.node("other")).await.unwrap_err();
    assert!(error.contains("names `node/other`, not the node `node`"), "{error}");
    let reader = bench.ca.issue(&Role::Reader("node".into()), DAY).unwrap();
    let error = bench.ship(&server, &reader).await.unwrap_err();
    assert!(error.contains("names `reader/node`, not the node `node`"), "{error}");

    let late = bench.ca.issue_until(&Role::Node("node".into()), SystemTime::now() - DAY).unwrap();
    let error = bench.ship(&server, &late).await.unwrap_err();
    refused_by_tls(&error);

    // The collector's own certificate is none for clients.
    let error = bench.ship(&server, &bench.collector).await.unwrap_err();
    refused_by_tls(&error);

    // Another CA, first for the client alone, then for both sides.
    let foreign = Issuing::open(&bench.path("foreign")).unwrap().issue(&Role::Node("node".into()), DAY).unwrap();
    let error = bench.ship(&server, &TlsFiles { ca: bench.collector.ca.clone(), ..foreign.clone() }).await.unwrap_err();
    refused_by_tls(&error);
    let error = bench.ship(&server, &foreign).await.unwrap_err();
    assert!(error.contains("invalid peer certificate"), "{error}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_configuration_does_not_list_does_not_count() {
    let bench = Bench::new();
    let tls = ServerTls::open(&bench.collector, vec!["node/shop-*".into()], AGE).unwrap();
    let server = bench.collector(&tls).await;
    let error = bench.ship(&server, &bench.node("node")).await.unwrap_err();
    assert!(error.contains("names nobody that is let in here"), "{error}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_and_missing_certificates_are_refused() {
    let bench = Bench::new();
    let server = bench.collector(&bench.tls()).await;
    let plain = server.endpoint().replace("https://", "http://");
    let asked = async {
        let mut remote = Remote::connect(&plain).await?;
        remote.sessions(&SessionSearch::default()).await.map(drop)
    };
    assert!(asked.await.is_err());
    assert!(matches!(Remote::connect(server.endpoint()).await, Err(RemoteError::NoCertificates(_))));

    // TLS with the right CA and no certificate: the handshake ends with an alert at the first read.
    let pem = std::fs::read_to_string(&bench.collector.ca).unwrap();
    let mut config = (*callgate_harness::ca::client(&pem).unwrap()).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let address = server.endpoint().strip_prefix("https://").unwrap().to_owned();
    let stream = tokio::net::TcpSocket::new_v4().unwrap().connect(address.parse().unwrap()).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await.unwrap();
    let error = tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
    server.stop().await;

    // TLS where plain text is spoken.
    let store = Store::open(&bench.path("plain")).unwrap();
    let server = serve(store.clone(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let secure = server.endpoint().replace("http://", "https://");
    let reader = bench.ca.issue(&Role::Reader("kim".into()), DAY).unwrap();
    let error = Remote::connect_with(&secure, Some(&reader)).await.unwrap_err();
    assert!(matches!(error, RemoteError::Unreachable { .. }), "{error}");
    server.stop().await;
    let listen: Listen = "https://127.0.0.1:0".parse().unwrap();
    let error = serve(store, listen).await.unwrap_err().to_string();
    assert!(error.contains("configure `[tls]`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_readers_read() {
    let bench = Bench::new();
    let server = bench.collector(&bench.tls()).await;
    let reader = bench.ca.issue(&Role::Reader("kim".into()), DAY).unwrap();
    let mut remote = Remote::connect_with(server.endpoint(), Some(&reader)).await.unwrap();
    remote.sessions(&SessionSearch::default()).await.unwrap();
    let mut remote = Remote::connect_with(server.endpoint(), Some(&bench.node("node"))).await.unwrap();
    let error = remote.sessions(&SessionSearch::default()).await.unwrap_err().to_string();
    assert!(error.contains("only a reader may read"), "{error}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_change_certificates_under_a_running_stream() {
    let bench = Bench::new();
    let server_tls = bench.tls();
    let server = bench.collector(&server_tls).await;
    let files = bench.node("node");
    // Short, so that new connections use the new certificates while records flow.
    let tls = ClientTls::open(&files, Duration::from_millis(200)).unwrap();
    let recorder = bench.recorder("spool");
    let mut registry = Registry::default();
    let uplink = start(&recorder, server.endpoint(), &tls, &mut registry);
    write(&recorder, 500);
    assert!(uplink.drain(PATIENCE).await, "{:?}", uplink.status());
    let mut written = 500;
    let connections = |registry: &Registry| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("callgate_uplink_connections_total "));
        (line.unwrap().parse::<u32>().unwrap(), text)
    };

    // A second CA beside the first, then certificates of it on both sides, then the first is taken away.
    let next = Issuing::open(&bench.path("next")).unwrap();
    let old_ca = std::fs::read_to_string(&files.ca).unwrap();
    let new_ca = std::fs::read_to_string(bench.path("next/ca.pem")).unwrap();
    let mut move_to = |ca: &str, certificates: bool| {
        let taken = (tls.condition().reloads, server_tls.condition().reloads);
        if certificates {
            for (role, at) in [(localhost(), &bench.collector), (Role::Node("node".into()), &files)] {
                let made = next.issue(&role, DAY * 20).unwrap();
                std::fs::rename(made.key, &at.key).unwrap();
                std::fs::rename(made.cert, &at.cert).unwrap();
            }
        }
        let beside = bench.path("ca.new");
        std::fs::write(&beside, ca).unwrap();
        std::fs::rename(beside, &files.ca).unwrap();
        let mut both_at = None;
        let settled = eventually("both took the files, and connected anew", PATIENCE, || {
            write(&recorder, 10);
            written += 10;
            let both = tls.condition().reloads > taken.0 && server_tls.condition().reloads > taken.1;
            // One more connection that began after both had the new files.
            let now = connections(&registry).0;
            let since = both.then(|| *both_at.get_or_insert(now));
            since.filter(|since| now > since + 1).map(drop)
        });
        settled.unwrap();
    };
    move_to(&format!("{old_ca}{new_ca}"), false);
    move_to(&format!("{old_ca}{new_ca}"), true);
    move_to(&new_ca, false);
    assert!(tls.condition().reloads >= 3 && server_tls.condition().reloads >= 3);
    assert!(uplink.drain(PATIENCE).await, "{:?}", uplink.status());
    let (_, text) = connections(&registry);
    for of in ["agent", "collector"] {
        let line = format!("callgate_certificate_expiry_seconds{{of=\"{of}\"}} ");
        let left: i64 = text.lines().find_map(|at| at.strip_prefix(&line)).expect(&text).parse().unwrap();
        assert!((86_400 * 19..=86_400 * 20).contains(&left), "{left}");
    }
    uplink.stop().await;
    // The first CA is gone: a certificate of it is refused at the next connection.
    let error = bench.ship(&server, &bench.node("node")).await.unwrap_err();
    refused_by_tls(&error);
    server.stop().await;
    bench.check(written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_written_key_leaves_the_last_good_pair_and_shows() {
    let bench = Bench::new();
    let files = bench.node("node");
    let server_tls = bench.tls();
    let server = bench.collector(&server_tls).await;
    let whole = std::fs::read_to_string(&bench.collector.key).unwrap();
    std::fs::write(&bench.collector.key, &whole[..whole.len() / 2]).unwrap();
    let fault = eventually("the fault", PATIENCE, || server_tls.condition().fault).unwrap();
    assert!(fault.contains("private key") && fault.contains("collector.key"), "{fault}");
    assert!(!whole.lines().any(|line| fault.contains(line)), "{fault}");
    bench.ship(&server, &files).await.unwrap();
    // Another certificate's key is no better.
    std::fs::copy(&files.key, &bench.collector.key).unwrap();
    let mismatch = || server_tls.condition().fault.filter(|fault| fault.contains("is not the one of the certificate"));
    eventually("the mismatch", PATIENCE, mismatch).unwrap();
    bench.ship(&server, &files).await.unwrap();
    std::fs::write(&bench.collector.key, &whole).unwrap();
    eventually("no fault", PATIENCE, || server_tls.condition().fault.is_none().then_some(())).unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_collector_ends_connections_that_are_too_old() {
    let bench = Bench::new();
    let tls = ServerTls::open(&bench.collector, Vec::new(), Duration::from_millis(100)).unwrap();
    let server = bench.collector(&tls).await;
    let client = ClientTls::open(&bench.node("node"), AGE).unwrap();
    let recorder = bench.recorder("spool");
    let uplink = start(&recorder, server.endpoint(), &client, &mut Registry::default());
    write(&recorder, 100);
    assert!(uplink.drain(PATIENCE).await, "{:?}", uplink.status());
    let mut watch = uplink.watch();
    let told = |status: &callgate_uplink::UplinkStatus| {
        status.error.as_ref().is_some_and(|error| error.contains("as old as one may be"))
    };
    tokio::time::timeout(PATIENCE, watch.wait_for(told)).await.unwrap().unwrap();
    write(&recorder, 100);
    assert!(uplink.drain(PATIENCE).await, "{:?}", uplink.status());
    uplink.stop().await;
    server.stop().await;
    bench.check(200);
}
