//! Which call a record opens or closes, without decoding the rest.
//!
//! For recovery, which must look at every record that is kept and needs no more than this.

use callgate_model::CallId;
use prost::Message;

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
    let calls = Calls::decode(body)?;
    let id = |call: Call| id_from_bytes("call", &call.call).map(CallId);
    Ok(match (calls.begin, calls.end) {
        (Some(call), _) => Peek::Begin(id(call)?),
        (None, Some(call)) => Peek::End(id(call)?),
        (None, None) => Peek::Other,
    })
}

/// The fields of `Record` that are looked at; the others are skipped without a copy.
#[derive(Message)]
struct Calls {
    #[prost(message, tag = "2")]
    begin: Option<Call>,
    #[prost(message, tag = "4")]
    end: Option<Call>,
}

/// The field that `CallBegin` and `CallEnd` both start with.
#[derive(Message)]
struct Call {
    #[prost(bytes = "vec", tag = "1")]
    call: Vec<u8>,
}
