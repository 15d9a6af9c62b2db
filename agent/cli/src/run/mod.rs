//! What lies between "the agent is up, the cgroup is enrolled" and CMD's exit code.
//!
//! - [`Invoker`]: as whom CMD runs. [`RunCgroup`]: where. [`Trust`]: how it trusts our CA.
//! - [`Sandbox`]: what it is locked into; written to a [`channel`](Channel) and applied by [`stage`], the same
//!   program started again, which becomes CMD.
//! - [`Child`]: starts the stage, passes signals and stops on, and returns the exit code.
//!
//! All of it in safe Rust: nothing runs between fork and exec, the stage is a fresh process with one thread.

mod cgroup;
mod channel;
mod child;
mod interrupts;
mod sandbox;
pub mod stage;
mod trust;
mod who;

pub use cgroup::RunCgroup;
pub use channel::Channel;
pub use child::Child;
pub use interrupts::Interrupts;
pub use sandbox::Sandbox;
pub use stage::landlock_scopes;
pub use trust::Trust;
pub use who::{Invoker, find_policies};
