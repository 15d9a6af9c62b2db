//! Which call a record opens or closes, without decoding the rest.
//!
//! For recovery, which must look at every record that is kept and needs no more than this.

use callgate_model::CallId;
use prost::{Message, Oneof};

use crate::{ProtoError, id_from_bytes};

/// What a record does to the set of open calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peek {
    /// It opens this call.
    Begin(CallId),
    /// It closes this call.
    End(CallId),
    /// Nothing.
    Other,
}

/// Looks at the body of a sealed record.
///
/// # Errors
/// [`ProtoError`] if the bytes are no protobuf message, or a call's id is no UUID.
pub fn peek(body: &[u8]) -> Result<Peek, ProtoError> {
    let id = |call: Call| id_from_bytes("call", &call.call).map(CallId);
    Ok(match Record::decode(body)?.kind {
        Some(Kind::Begin(call)) => Peek::Begin(id(call)?),
        Some(Kind::End(call)) => Peek::End(id(call)?),
        _ => Peek::Other,
    })
}

/// The fields of `Record` that are looked at.
#[derive(Message)]
struct Record {
    #[prost(oneof = "Kind", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10")]
    kind: Option<Kind>,
}

/// The kinds, all of them: of several in one message the last counts, so none may be passed over.
#[derive(Oneof)]
enum Kind {
    #[prost(message, tag = "2")]
    Begin(Call),
    #[prost(message, tag = "3")]
    Chunk(Skipped),
    #[prost(message, tag = "4")]
    End(Call),
    #[prost(message, tag = "5")]
    Connection(Skipped),
    #[prost(message, tag = "6")]
    Enrolment(Skipped),
    #[prost(message, tag = "7")]
    KernelDenial(Skipped),
    #[prost(message, tag = "8")]
    Policy(Skipped),
    #[prost(message, tag = "9")]
    Agent(Skipped),
    #[prost(message, tag = "10")]
    Dns(Skipped),
}

/// A kind that opens and closes no call: its fields are skipped without a copy.
#[derive(Message)]
struct Skipped {}

/// The field that `CallBegin` and `CallEnd` both start with.
#[derive(Message)]
struct Call {
    #[prost(bytes = "vec", tag = "1")]
    call: Vec<u8>,
}
