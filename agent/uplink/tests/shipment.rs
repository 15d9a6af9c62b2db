//! Real spools, a real collector, a real connection between them: nothing is lost and nothing comes twice.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use callgate_audit::{Recorder, SpoolConfig};
use callgate_collector::{Listen, Server, Store, serve};
use callgate_model::{AgentRecord, AgentState, RecordKind, StreamId};
use callgate_uplink::{Endpoint, Route, Uplink, UplinkState};
use prometheus_client::registry::Registry;

/// Tells the test binary, run again as a child, to be a collector: store and socket.
const CHILD_STORE: &str = "CALLGATE_TEST_STORE";
const CHILD_SOCKET: &str = "CALLGATE_TEST_SOCKET";
/// Long enough for a slow machine; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn recorder(&self, name: &str) -> Recorder {
        let mut config = SpoolConfig::new(self.path(name), stream());
        config.segment_bytes = 64 << 10;
        Recorder::open(config).unwrap().0
    }

    async fn collector(&self, store: &str) -> Server {
        let store = Store::open(&self.path(store)).unwrap();
        serve(store, Listen::Unix(self.path("socket"))).await.unwrap()
    }

    fn uplink(&self, recorder: &Recorder) -> Uplink {
        let endpoint: Endpoint = format!("unix:{}", self.path("socket").display()).parse().unwrap();
        Uplink::start(recorder.clone(), plain(endpoint), &mut Registry::default())
    }

    /// Every chain is whole and ends at `last_seq`, each record stored once.
    fn check(&self, store: &str, last_seq: u64) {
        let report = Store::open_to_read(&self.path(store)).unwrap().verify(None, None).unwrap();
        assert!(report.is_whole(), "{report:?}");
        assert_eq!(report.streams.len(), 1);
        assert_eq!((report.streams[0].records, report.streams[0].last.seq), (last_seq, last_seq));
    }
}

fn plain(endpoint: Endpoint) -> Route {
    Route::new(endpoint, None).unwrap()
}

fn stream() -> StreamId {
    StreamId("node/agent".into())
}

fn write(recorder: &Recorder, from: u64, count: u64) {
    for number in from..from + count {
        let detail = format!("record {number} of a test, with some text as records have");
        let record = AgentRecord { state: AgentState::Alarm, version: "1".into(), detail };
        recorder.write(RecordKind::Agent(record)).unwrap();
    }
}

async fn until(uplink: &Uplink, state: UplinkState) -> String {
    let mut watch = uplink.watch();
    let status = tokio::time::timeout(PATIENCE, watch.wait_for(|status| status.state == state)).await.unwrap().unwrap();
    status.error.clone().unwrap_or_default()
}

/// The commit thread frees segments soon after they are acknowledged, and tells nobody.
async fn until_freed(recorder: &Recorder) {
    while recorder.metrics().segments_freed.get() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ships_everything_and_frees_the_spool() {
    let bench = Bench::new();
    let recorder = bench.recorder("spool");
    let server = bench.collector("store").await;
    let mut registry = Registry::default();
    let endpoint: Endpoint = server.endpoint().parse().unwrap();
    let uplink = Uplink::start(recorder.clone(), plain(endpoint), &mut registry);
    write(&recorder, 0, 5_000);
    assert!(uplink.drain(PATIENCE).await);
    let status = uplink.status();
    assert_eq!((status.state, status.acked_seq, status.lag, status.error), (UplinkState::Connected, 5_000, 0, None));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in ["callgate_uplink_connected 1", "callgate_uplink_acked_seq 5000", "callgate_uplink_records_total 5000"]
    {
        assert!(text.contains(line), "{line} in {text}");
    }
    until_freed(&recorder).await;
    uplink.stop().await;
    server.stop().await;
    bench.check("store", 5_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_over_tcp_and_after_restarts_of_either_side() {
    let bench = Bench::new();
    let recorder = bench.recorder("spool");
    let uplink = bench.uplink(&recorder);
    write(&recorder, 0, 300);
    assert!(!uplink.drain(Duration::from_millis(200)).await);
    let error = uplink.status().error.unwrap();
    assert!(error.contains("no collector there"), "{error}");
    let server = bench.collector("store").await;
    assert!(uplink.drain(PATIENCE).await);
    server.stop().await;
    write(&recorder, 300, 300);
    until(&uplink, UplinkState::Connecting).await;
    // The agent restarts, too.
    uplink.stop().await;
    drop(recorder);
    let recorder = bench.recorder("spool");
    write(&recorder, 600, 300);
    let store = Store::open(&bench.path("store")).unwrap();
    let server = serve(store, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let uplink = Uplink::start(recorder.clone(), plain(server.endpoint().parse().unwrap()), &mut Registry::default());
    assert!(uplink.drain(PATIENCE).await);
    drop(uplink);
    server.stop().await;
    bench.check("store", 900);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_was_replaced_is_said_to_be_broken() {
    let bench = Bench::new();
    let server = bench.collector("store").await;
    let recorder = bench.recorder("spool");
    write(&recorder, 0, 10);
    let uplink = bench.uplink(&recorder);
    assert!(uplink.drain(PATIENCE).await);
    uplink.stop().await;

    let shorter = bench.recorder("shorter");
    write(&shorter, 0, 5);
    shorter.sync().unwrap();
    let uplink = bench.uplink(&shorter);
    let error = until(&uplink, UplinkState::Broken).await;
    assert!(error.contains("the collector has record 10, the spool ends at 5"), "{error}");
    assert!(!uplink.drain(PATIENCE).await);
    uplink.stop().await;

    let longer = bench.recorder("longer");
    write(&longer, 100, 20);
    longer.sync().unwrap();
    let uplink = bench.uplink(&longer);
    let error = until(&uplink, UplinkState::Broken).await;
    assert!(error.contains("record 10 at the collector is not the one in the spool"), "{error}");
    drop(uplink);
    server.stop().await;
    bench.check("store", 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_lost_its_store_gets_what_is_left_or_an_alarm() {
    let bench = Bench::new();
    let recorder = bench.recorder("spool");
    let server = bench.collector("first").await;
    let uplink = bench.uplink(&recorder);
    write(&recorder, 0, 50);
    assert!(uplink.drain(PATIENCE).await);
    server.stop().await;
    // Fifty records fit into one segment, which is not freed while it is written to.
    let server = bench.collector("second").await;
    write(&recorder, 50, 50);
    assert!(uplink.drain(PATIENCE).await);
    server.stop().await;
    bench.check("second", 100);

    let server = bench.collector("second").await;
    write(&recorder, 100, 3_000);
    assert!(uplink.drain(PATIENCE).await);
    until_freed(&recorder).await;
    server.stop().await;
    let server = bench.collector("third").await;
    let error = until(&uplink, UplinkState::Broken).await;
    assert!(error.contains("records 1 to ") && error.contains("are lost"), "{error}");
    drop(uplink);
    server.stop().await;
}

/// The collector is killed in the middle, again and again, while records are written.
#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_collector_leaves_no_gap_and_no_duplicate() {
    let bench = Bench::new();
    let total = callgate_harness::count("shipped_records");
    let recorder = bench.recorder("spool");
    let endpoint: Endpoint = format!("unix:{}", bench.path("socket").display()).parse().unwrap();
    let mut registry = Registry::default();
    let uplink = Uplink::start(recorder.clone(), plain(endpoint), &mut registry);
    let writer = {
        let recorder = recorder.clone();
        std::thread::spawn(move || {
            let step = (total / 50).max(1);
            for from in (0..total).step_by(usize::try_from(step).unwrap()) {
                write(&recorder, from, step.min(total - from));
                // Spreads the writing over the kills; the amount is what counts, not the speed.
                std::thread::sleep(Duration::from_millis(25));
            }
        })
    };
    let mut kills = 0;
    let mut pause = 60;
    loop {
        let mut child = collector_process(&bench.path("killed"), &bench.path("socket"));
        // Uneven, so that the kills fall into connecting, storing and idling alike.
        pause = (pause * 7 + 31) % 311;
        tokio::time::sleep(Duration::from_millis(40 + pause)).await;
        child.kill();
        kills += 1;
        if writer.is_finished() && kills >= 8 {
            break;
        }
    }
    writer.join().unwrap();
    let mut child = collector_process(&bench.path("killed"), &bench.path("socket"));
    assert!(uplink.drain(PATIENCE * 5).await, "{:?}", uplink.status());
    child.kill();
    bench.check("killed", total);
    assert_eq!(uplink.status().acked_seq, total);
    // The kills hit shipments, not only a collector that was still starting.
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let connections = text.lines().find_map(|line| line.strip_prefix("callgate_uplink_connections_total "));
    // How often it was killed in the middle depends on the machine; once at least, or nothing was tested.
    assert!(connections.unwrap().parse::<u32>().unwrap() > 1, "{text}");
}

/// As several `callgate run` at once do: each has a collector of its own over one store.
#[tokio::test(flavor = "multi_thread")]
async fn processes_share_one_store() {
    let bench = Bench::new();
    let mut all = Vec::new();
    for name in ["run-1", "run-2", "run-3"] {
        let (socket, stream) = (bench.path(name).with_extension("sock"), StreamId(format!("node/{name}")));
        let recorder = Recorder::open(SpoolConfig::new(bench.path(name), stream)).unwrap().0;
        let endpoint: Endpoint = format!("unix:{}", socket.display()).parse().unwrap();
        let uplink = Uplink::start(recorder.clone(), plain(endpoint), &mut Registry::default());
        all.push((collector_process(&bench.path("shared"), &socket), recorder, uplink));
    }
    for from in (0..2_000).step_by(100) {
        all.iter().for_each(|(_, recorder, _)| write(recorder, from, 100));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (_, _, uplink) in &all {
        assert!(uplink.drain(PATIENCE).await, "{:?}", uplink.status());
    }
    let report = Store::open_to_read(&bench.path("shared")).unwrap().verify(None, None).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.streams.iter().map(|stream| stream.records).collect::<Vec<_>>(), [2_000; 3]);
}

/// A collector in a process of its own; killed when dropped, so that a failing test leaves none.
struct Collector(Child);

impl Collector {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn collector_process(store: &Path, socket: &Path) -> Collector {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_is_a_collector", "--nocapture"])
        .env(CHILD_STORE, store)
        .env(CHILD_SOCKET, socket)
        .stdout(Stdio::null())
        .spawn();
    Collector(child.unwrap())
}

/// Does nothing unless it is the child of the test above.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_is_a_collector() {
    let (Some(store), Some(socket)) = (std::env::var_os(CHILD_STORE), std::env::var_os(CHILD_SOCKET)) else { return };
    let store = Store::open(Path::new(&store)).unwrap();
    let mut server = serve(store, Listen::Unix(socket.into())).await.unwrap();
    server.failed().await.unwrap();
}
