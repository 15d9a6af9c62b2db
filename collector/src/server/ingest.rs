//! Takes shipments: one stream of records a request, acknowledged when they are durable.
//!
//! Bounded by design: a request reads no further batch while one is written, and HTTP/2's window stops the sender.

use std::sync::Arc;

use callgate_model::StreamId;
use callgate_proto::v1::ingest_server::Ingest;
use callgate_proto::v1::{Ack, Hello, SealedRecord, ShipReply, ShipRequest, Welcome, ship_reply, ship_request};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::metrics::{Metrics, Refusal};
use super::rights::{PeerInfo, too_old};
use crate::{Head, Ingested, Store, StoreError};

/// Most shipments at once; one more is told to come back.
const SHIPMENTS_MAX: usize = 512;
/// Batches that have arrived are stored in one transaction up to these many records and bytes of bodies.
const TOGETHER_RECORDS: usize = 4_096;
const TOGETHER_BYTES: usize = 8 << 20;
/// Replies that wait for a sender that does not read; then its batches wait too.
const REPLIES: usize = 16;
/// Longest stream id. Unit: bytes.
const STREAM_MAX: usize = 256;

/// The service.
pub(super) struct Shipping {
    store: Store,
    stop: CancellationToken,
    room: Arc<Semaphore>,
    metrics: Metrics,
}

type Reply = Result<ShipReply, Status>;

impl Shipping {
    pub(super) fn new(store: Store, stop: CancellationToken, metrics: Metrics) -> Self {
        Self { store, stop, room: Arc::new(Semaphore::new(SHIPMENTS_MAX)), metrics }
    }
}

#[tonic::async_trait]
impl Ingest for Shipping {
    type ShipStream = ReceiverStream<Reply>;

    async fn ship(&self, request: Request<Streaming<ShipRequest>>) -> Result<Response<Self::ShipStream>, Status> {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            self.metrics.refused(Refusal::busy);
            return Err(Status::resource_exhausted("too many shipments at once, try again later"));
        };
        let (replies, answer) = mpsc::channel(REPLIES);
        let peer = PeerInfo::of(&request)?;
        let (store, metrics) = (self.store.clone(), self.metrics.clone());
        let shipment = Shipment { store, peer, batches: request.into_inner(), replies, metrics };
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let _permit = permit;
            shipment.run(stop).await;
        });
        Ok(Response::new(ReceiverStream::new(answer)))
    }
}

struct Shipment {
    store: Store,
    peer: PeerInfo,
    batches: Streaming<ShipRequest>,
    replies: mpsc::Sender<Reply>,
    metrics: Metrics,
}

impl Shipment {
    async fn run(mut self, stop: CancellationToken) {
        if let Err(status) = self.ship(&stop).await {
            let _ = self.replies.send(Err(status)).await;
        }
    }

    async fn ship(&mut self, stop: &CancellationToken) -> Result<(), Status> {
        let stream = match self.batches.message().await? {
            Some(ShipRequest { message: Some(ship_request::Message::Hello(hello)) }) => self.fit(stream_of(&hello))?,
            Some(_) => return Err(Status::invalid_argument("the first message must be `hello`")),
            None => return Ok(()),
        };
        // Before anything is told of the stream: its head is not for others.
        let allowed = self.peer.may_write(stream.0.split('/').next().unwrap_or_default());
        allowed.inspect_err(|_| self.metrics.refused(Refusal::rights))?;
        let _open = self.metrics.open();
        let head = self.blocking(&stream, |store, stream| store.resume(stream)).await?;
        tracing::info!(%stream, last_seq = head.map_or(0, |head| head.seq), "shipment begins");
        let welcome = Welcome {
            last_seq: head.map_or(0, |head| head.seq),
            last_hash: head.map(|head: Head| head.hash.to_vec()).unwrap_or_default(),
        };
        self.reply(ship_reply::Message::Welcome(welcome)).await;
        loop {
            let Some(batch) = self.next(&stream, stop).await? else { return Ok(()) };
            if batch.is_empty() {
                continue;
            }
            let begun = Instant::now();
            let done: Ingested = self.blocking(&stream, move |store, _| store.ingest(&batch)).await?;
            self.metrics.stored(&done, begun.elapsed());
            if done.duplicates > 0 {
                tracing::debug!(%stream, skipped = done.duplicates, "records came again");
            }
            self.reply(ship_reply::Message::Ack(Ack { seq: done.last_seq })).await;
        }
    }

    /// Waits for a batch, and takes along what else has arrived; none at the end.
    async fn next(&mut self, stream: &StreamId, stop: &CancellationToken) -> Result<Option<Vec<SealedRecord>>, Status> {
        let first = tokio::select! {
            message = self.batches.message() => message?,
            () = stop.cancelled() => return Err(Status::unavailable("the collector is shutting down")),
            () = until(self.peer.until) => return Err(too_old()),
        };
        let Some(first) = first else { return Ok(None) };
        let mut records = self.fit(records_of(first, stream))?;
        let mut bytes: usize = records.iter().map(|record| record.body.len()).sum();
        while records.len() < TOGETHER_RECORDS && bytes < TOGETHER_BYTES {
            let ready = tokio::select! {
                biased;
                message = self.batches.message() => message,
                () = std::future::ready(()) => break,
            };
            // An end or an error is met again by the next call, after what came before it is stored.
            let Ok(Some(message)) = ready else { break };
            let more = self.fit(records_of(message, stream))?;
            bytes += more.iter().map(|record| record.body.len()).sum::<usize>();
            records.extend(more);
        }
        Ok(Some(records))
    }

    /// Counts what is not as the contract says.
    fn fit<T>(&self, read: Result<T, Status>) -> Result<T, Status> {
        read.inspect_err(|_| self.metrics.refused(Refusal::malformed))
    }

    async fn reply(&self, message: ship_reply::Message) {
        // A peer that is gone ends the stream of batches, too.
        let _ = self.replies.send(Ok(ShipReply { message: Some(message) })).await;
    }

    async fn blocking<T: Send + 'static>(
        &self,
        stream: &StreamId,
        act: impl FnOnce(&Store, &StreamId) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        let (store, name) = (self.store.clone(), stream.clone());
        let result = tokio::task::spawn_blocking(move || act(&store, &name)).await;
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                tracing::error!(%stream, %error, "records were refused");
                self.metrics.refused(if error.is_chain() { Refusal::chain } else { Refusal::store });
                Err(if error.is_chain() {
                    Status::data_loss(error.to_string())
                } else {
                    Status::unavailable(error.to_string())
                })
            }
            Err(_) => Err(Status::internal("the store failed")),
        }
    }
}

/// Waits for the end of a connection's time, if it has one.
async fn until(time: Option<std::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(Instant::from_std(time)).await,
        None => std::future::pending().await,
    }
}

fn stream_of(hello: &Hello) -> Result<StreamId, Status> {
    let name = &hello.stream;
    let shaped = name.split_once('/').is_some_and(|(node, rest)| !node.is_empty() && !rest.is_empty());
    if !shaped || name.len() > STREAM_MAX || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Status::invalid_argument("a stream id is `NODE/agent` or `NODE/run-ID`, printable ASCII"));
    }
    Ok(StreamId(name.clone()))
}

fn records_of(message: ShipRequest, stream: &StreamId) -> Result<Vec<SealedRecord>, Status> {
    match message.message {
        Some(ship_request::Message::Batch(batch)) if batch.records.iter().all(|r| r.stream == stream.0) => {
            Ok(batch.records)
        }
        Some(ship_request::Message::Batch(_)) => {
            Err(Status::invalid_argument("a batch holds records of the stream that `hello` named, and no others"))
        }
        _ => Err(Status::invalid_argument("after `hello` come batches")),
    }
}
