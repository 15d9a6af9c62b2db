//! The gRPC contract and its only translation to the vocabulary.
//!
//! [`v1`] is generated from `callgate.proto`: messages, clients and servers.
//! [`encode_record`] and [`decode_record`] are the one way between [`callgate_model::Record`] and the bytes that are
//! sealed, spooled, shipped and stored; nothing else in the product encodes a record.

mod decode;
mod encode;
mod error;
mod peek;
#[cfg(test)]
mod tests;
mod words;

pub use decode::{decode_record, id_from_bytes};
pub use encode::{encode_record, encode_unstamped, stamp};
pub use error::ProtoError;
pub use peek::{Peek, peek};

/// Messages, clients and servers, generated from `callgate.proto`.
#[allow(
    missing_docs,
    rust_2018_idioms,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated; its documentation is callgate.proto"
)]
pub mod v1 {
    tonic::include_proto!("callgate.v1");
}
