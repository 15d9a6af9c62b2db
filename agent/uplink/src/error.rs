//! Why a shipment ended.

use std::time::Duration;

use callgate_audit::AuditError;
use thiserror::Error;
use tonic::{Code, Status};

/// Why a shipment ended.
#[derive(Debug, Error)]
pub enum ShipError {
    /// The collector cannot be reached.
    #[error("no collector there: {0}")]
    Unreachable(String),
    /// It ended the shipment; another try may pass.
    #[error("the collector ended the shipment: {0}")]
    Ended(String),
    /// It answered nothing.
    #[error("no answer from the collector for {0:?}")]
    Silent(Duration),
    /// It broke the protocol.
    #[error("the collector broke the protocol: {0}")]
    Protocol(&'static str),
    /// The spool cannot be read.
    #[error(transparent)]
    Spool(#[from] AuditError),
    /// Another try is useless: an operator must look.
    #[error(transparent)]
    Breach(#[from] Breach),
}

/// The collector and the spool have different histories of one stream.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Breach {
    /// The collector lost records that were acknowledged, and the spool has freed them.
    #[error(
        "records {first_lost} to {last_lost} are lost: the collector no longer has them and the spool has freed them; was its store replaced?"
    )]
    Lost {
        /// First of them.
        first_lost: u64,
        /// Last of them.
        last_lost: u64,
    },
    /// The collector has records that the spool never had.
    #[error(
        "the collector has record {collector_seq}, the spool ends at {spool_seq}: the spool was replaced or cut, or two agents share a stream"
    )]
    Ahead {
        /// The collector's last.
        collector_seq: u64,
        /// The spool's last on disk.
        spool_seq: u64,
    },
    /// The same place holds different records.
    #[error("record {seq} at the collector is not the one in the spool: two agents share a stream, or one was altered")]
    Differs {
        /// The place.
        seq: u64,
    },
    /// The collector refused records: they break the chain, or are of a kind that it does not know.
    #[error("the collector refuses the records: {0}")]
    Refused(String),
}

impl From<Status> for ShipError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::DataLoss | Code::InvalidArgument => Breach::Refused(status.message().into()).into(),
            // A broken connection has a cause: TLS 1.3 tells a client only then that its certificate is refused.
            _ => Self::Ended(match std::error::Error::source(&status) {
                Some(source) => crate::shipment::root_cause(source),
                None if status.message().is_empty() => status.to_string(),
                None => status.message().into(),
            }),
        }
    }
}
