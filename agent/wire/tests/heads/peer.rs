//! hyper's server as a peer: what requests it sees in a stream.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// A request as hyper saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub http10: bool,
    pub fields: Vec<(String, Vec<u8>)>,
    /// The whole body, if it came whole.
    pub body: Option<Vec<u8>>,
    pub trailers: usize,
}

/// Sends the pieces to hyper, one write each, then ends the stream; gives every request whose head hyper passed on,
/// and whether hyper took the stream as a whole without an error.
pub fn serve(pieces: &[&[u8]]) -> (Vec<Seen>, bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (near, far) = duplex(256 * 1024);
        let log = seen.clone();
        let service = service_fn(move |request| note(log.clone(), request));
        let server = tokio::spawn(http1::Builder::new().half_close(true).serve_connection(TokioIo::new(far), service));
        let (mut read, mut write) = tokio::io::split(near);
        let drain = tokio::spawn(async move { read.read_to_end(&mut Vec::new()).await });
        for piece in pieces {
            // hyper stops reading where it ends a connection: a refused write is its answer, not a failure.
            if write.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = write.shutdown().await;
        let whole = server.await.unwrap().is_ok();
        drop(write);
        let _ = drain.await.unwrap();
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (seen, whole)
    })
}

async fn note(log: Arc<Mutex<Vec<Seen>>>, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let entry = Seen {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        http10: head.version == Version::HTTP_10,
        fields: head.headers.iter().map(|(n, v)| (n.to_string(), v.as_bytes().to_vec())).collect(),
        body: None,
        trailers: 0,
    };
    let index = {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(entry);
        log.len() - 1
    };
    if let Ok(body) = body.collect().await {
        let trailers = body.trailers().map_or(0, hyper::HeaderMap::len);
        let bytes = body.to_bytes().to_vec();
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log[index].body = Some(bytes);
        log[index].trailers = trailers;
    }
    Ok(Response::new(Empty::new()))
}
