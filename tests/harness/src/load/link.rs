//! One connection of the load generator, shared by its lanes, and one call over it.

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::Protocol;
use super::report::{Outcome, Tally};
use super::target::Target;

/// A connection that is opened when it is first needed, and again when it was closed.
#[derive(Default)]
pub(super) struct Link {
    /// HTTP/1.1: absent while a call has it. HTTP/2: stays, each call has a copy.
    open: Mutex<Option<Sender>>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Link {
    /// Makes the `n`th call, over a new connection if need be.
    pub async fn call(&self, target: &Target, n: u64, tally: &mut Tally) -> Outcome {
        let mut sender = match self.sender(target, tally).await {
            Ok(sender) => sender,
            Err(outcome) => return outcome,
        };
        match tokio::time::timeout(target.config.timeout, sender.exchange(target, n)).await {
            Ok(Some(answer)) => {
                tally.body_bytes += answer.body_bytes;
                if !answer.close && !target.config.fresh {
                    self.give_back(sender).await;
                }
                answer.outcome
            }
            Ok(None) | Err(_) => Outcome::Broken,
        }
    }

    /// Opens the connection, before there is a call.
    pub async fn open(&self, target: &Target, tally: &mut Tally) {
        if let Ok(sender) = self.sender(target, tally).await {
            self.give_back(sender).await;
        }
    }

    async fn sender(&self, target: &Target, tally: &mut Tally) -> Result<Sender, Outcome> {
        let mut open = self.open.lock().await;
        // An idle connection that the other side closed carried nothing of this call: open a new one.
        if let Some(mut sender) = open.take()
            && sender.is_usable().await
        {
            *open = sender.shared();
            return Ok(sender);
        }
        let sender = match tokio::time::timeout(target.config.timeout, connect(target)).await {
            Ok(sender) => sender?,
            Err(_) => return Err(Outcome::NotConnected("timeout".to_owned())),
        };
        tally.connected += 1;
        if !target.config.fresh {
            *open = sender.shared();
        }
        Ok(sender)
    }

    async fn give_back(&self, sender: Sender) {
        if matches!(sender, Sender::Http1(_)) {
            *self.open.lock().await = Some(sender);
        }
    }
}

/// What came back.
struct Answer {
    outcome: Outcome,
    body_bytes: u64,
    /// The connection ends with this answer.
    close: bool,
}

impl Sender {
    async fn is_usable(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Another one for the same connection, if it carries several calls at once.
    fn shared(&self) -> Option<Sender> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(sender) => Some(Self::Http2(sender.clone())),
        }
    }

    /// Sends one call and reads its answer to the end, keeping none of it. None: it broke.
    async fn exchange(&mut self, target: &Target, n: u64) -> Option<Answer> {
        let request = target.request(n).ok()?;
        let response = match self {
            Self::Http1(sender) => sender.send_request(request).await.ok()?,
            Self::Http2(sender) => sender.send_request(request).await.ok()?,
        };
        let (head, mut body) = response.into_parts();
        let close = head.headers.get(header::CONNECTION).is_some_and(|value| value == "close");
        let (mut body_bytes, mut trailers) = (0, None);
        while let Some(frame) = body.frame().await {
            let frame = frame.ok()?;
            match frame.data_ref() {
                Some(data) => body_bytes += data.len() as u64,
                None => trailers = frame.into_trailers().ok(),
            }
        }
        let mut outcome = Outcome::Status(head.status.as_u16());
        if target.config.protocol == Protocol::Grpc && outcome == Outcome::Status(200) {
            let status = grpc_status(&head.headers, trailers.as_ref());
            outcome = if status == 0 { outcome } else { Outcome::Grpc(status) };
        }
        Some(Answer { outcome, body_bytes, close })
    }
}

/// In the trailers, or in the head of an answer that has nothing else; 2 (unknown) where there is none.
fn grpc_status(head: &HeaderMap, trailers: Option<&HeaderMap>) -> u32 {
    let status = trailers.and_then(|trailers| trailers.get("grpc-status")).or_else(|| head.get("grpc-status"));
    status.and_then(|status| status.to_str().ok()?.parse().ok()).unwrap_or(2)
}

#[expect(clippy::disallowed_methods, reason = "this is the client, not the proxy: it dials for itself")]
async fn connect(target: &Target) -> Result<Sender, Outcome> {
    let stream = TcpStream::connect(target.address)
        .await
        .map_err(|error| Outcome::NotConnected(format!("{:?}", error.kind())))?;
    let _ = stream.set_nodelay(true);
    match &target.tls {
        None => open(stream, target.config.protocol).await,
        Some((connector, name)) => {
            let stream = connector.connect(name.clone(), stream).await.map_err(|_| Outcome::TlsFailed)?;
            open(stream, target.config.protocol).await
        }
    }
}

async fn open<S>(stream: S, protocol: Protocol) -> Result<Sender, Outcome>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(stream);
    if protocol == Protocol::Http1 {
        let (sender, connection) = http1::handshake(stream).await.map_err(|_| Outcome::Broken)?;
        tokio::spawn(connection);
        return Ok(Sender::Http1(sender));
    }
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.map_err(|_| Outcome::Broken)?;
    tokio::spawn(connection);
    Ok(Sender::Http2(sender))
}
