//! One connection to the collector: agree on where to go on, then ship until it breaks.

use std::collections::VecDeque;
use std::time::Duration;

use callgate_audit::{AuditError, Recorder, SpoolReader};
use callgate_proto::v1::ingest_client::IngestClient;
use callgate_proto::v1::{Ack, Batch, Hello, SealedRecord, ShipReply, ShipRequest, Welcome, ship_reply, ship_request};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::{Breach, Endpoint, Metrics, Route, ShipError};

/// Most bytes of bodies that were sent and not acknowledged; then reading waits. Unit: bytes.
const IN_FLIGHT_BYTES: usize = 8 << 20;
/// Most batches that were sent and not acknowledged.
const IN_FLIGHT_BATCHES: usize = 64;
/// Most records in a batch. Source: the contract, `Batch` in callgate.proto.
const BATCH_RECORDS: usize = 1_024;
/// Batches between us and HTTP/2, whose window does the rest.
const OUTGOING: usize = 2;
/// Longest wait for a connection, and for the answer to `hello`.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for an acknowledgement while something is in flight: a busy store may have others to serve first.
const SILENCE: Duration = Duration::from_secs(60);
/// A peer that answers no ping for this long is gone.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// What a shipment tells of itself.
pub(crate) trait Progress {
    /// The collector has answered: records flow.
    fn connected(&mut self);
    /// The collector has everything up to `seq`.
    fn acked(&mut self, seq: u64);
}

/// Why a shipment ended in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// The spool was closed, and all of it is acknowledged.
    Shipped,
    /// The connection was as old as one may be; all that was sent is acknowledged.
    Aged,
}

/// One connection.
pub(crate) struct Shipment<'a, P> {
    pub recorder: &'a Recorder,
    pub metrics: &'a Metrics,
    pub progress: &'a mut P,
}

/// A connection on which both sides agree.
struct Flow {
    reader: SpoolReader,
    requests: mpsc::Sender<ShipRequest>,
    replies: Streaming<ShipReply>,
    /// The collector's last record and its seal, until a record of ours was compared with it.
    agreed: Option<(u64, Vec<u8>)>,
    /// Read and not sent yet.
    ready: Vec<SealedRecord>,
    /// Last seq and bytes of each batch that is not acknowledged.
    in_flight: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl<P: Progress> Shipment<'_, P> {
    /// Ships until the connection breaks, is as old as it may be, or everything is shipped.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing: what was not acknowledged is sent again by the next one.
    pub async fn run(&mut self, route: &Route) -> Result<Ended, ShipError> {
        let channel = connect(route).await?;
        let aged = route.tls.as_ref().map(|tls| Instant::now() + tls.connection_max());
        let mut flow = self.agree(channel).await?;
        self.metrics.connections.inc();
        self.progress.connected();
        self.flow(&mut flow, aged).await
    }

    /// Says hello and finds the place to go on from.
    async fn agree(&mut self, channel: Channel) -> Result<Flow, ShipError> {
        let stream = self.recorder.stream().0;
        let node = stream.split('/').next().unwrap_or_default().to_owned();
        let hello = Hello { stream, node, version: env!("CARGO_PKG_VERSION").into() };
        let (requests, outgoing) = mpsc::channel(OUTGOING);
        let hello = ShipRequest { message: Some(ship_request::Message::Hello(hello)) };
        // The queue was just made and has room.
        requests.try_send(hello).map_err(|_| ShipError::Protocol("it closed before it was greeted"))?;
        let mut client = IngestClient::new(channel);
        let answer = timeout(CONNECT, async {
            let mut replies = client.ship(ReceiverStream::new(outgoing)).await?.into_inner();
            Ok::<_, ShipError>((replies.message().await?, replies))
        });
        let (first, replies) = answer.await.map_err(|_| ShipError::Silent(CONNECT))??;
        let Some(ShipReply { message: Some(ship_reply::Message::Welcome(welcome)) }) = first else {
            return Err(ShipError::Protocol("it did not answer `hello` by `welcome`"));
        };
        let (reader, ready) = self.resume(&welcome).await?;
        let mut agreed = (welcome.last_seq > 0).then_some((welcome.last_seq, welcome.last_hash));
        check_agreed(&mut agreed, &ready)?;
        self.recorder.acknowledge(welcome.last_seq)?;
        self.progress.acked(welcome.last_seq);
        Ok(Flow { reader, requests, replies, agreed, ready, in_flight: VecDeque::new(), bytes: 0 })
    }

    /// Compares what the collector has with what the spool holds; gives the first record that it lacks.
    async fn resume(&mut self, welcome: &Welcome) -> Result<(SpoolReader, Vec<SealedRecord>), ShipError> {
        let spool = self.recorder.status();
        let last_seq = welcome.last_seq;
        if last_seq > spool.durable_seq {
            return Err(Breach::Ahead { collector_seq: last_seq, spool_seq: spool.durable_seq }.into());
        }
        if last_seq < spool.acked_seq {
            tracing::warn!(
                collector_seq = last_seq,
                acked_seq = spool.acked_seq,
                "the collector lost records that it had acknowledged: what the spool still holds is sent again"
            );
        }
        let mut reader = self.recorder.reader(last_seq + 1);
        // Finding the place may read through a whole segment: too long for a thread that others wait for.
        let found = tokio::task::spawn_blocking(move || reader.next_batch(1).map(|ready| (reader, ready)));
        match found.await.map_err(|_| ShipError::Ended("reading the spool panicked".into()))? {
            Ok(found) => Ok(found),
            Err(AuditError::NotHeld { first, .. }) if first > last_seq + 1 => {
                Err(Breach::Lost { first_lost: last_seq + 1, last_lost: first - 1 }.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn flow(&mut self, flow: &mut Flow, end: Option<Instant>) -> Result<Ended, ShipError> {
        // A clone, so that waiting for a place borrows nothing of `flow`.
        let requests = flow.requests.clone();
        let (mut over, mut aged) = (false, false);
        let mut heard = Instant::now();
        loop {
            if (over || aged) && flow.ready.is_empty() && flow.in_flight.is_empty() {
                return Ok(if over { Ended::Shipped } else { Ended::Aged });
            }
            let room = flow.bytes < IN_FLIGHT_BYTES && flow.in_flight.len() < IN_FLIGHT_BATCHES;
            tokio::select! {
                reply = flow.replies.message() => match reply?.and_then(|reply| reply.message) {
                    Some(ship_reply::Message::Ack(ack)) => {
                        heard = Instant::now();
                        self.acknowledged(flow, &ack)?;
                    }
                    Some(ship_reply::Message::Welcome(_)) => return Err(ShipError::Protocol("it welcomed twice")),
                    None => return Err(ShipError::Ended("it closed the connection".into())),
                },
                place = requests.reserve(), if !flow.ready.is_empty() => {
                    let Ok(place) = place else {
                        return Err(ShipError::Ended("it closed the connection".into()));
                    };
                    if flow.in_flight.is_empty() {
                        heard = Instant::now();
                    }
                    let records = std::mem::take(&mut flow.ready);
                    let bytes = records.iter().map(|record| record.body.len()).sum();
                    let last = records.last().map_or(0, |record| record.seq);
                    flow.in_flight.push_back((last, bytes));
                    flow.bytes += bytes;
                    self.metrics.records.inc_by(records.len() as u64);
                    self.metrics.bytes.inc_by(bytes as u64);
                    place.send(ShipRequest { message: Some(ship_request::Message::Batch(Batch { records })) });
                }
                more = flow.reader.wait(), if room && flow.ready.is_empty() && !over && !aged => {
                    over = !more;
                    if more {
                        // Short reads from the page cache, at most 1 MiB: shorter than handing them to a thread.
                        flow.ready = flow.reader.next_batch(BATCH_RECORDS)?;
                        check_agreed(&mut flow.agreed, &flow.ready)?;
                    }
                }
                () = until(end), if !aged => aged = true,
                () = sleep_until(heard + SILENCE), if !flow.in_flight.is_empty() => {
                    return Err(ShipError::Silent(SILENCE));
                }
            }
        }
    }

    fn acknowledged(&mut self, flow: &mut Flow, ack: &Ack) -> Result<(), ShipError> {
        while let Some((last, bytes)) = flow.in_flight.front().copied().filter(|(last, _)| *last <= ack.seq) {
            flow.in_flight.pop_front();
            flow.bytes -= bytes;
            tracing::trace!(last, "batch acknowledged");
        }
        match self.recorder.acknowledge(ack.seq) {
            Ok(()) => self.progress.acked(ack.seq),
            Err(AuditError::NotHeld { .. }) => {
                return Err(ShipError::Protocol("it acknowledged records that were never sent"));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// The first record that is sent must follow the one that the collector has last.
fn check_agreed(agreed: &mut Option<(u64, Vec<u8>)>, records: &[SealedRecord]) -> Result<(), Breach> {
    let Some(first) = records.first() else { return Ok(()) };
    match agreed.take() {
        Some((seq, hash)) if first.prev != hash => Err(Breach::Differs { seq }),
        _ => Ok(()),
    }
}

/// Waits for the end of a connection's time, if it has one.
async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

async fn connect(route: &Route) -> Result<Channel, ShipError> {
    // With TLS the connector dials, and the name here is never resolved.
    let address = match &route.endpoint {
        Endpoint::Tls(_) => "http://collector".to_owned(),
        plain => plain.to_string(),
    };
    let address = tonic::transport::Endpoint::from_shared(address)
        .map_err(|error| ShipError::Unreachable(error.to_string()))?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    let channel = match (&route.endpoint, &route.tls) {
        (Endpoint::Tls(endpoint), Some(tls)) => address.connect_with_connector(tls.connector(endpoint)).await,
        _ => address.connect().await,
    };
    channel.map_err(|error| ShipError::Unreachable(root_cause(&error)))
}

/// tonic's own text says "transport error"; the cause says which.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
