//! The way to the service: one connection upstream for each connection of a workload, made when first needed.
//!
//! Never shared between connections, so no identity can ride on another's.

use std::sync::Arc;

use callgate_model::{Reason, Service};
use callgate_policy::{CallPermit, ConnectPermit};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::HEADERS_MAX;
use super::body::RequestBody;
use crate::facts::Connection;
use crate::{dial, tls};

/// A stream to the service, within TLS or not.
pub(crate) trait ServerIo: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> ServerIo for T {}

/// A stream to the service; boxed, since a connection has one of few kinds and lives long.
pub(crate) type ServerStream = Box<dyn ServerIo>;

/// What stands of the way to the service.
pub(crate) enum Upstream {
    /// Nothing yet.
    Undialled,
    /// Dialled, no call sent.
    Dialled(ServerStream),
    /// Open for calls to this service.
    Open(Service, SendRequest<RequestBody>),
    /// It failed while the connection was opened: calls are told why.
    Failed(Reason),
}

impl Upstream {
    /// Sends one permitted call and waits for the head of the answer.
    ///
    /// A kept-alive connection that the service has closed meanwhile is dialled anew once,
    /// provided that no byte of the call had gone out on it.
    ///
    /// # Errors
    /// Why the service could not be reached, or broke off.
    pub(crate) async fn send(
        &mut self,
        connection: &Arc<Connection>,
        connect: &ConnectPermit,
        permit: CallPermit,
        tls: bool,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Reason> {
        let service = permit.function().service.clone();
        let (mut sender, reused) = self.sender(connection, connect, &service, tls).await?;
        let mut answer = sender.try_send_request(request).await;
        if reused
            && let Err(error) = &mut answer
            && let Some(unsent) = error.take_message()
        {
            debug!(%service, "the service had closed an idle connection: dialling anew");
            *self = Self::Undialled;
            (sender, _) = self.sender(connection, connect, &service, tls).await?;
            answer = sender.try_send_request(unsent).await;
        }
        match answer {
            Ok(response) => {
                *self = Self::Open(service, sender);
                Ok(response)
            }
            Err(error) => {
                debug!(%service, error = %error.error(), "the service broke off");
                *self = Self::Undialled;
                Err(Reason::UpstreamProtocol)
            }
        }
    }

    async fn sender(
        &mut self,
        connection: &Arc<Connection>,
        connect: &ConnectPermit,
        service: &Service,
        tls: bool,
    ) -> Result<(SendRequest<RequestBody>, bool), Reason> {
        let stream = match std::mem::replace(self, Self::Undialled) {
            Self::Open(to, mut sender) if to == *service && !sender.is_closed() => {
                if sender.ready().await.is_ok() {
                    return Ok((sender, true));
                }
                open(connection, connect, service, tls).await?
            }
            Self::Dialled(stream) => stream,
            Self::Failed(reason) => {
                *self = Self::Failed(reason);
                return Err(reason);
            }
            Self::Open(..) | Self::Undialled => open(connection, connect, service, tls).await?,
        };
        let (sender, driver) = http1::Builder::new()
            .preserve_header_case(true)
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Reason::UpstreamProtocol)?;
        tokio::spawn(async move {
            if let Err(error) = driver.with_upgrades().await {
                debug!(%error, "upstream connection ended");
            }
        });
        Ok((sender, false))
    }
}

/// Dials the service, and within TLS verifies its certificate.
pub(crate) async fn open(
    connection: &Connection,
    permit: &ConnectPermit,
    service: &Service,
    tls: bool,
) -> Result<ServerStream, Reason> {
    let stream = dial::dial(connection, permit).await?;
    if tls { Ok(Box::new(tls::connect(connection, permit, service, stream).await?)) } else { Ok(Box::new(stream)) }
}
