//! A gRPC service and its clients, made by tonic: what the gate stands between in the tests of gRPC.
//!
//! The service notes each call that it begins and each that was dropped before its end.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use futures_util::{Stream, StreamExt as _, stream};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};

/// What `build.rs` made of `proto/orders.proto`.
#[allow(clippy::allow_attributes_without_reason, reason = "generated")]
pub mod api {
    tonic::include_proto!("shop.v1");
}

use api::Item;
use api::orders_server::{Orders, OrdersServer};

/// What the service saw.
#[derive(Default)]
pub struct Seen {
    /// Connections.
    pub connections: AtomicUsize,
    /// Calls that were dropped before their end.
    pub dropped: AtomicUsize,
    calls: Mutex<Vec<MetadataMap>>,
}

impl Seen {
    /// The fields of each call so far.
    pub fn calls(&self) -> Vec<MetadataMap> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note<T>(&self, request: &Request<T>) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(request.metadata().clone());
    }
}

/// Serves on a free port, within TLS or not, until the runtime goes.
pub async fn serve(tls: Option<Arc<rustls::ServerConfig>>) -> Result<(SocketAddr, Arc<Seen>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let seen = Arc::new(Seen::default());
    let routes = Routes::new(OrdersServer::new(Shop(Arc::clone(&seen)))).prepare();
    let counted = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.connections.fetch_add(1, Ordering::Relaxed);
            let (tls, service) = (tls.clone(), TowerToHyperService::new(routes.clone()));
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
                let Some(tls) = tls else { return builder.serve_connection(TokioIo::new(stream), service).await.ok() };
                let stream = TlsAcceptor::from(tls).accept(stream).await.ok()?;
                builder.serve_connection(TokioIo::new(stream), service).await.ok()
            });
        }
    });
    Ok((address, seen))
}

struct Shop(Arc<Seen>);

/// Notes on drop that a call did not come to its end.
struct Open(Arc<Seen>, bool);

impl Drop for Open {
    fn drop(&mut self) {
        if !self.1 {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A failure with a field of its own, `x-detail`.
fn failure(code: Code) -> Status {
    let mut fields = MetadataMap::new();
    fields.insert("x-detail", MetadataValue::from_static("the shelf is empty"));
    Status::with_metadata(code, "no such item: 100% sure", fields)
}

type Items = Pin<Box<dyn Stream<Item = Result<Item, Status>> + Send>>;

#[tonic::async_trait]
impl Orders for Shop {
    type WatchStream = Items;
    type TalkStream = Items;

    async fn get(&self, request: Request<Item>) -> Result<Response<Item>, Status> {
        self.0.note(&request);
        match request.get_ref().text.as_str() {
            "missing" => Err(failure(Code::NotFound)),
            "never" => {
                let _open = Open(Arc::clone(&self.0), false);
                std::future::pending().await
            }
            _ => {
                let mut response = Response::new(request.into_inner());
                response.metadata_mut().insert("x-shelf", MetadataValue::from_static("7"));
                Ok(response)
            }
        }
    }

    async fn put(&self, request: Request<Streaming<Item>>) -> Result<Response<Item>, Status> {
        self.0.note(&request);
        let mut items = request.into_inner();
        let mut sum = Item::default();
        while let Some(item) = items.message().await? {
            sum.n += item.n;
            sum.text.push_str(&item.text);
        }
        Ok(Response::new(sum))
    }

    async fn watch(&self, request: Request<Item>) -> Result<Response<Items>, Status> {
        self.0.note(&request);
        let Item { n: count, text } = request.into_inner();
        let open = Open(Arc::clone(&self.0), false);
        let items = stream::unfold((open, 0), move |(mut open, n)| {
            let (fails, text) = (text == "fails", text.clone());
            async move {
                if count > 0 && n == count {
                    open.1 = true;
                    return fails.then(|| (Err(failure(Code::ResourceExhausted)), (open, n + 1)));
                }
                let ended = count > 0 && n > count;
                (!ended).then(|| (Ok(Item { n, text }), (open, n + 1)))
            }
        });
        Ok(Response::new(Box::pin(items)))
    }

    async fn talk(&self, request: Request<Streaming<Item>>) -> Result<Response<Items>, Status> {
        self.0.note(&request);
        let items = request.into_inner().map(|item| item.map(|item| Item { n: item.n + 1, ..item }));
        Ok(Response::new(Box::pin(items)))
    }
}
