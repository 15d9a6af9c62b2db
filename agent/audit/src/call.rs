//! The guard of one call: its bodies and its `end`.

use std::time::{Duration, Instant};

use callgate_model::{CallEnd, CallId, Chunk, Direction, Header, Latency, Outcome, Reason, RecordDepth, RecordKind};
use callgate_proto::encode_unstamped;
use callgate_seal::{Digest, Hash};

use crate::Recorder;

/// How long bytes of a slow body wait for more before they become a chunk.
const CHUNK_AGE: Duration = Duration::from_secs(1);

/// What is known when a call ends. Bodies, their digests and `cut` are known to the guard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndFacts {
    /// How it ended.
    pub outcome: Outcome,
    /// Why, where it did not complete; else [`Reason::Permitted`].
    pub reason: Reason,
    /// HTTP status given to the caller; 0 if none was.
    pub status: u16,
    /// Response headers as given to the caller, masked. Left out if the spool is full.
    pub headers: Vec<Header>,
    /// Bytes of the request's body that went upstream.
    pub request_bytes: u64,
    /// Bytes of the response's body that the caller was given.
    pub response_bytes: u64,
    /// Findings replaced in what the caller got.
    pub masked: u64,
    /// Time spent.
    pub latency: Latency,
}

impl EndFacts {
    /// An end of which no more is known.
    #[must_use]
    pub fn new(outcome: Outcome, reason: Reason) -> Self {
        Self {
            outcome,
            reason,
            status: 0,
            headers: Vec::new(),
            request_bytes: 0,
            response_bytes: 0,
            masked: 0,
            latency: Latency::default(),
        }
    }
}

/// A call whose `begin` is recorded. Without it nothing may go upstream; when it goes, the call has its `end`.
#[derive(Debug)]
#[must_use = "dropping the guard ends the call in the record"]
pub struct OpenCall {
    recorder: Recorder,
    call: CallId,
    seq: u64,
    /// Bytes of each body that are kept.
    limit: u64,
    request: Body,
    response: Body,
    /// Whether something of a body was left out.
    cut: bool,
    ended: bool,
    /// Space for encoding, used again and again.
    scratch: Vec<u8>,
}

/// One body on its way into chunks.
#[derive(Debug, Default)]
struct Body {
    /// Of every byte so far; none before the first.
    digest: Option<Digest>,
    /// All bytes so far.
    bytes: u64,
    /// Offset of the first byte in `waiting`.
    offset: u64,
    /// Bytes that are to be kept and not yet in a chunk.
    waiting: Vec<u8>,
    /// When the first byte in `waiting` came.
    since: Option<Instant>,
}

impl OpenCall {
    pub(crate) fn new(recorder: Recorder, call: CallId, seq: u64, depth: RecordDepth, scratch: Vec<u8>) -> Self {
        Self {
            recorder,
            call,
            seq,
            limit: depth.limit(),
            request: Body::default(),
            response: Body::default(),
            cut: false,
            ended: false,
            scratch,
        }
    }

    /// The call.
    #[must_use]
    pub fn id(&self) -> CallId {
        self.call
    }

    /// Place of the `begin` in the chain, for [`Recorder::durable`].
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Takes the next bytes of a body, already masked, in order and of any size.
    ///
    /// All of them count for the body's digest; what [`RecordDepth`] keeps is gathered into chunks of at most
    /// [`Chunk::MAX`]. Never fails: what a full spool cannot take is left out, and the `end` says `cut`.
    /// Blocks for a lock, and now and then for a write to the page cache.
    pub fn body(&mut self, direction: Direction, masked: &[u8]) {
        if masked.is_empty() {
            return;
        }
        let limit = self.limit;
        let body = self.of(direction);
        body.digest.get_or_insert_with(Digest::new).update(masked);
        let room = limit.saturating_sub(body.bytes);
        body.bytes += masked.len() as u64;
        let kept = usize::try_from(room).map_or(masked.len(), |room| room.min(masked.len()));
        let (mut kept, left_out) = masked.split_at(kept);
        self.cut |= !left_out.is_empty();
        while !kept.is_empty() {
            let body = self.of(direction);
            let since = *body.since.get_or_insert_with(Instant::now);
            let (now, later) = kept.split_at(kept.len().min(Chunk::MAX - body.waiting.len()));
            body.waiting.extend_from_slice(now);
            kept = later;
            if body.waiting.len() == Chunk::MAX || since.elapsed() >= CHUNK_AGE {
                self.write_chunk(direction);
            }
        }
    }

    /// Ends the call.
    pub fn end(mut self, facts: EndFacts) {
        self.finish(facts);
    }

    fn of(&mut self, direction: Direction) -> &mut Body {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }

    fn write_chunk(&mut self, direction: Direction) {
        let call = self.call;
        let body = self.of(direction);
        body.since = None;
        if body.waiting.is_empty() {
            return;
        }
        let data = std::mem::take(&mut body.waiting);
        let offset = body.offset;
        body.offset += data.len() as u64;
        self.scratch.clear();
        encode_unstamped(RecordKind::Chunk(Chunk { call, direction, offset, data }), &mut self.scratch);
        let shared = &self.recorder.inner.shared;
        if shared.append(|writer| writer.add(&mut self.scratch)).is_err() {
            shared.metrics.chunks_dropped.inc();
            self.cut = true;
        }
    }

    fn finish(&mut self, mut facts: EndFacts) {
        self.ended = true;
        self.write_chunk(Direction::Request);
        self.write_chunk(Direction::Response);
        let mut sha256 = |direction| self.of(direction).digest.take().map(Digest::finish);
        let (request_sha256, response_sha256) = (sha256(Direction::Request), sha256(Direction::Response));
        let text = |hash: Option<Hash>| hash.map(|hash| hash.to_string()).unwrap_or_default();
        let (call, whole) = (self.call, !self.cut);
        let headers = std::mem::take(&mut facts.headers);
        let end = |headers: Vec<Header>, whole: bool| CallEnd {
            call,
            outcome: facts.outcome,
            reason: facts.reason,
            status: facts.status,
            headers,
            request_bytes: facts.request_bytes,
            response_bytes: facts.response_bytes,
            request_sha256: text(request_sha256),
            response_sha256: text(response_sha256),
            cut: !whole,
            masked: facts.masked,
            latency: facts.latency,
        };
        self.scratch.clear();
        encode_unstamped(RecordKind::End(Box::new(end(headers, whole))), &mut self.scratch);
        // Without its headers an end always fits: for when the spool has no room for all of it.
        let small = || {
            let mut small = Vec::new();
            encode_unstamped(RecordKind::End(Box::new(end(Vec::new(), false))), &mut small);
            small
        };
        let body = &mut self.scratch;
        if let Err(error) = self.recorder.inner.shared.append(|writer| writer.end(call, body, small)) {
            // The spool has said loudly that it failed; the next start closes the call as interrupted.
            tracing::debug!(%call, %error, "the end of a call is not recorded");
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if !self.ended {
            let reason = if std::thread::panicking() { Reason::Internal } else { Reason::ClientGone };
            let mut facts = EndFacts::new(Outcome::Cut, reason);
            facts.request_bytes = self.request.bytes;
            facts.response_bytes = self.response.bytes;
            self.finish(facts);
        }
    }
}
