//! HTTP/2 through the gate: many calls on one connection, either version on either side, names that do not agree.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use callgate_harness::upstream::UpstreamConfig;
use callgate_harness::{TestCa, Upstream, ca, samples};
use callgate_model::{Reason, RecordKind};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::gate::{FlowGate, GateConfig, ends};

const POLICIES: &str = r#"
@id("read-users")
@mask("pii")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"users.internal")
when { resource.method == "GET" && resource.path like "/v1/users/*" };

@id("echo")
permit (principal, action == Callgate::Action::"call", resource in Callgate::Service::"users.internal")
when { resource.path like "/echo*" || resource.path like "/mirror*" || resource.path like "/slow/*" };
"#;

type Client = SendRequest<Full<Bytes>>;

#[expect(clippy::disallowed_methods, reason = "a client of the test's, not an upstream socket of the product")]
async fn dialled(gate: &FlowGate) -> Result<TcpStream> {
    Ok(TcpStream::connect(gate.address).await?)
}

async fn over_tls(gate: &FlowGate) -> Result<Client> {
    let mut config = (*ca::client(&gate.ca_pem)?).clone();
    config.alpn_protocols = vec![ca::HTTP2.to_vec(), ca::HTTP1.to_vec()];
    let stream = dialled(gate).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect("users.internal".try_into()?, stream).await?;
    ensure!(stream.get_ref().1.alpn_protocol() == Some(ca::HTTP2), "no HTTP/2 was agreed on");
    opened(stream).await
}

async fn in_plain_text(gate: &FlowGate) -> Result<Client> {
    opened(dialled(gate).await?).await
}

async fn opened(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static) -> Result<Client> {
    let (client, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    Ok(client)
}

fn get(url: String) -> Result<Request<Full<Bytes>>> {
    Ok(Request::get(url).body(Full::default())?)
}

async fn text(response: Response<hyper::body::Incoming>) -> Result<(u16, String)> {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

fn upstream(tls: Option<Arc<rustls::ServerConfig>>) -> Result<Upstream> {
    Upstream::start(UpstreamConfig { tls, ..UpstreamConfig::at([127, 0, 0, 1]) })
}

fn gate(destination: SocketAddr, ca: Option<&TestCa>) -> Result<FlowGate> {
    let config = GateConfig::new(POLICIES, destination);
    FlowGate::start(&GateConfig { upstream_ca: ca, names: &["users.internal"], ..config })
}

/// 100 calls at once, every third of which is denied; then the numbers must agree.
async fn many_calls(client: &Client, scheme: &str, port: u16, upstream: &Upstream, gate: &FlowGate) -> Result<()> {
    let calls = (0..100).map(|n| {
        let mut client = client.clone();
        let path = if n % 3 == 0 { format!("/v2/{n}") } else { format!("/v1/users/{n}") };
        let request = get(format!("{scheme}://users.internal:{port}{path}"));
        tokio::spawn(async move {
            client.ready().await?;
            let (status, body) = text(client.send_request(request?).await?).await?;
            match n % 3 {
                0 => ensure!(status == 403 && body.contains("no_permit"), "{n}: {status} {body}"),
                _ => ensure!(
                    status == 200 && body.contains(&samples::name(n)) && !body.contains(&samples::email(n)),
                    "{n}: {status} {body}"
                ),
            }
            Ok(())
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await??;
    }
    assert_eq!(upstream.request_count(), 66);
    gate.records("every call's end", |records| ends(records) == 100)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_share_one_connection_on_either_side() -> Result<()> {
    let ca = TestCa::new()?;
    let upstream = upstream(Some(ca.server(&["users.internal"])?))?;
    let gate = gate(upstream.address(), Some(&ca))?;
    let client = over_tls(&gate).await?;
    many_calls(&client, "https", upstream.address().port(), &upstream, &gate).await?;
    assert_eq!(upstream.connections(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_http1_alone_serves_clients_of_http2() -> Result<()> {
    let ca = TestCa::new()?;
    let upstream = upstream(Some(ca.server_of(&["users.internal"], ca::HTTP1)?))?;
    let gate = gate(upstream.address(), Some(&ca))?;
    // One that offers HTTP/2 alone: a client that offers both would be given what the service speaks.
    let mut config = (*ca::client(&gate.ca_pem)?).clone();
    config.alpn_protocols = vec![ca::HTTP2.to_vec()];
    let stream = dialled(&gate).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect("users.internal".try_into()?, stream).await?;
    let client = opened(stream).await?;
    many_calls(&client, "https", upstream.address().port(), &upstream, &gate).await?;
    assert!(upstream.connections() > 1, "calls waited for each other");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_http2_alone_serves_clients_of_http1() -> Result<()> {
    let ca = TestCa::new()?;
    let upstream = upstream(Some(ca.server_of(&["users.internal"], ca::HTTP2)?))?;
    let gate = gate(upstream.address(), Some(&ca))?;
    let stream = dialled(&gate).await?;
    let stream = TlsConnector::from(ca::client(&gate.ca_pem)?).connect("users.internal".try_into()?, stream).await?;
    let (mut client, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    for n in 1..4 {
        let host = format!("users.internal:{}", upstream.address().port());
        let request = Request::get(format!("/v1/users/{n}")).header("host", host).body(Empty::<Bytes>::new())?;
        client.ready().await?;
        let (status, body) = text(client.send_request(request).await?).await?;
        assert!(status == 200 && body.contains(&samples::name(n)), "{status} {body}");
    }
    let path = upstream.requests().first().context("a request")?.path.clone();
    assert!(path.starts_with("https://users.internal:"), "{path}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_plain_text_the_client_says_what_is_spoken() -> Result<()> {
    let upstream = upstream(None)?;
    let gate = gate(upstream.address(), None)?;
    let client = in_plain_text(&gate).await?;
    many_calls(&client, "http", upstream.address().port(), &upstream, &gate).await?;
    assert_eq!(upstream.connections(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_pass_both_ways_at_once() -> Result<()> {
    let upstream = upstream(None)?;
    let gate = gate(upstream.address(), None)?;
    let mut client = in_plain_text(&gate).await?;
    let body = Bytes::from((0..3_000_000u32).map(|n| (n % 251) as u8).collect::<Vec<u8>>());
    let url = format!("http://users.internal:{}/mirror", upstream.address().port());
    let response = client.send_request(Request::post(url).body(Full::new(body.clone()))?).await?;
    assert_eq!(response.status(), 200);
    assert_eq!(response.into_body().collect().await?.to_bytes(), body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_is_cut_and_the_others_go_on() -> Result<()> {
    let upstream = upstream(None)?;
    let gate = gate(upstream.address(), None)?;
    let mut client = in_plain_text(&gate).await?;
    let port = upstream.address().port();
    let slow = client.send_request(get(format!("http://users.internal:{port}/slow/1000?ms=20"))?).await?;
    drop(slow);
    let (status, _) =
        text(client.send_request(get(format!("http://users.internal:{port}/v1/users/5"))?).await?).await?;
    assert_eq!(status, 200);
    let records = gate.records("both ends", |records| ends(records) == 2)?;
    let reasons: Vec<Reason> = records
        .iter()
        .filter_map(|record| match &record.kind {
            RecordKind::End(end) => Some(end.reason),
            _ => None,
        })
        .collect();
    assert!(reasons.contains(&Reason::ClientGone) && reasons.contains(&Reason::Permitted), "{reasons:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_do_not_agree_are_refused() -> Result<()> {
    let ca = TestCa::new()?;
    let upstream = upstream(Some(ca.server(&["users.internal"])?))?;
    let gate = gate(upstream.address(), Some(&ca))?;
    let port = upstream.address().port();
    for (url, host, reason) in [
        (format!("https://other.internal:{port}/v1/users/1"), None, "name_mismatch"),
        (format!("https://users.internal:{port}/v1/users/1"), Some("other.internal"), "name_mismatch"),
        (format!("http://users.internal:{port}/v1/users/1"), None, "bad_head"),
        (format!("https://users.internal:{port}/v1/%2e%2e/users/1"), None, "bad_head"),
    ] {
        let mut client = over_tls(&gate).await?;
        let mut request = get(url.clone())?;
        if let Some(host) = host {
            request.headers_mut().insert("host", host.parse()?);
        }
        let (_, body) = text(client.send_request(request).await?).await?;
        assert!(body.contains(reason), "{url} {host:?}: {body}");
    }
    assert_eq!(upstream.request_count(), 0);
    Ok(())
}
