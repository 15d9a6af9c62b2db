//! Sends spans of calls to an OpenTelemetry collector: OTLP over gRPC, in batches, and never in a call's way.
//!
//! What cannot be sent is dropped and counted: traces are for looking, the record is the audit.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use callgate_identity::upstream_config;
use callgate_model::{Protocol, Verdict};
use callgate_proxy::{CallSpan, Traces};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tracing::{debug, warn};

use crate::config::{Config, TracesConfig};

/// Spans that wait; beyond that they are dropped.
const QUEUE: usize = 4_096;
/// Spans in one request.
const BATCH: usize = 512;
/// How long spans are gathered for one.
const GATHER: Duration = Duration::from_millis(500);
/// Longest wait for an answer, and for a connection.
const WITHIN: Duration = Duration::from_secs(5);
/// Failures are logged at most this often.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The running exporter.
pub struct Exporter {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Exporter {
    /// Starts to send what the traces that come with it make. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the endpoint is none, or its CA cannot be used. One that does not answer is waited for.
    pub fn start(config: &Config, traces: &TracesConfig, registry: &mut Registry) -> Result<(Self, Traces)> {
        let (exported, dropped) = (Counter::default(), Counter::default());
        registry.register("callgate_traces_exported", "Spans that were taken", exported.clone());
        let help = "Spans that were dropped: the queue was full, or nobody took them";
        registry.register("callgate_traces_dropped", help, dropped.clone());
        let (spans, queue) = channel(QUEUE);
        let stop = CancellationToken::new();
        let sending = Sending {
            client: TraceServiceClient::new(connect(traces)?),
            resource: Resource {
                attributes: vec![text("service.name", "callgate"), text("host.name", &config.node_name())],
                ..Resource::default()
            },
            exported,
            dropped: dropped.clone(),
            logged: None,
        };
        let task = tokio::spawn(sending.run(queue, stop.clone()));
        Ok((Self { stop, task }, Traces::new(traces.sample_ratio, spans, dropped)))
    }

    /// Sends what is left, and ends.
    pub async fn stop(self) {
        self.stop.cancel();
        if tokio::time::timeout(WITHIN, self.task).await.is_err() {
            debug!("spans were left at the end");
        }
    }
}

struct Sending {
    client: TraceServiceClient<Channel>,
    resource: Resource,
    exported: Counter,
    dropped: Counter,
    logged: Option<tokio::time::Instant>,
}

impl Sending {
    async fn run(mut self, mut queue: Receiver<Box<CallSpan>>, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                count = queue.recv_many(&mut batch, BATCH) => if count == 0 { return },
                () = stop.cancelled(), if queue.is_empty() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(GATHER) => {}
                () = stop.cancelled() => {}
            }
            while batch.len() < BATCH
                && let Ok(span) = queue.try_recv()
            {
                batch.push(span);
            }
            self.send(&batch).await;
            batch.clear();
        }
    }

    async fn send(&mut self, batch: &[Box<CallSpan>]) {
        let scope = InstrumentationScope {
            name: "callgate-agent".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            ..InstrumentationScope::default()
        };
        let spans = batch.iter().flat_map(|call| spans(call)).collect();
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource.clone());
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
        };
        let sent = tokio::time::timeout(WITHIN, self.client.export(request)).await;
        let error = match sent {
            Ok(Ok(_)) => {
                self.exported.inc_by(batch.len() as u64);
                return;
            }
            Ok(Err(status)) => status.code().to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        self.dropped.inc_by(batch.len() as u64);
        if self.logged.is_none_or(|at| at.elapsed() > LOG_EVERY) {
            warn!(%error, spans = batch.len(), "spans were dropped: `[traces]` names a collector that does not take them");
            self.logged = Some(tokio::time::Instant::now());
        }
    }
}

/// The call, and its parts: deciding, the way to the service and back, the answer.
fn spans(call: &CallSpan) -> Vec<Span> {
    let latency = call.ended.latency;
    let at = |us: u64| call.started + Duration::from_micros(us);
    let (decided, headed) = (at(latency.decide_us), at(latency.decide_us + latency.upstream_us));
    let end = call.started + call.ended.total();
    let span = |id: &[u8; 8], parent: Option<&[u8; 8]>, name: String, kind: SpanKind, from, to| Span {
        trace_id: call.trace_id.to_vec(),
        span_id: id.to_vec(),
        parent_span_id: parent.map(|id| id.to_vec()).unwrap_or_default(),
        name,
        kind: kind.into(),
        start_time_unix_nano: nanos(from),
        end_time_unix_nano: nanos(to),
        ..Span::default()
    };
    let function = &call.function;
    let name = match function.protocol {
        Protocol::Http => function.method.clone(),
        Protocol::Grpc => function.path.trim_start_matches('/').to_owned(),
    };
    let mut whole = span(&call.span_id, call.parent_id.as_ref(), name, SpanKind::Server, call.started, end);
    whole.attributes = attributes(call);
    if call.verdict == Verdict::Deny || call.ended.status >= 500 || call.ended.status == 0 {
        let message = call.ended.reason.as_str().to_owned();
        whole.status = Some(Status { message, code: StatusCode::Error.into() });
    }
    let mut spans = vec![whole];
    let child = |id: &[u8; 8], name: &str, kind, from, to| span(id, Some(&call.span_id), name.into(), kind, from, to);
    spans.push(child(&call.decide_id, "decide", SpanKind::Internal, call.started, decided));
    if call.is_forwarded {
        spans.push(child(&call.upstream_id, "upstream", SpanKind::Client, decided, headed));
        let mut answer = child(&call.answer_id, "answer", SpanKind::Internal, headed, end);
        answer.attributes = vec![number("callgate.masked", call.ended.masked)];
        spans.push(answer);
    }
    spans
}

fn attributes(call: &CallSpan) -> Vec<KeyValue> {
    let (function, ended) = (&call.function, &call.ended);
    let mut all = vec![
        text("callgate.call", &call.call.to_string()),
        text("callgate.workload", &call.workload),
        text("callgate.verdict", if call.verdict == Verdict::Allow { "allow" } else { "deny" }),
        text("callgate.reason", call.decided.as_str()),
        text("callgate.ended", ended.reason.as_str()),
        flag("callgate.observed", call.is_observed),
        number("callgate.masked", ended.masked),
        text("server.address", function.service.host()),
        number("server.port", u64::from(function.service.port())),
        number("http.response.status_code", u64::from(ended.status)),
        number("http.request.body.size", ended.request_bytes),
        number("http.response.body.size", ended.response_bytes),
    ];
    match function.protocol {
        Protocol::Http => all.push(text("http.request.method", &function.method)),
        Protocol::Grpc => {
            all.push(text("rpc.system", "grpc"));
            let (service, method) = function.path.trim_start_matches('/').split_once('/').unwrap_or_default();
            all.extend([text("rpc.service", service), text("rpc.method", method)]);
        }
    }
    all
}

fn key(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(name: &str, value: &str) -> KeyValue {
    key(name, any_value::Value::StringValue(value.into()))
}

fn number(name: &str, value: u64) -> KeyValue {
    key(name, any_value::Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn flag(name: &str, value: bool) -> KeyValue {
    key(name, any_value::Value::BoolValue(value))
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A channel that dials when there is something to send, and again after it broke.
fn connect(config: &TracesConfig) -> Result<Channel> {
    let uri = config.uri()?;
    let endpoint = Endpoint::from(uri.clone()).connect_timeout(WITHIN);
    if uri.scheme_str() != Some("https") {
        return Ok(endpoint.connect_lazy());
    }
    let roots: Vec<PathBuf> = config.ca.iter().cloned().collect();
    let tls = TlsConnector::from(upstream_config(&roots, &[b"h2"]).context("in the config: `[traces]`")?);
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = Arc::new(ServerName::try_from(host.clone()).context("in the config: `[traces]`")?.to_owned());
    let address = (host, uri.port_u16().unwrap_or(4_317));
    // tonic would speak plain text to `http://` and refuse `https://`: the name is never resolved by it.
    let endpoint = Endpoint::from_static("http://traces").connect_timeout(WITHIN);
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let (tls, name, address) = (tls.clone(), Arc::clone(&name), address.clone());
        async move {
            #[expect(
                clippy::disallowed_methods,
                reason = "the operator's collector of traces, no upstream of a workload"
            )]
            let stream = TcpStream::connect(address).await?;
            Ok::<_, std::io::Error>(TokioIo::new(tls.connect((*name).clone(), stream).await?))
        }
    })))
}
