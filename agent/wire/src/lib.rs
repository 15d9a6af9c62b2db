//! Sans-I/O protocol readers: first bytes, the strict HTTP/1 request check, canonical paths, arguments.
//!
//! Everything here reads bytes that a workload chose, so nothing here can panic, block, or grow without bound.
//! No HTTP framing is done for anybody: [`HeadScanner`] only follows the client's stream closely enough to know
//! where each head begins, and lets through to the real HTTP library (hyper) nothing that it has not checked.
//!
//! Start with [`sniff`] (which protocol is this), then [`HeadScanner`] (may these bytes pass),
//! [`Head`] (what was checked) and [`CanonicalPath`] (the one form that is judged and forwarded).
//! [`read_arguments`] reads a query and a body for rules that name arguments.
//! Refusals are words of [`HeadError`]; bounds stand in [`limits`].

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod arguments;
mod authority;
mod error;
mod frames;
mod head;
pub mod limits;
mod path;
mod scanner;
mod sniff;
mod target;

pub use arguments::{Content, Format as ArgumentFormat, read_arguments};
pub use authority::Authority;
pub use error::HeadError;
pub use frames::FrameMeter;
pub use head::{Field, Framing, HOP_BY_HOP, Head, HeadRules, Version, is_hop_by_hop};
pub use path::CanonicalPath;
pub use scanner::HeadScanner;
pub use sniff::{Match, PROTOCOLS, ProtocolRow, Sniff, sniff};
pub use target::TargetForm;
