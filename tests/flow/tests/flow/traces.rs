//! Spans of calls: what an OpenTelemetry collector is told, what a service is, and that nothing happens when they are off.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context as _, Result};
use callgate_daemon::{Config, Exporter};
use callgate_harness::{TestCa, Upstream, samples};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prometheus_client::registry::Registry;
use tokio_stream::wrappers::TcpListenerStream;

use crate::gate::{FlowGate, GateConfig};

const POLICIES: &str = r#"
@mask("pii")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"users.internal")
when { resource.method == "GET" && resource.path like "/v1/users/*" };
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"users.internal")
when { resource.path == "/echo" };
"#;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Takes spans as a collector does.
struct Taker(Sender<Span>);

#[tonic::async_trait]
impl TraceService for Taker {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        for span in resources.flat_map(|r| r.scope_spans).flat_map(|scope| scope.spans) {
            self.0.send(span).map_err(|_| tonic::Status::unavailable("the test is over"))?;
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A gate that exports to a collector of its own.
struct Traced {
    gate: FlowGate,
    spans: Receiver<Span>,
    registry: Registry,
    /// Ends with the test, and with it what runs there.
    runtime: tokio::runtime::Runtime,
    exporter: Option<Exporter>,
    _ca: Option<tempfile::NamedTempFile>,
}

impl Traced {
    fn start(upstream: &Upstream, ratio: f64, tls: Option<&TestCa>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (sender, spans) = channel();
        let (scheme, port) = runtime.block_on(serve(Taker(sender), tls))?;
        let mut text = format!("[traces]\nendpoint = \"{scheme}://127.0.0.1:{port}\"\nsample_ratio = {ratio:?}\n");
        let ca = tls.map(|ca| -> Result<_> {
            let mut file = tempfile::NamedTempFile::new()?;
            file.write_all(ca.pem().as_bytes())?;
            text += &format!("ca = \"{}\"\n", file.path().display());
            Ok(file)
        });
        let ca = ca.transpose()?;
        let config = Config::parse(&text)?;
        let mut registry = Registry::default();
        let entered = runtime.enter();
        let (exporter, traces) = Exporter::start(&config, config.traces.as_ref().context("no traces")?, &mut registry)?;
        drop(entered);
        let names = &["users.internal"];
        let config = GateConfig { names, traces: Some(traces), ..GateConfig::new(POLICIES, upstream.address()) };
        let gate = FlowGate::start(&config)?;
        Ok(Self { gate, spans, registry, runtime, exporter: Some(exporter), _ca: ca })
    }

    /// All spans of one call: the call first.
    fn spans(&self, count: usize) -> Result<Vec<Span>> {
        (0..count).map(|_| Ok(self.spans.recv_timeout(Duration::from_secs(20))?)).collect()
    }

    fn metrics(&self) -> Result<String> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

async fn serve(taker: Taker, tls: Option<&TestCa>) -> Result<(&'static str, u16)> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(taker));
    let Some(ca) = tls else {
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        return Ok(("http", port));
    };
    let acceptor = tokio_rustls::TlsAcceptor::from(ca.server_of(&["127.0.0.1"], b"h2")?);
    let (sender, accepted) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            // tonic knows no such stream, but a pipe.
            let (mut near, far) = tokio::io::duplex(1 << 16);
            if sender.send(Ok::<_, std::io::Error>(far)).await.is_err() {
                return;
            }
            #[expect(clippy::disallowed_methods, reason = "a collector of the test's, no connection of a workload")]
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut near).await });
        }
    });
    tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::ReceiverStream::new(accepted)));
    Ok(("https", port))
}

fn ask(gate: &FlowGate, path: &str, fields: &str) -> Result<String> {
    let mut stream = TcpStream::connect(gate.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: users.internal\r\n{fields}connection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A field of the last request that the service has seen.
fn seen(upstream: &Upstream, name: &str) -> Option<String> {
    upstream.requests().last()?.header(name).map(str::to_owned)
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|one| one.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::BoolValue(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[test]
fn a_call_is_a_span_of_its_callers_trace_and_the_parent_of_the_services() -> Result<()> {
    let upstream = Upstream::plain()?;
    let mut traced = Traced::start(&upstream, 0.0, None)?;
    let fields = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: a=b\r\n");
    let answer = ask(&traced.gate, "/echo", &fields)?;
    let spans = traced.spans(4)?;
    let [call, decide, up, down] = spans.as_slice() else { anyhow::bail!("{spans:#?}") };
    assert_eq!((hex(&call.trace_id), hex(&call.parent_span_id)), (TRACE.into(), PARENT.into()));
    assert!(spans[1..].iter().all(|span| span.parent_span_id == call.span_id && span.trace_id == call.trace_id));
    assert_eq!((decide.name.as_str(), up.name.as_str(), down.name.as_str()), ("decide", "upstream", "answer"));
    assert!(
        decide.start_time_unix_nano == call.start_time_unix_nano && down.end_time_unix_nano == call.end_time_unix_nano
    );
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(seen(&upstream, "traceparent"), Some(format!("00-{TRACE}-{}-01", hex(&up.span_id))));
    assert_eq!(seen(&upstream, "tracestate").as_deref(), Some("a=b"), "goes on with its parent");
    for (key, value) in [
        ("callgate.verdict", "allow"),
        ("callgate.reason", "permitted"),
        ("callgate.workload", "run/flow"),
        ("server.address", "users.internal"),
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(attribute(call, key).as_deref(), Some(value), "{key}");
    }
    // Whoever does not follow its own call is not followed, whatever is configured: its fields go on untouched.
    ask(&traced.gate, "/echo", &fields.replace("-01", "-00"))?;
    assert_eq!(seen(&upstream, "traceparent"), Some(format!("00-{TRACE}-{PARENT}-00")));
    // And 0.0 begins none.
    ask(&traced.gate, "/echo", "")?;
    assert_eq!(seen(&upstream, "traceparent"), None);
    traced.runtime.block_on(traced.exporter.take().context("gone")?.stop());
    assert!(traced.spans.try_recv().is_err(), "one call was followed");
    assert!(traced.metrics()?.contains("callgate_traces_exported_total 1\n"), "{}", traced.metrics()?);
    Ok(())
}

#[test]
fn refused_and_masked_calls_tell_why_and_nothing_of_what_was_sent() -> Result<()> {
    let upstream = Upstream::plain()?;
    let traced = Traced::start(&upstream, 1.0, None)?;
    let answer = ask(
        &traced.gate,
        "/v1/users/7?key=AKIAIOSFODNN7EXAMPLE",
        "traceparent: 00-nonsense\r\ntracestate: s=ecret\r\n",
    )?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let masked = traced.spans(4)?;
    assert!(masked[0].parent_span_id.is_empty(), "begins a trace of its own");
    let passed = seen(&upstream, "traceparent");
    assert_eq!(passed, Some(format!("00-{}-{}-01", hex(&masked[0].trace_id), hex(&masked[2].span_id))));
    assert_eq!(seen(&upstream, "tracestate"), None, "it belonged to nothing");
    assert_ne!(attribute(&masked[0], "callgate.masked").as_deref(), Some("0"));
    ask(&traced.gate, &format!("/denied/{}", samples::email(7)), "")?;
    let denied = traced.spans(2)?;
    assert_eq!(attribute(&denied[0], "callgate.reason").as_deref(), Some("no_permit"));
    assert_eq!(attribute(&denied[0], "callgate.verdict").as_deref(), Some("deny"));
    assert_eq!(denied[0].status.as_ref().map(|status| status.code), Some(2), "an error");
    assert_eq!(denied[1].name, "decide", "it went nowhere");
    let told = format!("{masked:?}{denied:?}");
    for secret in ["AKIA", "ecret", &samples::email(7), &samples::card(7), "/denied", "/v1/users"] {
        assert!(!told.contains(secret), "{secret}");
    }
    Ok(())
}

#[test]
fn a_collector_over_tls_is_verified() -> Result<()> {
    let upstream = Upstream::plain()?;
    let ca = TestCa::new()?;
    let traced = Traced::start(&upstream, 1.0, Some(&ca))?;
    ask(&traced.gate, "/echo", "")?;
    assert_eq!(traced.spans(4)?.len(), 4);
    Ok(())
}

#[test]
fn spans_that_nobody_takes_are_counted_and_hold_nothing_up() -> Result<()> {
    let upstream = Upstream::plain()?;
    let mut traced = Traced::start(&upstream, 1.0, None)?;
    // The collector refuses from now on.
    drop(std::mem::replace(&mut traced.spans, channel().1));
    assert!(ask(&traced.gate, "/echo", "")?.starts_with("HTTP/1.1 200"));
    callgate_harness::eventually("the drop is counted", Duration::from_secs(20), || {
        traced.metrics().ok().filter(|text| text.contains("callgate_traces_dropped_total 1\n"))
    })?;
    Ok(())
}

#[test]
fn without_traces_header_fields_are_left_alone() -> Result<()> {
    let upstream = Upstream::plain()?;
    let names = &["users.internal"];
    let gate = FlowGate::start(&GateConfig { names, ..GateConfig::new(POLICIES, upstream.address()) })?;
    ask(&gate, "/echo", "traceparent: 00-nonsense\r\n")?;
    assert_eq!(seen(&upstream, "traceparent").as_deref(), Some("00-nonsense"));
    ask(&gate, "/echo", "")?;
    assert_eq!(seen(&upstream, "traceparent"), None);
    let metrics = gate.metrics()?;
    assert!(metrics.contains("callgate_call_seconds_count{protocol=\"http\",verdict=\"allow\"} 2\n"), "{metrics}");
    Ok(())
}
