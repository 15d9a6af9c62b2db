//! Bodies of records: what decodes is encoded to what decodes alike, and the peek of recovery sees the same call.

use callgate_model::RecordKind;
use callgate_proto::{Peek, decode_record, encode_record, encode_unstamped, peek, stamp};

pub fn run(data: &[u8]) -> bool {
    let peeked = peek(data);
    let Ok(record) = decode_record(data) else { return false };
    let expected = match &record.kind {
        RecordKind::Begin(begin) => Peek::Begin(begin.call),
        RecordKind::End(end) => Peek::End(end.call),
        _ => Peek::Other,
    };
    assert_eq!(peeked, Ok(expected), "recovery and readers disagree");

    let bytes = encode_record(&record);
    assert_eq!(decode_record(&bytes).as_ref(), Ok(&record));
    assert_eq!(peek(&bytes), Ok(expected));
    if record.time_us > 0 {
        let mut stamped = Vec::new();
        encode_unstamped(record.kind.clone(), &mut stamped);
        stamp(&mut stamped, record.time_us);
        assert_eq!(stamped, bytes, "the recorder writes other bytes");
    }
    true
}
