//! The command `callgate`: its subcommands, what `run` locks CMD into, and the sweep after crashed runs.
//!
//! A library beside the binary so that its parts are tested without starting it.

pub mod commands;
mod discovery;
mod offline;
pub mod run;
pub mod sweep;
pub mod units;
