//! The bodies of a call on their way through: recorded, and the response masked.
//!
//! Bytes stream: what is held back is what the masker needs, no more. How: [`pipe`](super::pipe).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use callgate_model::{Direction, Outcome, Reason};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::call_log::CallLog;
use super::forward;
use super::pipe::Pipe;
use super::upload::Upload;
use super::{CutOff, Version};

/// A request's body on its way upstream.
pub(crate) struct RequestBody {
    inner: Upload,
    log: Arc<CallLog>,
}

impl RequestBody {
    pub(crate) fn new(inner: Upload, log: Arc<CallLog>) -> Self {
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
        if let Some(data) = frame.data_ref() {
            self.log.body(Direction::Request, data);
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

/// Most of a refused request that is read and dropped. Unit: bytes. Source: what clients send before they look for an
/// answer; past it the stream is reset.
const DISCARDED_MAX: usize = 1 << 20;

/// Longest time for it. Source: a round trip across the world, ten times.
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// Reads on in the body of a refused request of HTTP/2, for a little while: clients that are still sending take the
/// reset of their stream for a failure, and never read the refusal. (HTTP/1.1 has its own way in hyper.)
pub(crate) fn discard(version: Version, body: Upload) {
    let rest = body.into_rest();
    if version != Version::Http2 || rest.is_end_stream() {
        return;
    }
    let mut body = Limited::new(rest, DISCARDED_MAX);
    tokio::spawn(tokio::time::timeout(DISCARD_TIME, async move { while let Some(Ok(_)) = body.frame().await {} }));
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
    pipe: Option<Pipe>,
    log: Arc<CallLog>,
    trailers: Option<HeaderMap>,
    stage: Stage,
}

/// How far a body is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The service may send more.
    Open,
    /// The service has sent all; the pipe still holds something, and trailers may follow.
    Draining,
    /// Everything was given on.
    Ended,
}

impl ResponseBody {
    pub(crate) fn relayed(inner: Incoming, pipe: Option<Pipe>, log: Arc<CallLog>) -> Self {
        if inner.is_end_stream() {
            log.finish(Outcome::Complete, Reason::Permitted);
            return Self::Own(None);
        }
        Self::Relayed(Box::new(Relayed { inner, pipe, log, trailers: None, stage: Stage::Open }))
    }
}

impl Relayed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        if self.stage == Stage::Ended {
            return Poll::Ready(None);
        }
        match self.next(cx) {
            Poll::Ready(Ok(frame)) => {
                if frame.is_none() || self.stage == Stage::Ended {
                    self.stage = Stage::Ended;
                    self.log.finish(Outcome::Complete, Reason::Permitted);
                }
                Poll::Ready(frame.map(Ok))
            }
            Poll::Ready(Err(reason)) => {
                self.stage = Stage::Ended;
                self.log.finish(Outcome::Cut, reason);
                Poll::Ready(Some(Err(CutOff(reason))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Reason>> {
        loop {
            if let Some(pipe) = &mut self.pipe
                && let Some(out) = pipe.next(&self.log)?
            {
                return Poll::Ready(Ok(Some(Frame::data(out))));
            }
            if self.stage == Stage::Draining {
                self.stage = Stage::Ended;
                return Poll::Ready(Ok(self.trailers.take().map(Frame::trailers)));
            }
            match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => match &mut self.pipe {
                        Some(pipe) => pipe.feed(data),
                        None => {
                            self.log.body(Direction::Response, &data);
                            if !data.is_empty() {
                                return Poll::Ready(Ok(Some(Frame::data(data))));
                            }
                        }
                    },
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok().map(|t| forward::masked_trailers(t, &self.log));
                        self.drain();
                    }
                },
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Reason::UpstreamProtocol)),
                Poll::Ready(None) => self.drain(),
                Poll::Pending => {
                    // Nothing more for now: what an encoder has gathered must not wait for it.
                    let gathered = self.pipe.as_mut().map(Pipe::flush).transpose()?.flatten();
                    return gathered.map_or(Poll::Pending, |out| Poll::Ready(Ok(Some(Frame::data(out)))));
                }
            }
        }
    }

    fn drain(&mut self) {
        self.stage = Stage::Draining;
        if let Some(pipe) = &mut self.pipe {
            pipe.end();
        }
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
            Self::Relayed(relayed) => relayed.stage == Stage::Ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => SizeHint::with_exact(body.as_ref().map_or(0, |b| b.len() as u64)),
            // A masked body may grow or shrink.
            Self::Relayed(relayed) if relayed.pipe.is_some() => SizeHint::default(),
            Self::Relayed(relayed) if relayed.stage == Stage::Ended => SizeHint::with_exact(0),
            Self::Relayed(relayed) => relayed.inner.size_hint(),
        }
    }
}
