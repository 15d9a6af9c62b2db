//! Decides connects and calls by Cedar policies: pure and synchronous.
//!
//! No I/O, no clock, no global state, no panic on any input.
//! Files become a [`PolicySet`] by [`PolicySet::parse`], which refuses what this version cannot enforce; files and
//! objects of a cluster together by a [`Compiler`], in which one that is broken keeps none of the others out, and what
//! should be in force and cannot be is [`Closed`].
//! A set answers [`PolicySet::decide_connect`] with a [`ConnectPermit`] and [`PolicySet::decide_call`] with a
//! [`CallPermit`]: nothing else can make either, so whoever holds one was allowed.
//!
//! [`PolicySet::weigh_call`] tells people why. The schema of policies is [`SCHEMA`], the file `schema.cedarschema` beside this crate.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod address;
mod arguments;
mod closed;
mod compile;
mod decide;
mod entities;
mod explain;
mod index;
mod known;
mod load;
mod permit;
mod request;
mod set;
mod text;

pub use address::AddressClass;
pub use closed::{Closed, NO_PODS};
pub use compile::{Compiled, Compiler, Refused};
pub use explain::{Place, Weighed, Weight};
pub use load::{ANNOTATIONS, Annotation, Finding, LoadErrors, Rule, Severity, Support, Warning};
pub use permit::{CallPermit, ConnectPermit};
pub use request::{CallRequest, ConnectRequest};
pub use set::PolicySet;
pub use text::{Offer, Origin, PolicyText};

/// The schema that policies are validated against, in Cedar's own schema language.
pub const SCHEMA: &str = include_str!("../schema.cedarschema");

#[cfg(test)]
mod tests;
