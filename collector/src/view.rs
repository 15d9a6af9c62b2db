//! A stored record as people and programs read it: one JSON object, with stable names.
//!
//! The names are those of the vocabulary (`kind` tells the rest) beside `stream`, `seq`, `hash`, `time_us` and `time`.
//! A chunk has `text` where its bytes are UTF-8, else `base64`.

use base64::Engine as _;
use callgate_model::{CallId, Chunk, Direction, Record, RecordKind, StreamId};
use callgate_proto::v1::SealedRecord;
use callgate_proto::{ProtoError, decode_record};
use callgate_seal::Hash;
use serde::{Serialize, Serializer};

/// A stored record with its body read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredRecord {
    /// Chain.
    pub stream: StreamId,
    /// Place in the chain.
    pub seq: u64,
    /// Its seal.
    pub hash: Hash,
    /// What was recorded.
    pub record: Record,
}

impl StoredRecord {
    /// Reads the body. The seal is not checked here: ingest did, and `verify` does.
    ///
    /// # Errors
    /// [`ProtoError`] if this version cannot read it.
    pub fn open(sealed: &SealedRecord) -> Result<Self, ProtoError> {
        let hash = Hash::try_from(&sealed.hash[..]).map_err(|_| ProtoError::Missing("hash"))?;
        let record = decode_record(&sealed.body)?;
        Ok(Self { stream: StreamId(sealed.stream.clone()), seq: sealed.seq, hash, record })
    }

    /// The call that it belongs to.
    #[must_use]
    pub fn call(&self) -> Option<CallId> {
        match &self.record.kind {
            RecordKind::Begin(begin) => Some(begin.call),
            RecordKind::Chunk(chunk) => Some(chunk.call),
            RecordKind::End(end) => Some(end.call),
            _ => None,
        }
    }

    /// Its time as RFC 3339 in UTC, to the microsecond.
    #[must_use]
    pub fn time(&self) -> String {
        show_time(self.record.time_us)
    }
}

/// A time as RFC 3339 in UTC, to the microsecond: `2026-11-22T18:04:05.000123Z`.
#[must_use]
pub fn show_time(time_us: u64) -> String {
    let time = i64::try_from(time_us).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    time.map_or_else(|| format!("{time_us} us"), |time| format!("{time:.6}"))
}

impl Serialize for StoredRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct View<'a, B> {
            stream: &'a StreamId,
            seq: u64,
            hash: String,
            time: String,
            #[serde(flatten)]
            body: B,
        }
        let Self { stream, seq, record, .. } = self;
        let (seq, hash, time) = (*seq, self.hash.to_string(), self.time());
        match &record.kind {
            RecordKind::Chunk(chunk) => {
                View { stream, seq, hash, time, body: ChunkView::of(record, chunk) }.serialize(serializer)
            }
            _ => View { stream, seq, hash, time, body: record }.serialize(serializer),
        }
    }
}

/// The serde form of a chunk lists its bytes as numbers: right for a program in memory, wrong for a line of JSON.
#[derive(Serialize)]
struct ChunkView<'a> {
    time_us: u64,
    kind: &'static str,
    call: CallId,
    direction: Direction,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl<'a> ChunkView<'a> {
    fn of(record: &Record, chunk: &'a Chunk) -> Self {
        let text = std::str::from_utf8(&chunk.data).ok();
        Self {
            time_us: record.time_us,
            kind: "chunk",
            call: chunk.call,
            direction: chunk.direction,
            offset: chunk.offset,
            text,
            base64: text.is_none().then(|| base64::engine::general_purpose::STANDARD.encode(&chunk.data)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing;

    fn json(record: Record) -> serde_json::Value {
        let sealed = testing::Sealer::new("n/agent").seal(record);
        serde_json::to_value(StoredRecord::open(&sealed).unwrap()).unwrap()
    }

    #[test]
    fn names_are_stable() {
        let call = CallId::new();
        let begin = json(testing::begin(1_795_348_800_000_001, call, "/v1/users/7"));
        assert_eq!(begin["kind"], "begin");
        assert_eq!(begin["time"], "2026-11-22T12:00:00.000001Z");
        assert_eq!((&begin["stream"], &begin["seq"]), (&"n/agent".into(), &1.into()));
        assert_eq!(begin["hash"].as_str().unwrap().len(), 64);
        assert_eq!(begin["decision"]["verdict"], "allow");
        let keys: Vec<_> = begin.as_object().unwrap().keys().map(String::as_str).collect();
        for key in
            ["call", "connection", "session", "workload", "process", "function", "headers", "observed", "time_us"]
        {
            assert!(keys.contains(&key), "{key}");
        }
    }

    #[test]
    fn a_chunk_is_text_or_base64() {
        let call = CallId::new();
        let text = json(testing::chunk(1, call, "{\"caf\u{e9}\":1}".as_bytes()));
        assert_eq!((&text["text"], text.get("base64")), (&"{\"caf\u{e9}\":1}".into(), None));
        let binary = json(testing::chunk(1, call, &[0xff, 0]));
        assert_eq!((&binary["base64"], binary.get("text"), binary.get("data")), (&"/wA=".into(), None, None));
    }
}
