//! Protocol upgrades of HTTP/1.1: after a permitted call switched, bytes pass both ways unopened.
//!
//! A call whose answer must be masked never upgrades; its caller refuses that before it comes here.

use std::sync::Arc;

use callgate_model::{Outcome, Reason};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tracing::debug;

use super::body::ResponseBody;
use super::call_log::CallLog;
use super::forward;
use crate::relay::relay;

/// Whether `request` asks to switch protocols. An offer of HTTP/2, which the scanner lets through where it is written in
/// full, is none: it is dropped with the other fields of the hop, and the call goes on as HTTP/1.1 (RFC 9110 §7.8).
pub(crate) fn wanted<B>(request: &Request<B>) -> bool {
    let names_upgrade = |value: &HeaderValue| {
        value.to_str().is_ok_and(|text| text.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade")))
    };
    request.headers().get(header::UPGRADE).is_some_and(|protocol| !protocol.as_bytes().eq_ignore_ascii_case(b"h2c"))
        && request.headers().get_all(header::CONNECTION).iter().any(names_upgrade)
}

/// Asks the service for the same switch; extensions that would compress frames are not offered.
pub(crate) fn ask(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
    headers.remove(HeaderName::from_static("sec-websocket-extensions"));
}

/// Answers the caller that the protocol is switched, and relays from then on.
pub(crate) fn switch(client: OnUpgrade, mut response: Response<Incoming>, log: Arc<CallLog>) -> Response<ResponseBody> {
    let server = hyper::upgrade::on(&mut response);
    let status = response.status();
    log.answered(status.as_u16(), forward::recorded(response.headers(), &log.mask().recorded, &[]), None);
    tokio::spawn(async move {
        let (client, server) = match tokio::try_join!(client, server) {
            Ok(both) => both,
            Err(error) => {
                debug!(%error, "upgrade failed");
                return log.finish(Outcome::Cut, Reason::UpstreamProtocol);
            }
        };
        match relay(TokioIo::new(client), TokioIo::new(server)).await {
            Ok(carried) => {
                log.carried(carried.up, carried.down);
                log.finish(Outcome::Complete, Reason::Permitted);
            }
            Err(_) => log.finish(Outcome::Cut, Reason::ClientGone),
        }
    });
    let (head, _) = response.into_parts();
    let mut switched = Response::new(ResponseBody::Own(None));
    *switched.status_mut() = status;
    *switched.headers_mut() = head.headers;
    switched
}
