//! The way to the service: connections upstream for one connection of a workload, made when first needed.
//!
//! Never shared between connections of workloads, so no identity can ride on another's. A service that speaks HTTP/2
//! gets one connection for all calls; one that speaks HTTP/1.1 as many as there are calls at the same time.

mod sender;

use std::sync::Arc;

use callgate_model::{Reason, Service};
use callgate_policy::{CallPermit, ConnectPermit};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tracing::debug;

use super::body::RequestBody;
use super::{Channel, Version};
use crate::facts::Connection;
use crate::tls::{Failure, Offer};
use crate::{dial, tls};
use sender::Sender;

/// A stream to the service, within TLS or not.
pub(crate) trait ServerIo: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> ServerIo for T {}

/// A stream to the service; boxed, since a connection has one of few kinds and lives long.
pub(crate) type ServerStream = Box<dyn ServerIo>;

/// A stream to the service and what is spoken on it.
pub(crate) struct Server {
    stream: ServerStream,
    version: Version,
}

/// What stands of the way to the service.
pub(crate) struct Upstream {
    state: Mutex<State>,
    /// What was agreed on with a server that is dialled already.
    version: Option<Version>,
}

enum State {
    /// Nothing yet.
    Undialled,
    /// Dialled, no call sent.
    Dialled(Server),
    /// Connections to this service on which no call is being sent; an answer may still be on its way.
    Http1(Service, Vec<http1::SendRequest<RequestBody>>),
    /// The connection to this service.
    Http2(Service, http2::SendRequest<RequestBody>),
    /// It failed while the connection was opened: calls are told why.
    Failed(Reason),
}

/// One call on its way: what it needs of its connection.
pub(crate) struct Errand<'a> {
    pub(crate) connection: &'a Arc<Connection>,
    pub(crate) connect: &'a ConnectPermit,
    pub(crate) channel: &'a Channel,
    /// What the workload speaks.
    pub(crate) client: Version,
}

impl Upstream {
    /// Nothing is dialled yet.
    pub(crate) fn undialled() -> Self {
        Self { state: Mutex::new(State::Undialled), version: None }
    }

    /// `server` is dialled for the calls to come.
    pub(crate) fn dialled(server: Server) -> Self {
        let version = Some(server.version);
        Self { state: Mutex::new(State::Dialled(server)), version }
    }

    /// Every call is told `reason`.
    pub(crate) fn failed(reason: Reason) -> Self {
        Self { state: Mutex::new(State::Failed(reason)), version: None }
    }

    /// What the server speaks, if it was asked.
    pub(crate) fn version(&self) -> Option<Version> {
        self.version
    }

    /// The stream, if it is dialled and no call was sent on it.
    pub(crate) fn into_unused(self) -> Option<ServerStream> {
        match self.state.into_inner() {
            State::Dialled(server) => Some(server.stream),
            _ => None,
        }
    }

    /// Sends one permitted call and waits for the head of the answer.
    ///
    /// A kept-alive connection that the service has closed meanwhile is dialled anew once,
    /// provided that no byte of the call had gone out on it.
    ///
    /// # Errors
    /// Why the service could not be reached, or broke off.
    pub(crate) async fn send(
        &self,
        errand: &Errand<'_>,
        permit: CallPermit,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Reason> {
        let service = permit.function().service.clone();
        let (mut sender, reused) = self.sender(errand, &service).await?;
        let mut answer = sender.try_send(request).await;
        if reused
            && let Err(error) = &mut answer
            && let Some(unsent) = error.take_message()
        {
            debug!(%service, "the service had closed an idle connection: dialling anew");
            (sender, _) = self.sender(errand, &service).await?;
            answer = sender.try_send(unsent).await;
        }
        match answer {
            Ok(response) => {
                if let Sender::Http1(sender) = sender {
                    self.keep(&service, sender).await;
                }
                Ok(response)
            }
            Err(error) => {
                debug!(%service, error = %error.error(), "the service broke off");
                Err(Reason::UpstreamProtocol)
            }
        }
    }

    /// A connection that can take a call now, and whether it was used before.
    async fn sender(&self, errand: &Errand<'_>, service: &Service) -> Result<(Sender, bool), Reason> {
        let mut state = self.state.lock().await;
        match &mut *state {
            State::Failed(reason) => return Err(*reason),
            State::Dialled(_) => {
                let State::Dialled(server) = std::mem::replace(&mut *state, State::Undialled) else {
                    return Err(Reason::Internal);
                };
                return self.begin(&mut state, server, service).await.map(|sender| (sender, false));
            }
            State::Http2(to, sender) if to == service && !sender.is_closed() => {
                let mut sender = sender.clone();
                if sender.ready().await.is_ok() {
                    return Ok((Sender::Http2(sender), true));
                }
            }
            State::Http1(to, idle) if to == service => {
                if let Some(sender) = ready(idle, errand.client).await {
                    return Ok((Sender::Http1(sender), true));
                }
                // All of them are busy: this call gets one of its own, and the others need not wait for it.
                drop(state);
                let server = self.dial(errand, service).await?;
                if server.version == Version::Http1 {
                    return sender::http1(server.stream).await.map(|sender| (Sender::Http1(sender), false));
                }
                let mut state = self.state.lock().await;
                return self.begin(&mut state, server, service).await.map(|sender| (sender, false));
            }
            State::Http1(..) | State::Http2(..) | State::Undialled => {}
        }
        // Under the lock: calls that begin together dial once.
        *state = State::Undialled;
        let server = self.dial(errand, service).await?;
        self.begin(&mut state, server, service).await.map(|sender| (sender, false))
    }

    /// Opens HTTP on a new connection to `service`.
    async fn begin(&self, state: &mut State, server: Server, service: &Service) -> Result<Sender, Reason> {
        match server.version {
            Version::Http1 => {
                *state = State::Http1(service.clone(), Vec::new());
                sender::http1(server.stream).await.map(Sender::Http1)
            }
            Version::Http2 => {
                let sender = sender::http2(server.stream).await?;
                *state = State::Http2(service.clone(), sender.clone());
                Ok(Sender::Http2(sender))
            }
        }
    }

    /// Keeps a connection of HTTP/1.1 for the calls to come.
    async fn keep(&self, service: &Service, sender: http1::SendRequest<RequestBody>) {
        if let State::Http1(to, idle) = &mut *self.state.lock().await
            && to == service
        {
            idle.push(sender);
        }
    }

    async fn dial(&self, errand: &Errand<'_>, service: &Service) -> Result<Server, Reason> {
        let offer = match (errand.channel, errand.client) {
            (Channel::Plain, version) => {
                // In plain text nothing is negotiated: the service is taken to speak what its client speaks.
                return open(errand.connection, errand.connect, service, None)
                    .await
                    .map(|server| Server { version, ..server });
            }
            (Channel::Tls(_), Version::Http1) => Offer::Http1,
            (Channel::Tls(_), Version::Http2) => Offer::Either,
        };
        open(errand.connection, errand.connect, service, Some(offer)).await
    }
}

/// Takes a connection that can carry a call now.
///
/// A client of HTTP/1.1 makes one call at a time, so its connection is ready as soon as the end of the last answer was
/// read; a client of HTTP/2 does not wait for other calls.
async fn ready(
    idle: &mut Vec<http1::SendRequest<RequestBody>>,
    client: Version,
) -> Option<http1::SendRequest<RequestBody>> {
    idle.retain(|sender| !sender.is_closed());
    if client == Version::Http1 {
        let mut sender = idle.pop()?;
        return sender.ready().await.is_ok().then_some(sender);
    }
    let place = idle.iter().position(http1::SendRequest::is_ready)?;
    Some(idle.swap_remove(place))
}

/// Dials the service, and within TLS (where something is offered) verifies its certificate.
///
/// A server that speaks nothing of an offer of HTTP/1.1 is offered HTTP/2 on a second connection.
pub(crate) async fn open(
    connection: &Connection,
    permit: &ConnectPermit,
    service: &Service,
    offer: Option<Offer>,
) -> Result<Server, Reason> {
    let stream = dial::dial(connection, permit).await?;
    let Some(offer) = offer else {
        return Ok(Server { stream: Box::new(stream), version: Version::Http1 });
    };
    let connected = match tls::connect(connection, permit, service, offer, stream).await {
        Err(Failure::NoProtocol) if offer == Offer::Http1 => {
            let stream = dial::dial(connection, permit).await?;
            tls::connect(connection, permit, service, Offer::Http2, stream).await
        }
        connected => connected,
    };
    match connected {
        Ok((stream, version)) => Ok(Server { stream: Box::new(stream), version }),
        Err(Failure::Because(reason)) => Err(reason),
        Err(Failure::NoProtocol) => Err(Reason::UpstreamProtocol),
    }
}
