//! One connection to a service, of HTTP/1.1 or HTTP/2, and the form that a request has on it.

use callgate_model::Reason;
use http::header::{self, HeaderValue};
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tracing::debug;

use super::ServerStream;
use crate::http::body::RequestBody;
use crate::http::{HEADERS_MAX, h2};

/// A connection that can take one call.
pub(crate) enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

impl Sender {
    /// Sends a request, which comes with an absolute target.
    ///
    /// # Errors
    /// With the request in it as long as no byte of it was sent.
    pub(crate) async fn try_send(
        &mut self,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        match self {
            Self::Http1(sender) => {
                to_http1(&mut request);
                sender.try_send_request(request).await
            }
            Self::Http2(sender) => {
                to_http2(&mut request);
                sender.try_send_request(request).await
            }
        }
    }
}

/// Opens HTTP/1.1.
pub(super) async fn http1(stream: ServerStream) -> Result<http1::SendRequest<RequestBody>, Reason> {
    let opened = http1::Builder::new().max_headers(HEADERS_MAX).handshake(TokioIo::new(stream)).await;
    let (sender, driver) = opened.map_err(|_| Reason::UpstreamProtocol)?;
    tokio::spawn(async move {
        if let Err(error) = driver.with_upgrades().await {
            debug!(%error, "upstream connection ended");
        }
    });
    Ok(sender)
}

/// Opens HTTP/2.
pub(super) async fn http2(stream: ServerStream) -> Result<http2::SendRequest<RequestBody>, Reason> {
    let opened = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(h2::STREAM_WINDOW)
        .initial_connection_window_size(h2::CONNECTION_WINDOW)
        .max_send_buf_size(h2::SEND_BUFFER)
        .max_header_list_size(h2::HEADER_LIST)
        .keep_alive_interval(h2::PING_INTERVAL)
        .keep_alive_timeout(h2::PING_TIMEOUT)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, driver) = opened.map_err(|_| Reason::UpstreamProtocol)?;
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            debug!(%error, "upstream connection ended");
        }
    });
    Ok(sender)
}

/// Origin form, and the authority in Host. Split cookies are joined again (RFC 9113 §8.2.3).
fn to_http1<B>(request: &mut Request<B>) {
    *request.version_mut() = http::Version::HTTP_11;
    let Parts { authority, path_and_query, .. } = std::mem::take(request.uri_mut()).into_parts();
    if let Some(authority) = authority
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(header::HOST, host);
    }
    *request.uri_mut() = path_and_query.map(Uri::from).unwrap_or_default();
    // Means what it says to a peer of HTTP/2 alone.
    request.headers_mut().remove(header::TE);
    join_cookies(request);
}

/// Absolute form, and no Host beside it. A request that had been made ready for HTTP/1.1 is turned back.
fn to_http2<B>(request: &mut Request<B>) {
    *request.version_mut() = http::Version::HTTP_2;
    let host = request.headers_mut().remove(header::HOST);
    if request.uri().authority().is_some() {
        return;
    }
    let Some(authority) = host.and_then(|host| Authority::try_from(host.as_bytes()).ok()) else { return };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(authority);
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}

fn join_cookies<B>(request: &mut Request<B>) {
    let cookies = request.headers().get_all(header::COOKIE);
    if cookies.iter().nth(1).is_none() {
        return;
    }
    let joined = cookies.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..]);
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        request.headers_mut().insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request<()> {
        let builder = Request::builder().uri("https://api.example:8443/v1/users?a=b").version(http::Version::HTTP_2);
        builder.header("cookie", "a=1").header("cookie", "b=2").header("te", "trailers").body(()).unwrap()
    }

    #[test]
    fn http1_has_host_and_origin_form_and_one_cookie_field() {
        let mut request = request();
        to_http1(&mut request);
        assert_eq!(request.uri(), "/v1/users?a=b");
        assert_eq!(request.headers()["host"], "api.example:8443");
        assert_eq!(request.headers()["cookie"], "a=1; b=2");
        assert_eq!(request.headers().get_all("cookie").iter().count(), 1);
        assert!(!request.headers().contains_key("te"));
        assert_eq!(request.version(), http::Version::HTTP_11);
    }

    #[test]
    fn http2_has_the_authority_alone_also_on_a_second_try() {
        let mut request = request();
        to_http2(&mut request);
        assert_eq!(request.uri(), "https://api.example:8443/v1/users?a=b");
        assert!(!request.headers().contains_key("host") && request.headers().contains_key("te"));
        to_http1(&mut request);
        to_http2(&mut request);
        assert_eq!(request.uri(), "https://api.example:8443/v1/users?a=b");
    }
}
