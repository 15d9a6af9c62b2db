//! The recorder and its crash-safe spool: never loses an event, never blocks a running call.
//!
//! [`Recorder`] seals records to the one before and appends them to segment files; [`OpenCall`] is the guard of one
//! call; [`SpoolReader`] gives what is on disk to the uplink; [`Recorder::acknowledge`] frees what the collector has.
//!
//! What holds, and where:
//! - A `begin` has been given to the kernel when [`Recorder::begin`] returns: it survives `kill -9`. Everything is on
//!   disk within [`SpoolConfig::commit_interval`] plus one `fdatasync` (`spool/commit.rs`).
//! - Every `begin` gets its `end`: by [`OpenCall::end`], by its `Drop`, or by the next start (`spool/recover.rs`).
//!   Room for it is set aside when the call begins (`spool/writer.rs`).
//! - Only what is on disk is given to readers, so a power loss cannot make this spool and the collector disagree.
//! - Nothing grows without a bound: a full spool refuses, a failing disk refuses for good.
//!
//! It never masks: whoever makes a record has masked it. It never talks to the network.

mod call;
mod error;
mod metrics;
mod recorder;
mod spool;

#[cfg(test)]
mod tests;

pub use call::{EndFacts, OpenCall};
pub use error::AuditError;
pub use metrics::Metrics;
pub use recorder::{Recorder, SpoolConfig, SpoolStatus};
pub use spool::{Recovery, Segment, SegmentEntry, SpoolReader, read_segment};
