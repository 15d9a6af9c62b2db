//! Conducts one connection through the stops: who, which protocol, may it connect, then its calls.
//!
//! Straight from top to bottom; each way out notes how the connection ended.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use callgate_model::{Origin, Outcome, Placement, Process, Reason, Service, Uninspected, Workload};
use callgate_policy::ConnectPermit;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tracing::{debug, info, warn};

use crate::counted::Counted;
use crate::facts::Connection;
use crate::http::{self, Channel, Connect, ServerStream, Upstream, Version};
use crate::opening::{self, Opening};
use crate::relay::relay;
use crate::replay::Replay;
use crate::unopened::Refused;
use crate::{Gate, dial, dns, tls};

/// Carries the connection that `origin` describes until it ends.
pub(crate) async fn conduct(gate: Arc<Gate>, stream: TcpStream, origin: Origin) {
    let Some(workload) = gate.roster.get(origin.enrolled) else {
        warn!(cgroup = %origin.enrolled, "connection of a cgroup that is not on the roster: closed");
        return;
    };
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "connection was gone before it began");
        return;
    }
    let process = attest(&gate, &origin, &workload).await;
    let connection = Arc::new(Connection::new(gate, workload, process, origin));
    let mut stream = Counted::new(stream, Arc::clone(&connection.traffic));
    if dns::is_dns(&connection.origin) {
        return match dns::serve_stream(&connection, stream).await {
            Ok(()) => connection.ends(Outcome::Complete, Reason::Permitted),
            Err(_) => connection.ends(Outcome::Cut, Reason::ClientGone),
        };
    }
    let wait = opening_wait(&connection);
    match opening::read(&mut stream, wait).await {
        Ok(Opening::Http1(first)) => {
            let stream = Replay::new(first, stream);
            http::serve(Arc::clone(&connection), Channel::Plain, Version::Http1, Upstream::undialled(), stream).await;
        }
        Ok(Opening::Http2(first)) => {
            let stream = Replay::new(first, stream);
            http::serve(Arc::clone(&connection), Channel::Plain, Version::Http2, Upstream::undialled(), stream).await;
        }
        // In a box: the handshakes' state is large, and a connection in plain text need not carry it.
        Ok(Opening::Tls(first)) => Box::pin(secured(&connection, stream, first)).await,
        Ok(Opening::Unknown(first)) => {
            let service = Service::of_address(connection.origin.destination);
            undecoded(&connection, &service, false, Replay::new(first, stream), None).await;
        }
        Ok(Opening::Closed) | Err(_) => connection.ends(Outcome::Complete, Reason::ClientGone),
    }
}

/// Who connected; hashing a new executable may take a while, so it leaves the runtime's threads alone.
pub(crate) async fn attest(gate: &Arc<Gate>, origin: &Origin, workload: &Arc<Workload>) -> Process {
    let attestor = Arc::clone(&gate.attestor);
    let (asked, enrolled) = (origin.clone(), Arc::clone(workload));
    let attested = tokio::task::spawn_blocking(move || attestor.process(&asked, &enrolled.cgroup_path)).await;
    let mut process = match attested {
        Ok(process) => process,
        Err(error) => {
            warn!(%error, pid = origin.pid, "the process could not be attested");
            Process::of(origin, Placement::of_cgroup(&workload.cgroup_path))
        }
    };
    process.placement.pod = gate.pods.as_ref().and_then(|pods| pods.told(&process.placement));
    process
}

/// How long to wait for first bytes: a client may stay silent for long only where a server cannot be meant to speak first.
fn opening_wait(connection: &Connection) -> std::time::Duration {
    let limits = &connection.gate.limits;
    let policies = connection.gate.policies.load();
    let service = Service::of_address(connection.origin.destination);
    match &*http::decide_connect(connection, &policies, &service, false) {
        Ok(permit) if permit.may_pass_undecoded() => limits.server_first,
        _ => limits.opening,
    }
}

/// A connection that opened with TLS.
async fn secured(connection: &Arc<Connection>, mut stream: Counted, first: Bytes) {
    let gate = &connection.gate;
    let hello = tokio::time::timeout(gate.limits.handshake, tls::read_hello(&mut stream, first)).await;
    let Ok(Ok(hello)) = hello else {
        return connection.ends(Outcome::Refused, Reason::ClientTls);
    };
    let service = match &hello.sni {
        Some(name) => match Service::new(name, connection.origin.destination.port()) {
            Ok(service) => service,
            Err(_) => return connection.ends(Outcome::Refused, Reason::NameMismatch),
        },
        None => Service::of_address(connection.origin.destination),
    };
    let policies = gate.policies.load_full();
    let connect = http::decide_connect(connection, &policies, &service, true);
    let upstream = match &*connect {
        Ok(permit) if permit.passthrough() => {
            let stream = Replay::new(hello.bytes, stream);
            return pass_through(connection, permit, stream, Uninspected::Policy).await;
        }
        // The mode is this connection's: a workload that is enforced from now on has its TLS opened from now on.
        Ok(permit) if connection.observes() && is_unopened(connection, &service) => {
            let stream = Replay::new(hello.bytes, stream);
            return pass_through(connection, permit, stream, Uninspected::CertificateRefused).await;
        }
        Ok(permit) if connection.observes() && !hello.speaks_http1 && !hello.speaks_http2 => {
            let stream = Replay::new(hello.bytes, stream);
            return pass_through(connection, permit, stream, Uninspected::Protocol).await;
        }
        Ok(_) if !hello.speaks_http1 && !hello.speaks_http2 => {
            return connection.ends(Outcome::Refused, Reason::ProtocolUnsupported);
        }
        Ok(permit) => match http::open(connection, permit, &service, Some(hello.offer())).await {
            Ok(server) => Upstream::dialled(server),
            Err(Reason::UpstreamCertificate | Reason::UpstreamProtocol) if connection.observes() => {
                let stream = Replay::new(hello.bytes, stream);
                return pass_through(connection, permit, stream, Uninspected::UpstreamTls).await;
            }
            // The caller is told why in its own protocol, once it has asked for something.
            Err(reason) => Upstream::failed(reason),
        },
        // So is a caller whose connect is refused: nothing was dialled, and each of its calls is denied.
        Err(_) => Upstream::undialled(),
    };
    let mut stream = match tls::accept(connection, hello, &service, upstream.version(), stream).await {
        Ok(stream) => stream,
        Err(unfinished) => {
            refused(connection, &service, unfinished.refused);
            return connection.ends(Outcome::Refused, unfinished.reason);
        }
    };
    let opened = opening::read(&mut stream, gate.limits.opening).await;
    if connection.observes() {
        match &opened {
            // Some clients look at the certificate only now, and leave.
            Ok(Opening::Closed) => refused(connection, &service, Some(Refused::Perhaps)),
            Err(error) => refused(connection, &service, Refused::of(error)),
            Ok(_) => gate.unopened.trusted(&connection.workload.id, &service),
        }
    }
    match opened {
        Ok(Opening::Http1(first)) => {
            let stream = Replay::new(first, stream);
            http::serve(Arc::clone(connection), Channel::Tls(service), Version::Http1, upstream, stream).await;
        }
        Ok(Opening::Http2(first)) => {
            let stream = Replay::new(first, stream);
            http::serve(Arc::clone(connection), Channel::Tls(service), Version::Http2, upstream, stream).await;
        }
        Ok(Opening::Unknown(first) | Opening::Tls(first)) => {
            let stream = Replay::new(first, stream);
            undecoded(connection, &service, true, stream, upstream.into_unused()).await;
        }
        Ok(Opening::Closed) | Err(_) => connection.ends(Outcome::Complete, Reason::ClientGone),
    }
}

/// Whether clients of the workload have refused our certificate for `service`.
fn is_unopened(connection: &Connection, service: &Service) -> bool {
    connection.gate.unopened.holds(&connection.workload.id, service, Instant::now())
}

/// Notes that a client does not take our certificate. Observe mode breaks nothing, so its next try passes unopened;
/// where verdicts are enforced nothing is noted, and no number of tries changes anything.
fn refused(connection: &Connection, service: &Service, refused: Option<Refused>) {
    let Some(refused) = refused.filter(|_| connection.observes()) else { return };
    let workload = &connection.workload.id;
    if connection.gate.unopened.note(workload, service, refused, Instant::now()) {
        info!(%workload, %service, %refused, "clients refuse our certificate: TLS passes unopened from now on");
    }
}

/// A protocol that we do not decode: relayed where a connect policy says so in so many words, else closed.
async fn undecoded<S>(
    connection: &Arc<Connection>,
    service: &Service,
    tls: bool,
    stream: S,
    server: Option<ServerStream>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let policies = connection.gate.policies.load_full();
    let connect: Connect = http::decide_connect(connection, &policies, service, tls);
    let permit = match &*connect {
        Ok(permit) if permit.may_pass_undecoded() => permit,
        Ok(_) => return connection.ends(Outcome::Refused, Reason::ProtocolUnknown),
        Err(decision) => {
            let reason = if decision.reason == Reason::Forbidden { Reason::Forbidden } else { Reason::ProtocolUnknown };
            return connection.ends(Outcome::Refused, reason);
        }
    };
    match server {
        Some(server) => carry(connection, stream, server, Uninspected::Protocol).await,
        None if tls => connection.ends(Outcome::Refused, Reason::UpstreamUnreachable),
        None => pass_through(connection, permit, stream, Uninspected::Protocol).await,
    }
}

/// Dials and relays, unopened.
async fn pass_through<S>(connection: &Arc<Connection>, permit: &ConnectPermit, stream: S, why: Uninspected)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match dial::dial(connection, permit).await {
        Ok(server) => carry(connection, stream, server, why).await,
        Err(reason) => connection.ends(Outcome::Refused, reason),
    }
}

async fn carry<C, S>(connection: &Arc<Connection>, client: C, server: S, why: Uninspected)
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    connection.uninspected(why);
    let ended = tokio::select! {
        ended = relay(client, server) => ended,
        () = connection.gate.stopping.cancelled() => return connection.ends(Outcome::Cut, Reason::ShuttingDown),
    };
    match ended {
        Ok(_) => connection.ends(Outcome::Complete, reason_of(why)),
        Err(_) => connection.ends(Outcome::Cut, Reason::ClientGone),
    }
}

/// What the record of a connection that passed gives as its reason.
fn reason_of(why: Uninspected) -> Reason {
    match why {
        Uninspected::Policy | Uninspected::Protocol => Reason::Permitted,
        Uninspected::CertificateRefused => Reason::ClientTls,
        Uninspected::UpstreamTls => Reason::UpstreamProtocol,
    }
}
