//! gRPC through the gate, tonic on both sides: every way of streaming, ends that are not good, and what is refused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use callgate_harness::{TestCa, ca, eventually};
use callgate_model::{Outcome, Reason, Record, RecordKind};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use crate::gate::{FlowGate, GateConfig, ends};
use crate::orders::api::Item;
use crate::orders::api::orders_client::OrdersClient;
use crate::orders::{self, Seen};

const HOST: &str = "orders.internal";

/// Everything but `Put`.
const POLICIES: &str = r#"
@id("orders")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"orders.internal");

@id("no-put")
forbid (principal, action == Callgate::Action::"call", resource)
when { resource.path == "/shop.v1.Orders/Put" && resource.tls };
"#;

const MASKED: &str = r#"
@id("masked")
@mask("pii")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"orders.internal");
"#;

const WITHIN: Duration = Duration::from_secs(10);

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A service, a gate before it, and how the gate is reached.
struct Shop {
    gate: FlowGate,
    address: SocketAddr,
    seen: Arc<Seen>,
    tls: bool,
}

impl Shop {
    async fn open(tls: bool, policies: &str) -> Result<Self> {
        let ca = TestCa::new()?;
        let server = if tls { Some(ca.server_of(&[HOST], ca::HTTP2)?) } else { None };
        let (address, seen) = orders::serve(server).await?;
        let config =
            GateConfig { names: &[HOST], upstream_ca: tls.then_some(&ca), ..GateConfig::new(policies, address) };
        Ok(Self { gate: FlowGate::start(&config)?, address, seen, tls })
    }

    #[expect(clippy::disallowed_methods, reason = "a client of the test's, not an upstream socket of the product")]
    async fn dial(&self) -> Result<Box<dyn Io>> {
        let stream = TcpStream::connect(self.gate.address).await?;
        if !self.tls {
            return Ok(Box::new(stream));
        }
        let mut config = (*ca::client(&self.gate.ca_pem)?).clone();
        config.alpn_protocols = vec![ca::HTTP2.to_vec()];
        Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(HOST.try_into()?, stream).await?))
    }

    fn url(&self, path: &str) -> String {
        format!("{}://{HOST}:{}{path}", if self.tls { "https" } else { "http" }, self.address.port())
    }

    async fn client(&self) -> Result<OrdersClient<Channel>> {
        let mut stream = Some(self.dial().await?);
        // The scheme is the requests'; the connection is there already.
        let endpoint = Endpoint::from_static("http://gate").origin(self.url("").parse()?);
        let connector = tower::service_fn(move |_| {
            let stream = stream.take().map(TokioIo::new);
            async move { stream.ok_or_else(|| std::io::Error::other("one connection is all there is")) }
        });
        Ok(OrdersClient::new(endpoint.connect_with_connector(connector).await?))
    }

    /// One request as it is on the wire, without tonic.
    async fn raw(
        &self,
        method: &str,
        path: &str,
        kinds: &[&str],
        body: &'static [u8],
    ) -> Result<http::Response<Incoming>> {
        let io = TokioIo::new(self.dial().await?);
        let (mut client, driver) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(driver);
        let mut request = http::Request::builder().method(method).uri(self.url(path)).header("te", "trailers");
        for kind in kinds {
            request = request.header("content-type", *kind);
        }
        Ok(client.send_request(request.body(Full::new(Bytes::from_static(body)))?).await?)
    }

    fn ends(&self, count: usize) -> Result<Vec<Record>> {
        self.gate.records("every call's end", |records| ends(records) >= count)
    }
}

fn functions(records: &[Record]) -> Vec<String> {
    let begin = |record: &Record| match &record.kind {
        RecordKind::Begin(begin) => Some(begin.function.to_string()),
        _ => None,
    };
    records.iter().filter_map(begin).collect()
}

fn outcomes(records: &[Record]) -> Vec<(Outcome, Reason)> {
    let end = |record: &Record| match &record.kind {
        RecordKind::End(end) => Some((end.outcome, end.reason)),
        _ => None,
    };
    records.iter().filter_map(end).collect()
}

fn item(n: u64, text: &str) -> Item {
    Item { n, text: text.to_owned() }
}

async fn every_way_of_streaming(shop: &Shop) -> Result<()> {
    let mut client = shop.client().await?;
    let answer = client.get(item(7, "one")).await?;
    assert_eq!(answer.metadata().get("x-shelf").context("x-shelf")?, "7");
    assert_eq!(answer.into_inner(), item(7, "one"));

    let mut answers = client.watch(item(500, "many")).await?.into_inner();
    for n in 0..500 {
        assert_eq!(answers.message().await?, Some(item(n, "many")));
    }
    assert_eq!(answers.message().await?, None);
    assert_eq!(answers.trailers().await?.context("trailers")?.get("grpc-status").context("a status")?, "0");

    // Each answer comes before the next item goes out: nothing on the way waits for the end of a stream.
    let (sender, receiver) = mpsc::channel(1);
    let asked = futures_util::stream::unfold(receiver, |mut items| async { Some((items.recv().await?, items)) });
    let mut answers = client.talk(asked).await?.into_inner();
    for n in 0..50 {
        sender.send(item(n, "talk")).await?;
        assert_eq!(tokio::time::timeout(WITHIN, answers.message()).await??, Some(item(n + 1, "talk")));
    }
    drop(sender);
    assert_eq!(answers.message().await?, None);
    assert_eq!(shop.seen.connections.load(Ordering::Relaxed), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_of_streaming_passes_over_tls() -> Result<()> {
    let shop = Shop::open(true, POLICIES).await?;
    every_way_of_streaming(&shop).await?;
    let records = shop.ends(3)?;
    let host = format!("{HOST}:{}", shop.address.port());
    let expected: Vec<String> = ["Get", "Watch", "Talk"].map(|m| format!("grpc:shop.v1.Orders/{m} {host}")).into();
    assert_eq!(functions(&records), expected);
    assert_eq!(outcomes(&records), [(Outcome::Complete, Reason::Permitted); 3]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_of_streaming_passes_in_plain_text() -> Result<()> {
    let shop = Shop::open(false, POLICIES).await?;
    every_way_of_streaming(&shop).await?;
    let items = futures_util::stream::iter((0..1000).map(|n| item(n, "x")));
    let sum = shop.client().await?.put(items).await?.into_inner();
    assert_eq!((sum.n, sum.text.len()), (999 * 1000 / 2, 1000));
    assert_eq!(outcomes(&shop.ends(4)?), [(Outcome::Complete, Reason::Permitted); 4]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_method_says_so_with_the_event() -> Result<()> {
    let shop = Shop::open(true, POLICIES).await?;
    let mut client = shop.client().await?;
    let refused = client.put(futures_util::stream::iter([item(1, "x")])).await.err().context("it was let through")?;
    assert_eq!(refused.code(), Code::PermissionDenied);
    let records = shop.ends(1)?;
    let begin = records.iter().find_map(|record| match &record.kind {
        RecordKind::Begin(begin) => Some(begin),
        _ => None,
    });
    let begin = begin.context("a begin")?;
    assert!(refused.message().contains(&begin.call.to_string()), "{}", refused.message());
    assert_eq!(begin.decision.policies, ["no-put"]);
    assert_eq!(functions(&records), [format!("grpc:shop.v1.Orders/Put {HOST}:{}", shop.address.port())]);
    assert_eq!(outcomes(&records), [(Outcome::Refused, Reason::Forbidden)]);
    assert!(shop.seen.calls().is_empty());
    // The connection goes on.
    assert_eq!(client.get(item(1, "after")).await?.into_inner(), item(1, "after"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_keep_their_form_and_fields() -> Result<()> {
    let shop = Shop::open(true, POLICIES).await?;
    let mut client = shop.client().await?;
    let failed = client.get(item(1, "missing")).await.err().context("it did not fail")?;
    assert_eq!((failed.code(), failed.message()), (Code::NotFound, "no such item: 100% sure"));
    assert_eq!(failed.metadata().get("x-detail").context("x-detail")?, "the shelf is empty");

    // After two messages the same comes in real trailers.
    let mut answers = client.watch(item(2, "fails")).await?.into_inner();
    assert!(answers.message().await?.is_some() && answers.message().await?.is_some());
    let failed = answers.message().await.err().context("it did not fail")?;
    assert_eq!((failed.code(), failed.message()), (Code::ResourceExhausted, "no such item: 100% sure"));
    assert_eq!(failed.metadata().get("x-detail").context("x-detail")?, "the shelf is empty");

    // On the wire the first is one HEADERS frame that ends the stream: no DATA, no second HEADERS.
    let message = b"\0\0\0\0\x09\x12\x07missing";
    let answer = shop.raw("POST", "/shop.v1.Orders/Get", &["application/grpc"], message).await?;
    assert!(answer.body().is_end_stream(), "{answer:?}");
    assert_eq!(answer.headers()["grpc-status"], "5");
    // And so is a refusal of ours.
    let answer = shop.raw("POST", "/shop.v1.Orders/Put", &["application/grpc"], message).await?;
    assert!(answer.body().is_end_stream(), "{answer:?}");
    assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &http::HeaderValue::from(7)));
    assert_eq!(outcomes(&shop.ends(4)?).iter().filter(|(outcome, _)| *outcome == Outcome::Complete).count(), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_stream_is_cancelled_at_the_service() -> Result<()> {
    let shop = Shop::open(true, POLICIES).await?;
    let mut client = shop.client().await?;
    let mut answers = client.watch(item(0, "without end")).await?.into_inner();
    for _ in 0..3 {
        answers.message().await?.context("a message")?;
    }
    drop(answers);
    let seen = Arc::clone(&shop.seen);
    eventually("the cancel at the service", WITHIN, || (seen.dropped.load(Ordering::Relaxed) == 1).then_some(()))?;
    assert_eq!(outcomes(&shop.ends(1)?), [(Outcome::Cut, Reason::ClientGone)]);
    assert_eq!(client.get(item(1, "after")).await?.into_inner(), item(1, "after"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_reaches_the_service_and_ends_the_call() -> Result<()> {
    let shop = Shop::open(true, POLICIES).await?;
    let mut request = Request::new(item(1, "never"));
    request.set_timeout(Duration::from_millis(300));
    let failed = shop.client().await?.get(request).await.err().context("it was answered")?;
    assert!(matches!(failed.code(), Code::Cancelled | Code::DeadlineExceeded), "{failed}");
    let fields = shop.seen.calls().pop().context("the call")?;
    assert_eq!(fields.get("grpc-timeout").context("grpc-timeout")?, "300000u");
    let seen = Arc::clone(&shop.seen);
    eventually("the cancel at the service", WITHIN, || (seen.dropped.load(Ordering::Relaxed) == 1).then_some(()))?;
    assert_eq!(outcomes(&shop.ends(1)?), [(Outcome::Cut, Reason::ClientGone)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_policy_wants_masked_are_never_asked_for() -> Result<()> {
    let shop = Shop::open(false, MASKED).await?;
    let failed = shop.client().await?.get(item(1, "x")).await.err().context("it was let through")?;
    assert_eq!(failed.code(), Code::Internal);
    assert!(failed.message().contains("unmaskable"), "{failed}");
    assert_eq!(shop.seen.connections.load(Ordering::Relaxed), 0, "the service was dialled");
    assert_eq!(outcomes(&shop.ends(1)?), [(Outcome::Refused, Reason::Unmaskable)]);
    Ok(())
}

/// A service serves a call of gRPC whatever the content type says, so an answer of gRPC tells one that hid its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_under_another_content_type_gets_no_messages_unmasked() -> Result<()> {
    let shop = Shop::open(false, MASKED).await?;
    let message = b"\0\0\0\0\x11\x12\x0fann@example.com";
    for kinds in [&["text/plain"][..], &[], &["application/grpc", "application/grpc"], &["application/grpc\t"]] {
        let answer = shop.raw("POST", "/shop.v1.Orders/Get", kinds, message).await?;
        let (status, body) = (answer.status(), answer.into_body().collect().await?.to_bytes());
        let text = String::from_utf8_lossy(&body);
        ensure!(!text.contains("ann@example.com"), "{kinds:?}: {text}");
        ensure!(status == 502 && text.contains("unmaskable"), "{kinds:?}: {status} {text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_method_is_no_call_of_grpc() -> Result<()> {
    let shop = Shop::open(true, POLICIES).await?;
    for path in ["/", "/Get", "/shop.v1.Orders/Get/more", "/shop.v1.Orders/", "/a-b/Get", "/shop.v1.Orders/G%65t%20"] {
        let answer = shop.raw("POST", path, &["application/grpc"], b"").await?;
        assert_eq!(answer.headers()["grpc-status"], "3", "{path}");
        assert!(answer.headers()["grpc-message"].to_str()?.contains("bad_head"), "{path}");
    }
    assert!(shop.seen.calls().is_empty());
    // These are plain HTTP, whatever the service makes of them.
    for (method, kind) in
        [("POST", "application/grpc-web"), ("POST", "application/grpc-web+proto"), ("GET", "application/grpc")]
    {
        shop.raw(method, "/shop.v1.Orders/Nothing", &[kind], b"").await?;
    }
    let functions = functions(&shop.ends(9)?);
    let plain = functions.iter().filter(|function| function.starts_with("http:")).count();
    assert_eq!(plain, 3, "{functions:?}");
    Ok(())
}
