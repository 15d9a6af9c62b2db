//! The certificates between agents and collector.
//!
//! - `authority`: which CA is in use, and when the next one takes over: pure.
//! - `keep`: keeps the CA in its Secret, its certificates in a ConfigMap, and the leaves that pods mount.
//! - `nodes`: signs what agents ask for, after a look at where they really are.
//! - `trust`: the CA in use, for the others of this process.

mod authority;
mod keep;
mod nodes;
mod trust;

pub use keep::keep_authority;
pub use nodes::sign_for_nodes;
pub use trust::Trust;

use std::time::Duration;

/// Life of a leaf. Renewed when a third is left: 8 hours in which the controller may be away.
const LEAF_LIFE: Duration = Duration::from_secs(24 * 3_600);
