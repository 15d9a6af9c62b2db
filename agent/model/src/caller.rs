//! On whose behalf a workload calls: the identity that a verified token states.

use serde::{Deserialize, Serialize};

/// A verified caller: a person or an agent. Made by token verification alone, never from what a request claims.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Caller {
    /// The token's subject (`sub`).
    pub sub: String,
    /// The issuer that vouches for it (`iss`), one of the configuration's.
    pub iss: String,
    /// Groups that the token states, sorted, without repeats.
    pub groups: Vec<String>,
}
