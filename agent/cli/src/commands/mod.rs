//! The subcommands, one file each. `policy`, `audit` and `session` read files; the rest talk to an agent or are one.

pub mod audit;
pub mod control;
pub mod discover;
pub mod doctor;
pub mod install;
pub mod mask;
pub mod policy;
pub mod run;
pub mod session;
pub mod status;
pub mod uninstall;

/// Exit code where all went well.
pub const OK: u8 = 0;
/// Exit code where the answer is no, or something failed.
pub const FAILED: u8 = 1;
/// Exit code for a wrong command line, and for `run` without a policy.
pub const USAGE: u8 = 2;
/// Exit code of `run` where it failed itself, before or beside CMD (as `env` and `docker run` do).
pub const RUN_FAILED: u8 = 125;
