//! Spans of calls, where the configuration asks for them (`[traces]`).
//!
//! Follows W3C Trace Context: a caller's `traceparent` is the parent, and whoever is called gets ours. Where a call is
//! not followed its header fields are left as they are. Made here, sent by whoever holds the other end of the queue;
//! when that is full a span is dropped and counted, and the call never waits.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::rand;
use callgate_model::{CallBegin, CallId, Function, Latency, Outcome, Reason, Verdict};
use http::{HeaderMap, HeaderName, HeaderValue};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc::Sender;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Flag of `traceparent`: the caller follows this call.
const SAMPLED: u8 = 1;

/// Makes spans.
#[derive(Clone, Debug)]
pub struct Traces {
    /// Ids of traces below it are followed.
    below: u64,
    spans: Sender<Box<CallSpan>>,
    dropped: Counter,
}

/// A call that ended, for the exporter. Holds nothing that its record would mask.
#[derive(Clone, Debug)]
pub struct CallSpan {
    /// Of the trace.
    pub trace_id: [u8; 16],
    /// Of the caller's span; none: the trace begins here.
    pub parent_id: Option<[u8; 8]>,
    /// Of the call.
    pub span_id: [u8; 8],
    /// Of the way to the service and back: what it calls its parent.
    pub upstream_id: [u8; 8],
    /// Of its other parts: deciding, and the answer.
    pub decide_id: [u8; 8],
    /// The same.
    pub answer_id: [u8; 8],
    /// Whether the call went upstream.
    pub is_forwarded: bool,
    /// When its head was complete.
    pub started: SystemTime,
    /// The call, as records name it.
    pub call: CallId,
    /// Who calls: the workload's entity id.
    pub workload: String,
    /// What is called. The path is empty but for gRPC, where it is the method's name, masked as in records.
    pub function: Function,
    /// What was decided, and why.
    pub verdict: Verdict,
    /// Reason of the decision.
    pub decided: Reason,
    /// Whether the workload is only observed.
    pub is_observed: bool,
    /// How it ended.
    pub ended: Ended,
}

/// How a call ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// Status of the answer; 0: there was none.
    pub status: u16,
    /// Findings that were replaced in it.
    pub masked: u64,
    /// Unit: bytes.
    pub request_bytes: u64,
    /// Unit: bytes.
    pub response_bytes: u64,
    /// Where the time went.
    pub latency: Latency,
}

/// A call that is followed.
#[derive(Debug)]
pub(crate) struct Trace {
    span: CallSpan,
}

impl Traces {
    /// Follows calls whose caller does, and `ratio` (0 to 1) of those that begin a trace; spans go into `spans`.
    #[must_use]
    pub fn new(ratio: f64, spans: Sender<Box<CallSpan>>, dropped: Counter<u64, AtomicU64>) -> Self {
        // Saturates: 1.0 is all of them.
        let below = (ratio * 2_f64.powi(64)) as u64;
        Self { below, spans, dropped }
    }

    /// Begins to follow a call; none if it is not to be followed.
    pub(crate) fn begin(&self, begin: &CallBegin, headers: &HeaderMap, started: Instant) -> Option<Box<Trace>> {
        let (trace_id, parent_id) = match Parent::of(headers) {
            Some(parent) if parent.flags & SAMPLED != 0 => (parent.trace_id, Some(parent.span_id)),
            Some(_) => return None,
            None => {
                let trace_id: [u8; 16] = random()?;
                // Its last bytes are random in every kind of id (W3C Trace Context 2 §2.2.4).
                let number = trace_id.last_chunk().map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes));
                if self.below != u64::MAX && number >= self.below {
                    return None;
                }
                (trace_id, None)
            }
        };
        let CallBegin { call, workload, function, decision, observed, .. } = begin;
        let mut function = function.clone();
        if function.protocol != callgate_model::Protocol::Grpc {
            function.path.clear();
        }
        let span = CallSpan {
            trace_id,
            parent_id,
            span_id: random()?,
            upstream_id: random()?,
            decide_id: random()?,
            answer_id: random()?,
            is_forwarded: false,
            started: SystemTime::now().checked_sub(started.elapsed()).unwrap_or_else(SystemTime::now),
            call: *call,
            workload: workload.clone(),
            function,
            verdict: decision.verdict,
            decided: decision.reason,
            is_observed: *observed,
            ended: Ended::not_yet(),
        };
        Some(Box::new(Trace { span }))
    }

    /// Hands a span on.
    pub(crate) fn end(&self, trace: Trace, ended: Ended) {
        if self.spans.try_send(Box::new(CallSpan { ended, ..trace.span })).is_err() {
            self.dropped.inc();
        }
    }
}

impl Ended {
    fn not_yet() -> Self {
        Self {
            outcome: Outcome::Cut,
            reason: Reason::ClientGone,
            status: 0,
            masked: 0,
            request_bytes: 0,
            response_bytes: 0,
            latency: Latency::default(),
        }
    }

    /// From the head of the request to the end.
    #[must_use]
    pub fn total(&self) -> Duration {
        let Latency { decide_us, upstream_us, body_us } = self.latency;
        Duration::from_micros(decide_us + upstream_us + body_us)
    }
}

impl Trace {
    /// Tells the service that it is called within this trace.
    pub(crate) fn pass_on(&mut self, headers: &mut HeaderMap) {
        self.span.is_forwarded = true;
        let value = format!("00-{}-{}-{SAMPLED:02x}", hex(&self.span.trace_id), hex(&self.span.upstream_id));
        if self.span.parent_id.is_none() {
            // What came was no `traceparent`, so this belongs to nothing.
            headers.remove(&TRACESTATE);
        }
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(TRACEPARENT, value);
        }
    }
}

/// What a caller says of its trace.
#[derive(Debug, PartialEq, Eq)]
struct Parent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

impl Parent {
    /// None where there is no `traceparent`, or none with a single reading.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(&TRACEPARENT).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else { return None };
        let mut parts = field.to_str().ok()?.split('-');
        let [version] = unhex(parts.next()?)?;
        let parent = Self {
            trace_id: unhex(parts.next()?)?,
            span_id: unhex(parts.next()?)?,
            flags: unhex::<1>(parts.next()?)?[0],
        };
        // A later version may say more behind these.
        let fits = version != 0xff && (version != 0 || parts.next().is_none());
        (fits && parent.trace_id != [0; 16] && parent.span_id != [0; 8]).then_some(parent)
    }
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).ok()?;
    Some(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lower case alone, as the standard has it.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != 2 * N || !text.bytes().all(is_hex) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(values: &[&str]) -> Option<Parent> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        Parent::of(&headers)
    }

    #[test]
    fn a_parent_has_one_reading_or_is_none() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let read = parent(&[good]).unwrap();
        assert_eq!((hex(&read.trace_id).as_str(), read.flags), ("0af7651916cd43dd8448eb211c80319c", 1));
        assert_eq!(parent(&[&good.replacen("00", "cc", 1)]).as_ref(), Some(&read), "a later version");
        assert!(parent(&[&(good.replacen("00", "cc", 1) + "-more")]).is_some());
        for bad in [
            "",
            "00",
            &good.to_uppercase(),
            &good.replacen("00", "ff", 1),
            &good.replacen("00", "0", 1),
            &(good.to_owned() + "-more"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        ] {
            assert_eq!(parent(&[bad]), None, "{bad}");
        }
        assert_eq!(parent(&[good, good]), None, "two of them");
    }

    #[test]
    fn ratios_reach_from_none_to_all() {
        let followed = |ratio| {
            let (spans, _kept) = tokio::sync::mpsc::channel(1);
            Traces::new(ratio, spans, Counter::default()).below
        };
        assert_eq!((followed(0.0), followed(0.5), followed(1.0)), (0, 1 << 63, u64::MAX));
    }
}
