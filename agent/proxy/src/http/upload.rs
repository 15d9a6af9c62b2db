//! A request's body, which may be held back until policy has judged what is in it, and then goes on as it came.
//!
//! Held back is a body only where a rule names arguments, up to a limit for each and one for all of them together.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use callgate_model::{ArgumentsState, Direction, Unfit};
use callgate_wire::{ArgumentFormat, Content, read_arguments};
use http::header::{self, HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::call_log::CallLog;
use crate::Gate;

/// A body of which the first frames may have been read already.
pub(crate) struct Upload {
    held: VecDeque<Frame<Bytes>>,
    /// Bytes in `held`.
    length: u64,
    /// Room for what is held.
    room: Option<OwnedSemaphorePermit>,
    rest: Incoming,
}

impl Upload {
    pub(crate) fn new(rest: Incoming) -> Self {
        Self { held: VecDeque::new(), length: 0, room: None, rest }
    }

    /// Reads the body whole and takes the arguments out of it and out of `query`.
    ///
    /// # Cancel safety
    /// Dropping the future keeps what was read: the body can still go on.
    pub(crate) async fn arguments(&mut self, gate: &Gate, headers: &HeaderMap, query: &str) -> ArgumentsState {
        let types = values(headers, &header::CONTENT_TYPE);
        let encodings = values(headers, &header::CONTENT_ENCODING);
        // Of a body that nobody can read nothing is held back.
        if !self.rest.is_end_stream()
            && let Err(unfit) = ArgumentFormat::of(&types, &encodings)
        {
            return ArgumentsState::Unfit(unfit);
        }
        match tokio::time::timeout(gate.limits.head, self.hold(gate)).await {
            Ok(Ok(())) => {}
            Ok(Err(unfit)) => return ArgumentsState::Unfit(unfit),
            Err(_elapsed) => return ArgumentsState::Unfit(Unfit::NotRead),
        }
        let body: Vec<u8> = self.held.iter().filter_map(Frame::data_ref).flatten().copied().collect();
        match read_arguments(&Content { types: &types, encodings: &encodings, query, body: &body }) {
            Ok(arguments) => ArgumentsState::Complete(arguments),
            Err(unfit) => ArgumentsState::Unfit(unfit),
        }
    }

    async fn hold(&mut self, gate: &Gate) -> Result<(), Unfit> {
        if self.rest.size_hint().lower() > gate.limits.arguments as u64 {
            return Err(Unfit::TooLarge);
        }
        while let Some(frame) = self.rest.frame().await {
            let frame = frame.map_err(|_| Unfit::NotRead)?;
            let length = frame.data_ref().map_or(0, Bytes::len);
            self.length += length as u64;
            self.held.push_back(frame);
            if self.length > gate.limits.arguments as u64 {
                return Err(Unfit::TooLarge);
            }
            self.reserve(&gate.held_back, length)?;
        }
        Ok(())
    }

    fn reserve(&mut self, all: &Arc<Semaphore>, length: usize) -> Result<(), Unfit> {
        let more = u32::try_from(length.div_ceil(1024)).map_err(|_| Unfit::TooLarge)?;
        let more = Arc::clone(all).try_acquire_many_owned(more).map_err(|_| Unfit::TooLarge)?;
        match &mut self.room {
            Some(room) => room.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }

    /// Writes what was held back into the record of a call that is refused: it says what was refused.
    pub(crate) fn record(&self, log: &CallLog) {
        for data in self.held.iter().filter_map(Frame::data_ref) {
            log.body(Direction::Request, data);
        }
    }

    /// What was not read yet.
    pub(crate) fn into_rest(self) -> Incoming {
        self.rest
    }
}

fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a [u8]> {
    headers.get_all(name).iter().map(|value| value.as_bytes()).collect()
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        if let Some(frame) = this.held.pop_front() {
            this.length -= frame.data_ref().map_or(0, Bytes::len) as u64;
            if this.held.is_empty() {
                this.room = None;
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        Pin::new(&mut this.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + self.length);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + self.length);
        }
        hint
    }
}
