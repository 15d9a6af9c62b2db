//! DNS of workloads: reads their questions, has them answered, and records each answer before it is given.
//!
//! Never judges a question and never asks anybody: [`Resolver`] does. Datagrams come to [`DnsListener`], which the
//! kernel lets nobody but enrolled workloads reach with a known sender; connections to port 53 come by way of
//! [`connection`](crate::connection). What cannot be recorded is not answered but failed.

mod trail;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use callgate_dns::{Answered, Asked, PORT, Resolver};
use callgate_model::{
    DnsRecord, DnsTransport, Lineage, Mode, NetnsCookie, Origin, Placement, Process, Reason, RecordKind, Workload,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tracing::{debug, error, info, warn};

use crate::connection::attest;
use crate::facts::Connection;
use crate::listener::{PAUSE, Pulse, TICK};
use crate::{Gate, Tally};
use trail::{Left, Trail};

/// Longest datagram read; a longer question is malformed. Unit: bytes. Source: RFC 6891 §6.2.5.
const DATAGRAM: usize = 4_096;

/// Most datagrams read after the gate was told to stop. Source: more than the default receive buffer holds (212,992
/// bytes, each datagram is charged for at least 768).
const LAST: usize = 512;

/// Longest wait for the next question on a connection. Source: RFC 7766 §6.2.3 asks for seconds.
const IDLE: Duration = Duration::from_secs(10);

/// Answers and records questions; part of the [`Gate`].
#[derive(Debug)]
pub struct Dns {
    resolver: Resolver,
    trail: Trail,
}

impl Dns {
    /// Answers with `resolver`, and records at most so many questions of one workload in a second.
    #[must_use]
    pub fn new(resolver: Resolver, records_per_s: u32) -> Self {
        Self { resolver, trail: Trail::new(records_per_s) }
    }

    /// Waits until every question that was read has its answer.
    pub async fn idle(&self) {
        self.resolver.idle().await;
    }
}

/// A socket for questions inside one network namespace.
#[derive(Debug)]
pub struct DnsListener {
    socket: Arc<UdpSocket>,
    netns: NetnsCookie,
    pulse: Arc<Pulse>,
}

impl DnsListener {
    /// Takes over `socket`, which is bound in the namespace `netns`.
    ///
    /// # Errors
    /// When the socket cannot be made non-blocking or registered with the runtime.
    pub fn new(socket: std::net::UdpSocket, netns: NetnsCookie) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Arc::new(UdpSocket::from_std(socket)?), netns, pulse: Arc::new(Pulse::new()) })
    }

    /// When this socket's loop last turned.
    #[must_use]
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Answers until the gate stops, and then what was asked by then.
    pub async fn serve(self, gate: Arc<Gate>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut buffer = vec![0; DATAGRAM];
        loop {
            tokio::select! {
                biased;
                () = gate.stopping.cancelled() => return self.read_out(&gate, &mut buffer),
                _ = tick.tick() => {
                    self.pulse.tick();
                    record_left_out(&gate);
                }
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((len, peer)) => self.received(&gate, &buffer[..len], peer),
                    Err(error) => {
                        warn!(%error, "a socket for DNS failed");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
    }

    /// What is in the socket already: a successor that reads it later has no note of who sent it.
    fn read_out(&self, gate: &Arc<Gate>, buffer: &mut [u8]) {
        for _ in 0..LAST {
            let Ok((len, peer)) = self.socket.try_recv_from(buffer) else { return };
            self.received(gate, &buffer[..len], peer);
        }
    }

    fn received(&self, gate: &Arc<Gate>, bytes: &[u8], peer: SocketAddr) {
        // Before anything else: each datagram has one note, or a part of one.
        let origin = gate.ground.asker(self.netns, peer);
        let Some((workload, origin)) = origin.and_then(|origin| Some((gate.roster.get(origin.enrolled)?, origin)))
        else {
            gate.dns.resolver.dropped();
            debug!(%peer, "a datagram of nobody that is enrolled: dropped");
            return;
        };
        let Some(slot) = gate.dns.resolver.enter() else { return };
        let (gate, socket, bytes) = (Arc::clone(gate), Arc::clone(&self.socket), bytes.to_vec());
        tokio::spawn(async move {
            // Side by side: a new executable is hashed while the answer is on its way.
            let asked = asked(&workload, &origin, DnsTransport::Udp, &bytes);
            let started = Instant::now();
            let (answered, process) = tokio::join!(gate.dns.resolver.answer(asked), attest(&gate, &origin, &workload));
            let asker = Asker { workload: &workload, origin: &origin, process: &process };
            if let Some(answered) = answered
                && let Some(reply) = record(&gate, &asker, DnsTransport::Udp, started, &bytes, answered)
                && let Err(error) = socket.send_to(&reply, peer).await
            {
                debug!(%peer, %error, "an answer could not be given");
            }
            drop(slot);
        });
    }
}

/// Whether a connection is one of DNS: by the port that the workload dialled.
pub(crate) fn is_dns(origin: &Origin) -> bool {
    origin.destination.port() == PORT
}

/// Answers the questions that come on one connection, one after the other.
///
/// # Errors
/// Those of the stream, and `TimedOut` for one that says nothing.
pub(crate) async fn serve_stream<S>(connection: &Connection, mut stream: S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let gate = &connection.gate;
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout(IDLE, message(&mut stream)) => next,
            () = gate.stopping.cancelled() => return Ok(()),
        };
        let Some(bytes) = next.map_err(|_| io::ErrorKind::TimedOut)?? else { return Ok(()) };
        let Some(_slot) = gate.dns.resolver.enter() else { return Ok(()) };
        let started = Instant::now();
        let asked = asked(&connection.workload, &connection.origin, DnsTransport::Tcp, &bytes);
        let Some(answered) = gate.dns.resolver.answer(asked).await else { return Ok(()) };
        let asker = Asker { workload: &connection.workload, origin: &connection.origin, process: &connection.process };
        let reply = record(gate, &asker, DnsTransport::Tcp, started, &bytes, answered);
        let Some(reply) = reply else { return Ok(()) };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &reply].concat()).await?;
    }
}

/// The next message; none at the end of the stream. Source: RFC 1035 §4.2.2: two bytes of length before each.
async fn message<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => usize::from(length),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(Some(bytes))
}

fn asked<'a>(workload: &Workload, origin: &Origin, transport: DnsTransport, bytes: &'a [u8]) -> Asked<'a> {
    Asked { workload: origin.enrolled, observed: workload.mode == Mode::Observe, transport, bytes }
}

/// Who asked.
struct Asker<'a> {
    workload: &'a Workload,
    origin: &'a Origin,
    process: &'a Process,
}

/// Records, and gives what the workload gets: a failure where the record cannot be written.
fn record(
    gate: &Gate,
    asker: &Asker<'_>,
    transport: DnsTransport,
    started: Instant,
    question: &[u8],
    answered: Answered,
) -> Option<Vec<u8>> {
    let Answered { bytes, name, query_type, rcode, answers, stripped, reason } = answered;
    let Asker { workload, origin, process } = *asker;
    let observed = workload.mode == Mode::Observe && reason != Reason::Permitted;
    if reason != Reason::Permitted {
        let tally = gate.tallies.of(origin.enrolled);
        Tally::add(if observed { &tally.observed } else { &tally.denied }, 1);
    }
    let Some(left_out) = gate.dns.trail.take(origin.enrolled, Instant::now()) else { return Some(bytes) };
    let name = gate.masks.text(&name).into_owned();
    if reason != Reason::Permitted {
        info!(workload = %workload.id, %reason, observed, "a question of DNS was refused");
    }
    let dns = DnsRecord {
        workload: workload.id.clone(),
        session: workload.session,
        process: process.clone(),
        destination: origin.destination.to_string(),
        transport,
        name,
        query_type,
        rcode,
        answers,
        stripped,
        reason,
        observed,
        left_out,
        duration_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
    };
    match gate.recorder.write(RecordKind::Dns(Box::new(dns))) {
        Ok(_) => Some(bytes),
        Err(error) => {
            error!(%error, "an answer of DNS could not be recorded, and so is not given");
            Resolver::failed(question)
        }
    }
}

/// Writes down how many questions came too fast to be recorded, where none has come since that could say so.
fn record_left_out(gate: &Gate) {
    for Left { workload, count } in gate.dns.trail.overdue(Instant::now()) {
        let Some(workload) = gate.roster.get(workload) else { continue };
        let dns = DnsRecord {
            workload: workload.id.clone(),
            session: workload.session,
            process: Process {
                pid: 0,
                start_time: 0,
                uid: 0,
                gid: 0,
                executable: None,
                lineage: Lineage::default(),
                placement: Placement::default(),
            },
            destination: String::new(),
            transport: DnsTransport::Udp,
            name: String::new(),
            query_type: String::new(),
            rcode: String::new(),
            answers: 0,
            stripped: 0,
            reason: Reason::LimitReached,
            observed: false,
            left_out: count,
            duration_us: 0,
        };
        if let Err(error) = gate.recorder.write(RecordKind::Dns(Box::new(dns))) {
            error!(%error, "how many questions were left out could not be recorded");
        }
    }
}
