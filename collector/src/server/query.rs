//! Answers queries over the store; reading it blocks, so each query has a thread of the blocking pool.

use std::sync::Arc;
use std::time::Duration;

use callgate_proto::v1::query_server::Query;
use callgate_proto::v1::{
    SealedRecord, SearchReply, SearchRequest, SessionRequest, SessionsReply, SessionsRequest, TailRequest, VerifyReply,
    VerifyRequest,
};
use callgate_proto::{ProtoError, id_from_bytes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::store::PAGE_MAX;
use crate::{Store, StoreError, translate};

/// Most queries that read at once; further ones wait.
const READING_MAX: usize = 8;
/// Most followers at once; one more is told to come back.
const FOLLOWERS_MAX: usize = 256;
/// Records that wait for a client that does not read; then reading waits too.
const WAITING: usize = 64;
/// How often a follower looks for what another process stored; what this one stores wakes it at once.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The service.
pub(super) struct Queries {
    store: Store,
    stop: CancellationToken,
    reading: Arc<Semaphore>,
    following: Arc<Semaphore>,
}

type Records = ReceiverStream<Result<SealedRecord, Status>>;

impl Queries {
    pub(super) fn new(store: Store, stop: CancellationToken) -> Self {
        let room = |places| Arc::new(Semaphore::new(places));
        Self { store, stop, reading: room(READING_MAX), following: room(FOLLOWERS_MAX) }
    }

    async fn read<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        read(&self.store, &self.reading, act).await
    }

    fn follower(&self) -> Result<OwnedSemaphorePermit, Status> {
        let room = Arc::clone(&self.following).try_acquire_owned();
        room.map_err(|_| Status::resource_exhausted("too many clients follow at once, try again later"))
    }
}

#[tonic::async_trait]
impl Query for Queries {
    type TailStream = Records;
    type SessionStream = Records;

    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchReply>, Status> {
        let search = translate::search_from(request.into_inner()).map_err(malformed)?;
        let page = self.read(move |store| store.search(&search)).await?;
        Ok(Response::new(SearchReply { records: page.records, cursor: page.cursor }))
    }

    async fn tail(&self, request: Request<TailRequest>) -> Result<Response<Records>, Status> {
        let TailRequest { filter, backlog } = request.into_inner();
        let filter = translate::filter_from(filter.unwrap_or_default()).map_err(malformed)?;
        let backlog = usize::try_from(backlog).unwrap_or(PAGE_MAX).min(PAGE_MAX);
        let permit = self.follower()?;
        let mut news = self.store.news();
        let (latest, mut tail) = self.read(move |store| store.tail(filter, backlog)).await?;
        let (records, answer) = mpsc::channel(WAITING);
        let (store, reading, stop) = (self.store.clone(), Arc::clone(&self.reading), self.stop.clone());
        let follow = async move {
            let _permit = permit;
            for record in latest {
                records.send(Ok(record)).await.ok()?;
            }
            loop {
                news.mark_unchanged();
                let looked = read(&store, &reading, move |_| Ok((tail.look()?, tail))).await;
                let ((found, more), kept) = match looked {
                    Ok(looked) => looked,
                    Err(status) => return records.send(Err(status)).await.ok(),
                };
                tail = kept;
                for record in found {
                    records.send(Ok(record)).await.ok()?;
                }
                if !more {
                    tokio::select! {
                        () = stop.cancelled() => return None,
                        () = records.closed() => return None,
                        _ = news.changed() => {}
                        () = tokio::time::sleep(LOOK_EVERY) => {}
                    }
                }
            }
        };
        tokio::spawn(follow);
        Ok(Response::new(ReceiverStream::new(answer)))
    }

    async fn sessions(&self, request: Request<SessionsRequest>) -> Result<Response<SessionsReply>, Status> {
        let search = translate::session_search_from(request.into_inner());
        let page = self.read(move |store| store.sessions(&search)).await?;
        let sessions = page.sessions.into_iter().map(translate::summary_to).collect();
        Ok(Response::new(SessionsReply { sessions, cursor: page.cursor }))
    }

    async fn session(&self, request: Request<SessionRequest>) -> Result<Response<Records>, Status> {
        let id = id_from_bytes("session", &request.into_inner().session).map_err(malformed)?;
        let session = callgate_model::SessionId(id);
        if self.read(move |store| store.session(session)).await?.is_none() {
            return Err(Status::not_found(format!("no session `{session}` is stored")));
        }
        let permit = self.follower()?;
        let (records, answer) = mpsc::channel(WAITING);
        let (store, reading) = (self.store.clone(), Arc::clone(&self.reading));
        let give = async move {
            let _permit = permit;
            let mut search = Store::session_records(session);
            loop {
                let next = search.clone();
                let page = match read(&store, &reading, move |store| store.search(&next)).await {
                    Ok(page) => page,
                    Err(status) => return records.send(Err(status)).await.ok(),
                };
                for record in page.records {
                    records.send(Ok(record)).await.ok()?;
                }
                if page.cursor.is_empty() {
                    return Some(());
                }
                search.cursor = page.cursor;
            }
        };
        tokio::spawn(give);
        Ok(Response::new(ReceiverStream::new(answer)))
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<VerifyReply>, Status> {
        let (stream, head) = translate::verify_from(request.into_inner()).map_err(malformed)?;
        let report = self.read(move |store| store.verify(stream.as_ref(), head)).await?;
        Ok(Response::new(translate::report_to(report)))
    }
}

async fn read<T: Send + 'static>(
    store: &Store,
    reading: &Arc<Semaphore>,
    act: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Status> {
    let permit = Arc::clone(reading).acquire_owned().await;
    let store = store.clone();
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        act(&store)
    });
    match done.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error @ StoreError::Cursor(_))) => Err(Status::invalid_argument(error.to_string())),
        Ok(Err(error)) => {
            tracing::error!(%error, "a query failed");
            Err(Status::internal(error.to_string()))
        }
        Err(_) => Err(Status::internal("the query failed")),
    }
}

fn malformed(error: ProtoError) -> Status {
    Status::invalid_argument(error.to_string())
}
