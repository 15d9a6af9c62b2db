//! The bodies of a call on their way through: recorded, and the response masked.
//!
//! Bytes stream: what is held back is what the masker needs, no more.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use callgate_mask::Masker;
use callgate_model::{Direction, Outcome, Reason};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::CutOff;
use super::call_log::CallLog;
use super::forward;

/// A request's body on its way upstream.
pub(crate) struct RequestBody {
    inner: Incoming,
    log: Arc<CallLog>,
}

impl RequestBody {
    pub(crate) fn new(inner: Incoming, log: Arc<CallLog>) -> Self {
        Self { inner, log }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            // The client broke off or broke the framing: the upstream must not take it for complete.
            Some(Err(_)) => return Poll::Ready(Some(Err(CutOff(Reason::ClientGone)))),
            None => return Poll::Ready(None),
        };
        if let Some(data) = frame.data_ref()
            && let Err(reason) = self.log.body(Direction::Request, data)
        {
            return Poll::Ready(Some(Err(CutOff(reason))));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What the caller is given: an answer of ours, or the service's on its way through.
pub(crate) enum ResponseBody {
    /// An answer of ours.
    Own(Option<Bytes>),
    /// The service's answer.
    Relayed(Box<Relayed>),
}

/// The service's body, masked as policy demands.
pub(crate) struct Relayed {
    inner: Incoming,
    masker: Option<Masker>,
    log: Arc<CallLog>,
    trailers: Option<HeaderMap>,
    ended: bool,
}

impl ResponseBody {
    pub(crate) fn relayed(inner: Incoming, masker: Option<Masker>, log: Arc<CallLog>) -> Self {
        if inner.is_end_stream() {
            log.finish(Outcome::Complete, Reason::Permitted);
            return Self::Own(None);
        }
        Self::Relayed(Box::new(Relayed { inner, masker, log, trailers: None, ended: false }))
    }
}

impl Relayed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        loop {
            if let Some(trailers) = self.trailers.take() {
                self.ended = true;
                self.log.finish(Outcome::Complete, Reason::Permitted);
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let out = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.pass(data),
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok().map(|t| forward::masked_trailers(t, &self.log));
                        self.rest()
                    }
                },
                Some(Err(_)) => Err(Reason::UpstreamProtocol),
                None => {
                    self.ended = true;
                    self.rest()
                }
            };
            let out = match out.and_then(|out| self.log.body(Direction::Response, &out).map(|()| out)) {
                Ok(out) => out,
                Err(reason) => {
                    self.ended = true;
                    self.log.finish(Outcome::Cut, reason);
                    return Poll::Ready(Some(Err(CutOff(reason))));
                }
            };
            if self.ended {
                self.log.finish(Outcome::Complete, Reason::Permitted);
            }
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out))));
            }
        }
    }

    fn pass(&mut self, data: Bytes) -> Result<Bytes, Reason> {
        let Some(masker) = &mut self.masker else { return Ok(data) };
        let mut out = Vec::with_capacity(data.len() + 64);
        masker.push(&data, &mut out).map_err(|_| Reason::Unmaskable)?;
        Ok(out.into())
    }

    /// What the masker still held when the body ended.
    fn rest(&mut self) -> Result<Bytes, Reason> {
        let Some(mut masker) = self.masker.take() else { return Ok(Bytes::new()) };
        let mut out = Vec::new();
        masker.finish(&mut out).map_err(|_| Reason::Unmaskable)?;
        self.log.masked(masker.findings());
        Ok(out.into())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        match self.get_mut() {
            Self::Own(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Relayed(relayed) => relayed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_none(),
            Self::Relayed(relayed) => relayed.ended && relayed.trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => SizeHint::with_exact(body.as_ref().map_or(0, |b| b.len() as u64)),
            // A masked body may grow or shrink.
            Self::Relayed(relayed) if relayed.masker.is_some() => SizeHint::default(),
            Self::Relayed(relayed) if relayed.ended => SizeHint::with_exact(0),
            Self::Relayed(relayed) => relayed.inner.size_hint(),
        }
    }
}
