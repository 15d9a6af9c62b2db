//! Clients that do not take our certificate: observed, their next try passes unopened; enforced, none ever does.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use callgate_harness::{TestCa, Upstream, UpstreamConfig, samples};
use callgate_model::{CgroupId, ConnectionRecord, Mode, Outcome, Reason, Record, RecordKind, Uninspected};
use callgate_proxy::Unopened;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned, SupportedProtocolVersion};

use crate::gate::{CGROUP, FlowGate, GateConfig};

const POLICIES: &str = r#"
@id("read-users")
@mask("pii")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"users.internal");
"#;

const NAMES: [&str; 2] = ["users.internal", "other.internal"];
const HTTP1: &[u8] = b"http/1.1";
const WAIT: Duration = Duration::from_secs(10);

/// An upstream, its authority, and a gate before it.
struct Site {
    upstream: Upstream,
    ca: TestCa,
    gate: FlowGate,
}

impl Site {
    fn new(mode: Mode) -> Result<Self> {
        Self::with(mode, Unopened::HOLDS_FOR, &[HTTP1])
    }

    fn with(mode: Mode, unopened_for: Duration, protocols: &[&[u8]]) -> Result<Self> {
        let ca = TestCa::new()?;
        let mut tls = ServerConfig::clone(&*ca.server(&NAMES)?);
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let upstream =
            Upstream::start(UpstreamConfig { tls: Some(Arc::new(tls)), ..UpstreamConfig::at([127, 0, 0, 1]) })?;
        let config = GateConfig {
            names: &NAMES,
            upstream_ca: Some(&ca),
            mode,
            unopened_for,
            ..GateConfig::new(POLICIES, upstream.address())
        };
        let gate = FlowGate::start(&config)?;
        Ok(Self { upstream, ca, gate })
    }

    /// One call by a client that trusts the upstream's authority alone: its answer proves whose certificate it saw.
    fn pinned(&self, version: &'static SupportedProtocolVersion, name: &str) -> Result<String> {
        call(&self.gate, &trusting(self.ca.pem(), version)?, name)
    }

    /// One call by a client that trusts ours alone.
    fn trusting(&self, version: &'static SupportedProtocolVersion, name: &str) -> Result<String> {
        call(&self.gate, &trusting(&self.gate.ca_pem, version)?, name)
    }

    fn connections(&self, many: usize) -> Result<Vec<ConnectionRecord>> {
        let what = format!("{many} connections on record");
        self.gate.records(&what, |records| connections(records).len() >= many).map(|all| connections(&all))
    }
}

fn connections(records: &[Record]) -> Vec<ConnectionRecord> {
    let of = |record: &Record| match &record.kind {
        RecordKind::Connection(connection) => Some(ConnectionRecord::clone(connection)),
        _ => None,
    };
    records.iter().filter_map(of).collect()
}

fn trusting(pem: &str, version: &'static SupportedProtocolVersion) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(root?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn connect(gate: &FlowGate) -> Result<TcpStream> {
    let stream = TcpStream::connect(gate.address)?;
    stream.set_read_timeout(Some(WAIT))?;
    Ok(stream)
}

fn client(config: &Arc<ClientConfig>, name: &str) -> Result<ClientConnection> {
    Ok(ClientConnection::new(Arc::clone(config), ServerName::try_from(name.to_owned())?)?)
}

fn call(gate: &FlowGate, config: &Arc<ClientConfig>, name: &str) -> Result<String> {
    let mut stream = StreamOwned::new(client(config, name)?, connect(gate)?);
    let request = format!("GET /v1/users/7 HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // Without `close_notify`; the answer has a length.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error.into()),
        _ => Ok(String::from_utf8(answer)?),
    }
}

/// `answer` is none, for want of trust.
fn distrusts(answer: Result<String>) -> Result<()> {
    let error = answer.err().context("the certificate was taken")?.to_string();
    ensure!(error.contains("UnknownIssuer"), "{error}");
    Ok(())
}

fn passed(answer: &str) -> Result<()> {
    ensure!(answer.starts_with("HTTP/1.1 200") && answer.contains(&samples::email(7)), "not as sent: {answer}");
    Ok(())
}

#[test]
fn observed_the_next_try_passes_unopened_and_the_record_says_why() -> Result<()> {
    for version in [&TLS12, &TLS13] {
        let site = Site::new(Mode::Observe)?;
        distrusts(site.pinned(version, NAMES[0]))?;
        // The client is told of its failure before the gate reads the alert.
        let first = &site.connections(1)?[0];
        assert_eq!((first.outcome, first.reason), (Outcome::Refused, Reason::ClientTls));
        assert_eq!((first.inspected, first.uninspected), (false, None));
        for tries in 1..3 {
            passed(&site.pinned(version, NAMES[0])?)?;
            let last = site.connections(1 + tries)?.pop().context("a record")?;
            assert_eq!((last.outcome, last.reason), (Outcome::Complete, Reason::ClientTls));
            assert_eq!((last.inspected, last.uninspected), (false, Some(Uninspected::CertificateRefused)));
            let service = last.service.context("a service")?;
            assert_eq!((service.host(), service.port()), (NAMES[0], site.upstream.address().port()));
            // The connect decision stands beside it as for any other.
            assert_eq!(last.decision.context("a decision")?.policies, ["read-users"]);
        }
        let metrics = site.gate.metrics()?;
        let count = r#"callgate_connections_uninspected_total{why="certificate_refused"} 2"#;
        assert!(metrics.contains(count), "{metrics}");
    }
    Ok(())
}

#[test]
fn enforced_it_never_passes() -> Result<()> {
    let site = Site::new(Mode::Enforce)?;
    for tries in 0..6 {
        let version = if tries % 2 == 0 { &TLS12 } else { &TLS13 };
        distrusts(site.pinned(version, NAMES[0]))?;
        let last = site.connections(tries + 1)?.pop().context("a record")?;
        assert_eq!((last.outcome, last.uninspected), (Outcome::Refused, None));
    }
    assert_eq!(site.upstream.request_count(), 0);
    // Nothing was noted either, which a later observation would find.
    site.gate.comes_from(CGROUP, "run/flow", Mode::Observe);
    distrusts(site.pinned(&TLS13, NAMES[0]))
}

#[test]
fn who_is_enforced_again_is_opened_at_once() -> Result<()> {
    let site = Site::new(Mode::Observe)?;
    distrusts(site.pinned(&TLS13, NAMES[0]))?;
    site.connections(1)?;
    passed(&site.pinned(&TLS13, NAMES[0])?)?;
    site.gate.comes_from(CGROUP, "run/flow", Mode::Enforce);
    distrusts(site.pinned(&TLS13, NAMES[0]))?;
    let answer = site.trusting(&TLS13, NAMES[0])?;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains(&samples::email(7)), "{answer}");
    Ok(())
}

#[test]
fn other_services_and_other_workloads_are_still_opened() -> Result<()> {
    let site = Site::new(Mode::Observe)?;
    distrusts(site.pinned(&TLS13, NAMES[0]))?;
    site.connections(1)?;
    passed(&site.pinned(&TLS13, NAMES[0])?)?;
    site.trusting(&TLS13, NAMES[1])?;
    let other = site.connections(3)?.pop().context("a record")?;
    assert_eq!((other.inspected, other.uninspected, other.calls), (true, None, 1));
    site.gate.comes_from(CgroupId(8), "run/other", Mode::Observe);
    site.trusting(&TLS13, NAMES[0])?;
    let other = site.connections(4)?.pop().context("a record")?;
    assert_eq!((other.inspected, other.calls, other.workload.as_str()), (true, 1, "run/other"));
    Ok(())
}

#[test]
fn what_has_expired_is_opened_again() -> Result<()> {
    let site = Site::with(Mode::Observe, Duration::from_secs(3), &[HTTP1])?;
    distrusts(site.pinned(&TLS13, NAMES[0]))?;
    site.connections(1)?;
    passed(&site.pinned(&TLS13, NAMES[0])?)?;
    callgate_harness::eventually("TLS is opened again", WAIT, || {
        let answer = site.trusting(&TLS13, NAMES[0]).ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(())
    })?;
    distrusts(site.pinned(&TLS13, NAMES[0]))
}

/// How a client leaves that says nothing of the certificate.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// As soon as it has the certificate.
    Within,
    /// After the handshake, in order.
    Notifying,
    /// After the handshake, without a word.
    Silently,
}

fn leave(site: &Site, version: &'static SupportedProtocolVersion, how: Leaves) -> Result<()> {
    let mut stream = connect(&site.gate)?;
    let mut tls = client(&trusting(&site.gate.ca_pem, version)?, NAMES[0])?;
    if matches!(how, Leaves::Within) {
        tls.write_tls(&mut stream)?;
        // A byte of the gate's answer is there, so its certificate was on its way.
        stream.read_exact(&mut [0])?;
        return Ok(());
    }
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    if matches!(how, Leaves::Notifying) {
        tls.send_close_notify();
    }
    while tls.wants_write() {
        tls.write_tls(&mut stream)?;
    }
    Ok(stream.shutdown(Shutdown::Write)?)
}

#[test]
fn who_leaves_without_a_word_twice_passes_the_third_time() -> Result<()> {
    for version in [&TLS12, &TLS13] {
        for how in [Leaves::Within, Leaves::Notifying, Leaves::Silently] {
            let site = Site::new(Mode::Observe)?;
            leave(&site, version, how)?;
            site.connections(1)?;
            // One in between that goes on proves that clients do trust us.
            site.trusting(version, NAMES[0])?;
            site.connections(2)?;
            leave(&site, version, how)?;
            site.connections(3)?;
            leave(&site, version, how).with_context(|| format!("{how:?}: passed after one"))?;
            let all = site.connections(4)?;
            assert!(all.iter().all(|connection| connection.uninspected.is_none()), "{how:?}: {all:?}");
            passed(&site.pinned(version, NAMES[0]).with_context(|| format!("{how:?}"))?)?;
        }
    }
    Ok(())
}

#[test]
fn enforced_who_leaves_without_a_word_never_passes() -> Result<()> {
    let site = Site::new(Mode::Enforce)?;
    for tries in 0..4 {
        leave(&site, &TLS13, if tries % 2 == 0 { Leaves::Within } else { Leaves::Silently })?;
        site.connections(tries + 1)?;
    }
    distrusts(site.pinned(&TLS13, NAMES[0]))
}

#[test]
fn what_is_not_http_within_tls_passes_where_it_is_observed() -> Result<()> {
    for mode in [Mode::Observe, Mode::Enforce] {
        // What the service speaks behind that name is HTTP; the gate cannot know.
        let site = Site::with(mode, Unopened::HOLDS_FOR, &[b"mqtt"])?;
        let mut config = ClientConfig::clone(&*trusting(site.ca.pem(), &TLS13)?);
        config.alpn_protocols = vec![b"mqtt".to_vec()];
        let answer = call(&site.gate, &Arc::new(config), NAMES[0]);
        let record = site.connections(1)?.pop().context("a record")?;
        if mode == Mode::Enforce {
            assert!(answer.is_err(), "{answer:?}");
            assert_eq!((record.reason, record.uninspected), (Reason::ProtocolUnsupported, None));
            continue;
        }
        passed(&answer?)?;
        assert_eq!((record.inspected, record.uninspected), (false, Some(Uninspected::Protocol)));
    }
    Ok(())
}
