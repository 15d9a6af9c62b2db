//! Why bytes are not a record.

use thiserror::Error;

/// Why bytes, or a message, are not a record of the vocabulary.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ProtoError {
    /// The bytes are not a protobuf message.
    #[error("not a protobuf record: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A field that must be there is not, or is of a kind that this version does not know.
    #[error("`{0}` is missing, or of a kind that this version does not know")]
    Missing(&'static str),
    /// A value outside of the closed list.
    #[error("`{value}` is no {field} that this version knows")]
    Unknown {
        /// The list.
        field: &'static str,
        /// The value, at most 64 characters of it.
        value: String,
    },
    /// An id that is not 16 bytes.
    #[error("`{0}` is not a UUID of 16 bytes")]
    BadId(&'static str),
    /// A value that is larger than its field allows.
    #[error("`{0}` is larger than allowed")]
    TooLarge(&'static str),
}

impl ProtoError {
    /// [`ProtoError::Unknown`] with the value shortened: it comes from outside.
    pub(crate) fn unknown(field: &'static str, value: impl ToString) -> Self {
        Self::Unknown { field, value: value.to_string().chars().take(64).collect() }
    }
}
