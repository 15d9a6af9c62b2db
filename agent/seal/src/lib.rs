//! The hash chain that seals records: pure.
//!
//! Each record of a stream is sealed to the one before it: its hash covers the hash before, its place and its bytes.
//! [`genesis`] is what the first record is sealed to, [`seal`] makes a seal, [`Verifier`] checks a run of records
//! and names the first [`Fault`]. No I/O and no clock; cannot panic on any input. Written by `audit`, checked by the
//! collector at ingest and by `callgate audit verify`.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod chain;
mod hash;
mod verify;

pub use chain::{FIRST_SEQ, genesis, seal};
pub use hash::{Digest, Hash, HashError};
pub use verify::{Fault, FaultKind, Verifier};
