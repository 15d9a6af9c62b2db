//! What policy said of a connect or a call.

use serde::{Deserialize, Serialize};

use crate::{Masking, Reason};

/// Allow or deny.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The call may go.
    Allow,
    /// The call is refused.
    Deny,
}

/// An answer of policy with everything that explains it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// Allow or deny.
    pub verdict: Verdict,
    /// Why; [`Reason::Permitted`] on allow.
    pub reason: Reason,
    /// Ids of the policies that determined it, sorted.
    pub policies: Vec<String>,
    /// Hash of the policy set that answered: the first 16 hex digits of its SHA-256.
    pub policy_set: String,
    /// What must be done with an allowed call.
    pub obligations: Obligations,
}

/// What must be done with an allowed call: the union over its determining policies.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Obligations {
    /// What to replace in the response (`@mask`).
    pub mask: Masking,
    /// How much of the bodies to keep (`@record`).
    pub record: RecordDepth,
    /// What to do with TLS (`@tls`, connect policies only).
    pub tls: TlsMode,
}

/// How much of a call's bodies audit keeps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordDepth {
    /// Sizes and digests alone.
    Meta,
    /// The first [`RecordDepth::HEAD_MAX`] bytes of each body.
    #[default]
    Head,
    /// All of it.
    Full,
}

impl RecordDepth {
    /// Most bytes of one body kept at depth `head`. Unit: bytes. Source: requirement A1.
    pub const HEAD_MAX: u64 = 1 << 20;

    /// Most bytes of one body that are kept at this depth.
    #[must_use]
    pub fn limit(self) -> u64 {
        match self {
            Self::Meta => 0,
            Self::Head => Self::HEAD_MAX,
            Self::Full => u64::MAX,
        }
    }
}

/// What to do with a TLS connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// Open it: decide, mask and record each call.
    #[default]
    Inspect,
    /// Pass it through unopened, recorded as uninspected.
    Passthrough,
}
