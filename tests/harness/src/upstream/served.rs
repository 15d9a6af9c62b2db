//! Accepts connections, counts their bytes, opens TLS, and hands requests to the routes.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::log::Log;
use super::routes::{Site, answer};

/// Serves until the runtime goes.
pub(super) async fn accept(listener: TcpListener, tls: Option<Arc<ServerConfig>>, site: Arc<Site>) {
    let tls = tls.map(TlsAcceptor::from);
    loop {
        // Out of descriptors, or a connection that was reset before we took it: the next one may do.
        let Ok((stream, peer)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        site.log.connection();
        let (tls, site) = (tls.clone(), site.clone());
        tokio::spawn(async move {
            let stream = Counted { stream, log: site.log.clone() };
            match tls {
                None => serve(stream, peer, site).await,
                Some(tls) => {
                    // A client that refuses our certificate is none of the upstream's business.
                    let Ok(stream) = tls.accept(stream).await else { return };
                    serve(stream, peer, site).await;
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr, site: Arc<Site>) {
    let service = service_fn(move |request| {
        let site = site.clone();
        async move { answer(request, peer, site).await }
    });
    // Ends with an error when the client goes away in the middle: tests do that on purpose.
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().half_close(true);
    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

/// A stream whose incoming bytes are counted.
struct Counted {
    stream: TcpStream,
    log: Arc<Log>,
}

impl AsyncRead for Counted {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        this.log.bytes(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, buffer)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
